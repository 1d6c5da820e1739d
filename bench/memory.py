"""What a node takes of memory: empty, and for each record beyond its key and value."""

from __future__ import annotations

import asyncio

from bench import data
from bench.cluster import Cluster
from bench.loader import load
from bench.results import Benchmark, Measurement, at_most

RECORDS = 200_000
SETTLE = 2.0


async def _measure() -> tuple[float, float]:
    """Bytes of an empty node, and beyond key and value of each record that it then gets by gossip."""
    async with Cluster(1) as cluster:
        (node,) = cluster.nodes
        await asyncio.sleep(SETTLE)
        empty = node.memory_bytes()
        await load(cluster, RECORDS)
        await asyncio.sleep(SETTLE)
        return empty, (node.memory_bytes() - empty - data.payload_bytes(RECORDS)) / RECORDS


async def _measure_all(runs: int) -> list[Measurement]:
    found = [await _measure() for _ in range(runs)]
    return [
        Measurement("memory of an empty node", "MB", [empty / 1e6 for empty, _ in found], at_most(60)),
        Measurement(
            "memory a record, beyond key and value",
            "bytes",
            [each for _, each in found],
            at_most(700),
            details={"records": RECORDS, "value_bytes": data.VALUE_BYTES},
        ),
    ]


def run(runs: int) -> list[Measurement]:
    return asyncio.run(_measure_all(runs))


BENCHMARK = Benchmark("memory", f"resident memory of an empty node, and of one with {RECORDS:,} records", run)
