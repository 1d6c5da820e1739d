"""What a node takes of memory: empty, and for each record beyond its key and value."""

from __future__ import annotations

import asyncio

from bench import data
from bench.cluster import Cluster
from bench.loader import load
from bench.results import Benchmark, Measurement, at_most

RECORDS = 200_000
KEYS = 1_000
OVERWRITES = 200_000
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


async def _overwritten() -> float:
    """Bytes that a node has grown by after overwrites of the same keys, beyond what two of each took."""
    async with Cluster(1) as cluster:
        (node,) = cluster.nodes
        for turn in range(2):
            await node.client.kv.put_many((data.key(number), data.value(turn)) for number in range(KEYS))
        await asyncio.sleep(SETTLE)
        before = node.memory_bytes()
        for turn in range(OVERWRITES // KEYS):
            await node.client.kv.put_many((data.key(number), data.value(turn)) for number in range(KEYS))
        await asyncio.sleep(SETTLE)
        return node.memory_bytes() - before


async def _measure_all(runs: int) -> list[Measurement]:
    found = [await _measure() for _ in range(runs)]
    grown = [await _overwritten() for _ in range(runs)]
    return [
        Measurement("memory of an empty node", "MB", [empty / 1e6 for empty, _ in found], at_most(60)),
        Measurement(
            "memory a record, beyond key and value",
            "bytes",
            [each for _, each in found],
            at_most(700),
            details={"records": RECORDS, "value_bytes": data.VALUE_BYTES},
        ),
        Measurement(
            f"growth after {OVERWRITES:,} overwrites of {KEYS:,} keys",
            "MB",
            [each / 1e6 for each in grown],
            at_most(10),
            details={"keys": KEYS, "overwrites": OVERWRITES},
        ),
    ]


def run(runs: int) -> list[Measurement]:
    return asyncio.run(_measure_all(runs))


BENCHMARK = Benchmark("memory", f"resident memory of an empty node, and of one with {RECORDS:,} records", run)
