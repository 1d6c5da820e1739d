"""Where protobuf meets the core: every message is translated here, checked once, and nowhere else.

Touching a protobuf field costs more than parsing it, so each is read once, and records of one kind come in one flat
list. What a peer sent wrong raises RemoteError, what a client sent wrong LocalError; each names the field by path.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from xxhash import xxh3_64_digest

from gossip_grpc.core.clock import MAX_CLOCK
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.events import event_of
from gossip_grpc.core.leases import lease_of
from gossip_grpc.core.limits import (
    INT64_MAX,
    INT64_MIN,
    MAX_NAME,
    MAX_REQUEST_ID_BYTES,
    MAX_WIRE_KEY_BYTES,
    MAX_WIRE_PAYLOAD_BYTES,
    UINT64_MAX,
    is_name,
)
from gossip_grpc.core.phi import MAX_PHI
from gossip_grpc.core.records import Accusation, Dot, Event, Kind, Lease, Member, Origin, Receipt, Record, Value
from gossip_grpc.core.requests import receipt_of
from gossip_grpc.core.sessions import Session
from gossip_grpc.core.sync import Delta, Digest, layers
from gossip_grpc.errors import LocalError, Reason, RemoteError
from gossip_grpc.gen.gossip.v1 import common_pb2, counter_pb2, event_pb2, kv_pb2, peer_pb2
from gossip_grpc.tokens import MAX_ENTRIES

PROTOCOL = 3
"""Version of the peer protocol. Nodes of different versions refuse each other."""

MAX_MESSAGE_BYTES = 4 << 20
"""Largest message sent or taken."""

MAX_RANGES = 20_000
"""Ranges that a digest names at most. It claims less then, and no context: the peer sends some records once more."""

MAX_MEMBER_BYTES = 128 << 10
"""Largest member record taken: tags at the highest limit that may be set, and all else."""

MAX_UNIX_SECONDS = 253_402_300_800.0
"""The end of the year 9999: no clock shows more."""

_DIGEST_MEMO = 16_384
"""What digests say of single origins is kept for so many: most of a digest is what it was a second before."""

_FEW_RANGES, _SHORT_ENTRY = 16, 512
"""Of an origin, ranges and bytes up to which it is kept; those of a whole memo take 10 MB or so."""

MAX_CHUNK_RECORDS = 250
"""Records in one chunk: what a node decodes and merges in a few milliseconds, and then others have its loop."""

_RECORD_OVERHEAD, _COLUMN_OVERHEAD = 48, 28
"""Bytes a record takes on the wire beside key and content, at most, when none of its integers is absurd."""

_REGISTER = Kind.REGISTER  # why: see records.py


@dataclass(slots=True)
class Chunk:
    """One decoded message of a delta."""

    header: Delta | None = None
    records: list[Record] = field(default_factory=list)
    superseded: bool = False
    complete: bool = False


# Senders


def encode_sender(cluster: str, origin: Origin, address: str) -> peer_pb2.Sender:
    """Who we are, for every message to a peer."""
    return peer_pb2.Sender(
        cluster=cluster, protocol=PROTOCOL, node_id=origin.node_id, generation=origin.generation, address=address
    )


def decode_sender(sender: peer_pb2.Sender, cluster: str) -> tuple[Origin, str]:
    """Who speaks and where it is reached; refuses strangers before anything else is looked at."""
    check_cluster(sender, cluster)
    origin = _decode_origin(sender, "sender")
    address = sender.address
    if len(address) > 300 or ":" not in address:
        raise _malformed("sender.address", "HOST:PORT", address[:60])
    return origin, address


def decode_target(request: peer_pb2.ProbeRequest) -> Origin:
    """Whom a probe is about."""
    name = request.target_node_id
    if not is_name(name):
        raise _malformed("target_node_id", "1 to 128 characters of A-Za-z0-9._-", name[:60])
    return Origin(name, request.target_generation)


def check_cluster(sender: peer_pb2.Sender, cluster: str) -> None:
    """Refuse another cluster, and another version of the protocol; who is no node need not know which there is."""
    if sender.cluster != cluster:
        raise RemoteError(
            f"sender.cluster is {sender.cluster[:128]!r}, this node belongs to {cluster!r}; nothing was exchanged",
            reason=Reason.FOREIGN_CLUSTER,
            field="sender.cluster",
        )
    if sender.protocol != PROTOCOL and (sender.protocol or sender.node_id):
        raise RemoteError(
            f"sender.protocol is {sender.protocol}, this node speaks {PROTOCOL}; run versions of gossip-grpc that "
            "speak the same",
            reason=Reason.INCOMPATIBLE_PROTOCOL,
            field="sender.protocol",
        )


# Digests


def encode_digest(digest: Digest) -> peer_pb2.Digest:
    """A digest, its ranges cut to `MAX_RANGES` (claiming less than is covered is always safe)."""
    left = MAX_RANGES
    parts = [peer_pb2.Digest(fingerprint=digest.fingerprint).SerializeToString()]
    coverage, floor, context = digest.coverage, digest.floor, digest.context
    # Who includes what is claimed may take over the context, so it must not go beyond the claim.
    if sum(len(coverage.above(origin)) for origin in coverage.origins()) > MAX_RANGES:
        context = {}
    for node_id, generation in sorted(coverage.folded.items()):
        fold = peer_pb2.FoldedNode(node_id=node_id, generation=generation)
        parts.append(peer_pb2.Digest(folded=[fold]).SerializeToString())
    for origin in sorted(coverage.origins() | floor.keys()):
        ranges = tuple(coverage.above(origin)[:left])
        left -= len(ranges)
        encode = _encode_known if len(ranges) <= _FEW_RANGES else _encode_known.__wrapped__
        parts.append(encode(origin, coverage.sequence(origin), ranges, floor.get(origin, 0), context.get(origin, 0)))
    return peer_pb2.Digest.FromString(b"".join(parts))


@lru_cache(maxsize=_DIGEST_MEMO)
def _encode_known(
    origin: Origin, sequence: int, ranges: tuple[tuple[int, int], ...], floor: int, context: int
) -> bytes:
    """A digest of what is known of one origin. A digest is the sum of such."""
    above = [common_pb2.SequenceRange(first=first, last=last) for first, last in ranges]
    known = peer_pb2.OriginDigest(
        origin=_encode_origin(origin), sequence=sequence, above=above, floor=floor, context=context
    )
    return peer_pb2.Digest(origins=[known]).SerializeToString()


def decode_digest(message: peer_pb2.Digest, path: str = "digest") -> Digest:
    """A peer's digest."""
    vector: dict[Origin, int] = {}
    above: dict[Origin, list[tuple[int, int]]] = {}
    floor: dict[Origin, int] = {}
    context: dict[Origin, int] = {}
    for index, entry in enumerate(message.origins):
        raw = entry.SerializeToString()
        try:
            known = _decode_known(raw) if len(raw) <= _SHORT_ENTRY else _read_known(entry, path)
        except RemoteError:
            known = _read_known(entry, f"{path}.origins[{index}]")  # raises it with its place
        origin, sequence, ranges, floor_sequence, context_sequence = known
        if origin in vector or origin in above:
            raise _malformed(f"{path}.origins[{index}].origin", "each origin once", str(origin))
        if sequence:
            vector[origin] = sequence
        if ranges:
            above[origin] = list(ranges)
        if floor_sequence:
            floor[origin] = floor_sequence
        if context_sequence:
            context[origin] = context_sequence
    folded: dict[str, int] = {}
    for index, fold in enumerate(message.folded):
        if not is_name(fold.node_id) or fold.node_id in folded:
            place = f"{path}.folded[{index}].node_id"
            raise _malformed(place, "each node once, 1 to 128 characters of A-Za-z0-9._-", fold.node_id[:60])
        folded[fold.node_id] = fold.generation
    return Digest(Coverage(vector, above, folded), floor, context, message.fingerprint)


_Known = tuple[Origin, int, tuple[tuple[int, int], ...], int, int]


@lru_cache(maxsize=_DIGEST_MEMO)
def _decode_known(raw: bytes) -> _Known:
    return _read_known(peer_pb2.OriginDigest.FromString(raw), "")


def _read_known(entry: peer_pb2.OriginDigest, path: str) -> _Known:
    """What a digest says of one origin: its sequence, the ranges above, floor and context."""
    origin = _decode_origin(entry.origin, f"{path}.origin")
    sequence = last = entry.sequence
    floor, context = entry.floor, entry.context
    ranges = []
    for part in entry.above:
        if part.first <= last + 1 or part.last < part.first:
            raise _malformed(f"{path}.above", "ranges in order, apart from each other", f"{part.first}-{part.last}")
        last = part.last
        ranges.append((part.first, last))
    for name, value in (("floor", floor), ("context", context)):
        if value > sequence:
            raise _malformed(f"{path}.{name}", f"at most the sequence, {sequence}", str(value))
    return origin, sequence, tuple(ranges), floor, context


# Deltas


def encode_delta(delta: Delta, chunk_bytes: int) -> Iterator[peer_pb2.Delta]:
    """A complete delta in chunks of about `chunk_bytes`: at least one, the first with the header."""
    header = peer_pb2.DeltaHeader(
        # The floor tells the receiver of a repair whether it has purged anything since; other deltas need none.
        base=encode_digest(Digest(delta.base.coverage, delta.base.floor if delta.repair else {})),
        snapshot=encode_digest(delta.snapshot),
        full=delta.full,
        repair=delta.repair,
        clock=delta.clock,
        held=None if delta.held is None else encode_digest(Digest(delta.held)),
    )
    last = None
    parts = [(delta.records, False), *((layer, True) for layer in layers(delta.superseded))]
    for records, superseded in parts:
        for chunk in encode_records(records, chunk_bytes):
            chunk.superseded = superseded
            if last is not None:
                yield last
            else:
                chunk.header.CopyFrom(header)
            last = chunk
    if last is None:
        last = peer_pb2.Delta(header=header)
    last.complete = True
    yield last


def encode_records(records: Iterable[Record], chunk_bytes: int) -> Iterator[peer_pb2.Delta]:
    """Records, in order, in chunks of about `chunk_bytes`. A record is never split."""
    chunk = _Encoder()
    for record in records:
        if chunk.add(record) >= chunk_bytes or chunk.count == MAX_CHUNK_RECORDS:
            yield chunk.take()
            chunk = _Encoder()
    if chunk.count:
        yield chunk.take()


class _Encoder:
    """Builds one chunk: the table of origins and the records by kind. Nothing may be added to a chunk once taken."""

    def __init__(self) -> None:
        self.size = 0
        self.count = 0
        self._message = peer_pb2.Delta()
        self._table: dict[Origin, int] = {}
        self._texts: list[Record] = []
        self._data: list[Record] = []

    def add(self, record: Record) -> int:
        """Add a record; returns the chunk's size so far, estimated in bytes."""
        self.count += 1
        if record.kind is _REGISTER:
            content = record.content
            if type(content) is str:
                self._texts.append(record)
                self.size += _size(record.slot) + _size(content) + _COLUMN_OVERHEAD  # type: ignore[arg-type]
                return self.size
            if type(content) is bytes:
                self._data.append(record)
                self.size += _size(record.slot) + len(content) + _COLUMN_OVERHEAD  # type: ignore[arg-type]
                return self.size
        _ENCODERS[record.kind](self, record, self.origin(record.origin))
        return self.size

    def take(self) -> peer_pb2.Delta:
        """The chunk."""
        records = [*self._texts, *self._data]
        if records:
            columns = self._message.columns
            # In lists: to hand a column over at once costs a tenth of what its entries cost one by one.
            columns.origins.extend([self.origin(record.origin) for record in records])
            columns.sequences.extend([record.sequence for record in records])
            columns.clocks.extend([record.clock for record in records])
            columns.keys.extend([record.slot for record in records])  # type: ignore[misc]
            columns.texts.extend([record.content for record in self._texts])
            columns.data.extend([record.content for record in self._data])
        return self._message

    def origin(self, origin: Origin) -> int:
        """The index of an origin in the table."""
        index = self._table.get(origin)
        if index is None:
            index = self._table[origin] = len(self._table)
            self._message.origins.append(_encode_origin(origin))
            self.size += len(origin.node_id) + _RECORD_OVERHEAD
        return index

    def register(self, record: Record, origin: int) -> None:
        """A deletion, or a lease."""
        key: Any = record.slot
        self.size += _size(key) + _RECORD_OVERHEAD
        if record.content is None:
            self._message.registers.add(
                origin=origin, sequence=record.sequence, clock=record.clock, key=key, deleted=True
            )
        else:
            self._lease(record, origin)

    def _lease(self, record: Record, origin: int) -> None:
        lease = lease_of(record)
        self.size += _size(lease.value) + _RECORD_OVERHEAD
        message = self._message.leases.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            key=str(record.slot),
            expires_at_unix_milliseconds=lease.expires_at,
            ephemeral=lease.ephemeral,
        )
        if isinstance(lease.value, str):
            message.text = lease.value
        else:
            message.data = lease.value

    def event(self, record: Record, origin: int) -> None:
        event = event_of(record)
        self.size += _size(event.topic) + _size(event.payload) + _size(event.ordering_key) + _RECORD_OVERHEAD
        message = self._message.events.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            topic=event.topic,
            ordering_key=event.ordering_key,
            published_at_unix_milliseconds=event.at,
            previous=event.previous,
            request_id=event.request_id,
        )
        if isinstance(event.payload, str):
            message.text = event.payload
        else:
            message.data = event.payload

    def counter_share(self, record: Record, origin: int) -> None:
        slot: Any = record.slot
        key, _ = slot
        added, subtracted = record.content
        self.size += _size(key) + _RECORD_OVERHEAD
        self._message.counter_shares.add(
            origin=origin, sequence=record.sequence, clock=record.clock, key=key, added=added, subtracted=subtracted
        )

    def counter_reset(self, record: Record, origin: int) -> None:
        slot: Any = record.slot
        key, share_origin = slot
        added, subtracted = record.content
        self.size += _size(key) + _RECORD_OVERHEAD
        self._message.counter_resets.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            key=key,
            share_origin=self.origin(share_origin),
            added=added,
            subtracted=subtracted,
        )

    def counter_receipt(self, record: Record, origin: int) -> None:
        slot: Any = record.slot
        key, request_id, _ = slot
        amount, (added, subtracted) = receipt_of(record)
        self.size += _size(key) + _size(request_id) + _RECORD_OVERHEAD
        self._message.counter_receipts.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            key=key,
            request_id=request_id,
            amount=amount,
            added=added,
            subtracted=subtracted,
        )

    def counter_void(self, record: Record, origin: int) -> None:
        slot: Any = record.slot
        key, (added, subtracted), share_origin = slot
        self.size += _size(key) + _RECORD_OVERHEAD
        self._message.counter_voids.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            key=key,
            share_origin=self.origin(share_origin),
            added=added,
            subtracted=subtracted,
            amount=record.content,
        )

    def set_element(self, record: Record, origin: int) -> None:
        slot: Any = record.slot
        key, element, add_origin = slot
        add_sequence, removed = record.content
        self.size += _size(key) + _size(element) + _RECORD_OVERHEAD
        message = self._message.set_elements.add(origin=origin, sequence=record.sequence, clock=record.clock, key=key)
        if isinstance(element, str):
            message.text = element
        else:
            message.data = element
        if removed:
            message.add_origin = self.origin(add_origin)
            message.add_sequence = add_sequence

    def accusation(self, record: Record, origin: int) -> None:
        slot: Any = record.slot
        target, _ = slot
        said: Accusation = record.content
        self.size += len(target) + 2 * _RECORD_OVERHEAD
        self._message.accusations.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            target_node_id=target,
            target_generation=said.generation,
            target_incarnation=said.incarnation,
            made_at_seconds=said.at,
            phi=said.phi,
            withdrawn=said.withdrawn,
            forget=said.forget,
        )

    def member(self, record: Record, origin: int) -> None:
        member: Member = record.content
        self.size += 1024 + sum(_size(key) + _size(value) + 8 for key, value in member.tags.items())
        self._message.members.add(
            origin=origin,
            sequence=record.sequence,
            clock=record.clock,
            incarnation=member.incarnation,
            peer_address=member.peer_address,
            client_address=member.client_address,
            zone=member.zone,
            tags=dict(member.tags),
            version=member.version,
            left=member.left,
            left_at_seconds=member.left_at,
        )


_ENCODERS = {
    Kind.REGISTER: _Encoder.register,
    Kind.COUNTER_SHARE: _Encoder.counter_share,
    Kind.COUNTER_RESET: _Encoder.counter_reset,
    Kind.SET_ELEMENT: _Encoder.set_element,
    Kind.MEMBER: _Encoder.member,
    Kind.ACCUSATION: _Encoder.accusation,
    Kind.EVENT: _Encoder.event,
    Kind.COUNTER_RECEIPT: _Encoder.counter_receipt,
    Kind.COUNTER_VOID: _Encoder.counter_void,
}


def decode_delta(message: peer_pb2.Delta, path: str = "delta") -> Chunk:
    """One chunk of a delta, checked: indices, dots, clocks above 0, keys, contents, and no slot twice."""
    header = None
    if message.HasField("header"):
        sent = message.header
        header = Delta(
            decode_digest(sent.base, f"{path}.header.base"),
            decode_digest(sent.snapshot, f"{path}.header.snapshot"),
            full=sent.full,
            repair=sent.repair,
            clock=sent.clock,
            held=decode_digest(sent.held, f"{path}.header.held").coverage if sent.HasField("held") else None,
        )
    origins = [_decode_origin(origin, f"{path}.origins[{i}]") for i, origin in enumerate(message.origins)]
    records: list[Record] = []
    keys: set[Hashable] = set()  # of registers, which come in three lists
    for name, decode in _DECODERS.items():
        found = decode(getattr(message, name), origins, f"{path}.{name}")
        if found:
            slots = {record.slot for record in found}
            if len(slots) < len(found):
                raise _malformed(f"{path}.{name}", "each slot once", "a slot twice")
            if message.superseded and name not in _KEPT_ASIDE:
                raise _malformed(f"{path}.{name}", "empty in a chunk of superseded records", f"{len(found)} records")
            if found[0].kind is _REGISTER:
                if not keys.isdisjoint(slots):
                    allowed = "keys that no other list of registers has"
                    raise _malformed(f"{path}.{name}", allowed, "a key of two of them")
                keys |= slots
            records += found
    return Chunk(header, records, message.superseded, message.complete)


def _decode_columns(columns: peer_pb2.RegisterColumns, origins: list[Origin], path: str) -> list[Record]:
    """The hot path of bulk syncs: columns are read and checked as wholes."""
    keys = list(columns.keys)
    contents: list[Value] = [*columns.texts, *columns.data]
    count = len(keys)
    indices, sequences, clocks = list(columns.origins), list(columns.sequences), list(columns.clocks)
    for name, column in (("origins", indices), ("sequences", sequences), ("clocks", clocks), ("texts", contents)):
        if len(column) != count:
            raise _malformed(f"{path}.{name}", f"as long as keys, {count}", f"{len(column)} long")
    if not count:
        return []
    if max(indices) >= len(origins):
        raise _outside(f"{path}.origins", max(indices), len(origins))
    for name, column in (("sequences", sequences), ("clocks", clocks)):
        if 0 in column:
            raise _malformed(f"{path}.{name}[{column.index(0)}]", "from 1", "0")
    lengths = list(map(len, keys))
    if not min(lengths) or max(lengths) > MAX_WIRE_KEY_BYTES:
        index = lengths.index(0) if 0 in lengths else lengths.index(max(lengths))
        allowed, given = f"1 to {MAX_WIRE_KEY_BYTES} bytes", f"{lengths[index]} characters"
        raise _malformed(f"{path}.keys[{index}]", allowed, given)
    kind = _REGISTER
    return [
        Record(kind, key, origins[index], sequence, clock, content)
        for key, index, sequence, clock, content in zip(keys, indices, sequences, clocks, contents, strict=True)
    ]


def _decode_registers(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    append = records.append
    known = len(origins)
    kind = Kind.REGISTER
    content: Value | None
    for message in messages:
        origin = message.origin
        sequence = message.sequence
        clock = message.clock
        key = message.key
        content = message.text
        if not content:
            content = _register_content(message, f"{path}[{len(records)}]")
        if origin >= known or not sequence or not clock or not key or len(key) > MAX_WIRE_KEY_BYTES:
            _check_dot(message, known, f"{path}[{len(records)}]")
        append(Record(kind, key, origins[origin], sequence, clock, content))
    return records


def _register_content(message: Any, path: str) -> Value | None:
    kind = message.WhichOneof("content")
    if kind == "data":
        data: bytes = message.data
        return data
    if kind == "text":
        return ""
    if kind == "deleted" and message.deleted:
        return None
    raise _malformed(f"{path}.content", "one of text, data, deleted = true", "none of them")


def _decode_leases(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        key = _check_dot(message, len(origins), here)
        kind = message.WhichOneof("content")
        if kind is None:
            raise _malformed(f"{here}.content", "one of text, data", "none of them")
        expires_at, ephemeral = message.expires_at_unix_milliseconds, message.ephemeral
        if expires_at > MAX_UNIX_SECONDS * 1000:
            raise _malformed(f"{here}.expires_at_unix_milliseconds", "Unix time in milliseconds, or 0", str(expires_at))
        if not expires_at and not ephemeral:
            raise _malformed(here, "a value that has an end, or is ephemeral", "neither")
        lease = Lease(getattr(message, kind), expires_at, ephemeral)
        records.append(Record(Kind.REGISTER, key, origins[message.origin], message.sequence, message.clock, lease))
    return records


def _decode_events(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        _check_dot(message, len(origins), here, keyed=False)
        topic, key, at, previous = (
            message.topic,
            message.ordering_key,
            message.published_at_unix_milliseconds,
            message.previous,
        )
        kind = message.WhichOneof("payload")
        if kind is None:
            raise _malformed(f"{here}.payload", "one of text, data", "none of them")
        payload = getattr(message, kind)
        for name, allowed, value, right in (
            ("topic", f"1 to {MAX_WIRE_KEY_BYTES} bytes", topic[:60], 0 < len(topic) <= MAX_WIRE_KEY_BYTES),
            ("ordering_key", f"at most {MAX_WIRE_KEY_BYTES} bytes", key[:60], len(key) <= MAX_WIRE_KEY_BYTES),
            (
                "payload",
                f"at most {MAX_WIRE_PAYLOAD_BYTES} bytes",
                len(payload),
                len(payload) <= MAX_WIRE_PAYLOAD_BYTES,
            ),
            ("published_at_unix_milliseconds", "Unix time in milliseconds", at, at <= MAX_UNIX_SECONDS * 1000),
            (
                "request_id",
                f"at most {MAX_REQUEST_ID_BYTES} bytes",
                message.request_id[:60],
                len(message.request_id) <= MAX_REQUEST_ID_BYTES,
            ),
            ("previous", f"below the sequence, {message.sequence}", previous, previous < message.sequence),
        ):
            if not right:
                raise _malformed(f"{here}.{name}", allowed, str(value))
        origin, sequence = origins[message.origin], message.sequence
        event = Event(topic, payload, key, at, previous, message.request_id)
        records.append(Record(Kind.EVENT, (origin, sequence), origin, sequence, message.clock, event))
    return records


def _decode_shares(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        key = _check_dot(message, len(origins), f"{path}[{index}]")
        origin = origins[message.origin]
        share = (message.added, message.subtracted)
        records.append(Record(Kind.COUNTER_SHARE, (key, origin), origin, message.sequence, message.clock, share))
    return records


def _decode_resets(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        key = _check_dot(message, len(origins), f"{path}[{index}]")
        about = message.share_origin
        if about >= len(origins):
            raise _outside(f"{path}[{index}].share_origin", about, len(origins))
        slot = (key, origins[about])
        seen = (message.added, message.subtracted)
        records.append(Record(Kind.COUNTER_RESET, slot, origins[message.origin], message.sequence, message.clock, seen))
    return records


def _decode_receipts(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        key = _check_dot(message, len(origins), here)
        origin, request_id = origins[message.origin], message.request_id
        if not 0 < len(request_id) <= MAX_REQUEST_ID_BYTES:
            raise _malformed(f"{here}.request_id", f"1 to {MAX_REQUEST_ID_BYTES} bytes", request_id[:60])
        _check_amount(message, here)
        if message.sequence == UINT64_MAX:
            raise _malformed(f"{here}.sequence", "below that of the share, which is the next", str(message.sequence))
        receipt = Receipt(message.amount, (message.added, message.subtracted))
        slot = (key, request_id, origin)
        records.append(Record(Kind.COUNTER_RECEIPT, slot, origin, message.sequence, message.clock, receipt))
    return records


def _check_amount(message: Any, path: str) -> None:
    amount = message.amount
    if not amount or amount > message.added or -amount > message.subtracted:
        allowed = f"an amount that is in the sums, +{message.added} -{message.subtracted}"
        raise _malformed(f"{path}.amount", allowed, str(amount))


def _decode_voids(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        key = _check_dot(message, len(origins), here)
        if message.share_origin >= len(origins):
            raise _outside(f"{here}.share_origin", message.share_origin, len(origins))
        _check_amount(message, here)
        slot = (key, (message.added, message.subtracted), origins[message.share_origin])
        origin = origins[message.origin]
        records.append(Record(Kind.COUNTER_VOID, slot, origin, message.sequence, message.clock, message.amount))
    return records


def _decode_elements(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        key = _check_dot(message, len(origins), here)
        kind = message.WhichOneof("element")
        element = getattr(message, kind) if kind else None
        if not element:
            raise _malformed(f"{here}.element", "one of text, data, not empty", "none")
        origin = origins[message.origin]
        if message.HasField("add_origin"):
            if message.add_origin >= len(origins):
                raise _outside(f"{here}.add_origin", message.add_origin, len(origins))
            if not message.add_sequence:
                raise _malformed(f"{here}.add_sequence", "from 1 in a removal", "0")
            slot = (key, element, origins[message.add_origin])
            content = (message.add_sequence, True)
        else:
            slot = (key, element, origin)
            content = (message.sequence, False)
        records.append(Record(Kind.SET_ELEMENT, slot, origin, message.sequence, message.clock, content))
    return records


def _decode_accusations(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        _check_dot(message, len(origins), here, keyed=False)
        target = message.target_node_id
        if not is_name(target):
            raise _malformed(f"{here}.target_node_id", "1 to 128 characters of A-Za-z0-9._-", target[:60])
        if not 0.0 <= message.phi <= MAX_PHI:
            raise _malformed(f"{here}.phi", f"0 to {MAX_PHI:g}", str(message.phi))
        if not 0.0 <= message.made_at_seconds <= MAX_UNIX_SECONDS:
            raise _malformed(f"{here}.made_at_seconds", "Unix time in seconds", str(message.made_at_seconds))
        content = Accusation(
            message.target_generation,
            message.target_incarnation,
            message.made_at_seconds,
            message.phi,
            message.withdrawn,
            message.forget,
        )
        origin = origins[message.origin]
        slot = (target, origin.node_id)
        records.append(Record(Kind.ACCUSATION, slot, origin, message.sequence, message.clock, content))
    return records


def _decode_members(messages: Sequence[Any], origins: list[Origin], path: str) -> list[Record]:
    records: list[Record] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        _check_dot(message, len(origins), here, keyed=False)
        if not message.incarnation:
            raise _malformed(f"{here}.incarnation", "from 1", "0")
        if ":" not in message.peer_address:
            raise _malformed(f"{here}.peer_address", "HOST:PORT", message.peer_address[:60])
        if not 0.0 <= message.left_at_seconds <= MAX_UNIX_SECONDS:
            raise _malformed(f"{here}.left_at_seconds", "Unix time in seconds, or 0", str(message.left_at_seconds))
        if (size := message.ByteSize()) > MAX_MEMBER_BYTES:
            raise _malformed(here, f"at most {MAX_MEMBER_BYTES} bytes", f"{size} bytes")
        member = Member(
            message.incarnation,
            message.peer_address,
            message.client_address,
            message.zone,
            dict(message.tags),
            message.version,
            message.left,
            message.left_at_seconds,
        )
        origin = origins[message.origin]
        records.append(Record(Kind.MEMBER, origin.node_id, origin, message.sequence, message.clock, member))
    return records


_DECODERS: dict[str, Callable[[Any, list[Origin], str], list[Record]]] = {
    "members": _decode_members,
    "accusations": _decode_accusations,
    "columns": _decode_columns,
    "registers": _decode_registers,
    "counter_receipts": _decode_receipts,  # before the shares that they are about
    "counter_shares": _decode_shares,
    "counter_resets": _decode_resets,
    "counter_voids": _decode_voids,
    "set_elements": _decode_elements,
    "leases": _decode_leases,
    "events": _decode_events,
}

_KEPT_ASIDE = ("columns", "registers", "set_elements", "leases")
"""What a chunk of superseded records may hold. Records of other kinds are never kept aside, only replaced."""


def _check_dot(message: Any, known: int, path: str, *, keyed: bool = True) -> str:
    """Check what every record has; returns the key."""
    if message.origin >= known:
        raise _outside(f"{path}.origin", message.origin, known)
    if not message.sequence:
        raise _malformed(f"{path}.sequence", "from 1", "0")
    if not message.clock:
        raise _malformed(f"{path}.clock", "from 1", "0")
    if not keyed:
        return ""
    key: str = message.key
    if not key or len(key) > MAX_WIRE_KEY_BYTES:
        raise _malformed(f"{path}.key", f"1 to {MAX_WIRE_KEY_BYTES} bytes", f"{len(key)} characters")
    return key


# The API


def decode_value(message: common_pb2.Value, path: str = "value") -> Value:
    """A client's value."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise LocalError(f"{path} is not set; give text or data", field=path)
    return message.text if kind == "text" else message.data


def encode_value(value: Value) -> common_pb2.Value:
    """A value for a client."""
    return common_pb2.Value(text=value) if isinstance(value, str) else common_pb2.Value(data=value)


def encode_dot(record: Record) -> common_pb2.Dot:
    """The write that a record comes from."""
    return common_pb2.Dot(origin=_encode_origin(record.origin), sequence=record.sequence)


def encode_session(records: Sequence[Record], clock: int) -> common_pb2.Session:
    """The token of a write; `clock` is the node's."""
    return common_pb2.Session(clock=clock, dots=[encode_dot(record) for record in records])


def encode_counted(dot: Dot, clock: int) -> common_pb2.Session:
    """The token of a write that was made before; `clock` is the node's."""
    return common_pb2.Session(clock=clock, dots=[_encode_dot(dot)])


def encode_reading(records: Sequence[Record]) -> common_pb2.Session | None:
    """The token of what was read; None if that is nothing."""
    if not records:
        return None
    found = Session(max(record.clock for record in records)).merge(Session(dots=tuple(r.dot for r in records)))
    return common_pb2.Session(
        clock=found.clock, dots=map(_encode_dot, found.dots), complete=map(_encode_dot, found.complete)
    )


def encode_token(record: Record) -> str:
    """The token of having read one record, as text: base64url, as the clients' own."""
    return base64.urlsafe_b64encode(encode_session([record], record.clock).SerializeToString()).decode().rstrip("=")


def decode_session(message: common_pb2.Session, path: str = "session") -> Session:
    """A client's token, checked: clock, number of dots, names and sequences."""
    if message.clock > MAX_CLOCK:
        raise LocalError(
            f"{path}.clock is {message.clock}; at most 2^62 is allowed",
            reason=Reason.CLOCK_POISON,
            field=f"{path}.clock",
        )
    return Session(
        message.clock,
        _decode_dots(message.dots, f"{path}.dots"),
        _decode_dots(message.complete, f"{path}.complete"),
    )


def _decode_dots(messages: Sequence[common_pb2.Dot], path: str) -> tuple[Dot, ...]:
    if len(messages) > MAX_ENTRIES:
        raise LocalError(f"{path} has {len(messages)} items; at most {MAX_ENTRIES} are allowed", field=path)
    dots = []
    for index, message in enumerate(messages):  # in every call of a client: every field read once
        origin = message.origin
        node_id = origin.node_id
        sequence = message.sequence
        if len(node_id) > MAX_NAME or not _named(node_id):
            raise LocalError(
                f"{path}[{index}].origin.node_id must be 1 to 128 characters of A-Za-z0-9._-; it is {node_id[:60]!r}",
                field=f"{path}[{index}].origin.node_id",
            )
        if not sequence:
            raise LocalError(f"{path}[{index}].sequence is 0; they count from 1", field=f"{path}[{index}].sequence")
        dots.append(Dot(Origin(node_id, origin.generation), sequence))
    return tuple(dots)


_named = lru_cache(1024)(is_name)  # a session names the same few nodes in every call


def encode_entry(record: Record) -> kv_pb2.Entry:
    """A live register."""
    content = record.content
    entry = kv_pb2.Entry(key=str(record.slot), dot=encode_dot(record), clock=record.clock)
    if isinstance(content, str):
        entry.value.text = content
    elif isinstance(content, bytes):
        entry.value.data = content
    else:
        lease = lease_of(record)
        entry.value.CopyFrom(encode_value(lease.value))
        entry.expires_at_unix_milliseconds = lease.expires_at
        entry.ephemeral = lease.ephemeral
    return entry


def encode_event(record: Record) -> event_pb2.Event:
    """An event."""
    event = event_of(record)
    return event_pb2.Event(
        dot=encode_dot(record),
        topic=event.topic,
        payload=encode_value(event.payload),
        ordering_key=event.ordering_key,
        published_at_unix_milliseconds=event.at,
        clock=record.clock,
        request_id=event.request_id,
    )


def clamp(value: int) -> int:
    """A counter's value as an int64: concurrent additions at different nodes may leave its range."""
    return min(max(value, INT64_MIN), INT64_MAX)


def encode_counter(key: str, value: int) -> counter_pb2.Counter:
    """A counter."""
    return counter_pb2.Counter(key=key, value=clamp(value))


def encode_origin(origin: Origin) -> common_pb2.Origin:
    """An origin."""
    return _encode_origin(origin)


def encode_page_token(scope: str, last: bytes) -> str:
    """Where a page ended, bound to its listing by a checksum: a token is good for the listing it came from only."""
    return base64.urlsafe_b64encode(xxh3_64_digest(scope.encode() + b"\0" + last) + last).decode().rstrip("=")


def decode_page_token(scope: str, token: str) -> bytes | None:
    """Where the page before ended; None for the first page."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    last = raw[8:]
    if len(raw) < 8 or xxh3_64_digest(scope.encode() + b"\0" + last) != raw[:8]:
        raise LocalError(
            "page_token is not one of this listing; use next_page_token of the page before, with the same request",
            field="page_token",
        )
    return last


# Parts


def _encode_dot(dot: Dot) -> common_pb2.Dot:
    return common_pb2.Dot(origin=_encode_origin(dot.origin), sequence=dot.sequence)


def _encode_origin(origin: Origin) -> common_pb2.Origin:
    return common_pb2.Origin(node_id=origin.node_id, generation=origin.generation)


def _decode_origin(message: Any, path: str) -> Origin:
    node_id = message.node_id
    if not is_name(node_id):
        raise _malformed(f"{path}.node_id", "1 to 128 characters of A-Za-z0-9._-", node_id[:60])
    return Origin(node_id, message.generation)


def _size(value: Value) -> int:
    return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode())


def _malformed(path: str, allowed: str, given: str) -> RemoteError:
    return RemoteError(f"{path} must be {allowed}; it is {given!r}", field=path)


def _outside(path: str, index: int, known: int) -> RemoteError:
    return RemoteError(f"{path} is {index}, outside its table of {known} origins", field=path)
