"""Events a second that get to every subscriber of five real nodes, and how soon the last of twenty tells one."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing

from bench.cluster import Cluster
from bench.results import Benchmark, Measurement

FEW, MANY = 5, 20
EVENTS_PER_NODE = 400
AT_ONCE = 8
"""Calls of Publish that one node has open at a time."""

PER_RUN = 4
"""Single events in each run."""

GAP = 0.1
PAYLOAD = "x" * 100
GIVE_UP = 120.0


class Subscribers:
    """One subscriber of each node; each counts what it is told."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told = [0 for _ in cluster.nodes]
        self._news = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Subscribers:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        started = [asyncio.Event() for _ in self._cluster.nodes]
        self._tasks = [group.create_task(self._read(number, event)) for number, event in enumerate(started)]
        for event in started:
            await event.wait()
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._stack.aclose()

    async def all_told(self, count: int) -> None:
        """Wait until every subscriber has been told so many events since it came."""
        async with asyncio.timeout(GIVE_UP):
            while min(self._told) < count:
                self._news.clear()
                await self._news.wait()

    async def _read(self, number: int, started: asyncio.Event) -> None:
        client = self._cluster.nodes[number].client
        async with aclosing(client.event.subscribe("*")) as stream:
            async for told in stream:
                if told.event is None:
                    started.set()
                else:
                    self._told[number] += 1
                    self._news.set()


async def _publish(cluster: Cluster, per_node: int) -> None:
    async def one_after_another(number: int, share: Iterable[int]) -> None:
        for _ in share:
            await cluster.nodes[number].client.event.publish(f"bench/{number}", PAYLOAD)

    async with asyncio.TaskGroup() as publishers:
        for number in range(len(cluster.nodes)):
            for part in range(AT_ONCE):
                publishers.create_task(one_after_another(number, range(part, per_node, AT_ONCE)))


async def _rates(runs: int) -> list[float]:
    rates = []
    count = EVENTS_PER_NODE * FEW
    async with Cluster(FEW) as cluster, Subscribers(cluster) as subscribers:
        for run in range(1, runs + 1):
            begun = time.perf_counter()
            await _publish(cluster, EVENTS_PER_NODE)
            await subscribers.all_told(count * run)
            rates.append(count / (time.perf_counter() - begun))
    return rates


async def _latencies(runs: int) -> list[float]:
    times = []
    async with Cluster(MANY) as cluster, Subscribers(cluster) as subscribers:
        for number in range(1, PER_RUN * runs + 3):  # the first two warm up
            begun = time.perf_counter()
            await random.choice(cluster.nodes).client.event.publish("bench", PAYLOAD)
            await subscribers.all_told(number)
            times.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(GAP)
    return times[2:]


async def _measure(runs: int) -> list[Measurement]:
    rates = await _rates(runs)
    times = await _latencies(runs)
    note = f"{EVENTS_PER_NODE * FEW:,} events of {len(PAYLOAD)} bytes a run, published at all nodes"
    return [
        Measurement(f"events through {FEW} nodes to a subscriber of each", "/s", rates, note=note),
        Measurement(
            f"from publish to the last of {MANY} nodes", "ms", times, note=f"{statistics.mean(times):.0f} ms mean"
        ),
    ]


def run(runs: int) -> list[Measurement]:
    return asyncio.run(_measure(runs))


BENCHMARK = Benchmark("events", f"events to all subscribers of {FEW} nodes, and one to the last of {MANY}", run)
