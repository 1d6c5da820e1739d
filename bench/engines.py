"""What the engine alone costs in a large cluster: rumors and rounds between engines in memory, without bytes."""

from __future__ import annotations

import random
import tracemalloc
from collections import deque
from collections.abc import Iterator

from bench import data
from bench.results import Benchmark, Measurement, at_most
from bench.timing import timed
from gossip_grpc.core.detector import DetectorSettings
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.messages import Call, PullRequest, PushRequest
from gossip_grpc.core.records import Kind, Member, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta

MEMBERS = 1_000
WRITES = 10
"""Writes, one after the other, between two rounds of every node."""

LOST = 20
"""Writes of which no rumor arrives, so that a round has to find them."""

SILENT = Settings(detector=DetectorSettings(heartbeat_interval=1e9))
"""No heartbeats: what is measured is how records spread."""


class Engines:
    """Engines that know each other as members from the start, and whose calls arrive at once and in order."""

    def __init__(self, count: int = MEMBERS) -> None:
        self.now = 0.0
        self.rng = random.Random(1)
        origins = [Origin(f"n{number:04}", 1) for number in range(count)]
        members = [Member(1, f"{origin.node_id}:1") for origin in origins]
        records = [
            Record(Kind.MEMBER, origin.node_id, origin, 1, 1, member)
            for origin, member in zip(origins, members, strict=True)
        ]
        self.engines: dict[str, Engine] = {}
        for origin, member in zip(origins, members, strict=True):
            store = Store(origin)
            store.merge(records, 0.0)
            rng = random.Random(self.rng.random())
            self.engines[member.peer_address] = Engine(origin, member, SILENT, rng, 0.0, store)
        self.names = list(self.engines)
        self.pushes = 0

    def write(self, number: int) -> Iterator[tuple[str, Call]]:
        """Write at a random node; what it pushes is still to be carried."""
        self.now += 0.1
        name = self.rng.choice(self.names)
        self.engines[name].put(data.key(number), data.value(number), self.now)
        return self.calls(name)

    def calls(self, name: str) -> Iterator[tuple[str, Call]]:
        return ((name, effect) for effect in self.engines[name].effects() if isinstance(effect, Call))

    def carry(self, calls: Iterator[tuple[str, Call]]) -> None:
        """Carry calls to their ends, and all that come of them."""
        queue = deque(calls)
        while queue:
            name, call = queue.popleft()
            self.pushes += call.round is None
            self.deliver(name, call)
            queue += self.calls(name)
            queue += self.calls(call.peer.address)

    def deliver(self, name: str, call: Call) -> None:
        """Hand a call to its peer, and the answer back."""
        here, there, now = self.engines[name], self.engines[call.peer.address], self.now
        us, them, address = here.store.origin, there.store.origin, call.peer.address
        request = call.request
        if isinstance(request, PullRequest):
            reply = there.on_pull(us, name, request)
            if reply.delta is None:
                here.on_pull_reply(call, them, address, reply, now)
            else:
                here.begin_delta(call, them, address, header(reply.delta), now)
                here.merge_chunk(call, reply.delta.records, now)
                here.end_delta(call, now)
            return
        assert isinstance(request, PushRequest)  # noqa: S101 - there are no heartbeats here, nor probes
        if request.delta is None:
            pushed = there.on_push(us, name, request.records, request.digest_hash, now)
            here.on_push_reply(call, them, address, pushed, now)
        else:
            pushed = there.on_push_chunk(
                us,
                name,
                transfer=1,
                chunk=0,
                header=header(request.delta),
                records=request.delta.records,
                superseded=False,
                complete=True,
                digest_hash=None,
                now=now,
            )
            here.on_push_reply(call, them, address, pushed, now)

    def tick(self, name: str) -> Iterator[tuple[str, Call]]:
        """Let a node do what is due, now or as soon as anything is."""
        engine = self.engines[name]
        self.now = max(self.now, engine.deadline())
        engine.tick(self.now)
        return self.calls(name)

    def round(self, name: str) -> None:
        """One round of a node, with the steps it leads to."""
        self.carry(self.tick(name))

    def agreed(self) -> bool:
        return len({engine.digest()[1] for engine in self.engines.values()}) == 1


def header(delta: Delta) -> Delta:
    return Delta(delta.base, delta.snapshot, full=delta.full, repair=delta.repair)


def memory(count: int) -> float:
    """Bytes that each of `count` engines takes which have exchanged rumors and rounds with each other."""
    tracemalloc.start()
    try:
        engines = Engines(count)
        # Records, names and addresses are shared; what each engine has of its own is the difference.
        for number in range(WRITES):
            engines.carry(engines.write(number))
        for name in engines.names:
            engines.round(name)
        return tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()


def run(runs: int) -> list[Measurement]:
    engines = Engines()
    numbers = iter(range(1_000_000))
    pushing, agreeing, finding = [], [], []
    for _ in range(runs + 1):  # the first one warms up
        engines.pushes = 0
        with timed() as took:
            for _ in range(WRITES):
                engines.carry(engines.write(next(numbers)))
        pushing.append(took.cpu / engines.pushes * 1e6)
        if not engines.agreed():
            raise RuntimeError("a rumor did not reach all")
        engines.now += 2.0
        with timed() as took:
            for name in engines.names:
                engines.round(name)
        agreeing.append(took.cpu / len(engines.names) * 1e6)
        spent = 0.0
        for _ in range(LOST):
            writer, _ = next(engines.write(next(numbers)))
            engines.now += 2.0
            with timed() as took:
                for _, call in engines.tick(writer):
                    engines.deliver(writer, call)
                for _, call in engines.calls(writer):
                    engines.deliver(writer, call)
            spent += took.cpu
            engines.round(call.peer.address)  # which passes it on, as a rumor
        finding.append(spent / LOST * 1e6)
        while not engines.agreed():  # the writer has not pushed, so its successor on the ring may lack it
            for name in engines.names:
                engines.round(name)
    return [
        Measurement("a push of a rumor and its answer", "us", pushing[1:], at_most(15)),
        Measurement("a round that agrees", "us", agreeing[1:], at_most(50)),
        Measurement("a round that sends one record", "us", finding[1:]),
        Measurement("memory an engine", "kB", [memory(MEMBERS) / 1e3]),
    ]


BENCHMARK = Benchmark("engines", f"the engine's share of CPU and memory among {MEMBERS:,} members, no bytes", run)
