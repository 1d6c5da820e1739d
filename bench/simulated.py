"""Whether the simulator tells the truth: twenty real processes beside twenty simulated nodes, by their own counts."""

from __future__ import annotations

import asyncio
import random
import statistics
from dataclasses import dataclass

from bench.cluster import Cluster
from bench.results import Benchmark, Measurement, at_most
from gossip_grpc.sim.schedule import parse
from gossip_grpc.sim.world import World

NODES = 20
KEY = "simulated"
SETTLE, IDLE, GAP = 5.0, 20.0, 0.1
"""Seconds until the cluster is quiet, for which it is watched then, and between two writes."""

WRITES = 50
TOLERANCE = 15
"""Percent by which both may differ."""

# The cluster's name goes with every message, so both bear the same; the loopback of a busy machine takes so long.
SCENARIO = f"""\
cluster {NODES}
network latency=200us..2ms
every {GAP * 1000:.0f}ms from {SETTLE + IDLE:g}s to {SETTLE + IDLE + GAP * (WRITES - 1):g}s any put {KEY} "value {{i}}"
end {SETTLE + IDLE + GAP * WRITES:g}s
"""


@dataclass(frozen=True, slots=True)
class Count:
    """What all nodes together have sent so far."""

    calls: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What a cluster costs: idle, and beyond that for each write."""

    idle_bytes: float
    idle_calls: float
    write_calls: float
    write_bytes: float


def costs(start: Count, idle: Count, end: Count, idle_seconds: float, write_seconds: float) -> Costs:
    """From counts before and after the idle time, and after the writes."""
    calls, size = ((idle.calls - start.calls) / idle_seconds, (idle.bytes - start.bytes) / idle_seconds)
    return Costs(
        size / NODES,
        calls / NODES,
        (end.calls - idle.calls - calls * write_seconds) / WRITES,
        (end.bytes - idle.bytes - size * write_seconds) / WRITES,
    )


async def real() -> Costs:
    loop = asyncio.get_running_loop()
    async with Cluster(NODES, {"cluster": "n"}) as cluster:
        await cluster.nodes[0].client.kv.put(KEY, "value 0")
        await cluster.agreed(1)
        await asyncio.sleep(SETTLE)

        async def count() -> tuple[Count, float]:
            gossip = [status.gossip for status in await cluster.statuses()]
            calls = sum(counters.pushes_sent + counters.pulls_sent for counters in gossip)
            return Count(calls, sum(counters.bytes_sent for counters in gossip)), loop.time()

        start, began = await count()
        await asyncio.sleep(IDLE)
        idle, quiet = await count()
        for number in range(1, WRITES + 1):
            await random.choice(cluster.nodes).client.kv.put(KEY, f"value {number}")
            await asyncio.sleep(GAP)
        end, ended = await count()
    return costs(start, idle, end, quiet - began, ended - quiet)


def simulated(seed: int) -> Costs:
    world = World(parse(SCENARIO), seed)
    found = []
    for time in (SETTLE, SETTLE + IDLE - GAP / 2, SETTLE + IDLE + GAP * WRITES):
        world.run_until(time)
        counters = [host.engine.counters for host in world.live() if host.engine is not None]
        calls = sum(count.pushes_sent + count.pulls_sent for count in counters)
        found.append(Count(calls, sum(count.bytes_sent for count in counters)))
    start, idle, end = found
    return costs(start, idle, end, IDLE - GAP / 2, GAP * (WRITES + 0.5))


def run(runs: int) -> list[Measurement]:
    theirs = [asyncio.run(real()) for _ in range(max(runs // 2, 1))]
    ours = [simulated(seed) for seed in range(runs)]
    lines = []
    for what, unit, name in (
        ("idle traffic a node", "B/s", "idle_bytes"),
        ("calls a write", "", "write_calls"),
        ("bytes a write", "B", "write_bytes"),
    ):
        one, other = ([getattr(cost, name) for cost in found] for found in (theirs, ours))
        difference = 100 * abs(statistics.median(other) / statistics.median(one) - 1)
        lines += [
            Measurement(f"{what}, real", unit, one),
            Measurement(f"{what}, simulated", unit, other),
            Measurement(f"{what}: difference", "%", [difference], at_most(TOLERANCE)),
        ]
    return lines


BENCHMARK = Benchmark("simulated", f"{NODES} real processes beside {NODES} simulated nodes: do they cost the same", run)
