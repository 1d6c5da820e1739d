"""A thousand watchers, one of which stands still, while 10,000 keys a second are written.

First all watch everything, which is more than a node can send: who falls behind is to be cut off with a token, and the
node's memory is to stay bounded. Then each watches the keys of one prefix, and all are to keep up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc.aio

from bench import data
from bench.cluster import one_node
from bench.results import Benchmark, Measurement, at_most
from gossip_grpc.client import AsyncClient
from gossip_grpc.client.failures import error_of
from gossip_grpc.gen.gossip.v1 import kv_pb2, kv_pb2_grpc
from gossip_grpc.node import run_loop

WATCHERS = 1_000
CHANNELS = 10
WRITES = 10_000
"""A second."""

SECONDS = 10.0
STEP = 0.01
"""Seconds between two batches of writes."""

GRACE = 20.0
"""Seconds after the last write until which who keeps up has all, and who does not is cut off."""

PREFIXES = 1_000


@dataclass(slots=True)
class Seen:
    """What a watcher got: events after the marker, the number in the last one, and how it ended."""

    stalled: bool
    current: asyncio.Event = field(default_factory=asyncio.Event)
    reads_on: asyncio.Event = field(default_factory=asyncio.Event)
    events: int = 0
    last: int = 0
    lost: int = 0
    end: str = ""
    has_token: bool = False


async def watch(stub: kv_pb2_grpc.KeyValueServiceAsyncStub, prefix: str, seen: Seen) -> None:
    """Watch until the node ends it. The numbers in the values tell whether anything is lost or comes twice."""
    step = PREFIXES if prefix else 1
    call = stub.Watch(kv_pb2.KeyValueServiceWatchRequest(prefix=prefix))
    try:
        async for event in call:
            if event.kind == kv_pb2.KEY_VALUE_EVENT_KIND_CURRENT:
                seen.current.set()
                if seen.stalled:
                    await seen.reads_on.wait()
            elif event.kind == kv_pb2.KEY_VALUE_EVENT_KIND_PUT:
                number = int(event.entry.value.text.split(maxsplit=1)[0])
                seen.lost += bool(seen.events) and number != seen.last + step
                seen.last = number
                seen.events += 1
    except grpc.aio.AioRpcError as error:
        failure = error_of(error, address="", timeout=0)  # type: ignore[arg-type]  # as in clients.py
        seen.end, seen.has_token = failure.reason or str(error.code()), "resume_token" in failure.metadata
    finally:
        call.cancel()


async def write(client: AsyncClient) -> float:
    """Write at the pace, or as fast as the node takes it; returns how many a second it were."""
    begun = time.perf_counter()
    number, count = 0, int(SECONDS * WRITES)
    while number < count:
        due = min(int((time.perf_counter() - begun + STEP) * WRITES), count)
        await client.kv.put_many((f"{n % PREFIXES:03}/{n // PREFIXES}", data.value(n)) for n in range(number, due))
        number = due
        await asyncio.sleep(STEP)
    return count / (time.perf_counter() - begun)


@dataclass(slots=True)
class Run:
    """What came of one run; memory in MB."""

    rate: float
    before: float
    watched: float
    peak: float
    after: float
    longest: float
    expected: int
    watchers: list[Seen]

    def note(self) -> str:
        others = [seen for seen in self.watchers if not seen.stalled]
        ends = Counter(seen.end or ("had all" if seen.events == self.expected else "behind") for seen in others)
        events = sorted(seen.events for seen in others)
        ended = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        return (
            f"{self.rate:,.0f} writes/s; MB: {self.before:.0f} before, {self.watched:.0f} watched, {self.peak:.0f} at "
            f"most, {self.after:.0f} after; {ended}; events each: {events[0]:,} to {events[-1]:,}, lost or repeated "
            f"{sum(seen.lost for seen in others)}, tokens {sum(seen.has_token for seen in others)}; the one "
            f"that stood still: {self.watchers[0].end or 'not cut'}; longest status call {self.longest:.1f} s"
        )


async def _measure(own: bool) -> Run:
    async with one_node({"max_watchers": WATCHERS}) as node:
        before = node.memory_bytes()
        channels = [grpc.aio.insecure_channel(node.client_address, [("n", n)]) for n in range(CHANNELS)]
        stubs = [kv_pb2_grpc.KeyValueServiceStub(channel) for channel in channels]
        watchers = [Seen(stalled=number == 0) for number in range(WATCHERS)]
        tasks = [
            asyncio.create_task(
                watch(stubs[number % CHANNELS], f"{number % PREFIXES:03}/" if own else "", seen)  # type: ignore[arg-type]  # as in clients.py
            )
            for number, seen in enumerate(watchers)
        ]
        await asyncio.gather(*(seen.current.wait() for seen in watchers))
        watched = peak = node.memory_bytes()
        longest = 0.0

        async def look() -> None:
            nonlocal peak
            while True:
                peak = max(peak, node.memory_bytes())
                await asyncio.sleep(0.1)

        async def ask() -> None:
            nonlocal longest
            while True:
                begun = time.perf_counter()
                await node.client.status()
                longest = max(longest, time.perf_counter() - begun)
                await asyncio.sleep(0.5)

        looks = [asyncio.create_task(look()), asyncio.create_task(ask())]
        rate = await write(node.client)
        expected = int(SECONDS * WRITES) // (PREFIXES if own else 1)
        deadline = time.perf_counter() + GRACE
        while time.perf_counter() < deadline:
            if all(seen.end or seen.stalled or seen.events >= expected for seen in watchers):
                break
            await asyncio.sleep(0.1)
        watchers[0].reads_on.set()
        await asyncio.wait(tasks[:1], timeout=GRACE)
        for task in (*looks, *tasks):
            task.cancel()
        await asyncio.gather(*looks, *tasks, return_exceptions=True)
        for channel in channels:
            await channel.close()
        await asyncio.sleep(2)
        after = node.memory_bytes()
        return Run(rate, before / 1e6, watched / 1e6, peak / 1e6, after / 1e6, longest, expected, watchers)


async def _measure_all(runs: int) -> list[Measurement]:
    found = []
    for own, what in ((False, "all watch everything"), (True, "each a prefix of its own")):
        results = [await _measure(own) for _ in range(runs)]
        for result in results:
            print(f"  {what}: {result.note()}", file=sys.stderr)
        name = f"{WATCHERS:,} watchers, {WRITES:,} writes/s, {what}: peak memory"
        found.append(Measurement(name, "MB", [run.peak for run in results], at_most(500), results[-1].note()))
    return found


def run(runs: int) -> list[Measurement]:
    return run_loop(_measure_all(runs))


BENCHMARK = Benchmark(
    "watch", f"{WATCHERS:,} watchers while {WRITES:,} keys a second are written: memory, who is cut", run
)
