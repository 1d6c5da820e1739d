"""The codec: what goes out comes back the same, in chunks of any size, and what peers send wrong is refused by path."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc import wire
from gossip_grpc.core.clock import MAX_CLOCK
from gossip_grpc.core.coverage import EVERYTHING, Coverage
from gossip_grpc.core.limits import MAX_WIRE_KEY_BYTES
from gossip_grpc.core.phi import MAX_PHI
from gossip_grpc.core.records import Accusation, Event, Kind, Member, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta, Digest, layers
from gossip_grpc.core.transfer import check_records
from gossip_grpc.errors import LocalError, Reason, RemoteError
from gossip_grpc.gen.gossip.v1 import common_pb2, peer_pb2
from tests import samples
from tests.samples import A, B, accusation, addition, lease, member, receipt, register, removal, reset, share, void

UINT64 = 2**64 - 1

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = texts.filter(bool)
values = st.one_of(texts, st.binary(max_size=8))
elements = values.filter(bool)
names = st.text("aZ09._-", min_size=1, max_size=6)
origins = st.builds(Origin, names, st.integers(0, UINT64))
numbers = st.one_of(st.integers(1, 5), st.integers(1, UINT64))
sums = st.tuples(st.integers(0, UINT64), st.integers(0, UINT64))
contents = st.builds(
    Member,
    numbers,
    texts.map(lambda text: f"{text}:1"),
    texts,
    texts,
    st.dictionaries(texts, texts, max_size=3),
    texts,
    st.booleans(),
    st.floats(0.0, wire.MAX_UNIX_SECONDS),
)
said = st.builds(
    Accusation,
    st.integers(0, UINT64),
    st.integers(0, UINT64),
    st.floats(0.0, wire.MAX_UNIX_SECONDS),
    st.floats(0.0, MAX_PHI),
    st.booleans(),
    st.booleans(),
)
registers = samples.registers(keys, values, origins, numbers)
leases = samples.leases(keys, values, origins, numbers, st.integers(0, int(wire.MAX_UNIX_SECONDS) * 1000))
set_elements = samples.elements(keys, elements, origins, numbers, origins)
amounts = st.integers(-(2**63), 2**63 - 1).filter(bool)


@st.composite
def events(draw: st.DrawFn) -> Record:
    origin, sequence = draw(origins), draw(numbers)
    at, previous = draw(st.integers(0, int(wire.MAX_UNIX_SECONDS) * 1000)), draw(st.integers(0, sequence - 1))
    content = Event(draw(keys), draw(values), draw(texts), at, previous, draw(texts))
    return Record(Kind.EVENT, (origin, sequence), origin, sequence, draw(numbers), content)


records = st.one_of(
    registers,
    leases,
    samples.shares(keys, origins, numbers, sums),
    samples.resets(keys, origins, numbers, sums, origins),
    samples.receipts(keys, origins, numbers, sums, keys, amounts),
    samples.voids(keys, origins, numbers, sums, origins, amounts),
    events(),
    set_elements,
    samples.members(origins, numbers, contents),
    samples.accusations(origins, numbers, names, said),
)


def slot(record: Record) -> object:
    return (record.kind, record.slot)


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    digest = Digest(fingerprint=draw(st.integers(0, UINT64)))
    for origin in draw(st.lists(origins, max_size=5)):
        for first in draw(st.lists(st.integers(1, 30), max_size=8)):
            digest.coverage.add_range(origin, first, first + draw(st.integers(0, 3)))
        sequence = digest.coverage.sequence(origin)
        for known in (digest.floor, digest.context):
            value = draw(st.integers(0, sequence))
            if value:
                known[origin] = value
    for origin in draw(st.lists(origins, max_size=3)):
        digest.coverage.fold({origin.node_id: origin.generation})
        if draw(st.booleans()):
            digest.floor[origin] = draw(st.sampled_from([1, EVERYTHING]))
    digest.context = {origin: n for origin, n in digest.context.items() if not digest.coverage.is_folded(origin)}
    return digest


def over_the_wire(message: peer_pb2.Delta) -> wire.Chunk:
    return wire.decode_delta(peer_pb2.Delta.FromString(message.SerializeToString()))


# There and back


@given(digests())
def test_a_digest_comes_back_the_same(digest: Digest) -> None:
    data = wire.encode_digest(digest).SerializeToString()
    assert wire.decode_digest(peer_pb2.Digest.FromString(data)) == digest


def test_equal_digests_are_equal_bytes() -> None:
    one, other = Digest(Coverage({A: 1, B: 2})), Digest(Coverage({B: 2, A: 1}))
    assert wire.encode_digest(one).SerializeToString() == wire.encode_digest(other).SerializeToString()


def test_joined_floors_and_greatest_numbers_come_back_the_same() -> None:
    last = Origin("b", UINT64)
    digest = Digest(
        Coverage({A: UINT64}, folded={"b": UINT64, "c": 0}),
        {A: UINT64, last: EVERYTHING, Origin("b", 3): 5, Origin("c", 0): EVERYTHING},
        {A: UINT64},
        UINT64,
    )
    data = wire.encode_digest(digest).SerializeToString()
    decoded = wire.decode_digest(peer_pb2.Digest.FromString(data))
    assert decoded == digest
    assert decoded.hash() == digest.hash()
    behind = Store(Origin("d", 1))
    behind.floor, behind.coverage = dict(digest.floor), digest.coverage.copy()
    assert not behind.delta(decoded).full
    assert behind.delta(Digest(Coverage({A: UINT64, Origin("b", 3): 7}))).full


def test_a_digest_of_too_many_ranges_claims_less_and_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_RANGES", 5)
    coverage = Coverage({A: 1, B: 1}, {A: [(n, n) for n in (3, 5, 7)], B: [(n, n) for n in (3, 5, 7)]})
    decoded = wire.decode_digest(wire.encode_digest(Digest(coverage))).coverage
    assert coverage.includes(decoded)
    assert decoded == Coverage({A: 1, B: 1}, {A: [(3, 3), (5, 5), (7, 7)], B: [(3, 3), (5, 5)]})


@given(records)
def test_a_record_of_any_kind_comes_back_the_same(record: Record) -> None:
    (message,) = wire.encode_records([record], 1 << 20)
    assert over_the_wire(message) == wire.Chunk(records=[record])


def test_an_empty_value_and_a_deletion_are_not_the_same() -> None:
    sent = [register("t", "", A, 1), register("b", b"", A, 2), register("d", None, A, 3)]
    (message,) = wire.encode_records(sent, 1 << 20)
    assert over_the_wire(message).records == sent


@given(
    st.lists(records, max_size=12, unique_by=slot),
    st.lists(st.one_of(registers, leases, set_elements), max_size=6),
    digests(),
    digests(),
    st.sampled_from([1, 60, 200, 1 << 20]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 7, 2**62]),
)
def test_a_delta_comes_back_the_same_in_chunks_of_any_size(
    sent: list[Record],
    superseded: list[Record],
    base: Digest,
    snapshot: Digest,
    chunk_bytes: int,
    full: bool,
    repair: bool,
    clock: int,
) -> None:
    delta = Delta(base, snapshot, full, repair, sent, superseded, clock)
    chunks = [over_the_wire(message) for message in wire.encode_delta(delta, chunk_bytes)]

    header = Delta(Digest(base.coverage, base.floor if repair else {}), snapshot, full, repair, clock=clock)
    assert [chunk.header for chunk in chunks] == [header] + [None] * (len(chunks) - 1)
    assert [chunk.complete for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    received = [record for chunk in chunks if not chunk.superseded for record in chunk.records]
    lost = [record for chunk in chunks if chunk.superseded for record in chunk.records]
    if chunk_bytes == 1:  # each record by itself, so in order
        assert received == sent
        assert lost == [record for layer in layers(superseded) for record in layer]
    assert sorted(received, key=repr) == sorted(sent, key=repr)
    assert sorted(lost, key=repr) == sorted(superseded, key=repr)
    flags = [chunk.superseded for chunk in chunks]
    assert flags == sorted(flags), "superseded records come last"


def test_a_delta_of_nothing_is_one_chunk() -> None:
    (message,) = wire.encode_delta(Delta(Digest(), Digest(Coverage({A: 1}))), 1 << 20)
    chunk = over_the_wire(message)
    assert (chunk.complete, chunk.records) == (True, [])
    assert chunk.header is not None
    assert chunk.header.snapshot.coverage == Coverage({A: 1})


def test_no_records_are_no_message() -> None:
    assert list(wire.encode_records([], 1 << 20)) == []


def test_a_sender_comes_back_the_same() -> None:
    sender = wire.encode_sender("prod", Origin("a", 7), "10.0.0.1:7946")
    assert wire.decode_sender(sender, "prod") == (Origin("a", 7), "10.0.0.1:7946")


@given(values)
def test_a_value_comes_back_the_same(value: str | bytes) -> None:
    assert wire.decode_value(wire.encode_value(value)) == value


# Sizes


@given(st.integers(0, 2**32))
def test_chunks_are_as_large_as_asked_give_or_take_a_record(seed: int) -> None:
    rng = random.Random(seed)
    sent = [
        register(f"key-{n}", rng.choice(["", "text", "ä" * 50]) or None, Origin(f"n{rng.randrange(9)}", 10**12), n + 1)
        for n in range(300)
    ]
    sizes = [message.ByteSize() for message in wire.encode_records(sent, 2000)]
    assert len(sizes) > 1
    assert all(size <= 2000 + 250 for size in sizes)
    assert all(size > 500 for size in sizes[:-1]), "and none is small without need"


@given(st.lists(records, min_size=1, max_size=5, unique_by=slot), st.integers(1, 2**42))
def test_a_chunk_is_never_larger_than_estimated(sent: list[Record], largest: int) -> None:
    encoder = wire._Encoder()
    for record in sent:
        record.sequence, record.clock = min(record.sequence, largest), min(record.clock, largest)
        record.origin = Origin(record.origin.node_id, min(record.origin.generation, largest))
        if record.kind in (Kind.COUNTER_SHARE, Kind.COUNTER_RESET):
            record.content = tuple(min(part, largest) for part in record.content)
        encoder.add(record)
    assert encoder.take().ByteSize() <= encoder.size


def test_with_two_thousand_members_no_message_is_larger_than_allowed() -> None:
    names = [f"{n:04}".ljust(128, "x") for n in range(2000)]
    store = Store(Origin(names[0], 10**13))
    tags = {f"tag-{n}": "t" * 500 for n in range(16)}
    for name in names:
        origin = Origin(name, 10**13)
        content = member(origin, tags=tags, address=f"{name}.example:7946", zone="zone", version="1.2.3")
        value = register(f"{name}-value".ljust(512, "k"), "v" * 1024, origin, 3)
        store.merge([content, value, register(f"{name}-hole", "v", origin, 5)], 0.0)
    # The worst that limits allow: the largest value behind an almost full chunk.
    store.write(Kind.REGISTER, "k" * 512, b"v" * (1 << 20), 0.0)

    messages = list(wire.encode_delta(store.delta(Digest()), 1 << 20))

    assert len(messages) > 10
    assert all(message.ByteSize() < wire.MAX_MESSAGE_BYTES / 2 for message in messages[1:])
    assert messages[0].ByteSize() < wire.MAX_MESSAGE_BYTES
    assert wire.encode_digest(store.digest()).ByteSize() < wire.MAX_MESSAGE_BYTES / 4
    received = Store(Origin("b", 1))
    for message in messages:
        received.merge(over_the_wire(message).records, 0.0)
    assert received.fingerprint == store.fingerprint
    assert len(received.members()) == 2000


def test_two_thousand_members_with_as_many_holes_as_fit_make_a_digest_that_may_be_sent() -> None:
    ranges = [(2**40 + 3 * n, 2**40 + 3 * n + 1) for n in range(100)]
    origins = [Origin(f"{n:04}".ljust(128, "x"), 10**13) for n in range(2000)]
    sequences = dict.fromkeys(origins, 2**40 - 2)
    coverage = Coverage(sequences, {origin: list(ranges) for origin in origins})
    header = Delta(Digest(coverage), Digest(coverage, sequences, sequences))
    assert wire.encode_digest(header.snapshot).ByteSize() < wire.MAX_MESSAGE_BYTES
    (message,) = wire.encode_delta(header, 1 << 20)
    assert message.ByteSize() < wire.MAX_MESSAGE_BYTES


# What peers send wrong


def valid_delta() -> peer_pb2.Delta:
    added = addition("s", "e", B, 4)
    base = Digest(Coverage({A: 5}))
    snapshot = Digest(Coverage({A: 9}, {B: [(3, 4)]}), {A: 2}, {A: 3}, 7)
    sent = [
        member(A, 1),
        register("k0", "v", A, 2),
        register("k1", b"v", B, 2),
        share("n", 1, 2, A, 3),
        reset("n", B, (1, 2), A, 4),
        removal("s", "e", added, A, 5),
        addition("s", b"f", A, 6),
        accusation(B, A, 7, phi=9.5),
        lease("l0", "v", A, 8, expires_at=5),
        lease("l1", b"v", A, 9, ephemeral=True),
        receipt("n", "r", 1, (1, 2), A, 10),
        void("n", -2, (1, 2), B, A, 11),
    ]
    (message,) = wire.encode_delta(Delta(base, snapshot, records=sent), 1 << 20)
    # Values come by columns, and may come one by one.
    message.registers.add(origin=0, sequence=8, clock=8, key="k2", text="v")
    message.registers.add(origin=1, sequence=3, clock=8, key="k3", data=b"v")
    return message


def test_the_delta_that_the_table_below_spoils_is_valid() -> None:
    chunk = wire.decode_delta(valid_delta())
    assert len(chunk.records) == 14
    assert chunk.complete


def spoil(change: Callable[[peer_pb2.Delta], object]) -> peer_pb2.Delta:
    message = valid_delta()
    change(message)
    return message


def again(name: str) -> Callable[[peer_pb2.Delta], object]:
    """Repeat the last record of a kind."""
    return lambda m: getattr(m, name).append(getattr(m, name)[-1])


def assign(name: str, field: str, value: object) -> Callable[[peer_pb2.Delta], object]:
    """Set a field of the last record of a kind."""
    return lambda m: setattr(getattr(m, name)[-1], field, value)


def place(name: str, value: object) -> Callable[[peer_pb2.Delta], object]:
    """Set the last entry of a column."""
    return lambda m: getattr(m.columns, name).__setitem__(-1, value)


LASTS = {
    "members": 0,
    "accusations": 0,
    "registers": 1,
    "counter_shares": 0,
    "counter_resets": 0,
    "counter_receipts": 0,
    "counter_voids": 0,
    "set_elements": 1,
    "leases": 1,
}
KEYED = {name: last for name, last in LASTS.items() if name not in ("members", "accusations")}


def spoil_digest(digest: peer_pb2.Digest, *, floor: int) -> None:
    digest.origins[0].floor = floor


BAD_DELTAS: list[tuple[str, str, Callable[[peer_pb2.Delta], object]]] = [
    *((f"delta.{n}[{i}].origin", "outside its table of 2 origins", assign(n, "origin", 2)) for n, i in LASTS.items()),
    *((f"delta.{n}[{i}].sequence", "must be from 1", assign(n, "sequence", 0)) for n, i in LASTS.items()),
    *((f"delta.{n}[{i}].clock", "must be from 1", assign(n, "clock", 0)) for n, i in LASTS.items()),
    *((f"delta.{n}[{i}].key", "must be 1 to 4096 bytes", assign(n, "key", "")) for n, i in KEYED.items()),
    *(
        (f"delta.{n}[{i}].key", "'4097 characters'", assign(n, "key", "k" * (MAX_WIRE_KEY_BYTES + 1)))
        for n, i in KEYED.items()
    ),
    *((f"delta.{n}", "each slot once", again(n)) for n in LASTS),
    ("delta.columns.origins", "outside its table of 2 origins", place("origins", 2)),
    ("delta.columns.sequences[1]", "must be from 1", place("sequences", 0)),
    ("delta.columns.clocks[1]", "must be from 1", place("clocks", 0)),
    ("delta.columns.keys[1]", "must be 1 to 4096 bytes", place("keys", "")),
    ("delta.columns.keys[1]", "'4097 characters'", place("keys", "k" * (MAX_WIRE_KEY_BYTES + 1))),
    ("delta.columns", "each slot once", place("keys", "k0")),
    ("delta.registers", "keys that no other list of registers has", place("keys", "k2")),
    *(
        (f"delta.columns.{name}", "as long as keys, 2", lambda m, name=name: getattr(m.columns, name).pop())
        for name in ("origins", "sequences", "clocks", "texts")
    ),
    ("delta.columns.texts", "as long as keys, 2; it is '3 long'", lambda m: m.columns.data.append(b"more")),
    ("delta.columns.origins", "as long as keys, 0", lambda m: m.columns.ClearField("keys")),
    ("delta.registers[1].content", "one of text, data", lambda m: m.registers[1].ClearField("data")),
    ("delta.registers[1].content", "one of text, data, deleted = true", assign("registers", "deleted", False)),
    ("delta.counter_resets[0].share_origin", "is 9, outside its table", assign("counter_resets", "share_origin", 9)),
    ("delta.counter_receipts[0].request_id", "1 to 128 bytes", assign("counter_receipts", "request_id", "")),
    ("delta.counter_receipts[0].request_id", "1 to 128 bytes", assign("counter_receipts", "request_id", "r" * 129)),
    *(
        (f"delta.{name}[0].amount", f"in the sums, +1 -2; it is '{amount}'", assign(name, "amount", amount))
        for name in ("counter_receipts", "counter_voids")
        for amount in (0, 2, -3)
    ),
    (
        "delta.counter_receipts[0].sequence",
        "below that of the share",
        assign("counter_receipts", "sequence", UINT64),
    ),
    ("delta.counter_voids[0].share_origin", "is 9, outside its table", assign("counter_voids", "share_origin", 9)),
    ("delta.set_elements[1].element", "one of text, data, not empty", lambda m: m.set_elements[1].ClearField("data")),
    ("delta.set_elements[1].element", "not empty", assign("set_elements", "text", "")),
    ("delta.set_elements[0].add_origin", "is 9, outside", lambda m: setattr(m.set_elements[0], "add_origin", 9)),
    ("delta.set_elements[0].add_sequence", "from 1", lambda m: setattr(m.set_elements[0], "add_sequence", 0)),
    ("delta.leases[1].content", "one of text, data; it is 'none of them'", lambda m: m.leases[1].ClearField("data")),
    ("delta.leases[1]", "a value that has an end, or is ephemeral", assign("leases", "ephemeral", False)),
    (
        "delta.leases[1].expires_at_unix_milliseconds",
        "Unix time in milliseconds, or 0",
        assign("leases", "expires_at_unix_milliseconds", int(wire.MAX_UNIX_SECONDS) * 1000 + 1),
    ),
    ("delta.leases", "keys that no other list of registers has", assign("leases", "key", "k0")),
    ("delta.members[0].incarnation", "from 1", assign("members", "incarnation", 0)),
    ("delta.members[0].peer_address", "HOST:PORT", assign("members", "peer_address", "nowhere")),
    ("delta.accusations[0].target_node_id", "1 to 128", assign("accusations", "target_node_id", "")),
    ("delta.accusations[0].target_node_id", "'a b'", assign("accusations", "target_node_id", "a b")),
    ("delta.accusations[0].phi", "0 to 300; it is '-1.0'", assign("accusations", "phi", -1.0)),
    ("delta.accusations[0].phi", "0 to 300; it is '300.1'", assign("accusations", "phi", 300.1)),
    ("delta.accusations[0].phi", "0 to 300; it is 'nan'", assign("accusations", "phi", math.nan)),
    ("delta.members[0].left_at_seconds", "it is '-1.0'", assign("members", "left_at_seconds", -1.0)),
    ("delta.members[0].left_at_seconds", "it is 'nan'", assign("members", "left_at_seconds", math.nan)),
    ("delta.accusations[0].made_at_seconds", "it is '-1.0'", assign("accusations", "made_at_seconds", -1.0)),
    ("delta.accusations[0].made_at_seconds", "it is 'inf'", assign("accusations", "made_at_seconds", math.inf)),
    ("delta.accusations[0].made_at_seconds", "it is 'nan'", assign("accusations", "made_at_seconds", math.nan)),
    ("delta.origins[1].node_id", "1 to 128 characters", lambda m: setattr(m.origins[1], "node_id", "a b")),
    ("delta.origins[0].node_id", "1 to 128 characters", lambda m: setattr(m.origins[0], "node_id", "")),
    (
        "delta.header.base.origins[0].origin.node_id",
        "1 to 128",
        lambda m: m.header.base.origins[0].ClearField("origin"),
    ),
    ("delta.header.snapshot.origins[0].floor", "the sequence, 9", lambda m: spoil_digest(m.header.snapshot, floor=10)),
]


@pytest.mark.parametrize(
    ("field", "text", "change"), BAD_DELTAS, ids=[f"{field}-{text}" for field, text, _ in BAD_DELTAS]
)
def test_a_bad_delta_is_refused_and_the_field_named(
    field: str, text: str, change: Callable[[peer_pb2.Delta], object]
) -> None:
    message = spoil(change)
    with pytest.raises(RemoteError) as caught:
        wire.decode_delta(message)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
    assert text in str(caught.value)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("name", ["members", "counter_shares", "counter_resets", "counter_receipts", "counter_voids"])
def test_only_registers_and_set_elements_may_come_as_superseded(name: str) -> None:
    # The receiver empties the slot of what a superseded record wins over, to be filled by the slot's own record.
    whole = valid_delta()
    message = peer_pb2.Delta(origins=whole.origins, superseded=True)
    getattr(message, name).extend(getattr(whole, name))
    with pytest.raises(RemoteError, match=f"delta.{name} must be empty in a chunk of superseded records") as caught:
        wire.decode_delta(message)
    assert caught.value.field == f"delta.{name}"


def spoiled_digest(**changes: int | list[tuple[int, int]]) -> peer_pb2.Digest:
    """Two origins, the second covered up to 5 with changes."""
    facts = {"sequence": 5, **changes}
    above = [common_pb2.SequenceRange(first=first, last=last) for first, last in facts.pop("above", [])]  # type: ignore[union-attr]
    return peer_pb2.Digest(
        origins=[
            peer_pb2.OriginDigest(origin=common_pb2.Origin(node_id="a", generation=1), sequence=1),
            peer_pb2.OriginDigest(origin=common_pb2.Origin(node_id="b"), above=above, **facts),  # type: ignore[arg-type]
        ]
    )


def folded_digest(*names: str) -> peer_pb2.Digest:
    return peer_pb2.Digest(folded=[peer_pb2.FoldedNode(node_id=name, generation=3) for name in names])


def test_the_digest_that_the_table_below_spoils_is_valid() -> None:
    digest = wire.decode_digest(spoiled_digest(above=[(7, 7), (9, 12)], floor=5, context=5))
    assert digest.coverage == Coverage({A: 1, Origin("b", 0): 5}, {Origin("b", 0): [(7, 7), (9, 12)]})


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("digest.origins[1].above", spoiled_digest(above=[(6, 7)])),
        ("digest.origins[1].above", spoiled_digest(above=[(3, 9)])),
        ("digest.origins[1].above", spoiled_digest(sequence=0, above=[(0, 2)])),
        ("digest.origins[1].above", spoiled_digest(sequence=0, above=[(1, 2)])),
        ("digest.origins[1].above", spoiled_digest(above=[(9, 8)])),
        ("digest.origins[1].above", spoiled_digest(above=[(8, 9), (10, 11)])),
        ("digest.origins[1].above", spoiled_digest(above=[(20, 21), (10, 11)])),
        ("digest.origins[1].floor", spoiled_digest(floor=6)),
        ("digest.origins[1].floor", spoiled_digest(above=[(7, 9)], floor=9)),
        ("digest.origins[1].context", spoiled_digest(context=6)),
        ("digest.folded[0].node_id", folded_digest("a b")),
        ("digest.folded[0].node_id", folded_digest("")),
        ("digest.folded[1].node_id", folded_digest("a", "a")),
        ("digest.origins[2].origin", peer_pb2.Digest(origins=[*spoiled_digest().origins, *spoiled_digest().origins])),
        (
            "digest.origins[1].origin.node_id",
            peer_pb2.Digest(origins=[spoiled_digest().origins[0], peer_pb2.OriginDigest(sequence=1)]),
        ),
    ],
)
def test_a_bad_digest_is_refused_and_the_field_named(field: str, message: peer_pb2.Digest) -> None:
    with pytest.raises(RemoteError) as caught:
        wire.decode_digest(message)
    assert (caught.value.field, caught.value.reason) == (field, Reason.MALFORMED)
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"cluster": "other"}, "sender.cluster", Reason.FOREIGN_CLUSTER),
        ({"cluster": ""}, "sender.cluster", Reason.FOREIGN_CLUSTER),
        ({"protocol": 1}, "sender.protocol", Reason.INCOMPATIBLE_PROTOCOL),
        ({"protocol": 0}, "sender.protocol", Reason.INCOMPATIBLE_PROTOCOL),
        ({"protocol": 1, "node_id": ""}, "sender.protocol", Reason.INCOMPATIBLE_PROTOCOL),
        ({"cluster": "other", "protocol": 1}, "sender.cluster", Reason.FOREIGN_CLUSTER),
        ({"node_id": ""}, "sender.node_id", Reason.MALFORMED),
        ({"node_id": "a/b"}, "sender.node_id", Reason.MALFORMED),
        ({"node_id": "x" * 129}, "sender.node_id", Reason.MALFORMED),
        ({"address": ""}, "sender.address", Reason.MALFORMED),
        ({"address": "host"}, "sender.address", Reason.MALFORMED),
        ({"address": f"{'h' * 300}:1"}, "sender.address", Reason.MALFORMED),
    ],
)
def test_a_bad_sender_is_refused_and_the_field_named(change: dict[str, str | int], field: str, reason: Reason) -> None:
    sender = wire.encode_sender("prod", A, "a:1")
    for name, value in change.items():
        setattr(sender, name, value)
    with pytest.raises(RemoteError) as caught:
        wire.decode_sender(sender, "prod")
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert str(caught.value).startswith(field)


def test_an_error_does_not_repeat_a_long_text_that_it_was_given() -> None:
    sender = wire.encode_sender("x" * 100_000, A, "a:1")
    with pytest.raises(RemoteError) as caught:
        wire.decode_sender(sender, "prod")
    assert len(str(caught.value)) < 400


def test_a_clock_above_2_to_the_62_passes_the_codec_and_is_refused_with_its_message() -> None:
    message = spoil(assign("registers", "clock", MAX_CLOCK + 1))
    chunk = wire.decode_delta(message)
    with pytest.raises(RemoteError, match=r"above 2\^62"):
        check_records(Store(B), chunk.records, synced=False)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_bytes_come_are_refused_or_can_be_merged_and_passed_on(flips: list[tuple[int, int]]) -> None:
    data = bytearray(valid_delta().SerializeToString())
    for position, byte in flips:
        data[position % len(data)] = byte
    try:
        chunk = wire.decode_delta(peer_pb2.Delta.FromString(bytes(data)))
    except (RemoteError, DecodeError):
        return
    store = Store(Origin("me", 1))
    store.merge(chunk.records, 0.0)
    for message in wire.encode_delta(store.delta(Digest()), 100):
        over_the_wire(message)


# The API


def test_a_value_that_is_not_set_is_refused() -> None:
    with pytest.raises(LocalError, match="element is not set; give text or data") as caught:
        wire.decode_value(common_pb2.Value(), "element")
    assert caught.value.field == "element"


def test_an_empty_value_is_a_value() -> None:
    assert wire.decode_value(common_pb2.Value(text="")) == ""
    assert wire.decode_value(common_pb2.Value(data=b"")) == b""


def test_an_entry_says_what_was_written_and_by_whom() -> None:
    entry = wire.encode_entry(register("k", b"v", Origin("a", 7), 3, clock=5))
    assert (entry.key, entry.value.data, entry.clock) == ("k", b"v", 5)
    assert entry.dot == common_pb2.Dot(origin=common_pb2.Origin(node_id="a", generation=7), sequence=3)


def test_a_session_holds_the_clock_and_the_dots_of_a_write() -> None:
    session = wire.encode_session([register("k", "v", A, 3), register("l", "v", A, 4)], 9)
    assert (session.clock, [dot.sequence for dot in session.dots]) == (9, [3, 4])
    assert session.dots[0].origin == wire.encode_origin(A)


@given(texts, st.binary(max_size=30))
def test_a_page_token_comes_back_as_where_the_page_ended(scope: str, last: bytes) -> None:
    token = wire.encode_page_token(scope, last)
    assert wire.decode_page_token(scope, token) == last
    assert token.isascii()
    assert "=" not in token


def test_no_token_is_the_first_page() -> None:
    assert wire.decode_page_token("kv", "") is None


GOOD = wire.encode_page_token("kv:prefix", b"last")


@pytest.mark.parametrize(
    ("scope", "token"),
    [
        ("kv:other", GOOD),
        ("kv:prefix", GOOD[:-1]),
        ("kv:prefix", GOOD[1:]),
        ("kv:prefix", GOOD.swapcase()),
        ("kv:prefix", "AAAA"),
        ("kv:prefix", "A"),
        ("kv:prefix", "bGFzdA"),
        ("kv:prefix", "no token at all!"),
        ("kv:prefix", "tökén"),
    ],
)
def test_a_forged_page_token_or_one_of_another_listing_is_refused(scope: str, token: str) -> None:
    with pytest.raises(LocalError, match="page_token is not one of this listing") as caught:
        wire.decode_page_token(scope, token)
    assert caught.value.field == "page_token"
