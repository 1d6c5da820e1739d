"""`python -m bench`: runs benchmarks, prints a table and writes the numbers as JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import (
    delta,
    detection,
    engines,
    events,
    idle,
    machine,
    memory,
    merge,
    put,
    report,
    simulated,
    spread,
    sustained,
    transfer,
    watch,
)
from bench.results import Benchmark, Measurement

BENCHMARKS: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        merge,
        delta,
        engines,
        events,
        put,
        spread,
        idle,
        simulated,
        memory,
        detection,
        transfer,
        watch,
        sustained,
    )
}


def main() -> int:
    """Returns 0 if all were measured; a target that is not met is no failure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=BENCHMARKS, help="run these only")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how often to measure each (default 5)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), metavar="FILE", help="(default %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="list the benchmarks and stop")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.list:
        for benchmark in BENCHMARKS.values():
            print(f"{benchmark.name:<9} {benchmark.summary}")
        return 0
    # So that the processes started are killed then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine.facts()}
    found: dict[str, list[Measurement]] = {}
    for name in options.only or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name].summary} ...", file=sys.stderr, flush=True)
        found[name] = BENCHMARKS[name].run(options.runs)
    report.show(found, facts)
    results = {name: [line.as_json() for line in lines] for name, lines in found.items()}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": facts, "benchmarks": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
