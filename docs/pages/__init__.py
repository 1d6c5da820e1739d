"""The pages of docs/ that are made of what they describe: `python -m docs.generate` writes and checks them."""
