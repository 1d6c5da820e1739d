"""What a node adds to gRPC: the rate of Put against that of an empty server, from one asyncio client process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import cast

import grpc.aio

from bench import data, processes
from bench.cluster import one_node
from bench.results import Benchmark, Measurement, at_least
from gossip_grpc.gen.gossip.v1 import common_pb2, kv_pb2, kv_pb2_grpc
from gossip_grpc.node import run_loop

CALLERS = (1, 32)
KEYS = 10_000
SLICE = 0.4
"""Seconds that one of the two is called before it is the other's turn: short, so that both meet the same machine."""

TURNS = 4
"""Slices of each in a run."""


@dataclass(slots=True)
class Side:
    """One of the two servers, and what was measured of it."""

    name: str
    pid: int
    stub: kv_pb2_grpc.KeyValueServiceAsyncStub
    calls: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


async def call_one(side: Side, callers: int, requests: Iterator[kv_pb2.KeyValueServicePutRequest]) -> None:
    """Call for one slice."""
    cpu, start = processes.cpu_seconds(side.pid), time.perf_counter()
    end = start + SLICE

    async def call() -> None:
        while time.perf_counter() < end:
            await side.stub.Put(next(requests), timeout=10)
            side.calls += 1

    await asyncio.gather(*(call() for _ in range(callers)))
    side.seconds += time.perf_counter() - start
    side.cpu_seconds += processes.cpu_seconds(side.pid) - cpu


async def compare(sides: list[Side], callers: int, runs: int) -> Measurement:
    """Slices in turn, each time another one first."""
    requests = itertools.cycle(
        kv_pb2.KeyValueServicePutRequest(key=data.key(number), value=common_pb2.Value(text=data.value(number)))
        for number in range(KEYS)
    )
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    cpu: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(runs):
        for turn in range(TURNS):
            for side in sides if turn % 2 else reversed(sides):
                await call_one(side, callers, requests)
        for side in sides:
            rates[side.name].append(side.calls / side.seconds)
            cpu[side.name].append(side.cpu_seconds / side.calls)
            side.calls, side.seconds, side.cpu_seconds = 0, 0.0, 0.0
    details = {
        name: {
            "calls_per_second": statistics.median(rates[name]),
            "server_cpu_ms_per_call": statistics.median(cpu[name]) * 1000,
        }
        for name in rates
    }
    note = ", ".join(
        f"{name} {one['calls_per_second']:,.0f}/s at {one['server_cpu_ms_per_call']:.2f} ms CPU"
        for name, one in details.items()
    )
    ratios = [ours / theirs for ours, theirs in zip(rates["node"], rates["echo"], strict=True)]
    who = "1 caller" if callers == 1 else f"{callers} callers"
    return Measurement(f"Put / empty call, {who}", "", ratios, at_least(0.7), note, details)


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[int, str]]:
    """The empty server; process id and address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        if process.stdout is None or not (address := (await process.stdout.readline()).decode().strip()):
            raise RuntimeError("the empty server did not start")
        yield process.pid, address
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _measure_all(runs: int, found: list[Measurement]) -> None:
    async with (
        echo_server() as (pid, address),
        one_node() as node,
        grpc.aio.insecure_channel(address) as echo,
        grpc.aio.insecure_channel(node.client_address) as real,
    ):
        sides = [Side("echo", pid, _stub(echo)), Side("node", node.pid, _stub(real))]
        for callers in CALLERS:
            await compare(sides, callers, 1)  # warms up
            found.append(await compare(sides, callers, runs))


def _stub(channel: grpc.aio.Channel) -> kv_pb2_grpc.KeyValueServiceAsyncStub:
    return cast("kv_pb2_grpc.KeyValueServiceAsyncStub", kv_pb2_grpc.KeyValueServiceStub(channel))


def run(runs: int) -> list[Measurement]:
    found: list[Measurement] = []
    run_loop(_measure_all(runs, found))
    return found


BENCHMARK = Benchmark("put", "the rate of Put as a share of an empty server's, same client", run)
