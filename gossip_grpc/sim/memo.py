"""The node's own peering, with what is said again and again encoded and decoded once.

A rumor reaches a thousand nodes in thousands of messages whose bytes differ in the sender alone. Bytes always cross,
and nothing of a sender reaches a receiver but through its decoder; but as records are immutable and decoding is a
function of bytes alone, equal bytes may share what they were decoded to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from gossip_grpc import wire
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.messages import HeartbeatReply, HeartbeatRequest, PushReply, PushRequest
from gossip_grpc.core.records import Record
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.peering import Peering, Pushed, Sender, check_size, decode_push

MEMO_ENTRIES = 4096
"""What a memo holds at most; it is emptied then."""

MEMO_BYTES = 4096
"""Longer messages are not kept: they are rarely sent twice."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class Memo:
    """What one world has encoded and decoded lately."""

    __slots__ = ("beat_replies", "beats", "bodies", "pushed", "replies", "senders")

    def __init__(self) -> None:
        self.bodies: dict[tuple[int, ...], tuple[list[Record], list[bytes]]] = {}
        """By the identities of the records, which are kept so that no other record can take their place."""
        self.pushed: dict[bytes, Pushed] = {}
        self.senders: dict[tuple[bytes, str], Sender] = {}
        self.beats: dict[bytes, HeartbeatRequest] = {}
        self.beat_replies: dict[tuple[bytes, str], tuple[Sender, HeartbeatReply]] = {}
        self.replies: dict[tuple[bytes, str], tuple[Sender, PushReply]] = {}


def _keep(memo: dict[_K, _V], key: _K, value: _V) -> None:
    if len(memo) >= MEMO_ENTRIES:
        memo.clear()
    memo[key] = value


class MemoPeering(Peering):
    """A peering that looks into the world's memo first. Its bytes are those of `Peering`."""

    __slots__ = ("_answers", "_beat_answer", "_memo")

    def __init__(self, engine: Engine, memo: Memo, *, cluster: str, address: str) -> None:
        self._memo = memo
        super().__init__(engine, cluster=cluster, address=address)

    def identify(self) -> None:
        """As of Peering; what was answered under another name is not answered again."""
        super().identify()
        self._answers: dict[tuple[int, bool, bool], bytes] = {}
        self._beat_answer: tuple[tuple[int, int] | None, bytes] = (None, b"")

    def push_bodies(self, request: PushRequest) -> Iterable[bytes]:
        """As of Peering."""
        if request.delta is not None or request.digest_hash is not None:
            return super().push_bodies(request)
        records = request.records
        bodies = self._memo.bodies
        key = tuple(map(id, records))
        found = bodies.get(key)
        if found is None:
            found = (records, list(super().push_bodies(request)))
            _keep(bodies, key, found)
        return found[1]

    def answer_push(self, raw: bytes, now: float) -> bytes:
        """Answer a push, bytes for bytes; see `Peering.push`."""
        found = self._speaker(raw)
        if found is None:
            return self.push(peer_pb2.PushRequest.FromString(raw), now).SerializeToString()
        sender, body = found
        memo = self._memo
        pushed = memo.pushed.get(body)
        if pushed is None:
            pushed = decode_push(peer_pb2.PushRequest.FromString(body))
            if not pushed.transfer:
                _keep(memo.pushed, body, pushed)
        reply = self.take_push(sender, pushed, now)
        if reply.digest is not None:
            return self.push_response(reply).SerializeToString()
        key = (reply.fresh, reply.agreed, reply.forgotten)
        answer = self._answers.get(key)
        if answer is None:
            answer = self.push_response(reply).SerializeToString()
            _keep(self._answers, key, answer)
        return answer

    def answer_heartbeat(self, raw: bytes, now: float) -> bytes:
        """Answer a heartbeat, bytes for bytes; see `Peering.heartbeat`."""
        found = self._speaker(raw)
        if found is None:
            return self.heartbeat(peer_pb2.HeartbeatRequest.FromString(raw), now).SerializeToString()
        (origin, address), body = found
        beats = self._memo.beats
        said = beats.get(body)
        if said is None:
            message = peer_pb2.HeartbeatRequest.FromString(body)
            said = HeartbeatRequest(message.incarnation, message.beat, message.digest_hash)
            _keep(beats, body, said)
        reply = self.engine.on_heartbeat(origin, address, said, now)
        key = (reply.digest_hash, reply.newer)
        if self._beat_answer[0] != key:
            self._beat_answer = (key, self.heartbeat_response(reply).SerializeToString())
        return self._beat_answer[1]

    def _speaker(self, raw: bytes) -> tuple[Sender, bytes] | None:
        """Who sent a message, and the rest of it; None if it is none of those that are sent again and again."""
        size = len(raw)
        length = raw[1] + 2 if size > 2 else _SHORT + 1
        if size > MEMO_BYTES or length > min(_SHORT, size) or raw[0] != _SENDER:
            return None
        head = raw[:length]
        senders = self._memo.senders
        sender = senders.get((head, self.cluster))
        if sender is None:
            check_size(size)
            sender = Sender(*wire.decode_sender(peer_pb2.PushRequest.FromString(head).sender, self.cluster))
            _keep(senders, (head, self.cluster), sender)
        return sender, raw[length:]

    def read_heartbeat_response(self, raw: bytes) -> tuple[Sender, HeartbeatReply]:
        """As of Peering."""
        replies = self._memo.beat_replies
        found = replies.get((raw, self.cluster))
        if found is None:
            found = super().read_heartbeat_response(raw)
            _keep(replies, (raw, self.cluster), found)
        return found

    def read_push_response(self, raw: bytes) -> tuple[Sender, PushReply]:
        """As of Peering."""
        replies = self._memo.replies
        found = replies.get((raw, self.cluster))
        if found is None:
            found = super().read_push_response(raw)
            if found[1].digest is None:
                _keep(replies, (raw, self.cluster), found)
        return found


_SENDER = 0x0A
"""The tag of field 1: a message begins with its sender, whose length follows in one byte if it is short."""

_SHORT = 0x7F + 2
