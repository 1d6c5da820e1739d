"""The benchmarks: `python -m bench`. They measure and compare with targets; nothing here ever fails for being slow."""
