"""How soon a write is everywhere: twenty processes, one write at a time, each node asked until it shows it."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import deque
from dataclasses import dataclass

from bench.cluster import Cluster, NodeProcess
from bench.results import Benchmark, Measurement, at_most

NODES = 20
WRITES_PER_RUN = 10
KEY = "spread"
POLLERS = 2
"""Nodes asked at a time. Asking uses the cores that the nodes need too, so few; what it adds counts as theirs."""

GAP = 0.1
"""Seconds between two writes: longer than one takes to spread, so that no two share messages."""

IDLE_SECONDS = 5.0
GIVE_UP = 30.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What all nodes together have used so far."""

    time: float
    messages: int
    cpu: float

    def per_second(self, since: Cost) -> tuple[float, float]:
        seconds = self.time - since.time
        return (self.messages - since.messages) / seconds, (self.cpu - since.cpu) / seconds


async def cost(cluster: Cluster) -> Cost:
    gossip = [status.gossip for status in await cluster.statuses()]
    messages = sum(counters.pushes_sent + counters.pulls_sent for counters in gossip)
    return Cost(time.monotonic(), messages, sum(node.cpu_seconds() for node in cluster.nodes))


async def write_and_watch(cluster: Cluster, writer: NodeProcess, text: str) -> float:
    """Seconds from before the call of Put until the last node has shown the value."""
    start = time.perf_counter()
    await writer.client.kv.put(KEY, text)
    waiting = deque(random.sample(cluster.nodes, len(cluster.nodes)))

    async def poll() -> None:
        while waiting:
            node = waiting.popleft()
            if (await node.client.kv.get(KEY)).value != text:
                waiting.append(node)

    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as pollers:
        for _ in range(POLLERS):
            pollers.create_task(poll())
    return time.perf_counter() - start


async def _latencies(cluster: Cluster, writes: int) -> list[float]:
    times = []
    for number in range(writes + 2):  # the first two warm up
        times.append(await write_and_watch(cluster, random.choice(cluster.nodes), f"watched {number}"))
        await asyncio.sleep(GAP)
    return times[2:]


async def _costs(cluster: Cluster, writes: int) -> tuple[float, float]:
    """Messages, and seconds of CPU of all nodes, that a write costs beyond what the idle cluster costs.

    Nobody is asked meanwhile.
    """
    before_idle = await cost(cluster)
    await asyncio.sleep(IDLE_SECONDS)
    idle = await cost(cluster)
    idle_messages, idle_cpu = idle.per_second(before_idle)
    for number in range(writes):
        await random.choice(cluster.nodes).client.kv.put(KEY, f"unwatched {number}")
        await asyncio.sleep(GAP)
    messages, cpu = (after := await cost(cluster)).per_second(idle)
    seconds = after.time - idle.time
    return (messages - idle_messages) * seconds / writes, (cpu - idle_cpu) * seconds / writes


async def _measure(runs: int) -> list[Measurement]:
    writes = WRITES_PER_RUN * runs
    async with Cluster(NODES) as cluster:
        await cluster.nodes[0].client.kv.put(KEY, "first")
        await cluster.agreed(1)
        started = await cost(cluster)
        times = await _latencies(cluster, writes)
        watched = await cost(cluster)
        await cluster.agreed(1)
        messages, cpu = await _costs(cluster, writes)
    details = {
        "nodes": NODES,
        "writes": writes,
        "worst_ms": max(times) * 1000,
        "cpu_seconds_per_node_while_watched": (watched.cpu - started.cpu) / NODES,
        "seconds_while_watched": watched.time - started.time,
    }
    note = f"{statistics.mean(times) * 1000:.0f} ms on average"
    return [
        Measurement(f"a write on all of {NODES} nodes", "ms", [t * 1000 for t in times], at_most(100), note, details),
        Measurement("messages per write", "", [messages], note=f"{messages / NODES:.1f} a node"),
        Measurement("CPU per write and node", "ms", [cpu / NODES * 1000], note=f"{cpu * 1000:.0f} ms of all nodes"),
    ]


def run(runs: int) -> list[Measurement]:
    return asyncio.run(_measure(runs))


BENCHMARK = Benchmark("spread", f"a write on one of {NODES} real nodes until it is visible on all", run)
