"""An empty node takes a million records from one peer.

How fast, against a bare stream of the same chunks in the same run; how both answer meanwhile; what memory it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bench import bare, data
from bench.cluster import NodeProcess
from bench.results import Benchmark, Measurement, at_least, at_most
from gossip_grpc.client import AsyncClient, GossipError
from gossip_grpc.node import run_loop

RECORDS = 1_000_000
SETTLE = 3.0
INTERVAL = 0.01
"""Seconds between two calls of Get at a node."""

PATIENCE = 300.0
STREAMS = 3
"""How often the bare stream is read; the median counts."""


@dataclass(slots=True)
class Watch:
    """What is seen of a node while it is watched: milliseconds that calls of Get took, and bytes of resident memory."""

    node: NodeProcess
    latencies: list[float] = field(default_factory=list)
    peak: int = 0

    async def go_on(self) -> None:
        client = AsyncClient(self.node.client_address, timeout=30.0)
        async with client:
            while True:
                begun = time.perf_counter()
                with contextlib.suppress(GossipError):  # not there yet, which is an answer too
                    await client.kv.get(data.key(1))
                self.latencies.append((time.perf_counter() - begun) * 1000)
                self.peak = max(self.peak, self.node.memory_bytes())
                await asyncio.sleep(INTERVAL)


@contextlib.asynccontextmanager
async def watching(*nodes: NodeProcess) -> AsyncIterator[list[Watch]]:
    watches = [Watch(node) for node in nodes]
    tasks = [asyncio.create_task(watch.go_on()) for watch in watches]
    try:
        yield watches
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def bare_seconds(source: NodeProcess) -> tuple[float, int, int]:
    """Seconds that the bare stream takes, its chunks and bytes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare", source.peer_address, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None or not (line := (await process.stdout.readline()).decode().split()):
            raise RuntimeError("the bare server did not start")
        address, chunks, size = line[0], int(line[1]), int(line[2])
        times = []
        for _ in range(STREAMS):
            begun = time.perf_counter()
            seen = 0
            async for raw in bare.pull(address):
                seen += len(raw)
            times.append(time.perf_counter() - begun)
            if seen != size:
                raise RuntimeError(f"{seen} bytes arrived of {size}")
        return statistics.median(times), chunks, size
    finally:
        process.kill()
        await process.wait()


async def arrived(node: NodeProcess, records: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(GossipError):
            status = await node.client.status()
            if status.ready and status.records >= records:
                return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"{node.node_id} did not get {records} records within {PATIENCE:g} s:\n{node.log}")


async def measure(records: int = RECORDS) -> dict[str, float]:
    sender = NodeProcess("sender")
    receiver: NodeProcess | None = None
    try:
        await sender.start()
        await sender.client.kv.put_many((data.key(number), data.value(number)) for number in range(records))
        bare_time, chunks, size = await bare_seconds(sender)
        await asyncio.sleep(SETTLE)
        resting = sender.memory_bytes()
        receiver = NodeProcess("receiver", [sender.peer_address])
        cpu = sender.cpu_seconds()
        await receiver.start()
        begun, begun_cpu = time.perf_counter(), receiver.cpu_seconds()
        async with watching(sender, receiver) as (sending, receiving):
            await arrived(receiver, records)
            took = time.perf_counter() - begun
        cpus = sender.cpu_seconds() - cpu, receiver.cpu_seconds() - begun_cpu
        await asyncio.sleep(SETTLE)
        rest = receiver.memory_bytes()
        return {
            "rate": records / took,
            "bare_rate": records / bare_time,
            "share": bare_time / took,
            "chunks": chunks,
            "bytes": size,
            "sender_cpu": cpus[0],
            "receiver_cpu": cpus[1],
            "sender_p99": percentile(sending.latencies),
            "receiver_p99": percentile(receiving.latencies),
            "sender_worst": max(sending.latencies),
            "receiver_worst": max(receiving.latencies),
            "sender_rest": resting,
            "receiver_rest": rest,
            "sender_peak": max(sending.peak, resting) / resting,
            "receiver_peak": max(receiving.peak, rest) / rest,
        }
    finally:
        await asyncio.gather(*(node.kill() for node in (sender, receiver) if node is not None))


def percentile(values: list[float]) -> float:
    """The 99th of a hundred."""
    return statistics.quantiles(values, n=100)[-1]


def run(runs: int) -> list[Measurement]:
    found = [run_loop(measure()) for _ in range(runs)]

    def values(name: str) -> list[float]:
        return [one[name] for one in found]

    def side(name: str) -> list[Measurement]:
        note = f"worst {max(values(f'{name}_worst')):.0f} ms; CPU {statistics.median(values(f'{name}_cpu')):.1f} s"
        memory = f"of {statistics.median(values(f'{name}_rest')) / 1e6:.0f} MB at rest"
        return [
            Measurement(f"p99 of Get at the {name}", "ms", values(f"{name}_p99"), at_most(50), note),
            Measurement(f"peak memory of the {name}", "times", values(f"{name}_peak"), at_most(1.5), memory),
        ]

    note = f"{statistics.median(values('rate')):,.0f} records/s, bare {statistics.median(values('bare_rate')):,.0f}"
    details = {"records": RECORDS, "value_bytes": data.VALUE_BYTES, "runs": found}
    return [
        Measurement("transfer / bare stream", "", values("share"), at_least(0.5), note, details),
        *side("sender"),
        *side("receiver"),
    ]


BENCHMARK = Benchmark("transfer", f"an empty node takes {RECORDS:,} records from a peer, against a bare stream", run)
