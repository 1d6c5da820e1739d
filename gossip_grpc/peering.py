"""The bytes of one peer RPC: what a call of the engine is on the wire, and what its answer does to the engine.

The only place where a peer RPC meets the engine, and it does no IO: the node's scheduler and servicer carry its
messages over gRPC, the simulator over a network of its own, so what is simulated is what is sent.

* The caller's side is an `Exchange`, made by `Peering.begin` for each `Call`. Send each `request()` and hand each
  answer to `response()`; when the peer has answered everything, `end()`. Whatever goes wrong, and what any of these
  raises, is reported by `Peering.failed`.
* The side called is `Peering.push` and `Peering.pull`. What they raise is for the caller to be told.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gossip_grpc import wire
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.messages import (
    Call,
    HeartbeatReply,
    HeartbeatRequest,
    ProbeReply,
    ProbeRequest,
    PullReply,
    PullRequest,
    PushReply,
    PushRequest,
)
from gossip_grpc.core.records import Origin, Record
from gossip_grpc.core.sync import Digest, layers
from gossip_grpc.errors import LimitError, ProtocolError, Reason, RemoteError
from gossip_grpc.gen.gossip.v1 import peer_pb2

FOREIGN = (Reason.FOREIGN_CLUSTER, Reason.INCOMPATIBLE_PROTOCOL)
"""Refusals by somebody who is no peer of ours: the peer meant did not answer."""

FETCH_TIMEOUT = 600.0
"""Seconds that one fetch may take as a whole. One that breaks off resumes where it stopped."""


class Sender(NamedTuple):
    """Who speaks, and where it is reached."""

    origin: Origin
    address: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push says, its sender aside."""

    chunk: wire.Chunk
    transfer: int
    number: int
    digest_hash: int | None


class Exchange:
    """One call to a peer, as the caller sees it: its requests in order, and what each answer does."""

    __slots__ = ("_peering", "call", "done")

    def __init__(self, peering: Peering, call: Call) -> None:
        self.call = call
        self.done = False
        """Whether the answer is complete; what else comes need not be read."""
        self._peering = peering

    def request(self) -> bytes | None:
        """The next request, to be sent when the one before was answered; None if there is no further one."""
        raise NotImplementedError

    def response(self, raw: bytes, now: float) -> None:
        """The peer has sent a message."""
        raise NotImplementedError

    def end(self, now: float) -> None:
        """The peer has sent all its messages: the outcome for the engine."""
        raise NotImplementedError


class _Push(Exchange):
    """Rumors or a delta: one request after the other, each with one answer."""

    __slots__ = ("_answer", "_fresh", "_rest")

    def __init__(self, peering: Peering, call: Call, request: PushRequest) -> None:
        self.call = call
        self.done = False
        self._peering = peering
        self._rest = iter(peering.push_bodies(request))
        self._answer: tuple[Sender, PushReply] | None = None
        self._fresh = 0

    def request(self) -> bytes | None:
        body = next(self._rest, None)
        return None if body is None else self._peering.head + body

    def response(self, raw: bytes, now: float) -> None:  # noqa: ARG002 - like all exchanges
        self._answer = self._peering.read_push_response(raw)
        self._fresh += self._answer[1].fresh

    def end(self, now: float) -> None:
        if self._answer is None:
            raise ProtocolError("the peer answered a push with nothing")
        (origin, address), reply = self._answer
        if reply.fresh != self._fresh:
            reply = PushReply(self._fresh, reply.agreed, reply.digest, reply.forgotten)
        self._peering.engine.on_push_reply(self.call, origin, address, reply, now)


class _Pull(Exchange):
    """What all but pushes share: one request, and one message or a stream of them as the answer."""

    __slots__ = ("_raw",)

    def __init__(
        self,
        peering: Peering,
        call: Call,
        body: bytes,
    ) -> None:
        super().__init__(peering, call)
        self._raw: bytes | None = peering.head + body

    def request(self) -> bytes | None:
        raw, self._raw = self._raw, None
        return raw


class _Compare(_Pull):
    """A comparison: the answer is one message."""

    __slots__ = ("_answer",)

    def __init__(self, peering: Peering, call: Call, request: PullRequest) -> None:
        super().__init__(peering, call, peer_pb2.PullRequest(digest_hash=request.digest_hash).SerializeToString())
        self._answer: tuple[Sender, PullReply] | None = None

    def response(self, raw: bytes, now: float) -> None:  # noqa: ARG002 - like all exchanges
        if not self.done:
            self._answer = self._peering.read_comparison(raw)
            self.done = True

    def end(self, now: float) -> None:
        if self._answer is None:
            raise ProtocolError("the peer answered a comparison with nothing")
        (origin, address), reply = self._answer
        self._peering.engine.on_pull_reply(self.call, origin, address, reply, now)


class Fetch(_Pull):
    """A fetch: the answer is a delta in chunks, and may take long."""

    __slots__ = ("_begun", "_complete")

    def __init__(self, peering: Peering, call: Call, digest: Digest, *, repair: bool) -> None:
        body = peer_pb2.PullRequest(digest=wire.encode_digest(digest), repair=repair)
        super().__init__(peering, call, body.SerializeToString())
        self._begun = self._complete = False

    def response(self, raw: bytes, now: float) -> None:
        """Merge a chunk."""
        engine = self._peering.engine
        answer = peer_pb2.PullResponse.FromString(raw)
        chunk = wire.decode_delta(answer.delta)
        if chunk.header is not None and not self._begun:
            self._begun = True
            origin, address = wire.decode_sender(answer.sender, self._peering.cluster)
            engine.begin_delta(self.call, origin, address, chunk.header, now)
        if not self._begun:
            self.done = True
            return
        engine.merge_chunk(self.call, chunk.records, now, superseded=chunk.superseded)
        self._complete = chunk.complete

    def end(self, now: float) -> None:
        """Take over the sender's coverage, if the delta is complete."""
        if not self._complete:
            raise ProtocolError("the delta broke off before its end; what came was merged")
        self._peering.engine.end_delta(self.call, now)


class _Heartbeat(_Pull):
    """A heartbeat: one request, one answer."""

    __slots__ = ("_answer",)

    def __init__(self, peering: Peering, call: Call, request: HeartbeatRequest) -> None:
        super().__init__(peering, call, peering.heartbeat_body(request))
        self._answer: tuple[Sender, HeartbeatReply] | None = None

    def response(self, raw: bytes, now: float) -> None:  # noqa: ARG002 - like all exchanges
        self._answer = self._peering.read_heartbeat_response(raw)
        self.done = True

    def end(self, now: float) -> None:
        if self._answer is None:
            raise ProtocolError("the peer answered a heartbeat with nothing")
        (origin, address), reply = self._answer
        self._peering.engine.on_heartbeat_reply(self.call, origin, address, reply, now)


class Probe(_Pull):
    """A probe: one request, one answer.

    Attributes:
        reached: what the answer said.
    """

    __slots__ = ("_answer", "_relayed", "reached")

    def __init__(self, peering: Peering, call: Call, request: ProbeRequest, *, relayed: bool = False) -> None:
        body = peer_pb2.ProbeRequest(
            target_node_id=request.target.node_id, target_generation=request.target.generation, relay=request.relay
        )
        super().__init__(peering, call, body.SerializeToString())
        self.reached = False
        self._answer: peer_pb2.ProbeResponse | None = None
        self._relayed = relayed

    def response(self, raw: bytes, now: float) -> None:  # noqa: ARG002 - like all exchanges
        """The answer has come."""
        self._answer = peer_pb2.ProbeResponse.FromString(raw)
        self.done = True

    def end(self, now: float) -> None:
        """The outcome; of a probe for somebody else it is left in `reached`, and is nothing to this node's engine."""
        if self._answer is None:
            raise ProtocolError("the peer answered a probe with nothing")
        origin, address = wire.decode_sender(self._answer.sender, self._peering.cluster)
        self.reached = self._answer.reached
        if not self._relayed:
            self._peering.engine.on_probe_reply(self.call, origin, address, ProbeReply(self.reached), now)


class Peering:
    """One node's side of the peer RPCs.

    Args:
        engine: the state machine.
        cluster: the cluster's name, sent with every message and asked of every message.
        address: where peers reach this node, HOST:PORT.
    """

    __slots__ = ("_address", "_heartbeat", "_transfers", "cluster", "engine", "head", "sender", "serving")

    def __init__(self, engine: Engine, *, cluster: str, address: str) -> None:
        self.engine = engine
        self.cluster = cluster
        self._address = address
        self._transfers = 0
        self.serving = 0
        """Number of fetches that are being answered."""
        self._heartbeat: tuple[HeartbeatRequest, bytes] | None = None
        self.sender: peer_pb2.Sender
        self.head: bytes
        self.identify()

    def identify(self) -> None:
        """Speak as the origin that the engine writes as now."""
        self.sender = wire.encode_sender(self.cluster, self.engine.store.origin, self._address)
        # Every message begins with its sender, in field 1, and protobuf's messages are the sum of their parts.
        self.head = peer_pb2.PushRequest(sender=self.sender).SerializeToString()

    # Calling

    def begin(self, call: Call) -> Exchange:
        """The messages of a call."""
        request = call.request
        if isinstance(request, PushRequest):
            return _Push(self, call, request)
        if isinstance(request, HeartbeatRequest):
            return _Heartbeat(self, call, request)
        if isinstance(request, ProbeRequest):
            return Probe(self, call, request)
        if request.digest is None:
            return _Compare(self, call, request)
        return Fetch(self, call, request.digest, repair=request.repair)

    def failed(self, call: Call, error: str, now: float, *, answered: bool, foreign: bool = False) -> None:
        """The call has failed: nobody answered, or (`answered`) the peer refused or answered what it must not.

        `foreign`: it refused because it is of another cluster, or another version, so it is not the peer meant.
        """
        self.engine.on_failure(call, error, now, answered=answered and not foreign)

    def push_bodies(self, request: PushRequest) -> Iterable[bytes]:
        """The requests of a push, their sender aside."""
        chunk_bytes = self.engine.settings.limits.chunk_bytes
        if request.delta is not None:
            self._transfers += 1
            return _bodies(wire.encode_delta(request.delta, chunk_bytes), self._transfers, request.digest_hash)
        return rumor_bodies(request.records, chunk_bytes, request.digest_hash)

    def heartbeat_body(self, request: HeartbeatRequest) -> bytes:
        """The request of a heartbeat, its sender aside; the same one goes to all monitors."""
        if self._heartbeat is None or self._heartbeat[0] is not request:
            body = peer_pb2.HeartbeatRequest(
                incarnation=request.incarnation, beat=request.beat, digest_hash=request.digest_hash
            )
            self._heartbeat = (request, body.SerializeToString())
        return self._heartbeat[1]

    def read_heartbeat_response(self, raw: bytes) -> tuple[Sender, HeartbeatReply]:
        """The answer of a heartbeat."""
        answer = peer_pb2.HeartbeatResponse.FromString(raw)
        sender = Sender(*wire.decode_sender(answer.sender, self.cluster))
        return sender, HeartbeatReply(answer.digest_hash, answer.newer_generation)

    def read_push_response(self, raw: bytes) -> tuple[Sender, PushReply]:
        """One answer of a push."""
        answer = peer_pb2.PushResponse.FromString(raw)
        sender = Sender(*wire.decode_sender(answer.sender, self.cluster))
        return sender, PushReply(answer.fresh, answer.agreed, _digest(answer), answer.forgotten)

    def read_comparison(self, raw: bytes) -> tuple[Sender, PullReply]:
        """The answer of a comparison."""
        answer = peer_pb2.PullResponse.FromString(raw)
        sender = Sender(*wire.decode_sender(answer.sender, self.cluster))
        return sender, PullReply(agreed=answer.agreed, digest=_digest(answer), forgotten=answer.forgotten)

    # Being called

    def push(self, request: peer_pb2.PushRequest, now: float) -> peer_pb2.PushResponse:
        """Answer a push.

        Raises:
            ProtocolError: it is refused; nothing of it was merged.
        """
        check_size(request.ByteSize())
        sender = Sender(*wire.decode_sender(request.sender, self.cluster))
        return self.push_response(self.take_push(sender, decode_push(request), now))

    def push_response(self, reply: PushReply) -> peer_pb2.PushResponse:
        """The answer of a push."""
        return peer_pb2.PushResponse(
            sender=self.sender,
            fresh=reply.fresh,
            agreed=reply.agreed,
            digest=_encode_digest(reply.digest),
            forgotten=reply.forgotten,
        )

    def take_push(self, sender: Sender, pushed: Pushed, now: float) -> PushReply:
        """Hand a decoded push to the engine."""
        engine, chunk = self.engine, pushed.chunk
        if pushed.transfer:
            reply = engine.on_push_chunk(
                sender.origin,
                sender.address,
                transfer=pushed.transfer,
                chunk=pushed.number,
                header=chunk.header,
                records=chunk.records,
                superseded=chunk.superseded,
                complete=chunk.complete,
                digest_hash=pushed.digest_hash,
                now=now,
            )
        elif chunk.header is not None or chunk.superseded:
            raise RemoteError("transfer must be set where delta is a chunk of a complete one", field="transfer")
        else:
            reply = engine.on_push(sender.origin, sender.address, chunk.records, pushed.digest_hash, now)
        engine.counters.pushes_received += 1
        return reply

    def heartbeat(self, request: peer_pb2.HeartbeatRequest, now: float) -> peer_pb2.HeartbeatResponse:
        """Answer a heartbeat.

        Raises:
            ProtocolError: it is refused.
        """
        sender = Sender(*wire.decode_sender(request.sender, self.cluster))
        said = HeartbeatRequest(request.incarnation, request.beat, request.digest_hash)
        return self.heartbeat_response(self.engine.on_heartbeat(*sender, said, now))

    def heartbeat_response(self, reply: HeartbeatReply) -> peer_pb2.HeartbeatResponse:
        """The answer of a heartbeat."""
        return peer_pb2.HeartbeatResponse(
            sender=self.sender, digest_hash=reply.digest_hash, newer_generation=reply.newer
        )

    def probe(self, request: peer_pb2.ProbeRequest) -> Probe | peer_pb2.ProbeResponse:
        """Answer a probe; or the exchange, to be carried out, that finds the answer (see `probed`).

        Raises:
            ProtocolError: it is refused.
        """
        origin, address = wire.decode_sender(request.sender, self.cluster)
        target = wire.decode_target(request)
        found = self.engine.on_probe(origin, address, ProbeRequest(target, request.relay))
        if isinstance(found, ProbeReply):
            return self.probed(reached=found.reached)
        return Probe(self, found, ProbeRequest(target), relayed=True)

    def probed(self, *, reached: bool) -> peer_pb2.ProbeResponse:
        """The answer of a probe."""
        return peer_pb2.ProbeResponse(sender=self.sender, reached=reached)

    def pull(self, request: peer_pb2.PullRequest) -> Generator[peer_pb2.PullResponse, None, None]:
        """Answer a comparison or a fetch. The engine is asked at once, the messages are made as they are taken.

        Close the iterator if they are not taken to the end: until then the node counts itself as serving a sync.

        Raises:
            ProtocolError: it is refused.
        """
        check_size(request.ByteSize())
        sender: Origin | None = None
        address = ""
        if request.sender.node_id:
            sender, address = wire.decode_sender(request.sender, self.cluster)
        else:
            wire.check_cluster(request.sender, self.cluster)
        digest = _digest(request)
        digest_hash = request.digest_hash if request.HasField("digest_hash") else None
        engine = self.engine
        if digest is not None and self.serving >= engine.settings.limits.max_inbound_syncs:
            raise LimitError(f"{self.serving} syncs are being served; try again later", reason=Reason.SYNC_LIMIT)
        reply = engine.on_pull(sender, address, PullRequest(digest_hash, digest, request.repair))
        engine.counters.pulls_received += 1
        return self._pull_responses(reply)

    def _pull_responses(self, reply: PullReply) -> Generator[peer_pb2.PullResponse, None, None]:
        if reply.delta is None:
            digest = _encode_digest(reply.digest)
            yield peer_pb2.PullResponse(
                sender=self.sender, agreed=reply.agreed, digest=digest, forgotten=reply.forgotten
            )
            return
        self.serving += 1
        try:
            who: peer_pb2.Sender | None = self.sender
            for delta in wire.encode_delta(reply.delta, self.engine.settings.limits.chunk_bytes):
                yield peer_pb2.PullResponse(sender=who, delta=delta)
                who = None
        finally:
            self.serving -= 1


def rumor_bodies(records: Sequence[Record], chunk_bytes: int, digest_hash: int | None) -> list[bytes]:
    """The requests of a push of rumors, their sender aside.

    Rumors of one slot go in messages of their own, for a message holds no slot twice.
    """
    deltas = [delta for layer in layers(records) for delta in wire.encode_records(layer, chunk_bytes)]
    return list(_bodies(deltas or [peer_pb2.Delta()], 0, digest_hash))


def decode_push(request: peer_pb2.PushRequest) -> Pushed:
    """What a push says, its sender aside."""
    digest_hash = request.digest_hash if request.HasField("digest_hash") else None
    return Pushed(wire.decode_delta(request.delta), request.transfer, request.chunk, digest_hash)


def check_size(size: int) -> None:
    """Refuse an oversize message."""
    if size > wire.MAX_MESSAGE_BYTES:
        raise LimitError(
            f"the message has {size} bytes; at most {wire.MAX_MESSAGE_BYTES} are taken: send smaller chunks",
            reason=Reason.MESSAGE_LIMIT,
        )


def _bodies(deltas: Iterable[peer_pb2.Delta], transfer: int, digest_hash: int | None) -> Iterator[bytes]:
    for number, delta in enumerate(deltas):
        message = peer_pb2.PushRequest(delta=delta, transfer=transfer, chunk=number, digest_hash=digest_hash)
        yield message.SerializeToString()


def _digest(message: peer_pb2.PushResponse | peer_pb2.PullResponse | peer_pb2.PullRequest) -> Digest | None:
    return wire.decode_digest(message.digest) if message.HasField("digest") else None


def _encode_digest(digest: Digest | None) -> peer_pb2.Digest | None:
    return None if digest is None else wire.encode_digest(digest)
