"""What a cluster costs that has nothing to do, and that this does not depend on how much it holds."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

from bench.cluster import Cluster
from bench.loader import load
from bench.results import Benchmark, Measurement, at_most

NODES = 20
FEW, MANY = 10, 100_000
WINDOW = 20.0
"""Seconds that it is watched at least, in as many parts as there are runs."""

SETTLE = 5.0


@dataclass(frozen=True, slots=True)
class Idle:
    """What one node uses: bytes sent a second, and percent of a core; a value for each part of the window."""

    traffic: list[float]
    cpu: list[float]


async def _watch(cluster: Cluster, runs: int) -> Idle:
    await asyncio.sleep(SETTLE)
    idle = Idle([], [])
    for _ in range(runs):
        sent, cpu, start = await _sent(cluster), _cpu(cluster), time.monotonic()
        await asyncio.sleep(max(WINDOW / runs, 2.0))
        # The statuses are asked for outside of what is counted as CPU.
        cpu, seconds = _cpu(cluster) - cpu, time.monotonic() - start
        idle.traffic.append((await _sent(cluster) - sent) / seconds / NODES)
        idle.cpu.append(100 * cpu / seconds / NODES)
    return idle


async def _sent(cluster: Cluster) -> int:
    return sum(status.gossip.bytes_sent for status in await cluster.statuses())


def _cpu(cluster: Cluster) -> float:
    return sum(node.cpu_seconds() for node in cluster.nodes)


async def _measure(runs: int) -> list[Measurement]:
    async with Cluster(NODES) as cluster:
        found = []
        for count in (FEW, MANY):
            await load(cluster, count)
            found.append(await _watch(cluster, runs))
    few, many = found
    lines = []
    for count, idle in ((FEW, few), (MANY, many)):
        lines.append(Measurement(f"idle traffic a node, {count:,} records", "B/s", idle.traffic))
        lines.append(Measurement(f"idle CPU a node, {count:,} records", "% of a core", idle.cpu))
    for what, before, after in (("traffic", few.traffic, many.traffic), ("CPU", few.cpu, many.cpu)):
        change = 100 * abs(statistics.mean(after) / statistics.mean(before) - 1)
        lines.append(Measurement(f"idle {what}: change with {MANY:,} records", "%", [change], at_most(20)))
    return lines


def run(runs: int) -> list[Measurement]:
    return asyncio.run(_measure(runs))


BENCHMARK = Benchmark("idle", f"traffic and CPU of {NODES} idle nodes with {FEW} and with {MANY:,} records", run)
