"""A cluster of engines in virtual time, with their messages as bytes: for tests of the protocol without a network."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from gossip_grpc import wire
from gossip_grpc.core.detector import DetectorSettings
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.messages import Call, Notice, PullReply, PullRequest, PushReply, PushRequest
from gossip_grpc.core.records import Member, Origin
from gossip_grpc.core.sync import Digest, layers
from gossip_grpc.errors import ProtocolError
from gossip_grpc.gen.gossip.v1 import peer_pb2

CHUNK = 4096

SILENT = DetectorSettings(heartbeat_interval=1e9)
"""No heartbeats: what is tested here is how records spread. Failure detection has tests of its own."""


class VirtualCluster:
    """Engines n0, n1, ... that reach each other by their addresses, unless a link is cut or loses a message.

    Args:
        seed: decides everything.
        latency: seconds a message takes one way.
        loss: share of the calls that are lost.
    """

    def __init__(self, seed: int = 0, *, latency: float = 0.001, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.latency = latency
        self.loss = loss
        self.engines: dict[str, Engine] = {}
        self.down: set[str] = set()
        self.cut: Callable[[str, str], bool] = lambda here, there: False
        self.notices: list[tuple[str, Notice]] = []
        self.calls: list[tuple[str, Call]] = []
        self.largest = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ticks: dict[str, float] = {}

    def add(
        self,
        name: str,
        settings: Settings | None = None,
        *,
        generation: int = 1,
        seeds: tuple[str, ...] = (),
        zone: str = "",
    ) -> Engine:
        """Start a node; its seeds are names of nodes."""
        settings = replace(settings or Settings(), has_seeds=bool(seeds), detector=SILENT)
        rng = random.Random(self.rng.random())
        member = Member(0, f"{name}:1", zone=zone)
        engine = Engine(Origin(name, generation), member, settings, rng, self.now)
        engine.membership.set_seeds(f"{seed}:1" for seed in seeds)
        self.engines[name] = engine
        self.down.discard(name)
        self._pump(name)
        return engine

    def grow(self, count: int, settings: Settings | None = None) -> list[Engine]:
        """Start n0 ... n<count-1>, all joining through n0."""
        return [self.add(f"n{i}", settings, seeds=() if i == 0 else ("n0",)) for i in range(count)]

    def silence(self, *names: str) -> None:
        """Let nodes (all, if none is named) begin no more rounds of anti-entropy; they answer and spread rumors."""
        for name in names or self.engines:
            self.engines[name]._next_round = float("inf")

    def values(self, key: str) -> dict[str, object]:
        """What each node that is up has in a register; None if nothing."""
        records = {name: self.engines[name].store.register(key) for name in self.engines if name not in self.down}
        return {name: None if record is None else record.content for name, record in records.items()}

    def have(self, key: str, value: object) -> Callable[[], bool]:
        """Whether all nodes that are up have the value, as a condition for `run`."""
        return lambda: set(self.values(key).values()) == {value}

    def kill(self, name: str) -> None:
        """Stop a node without a word."""
        self.down.add(name)

    def act(self, name: str, action: Callable[[Engine, float], object]) -> None:
        """Do something at a node now."""
        action(self.engines[name], self.now)
        self._pump(name)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; returns whether `until` came true (checked after every event)."""
        end = self.now + seconds
        while not until():
            if not self._events or self._events[0][0] > end:
                self.now = end
                return until()
            self.now, _, event = heapq.heappop(self._events)
            event()
        return True

    def agreed(self) -> bool:
        """Whether all nodes that are up have the same digest."""
        return len({engine.digest()[1] for name, engine in self.engines.items() if name not in self.down}) == 1

    # Delivery

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def _pump(self, name: str) -> None:
        engine = self.engines[name]
        for effect in engine.effects():
            if isinstance(effect, Notice):
                self.notices.append((name, effect))
            elif isinstance(effect, Call):
                self._send(name, engine, effect)
        deadline = engine.deadline()
        if self._ticks.get(name) != deadline:
            self._ticks[name] = deadline
            self._at(max(deadline, self.now), lambda: self._tick(name, engine, deadline))

    def _tick(self, name: str, engine: Engine, deadline: float) -> None:
        if self.engines[name] is engine and name not in self.down and self._ticks[name] == deadline:
            del self._ticks[name]
            engine.tick(self.now)
            self._pump(name)

    def _send(self, name: str, engine: Engine, call: Call) -> None:
        there = call.peer.address.removesuffix(":1")
        self.calls.append((name, call))

        def deliver() -> None:
            if (
                there not in self.engines
                or there in self.down
                or self.cut(name, there)
                or self.rng.random() < self.loss
            ):
                self._at(self.now + 1.0, lambda: finish(lambda: engine.on_failure(call, "lost", self.now)))
                return
            try:
                answer = self._answer(engine, there, call)
            except ProtocolError as error:
                text = str(error)
                self._at(
                    self.now + self.latency,
                    lambda: finish(lambda: engine.on_failure(call, text, self.now, answered=True)),
                )
                return
            self._pump(there)
            self._at(self.now + self.latency, lambda: finish(answer))

        def finish(outcome: Callable[[], None]) -> None:
            if self.engines[name] is engine and name not in self.down:
                outcome()
                self._pump(name)

        self._at(self.now + self.latency, deliver)

    def _answer(self, engine: Engine, there: str, call: Call) -> Callable[[], None]:
        """Carry a call to the other side; returns what brings the answer back."""
        other = self.engines[there]
        here = engine.store.origin
        address = f"{here.node_id}:1"
        origin, their_address = other.store.origin, f"{there}:1"
        request = call.request
        if isinstance(request, PullRequest):
            reply = other.on_pull(here, address, self._pull_request(request))
            if reply.delta is None:
                answer = PullReply(agreed=reply.agreed, digest=self._digest(reply.digest) if reply.digest else None)
                return lambda: engine.on_pull_reply(call, origin, their_address, answer, self.now)
            chunks = list(self._chunks(wire.encode_delta(reply.delta, CHUNK)))

            def take() -> None:
                header = chunks[0].header
                assert header is not None
                engine.begin_delta(call, origin, their_address, header, self.now)
                for chunk in chunks:
                    engine.merge_chunk(call, chunk.records, self.now, superseded=chunk.superseded)
                engine.end_delta(call, self.now)

            return take
        assert isinstance(request, PushRequest), "there are no heartbeats here, nor probes"
        pushed = self._push(other, here, address, request)
        return lambda: engine.on_push_reply(call, origin, their_address, pushed, self.now)

    def _push(self, other: Engine, here: Origin, address: str, request: PushRequest) -> PushReply:
        reply = PushReply()
        if request.delta is None:
            # As in the node: rumors of one slot go in messages of their own, for a message holds no slot twice.
            messages = (part for layer in layers(request.records) for part in wire.encode_records(layer, CHUNK))
            chunks = list(self._chunks(messages)) or [wire.Chunk()]
            fresh = 0
            for chunk in chunks:
                reply = other.on_push(here, address, chunk.records, request.digest_hash, self.now)
                fresh += reply.fresh
            reply.fresh = fresh
        else:
            for number, chunk in enumerate(self._chunks(wire.encode_delta(request.delta, CHUNK))):
                reply = other.on_push_chunk(
                    here,
                    address,
                    transfer=1,
                    chunk=number,
                    header=chunk.header,
                    records=chunk.records,
                    superseded=chunk.superseded,
                    complete=chunk.complete,
                    digest_hash=request.digest_hash,
                    now=self.now,
                )
        return PushReply(reply.fresh, reply.agreed, self._digest(reply.digest) if reply.digest else None)

    def _chunks(self, messages: Iterator[peer_pb2.Delta]) -> Iterator[wire.Chunk]:
        for message in messages:
            data = message.SerializeToString()
            self.largest = max(self.largest, len(data))
            yield wire.decode_delta(peer_pb2.Delta.FromString(data))

    def _digest(self, digest: Digest) -> Digest:
        data = wire.encode_digest(digest).SerializeToString()
        self.largest = max(self.largest, len(data))
        return wire.decode_digest(peer_pb2.Digest.FromString(data))

    def _pull_request(self, request: PullRequest) -> PullRequest:
        return PullRequest(
            request.digest_hash, self._digest(request.digest) if request.digest else None, request.repair
        )
