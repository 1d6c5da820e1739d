"""Events: taken once, told in the order of their origin, kept for a while and forgotten for good."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gossip_grpc import wire
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.events import PATIENCE, event_of
from gossip_grpc.core.feed import EventUpdate
from gossip_grpc.core.journal import Knowledge
from gossip_grpc.core.limits import MAX_WIRE_PAYLOAD_BYTES
from gossip_grpc.core.records import Event, Kind, Member, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.transfer import InboundDelta
from gossip_grpc.errors import LimitError, Reason, RemoteError
from gossip_grpc.gen.gossip.v1 import peer_pb2
from tests.samples import A, B, C


def event(sequence: int, previous: int = 0, origin: Origin = A, topic: str = "t") -> Record:
    content = Event(topic, f"event {sequence}", previous=previous)
    return Record(Kind.EVENT, (origin, sequence), origin, sequence, sequence, content)


def watched(origin: Origin = B) -> Store:
    store = Store(origin)
    store.feed(on=True)
    return store


def told(store: Store) -> list[int]:
    """The sequences of the events told since the last look."""
    return [update.record.sequence for update in store.take_updates() if isinstance(update, EventUpdate)]


def kept(store: Store) -> list[int]:
    """The sequences of the events told that are kept."""
    return [store.event(number).sequence for number in store.events_told]


def sync(store: Store, source: Store, now: float) -> None:
    delta = source.delta(store.digest())
    inbound = InboundDelta(store, delta)
    inbound.merge(delta.records, now, synced=True)
    inbound.complete()


def test_an_event_is_told_once_by_whatever_ways_it_comes() -> None:
    store, source = watched(), Store(A)
    record = event(1)
    source.coverage.add(A, 1)
    source.merge([record], 0.0)
    store.merge([record], 0.0)
    store.merge([record], 0.0)
    store.merge([record], 0.0, repair=True)
    assert told(store) == [1]
    assert store.event_count == 1


def test_events_of_one_origin_are_told_in_order_however_they_come() -> None:
    chain = [event(1), event(3, 1), event(4, 3), event(9, 4)]
    for seed in range(24):
        store = watched()
        records = chain[:]
        random.Random(seed).shuffle(records)
        for record in records:
            store.merge([record], 0.0)
        assert told(store) == [1, 3, 4, 9]


def test_events_of_different_origins_do_not_wait_for_each_other() -> None:
    store = watched(C)
    store.merge([event(2, 1, A)], 0.0)
    store.merge([event(1, 0, B)], 0.0)
    assert [update.record.origin for update in store.take_updates() if isinstance(update, EventUpdate)] == [B]


def test_an_event_waits_no_longer_for_one_that_was_forgotten_elsewhere() -> None:
    source, store = Store(A), watched()
    first = source.write(Kind.EVENT, (A, 1), Event("t", "1"), 0.0)
    source.write(Kind.EVENT, (A, 2), Event("t", "2", previous=1), 50.0)
    assert source.take_updates() == []
    source.forget_events(60.0, 60.0)
    assert source.get(Kind.EVENT, first.slot) is None
    store.merge([event(2, 1)], 60.0)
    assert told(store) == []
    sync(store, source, 60.0)
    store.tell_events(60.0)
    assert told(store) == [2]


def test_an_event_waits_for_a_lost_one_for_a_bounded_time() -> None:
    store = watched()
    store.merge([event(5, 4), event(6, 5), event(8, 7)], 10.0)
    assert store.event_deadline() == 10.0 + PATIENCE
    store.tell_events(10.0 + PATIENCE - 0.1)
    assert told(store) == []
    store.tell_events(10.0 + PATIENCE)
    assert told(store) == [5, 6, 8]
    assert store.event_deadline() == float("inf")


def test_a_forgotten_event_never_comes_back() -> None:
    store, late = watched(), Store(C)
    late.merge([event(1)], 0.0)
    store.merge([event(1)], 0.0)
    assert told(store) == [1]
    store.forget_events(59.9, 60.0)
    assert kept(store) == [1]
    store.forget_events(60.0, 60.0)
    assert store.event_count == 0
    sync(store, late, 61.0)
    store.merge([event(1)], 61.0, repair=True)
    assert told(store) == []
    assert store.event_count == 0


def test_events_neither_count_as_records_nor_change_the_fingerprint() -> None:
    store = Store(A)
    store.write(Kind.EVENT, (A, 1), Event("t", b"x"), 0.0)
    assert (store.live, store.tombstones, store.fingerprint) == (0, 0, 0)


def test_a_newcomer_gets_what_is_kept_in_order() -> None:
    source, newcomer = Store(A), watched()
    source.merge([event(2, 1), event(1), event(3, 2)], 0.0)
    sync(newcomer, source, 1.0)
    assert told(newcomer) == [1, 2, 3]
    assert kept(newcomer) == [1, 2, 3]


def test_a_disk_is_told_that_events_are_covered_but_not_what_they_say() -> None:
    store = Store(A)
    store.write(Kind.EVENT, (A, 1), Event("t", "1"), 0.0)
    store.keep_journal()
    store.write(Kind.EVENT, (A, 2), Event("t", "2", previous=1), 0.0)
    changes = store.take_changes()
    assert changes is not None
    assert (changes.kept, changes.origins) == ([], {A: Knowledge(2)})


def test_after_a_restart_an_event_comes_after_all_that_was_covered_before() -> None:
    store = Store(A)
    store.write(Kind.REGISTER, "k", "v", 0.0)
    loaded = Store.load(A, store.clock.time, [], {A: Knowledge(1)}, {})
    loaded.feed(on=True)
    loaded.write(Kind.EVENT, (A, 2), Event("t", "x", previous=1), 0.0)
    assert told(loaded) == [2]


def test_lives_that_are_folded_are_not_waited_for() -> None:
    old, new = Origin("b", 1), Origin("b", 2)
    store = watched(A)
    store.merge([event(1, 0, old), event(1, 0, new)], 0.0)
    store.fold(0.0, 10.0)
    store.fold(10.0, 10.0)
    assert store.coverage.is_folded(old)
    store.merge([event(2, 1, new)], 11.0)
    assert told(store) == [1, 1, 2]


def publishing() -> Engine:
    return Engine(A, Member(0, "a:1"), Settings(), random.Random(1), 0.0)


def test_an_event_names_the_one_that_its_publisher_published_before_it() -> None:
    engine = publishing()
    first = engine.publish_event("t", "1", "", 0.0)
    engine.put("k", "v", 0.0)
    second = engine.publish_event("t", "2", "", 0.0)
    assert event_of(second).previous == first.sequence == second.sequence - 2


def test_an_event_of_a_new_life_comes_after_none() -> None:
    engine = publishing()
    engine.publish_event("t", "1", "", 0.0)
    engine.store.renew(2)
    record = engine.publish_event("t", "2", "", 0.0)
    assert (record.slot, event_of(record).previous) == (((Origin("a", 2), 1)), 0)


def test_an_event_has_the_slot_of_its_dot_after_sequences_that_a_crash_has_used() -> None:
    engine = publishing()
    engine.store.reserved = 100
    record = engine.publish_event("t", "1", "", 0.0)
    assert (record.sequence, record.slot) == (101, (A, 101))
    assert event_of(engine.publish_event("t", "2", "", 0.0)).previous == 101


def test_an_event_that_was_not_written_is_not_waited_for() -> None:
    engine = publishing()
    first = engine.publish_event("t", "1", "", 0.0)

    def full() -> None:
        raise LimitError("the disk is full", reason=Reason.RECORD_LIMIT)

    engine.guard = full
    with pytest.raises(LimitError):
        engine.publish_event("t", "2", "", 0.0)
    engine.guard = lambda: None
    assert event_of(engine.publish_event("t", "3", "", 0.0)).previous == first.sequence


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topic", ""),
        ("topic", "t" * 4097),
        ("ordering_key", "k" * 4097),
        ("text", "p" * (MAX_WIRE_PAYLOAD_BYTES + 1)),
        ("previous", 7),
        ("published_at_unix_milliseconds", 2**63),
        ("origin", 1),
    ],
)
def test_an_event_of_a_peer_that_is_none_is_refused(field: str, value: Any) -> None:
    message = peer_pb2.EventRecord(origin=0, sequence=7, clock=1, topic="t", text="p")
    wire._decode_events([message], [A], "events")
    setattr(message, field, value)
    with pytest.raises(RemoteError, match=r"events\[0\]"):
        wire._decode_events([message], [A], "events")


def test_an_event_of_a_peer_without_payload_is_refused() -> None:
    with pytest.raises(RemoteError, match=r"events\[0\]\.payload"):
        wire._decode_events([peer_pb2.EventRecord(sequence=7, clock=1, topic="t")], [A], "events")


def test_of_two_events_after_the_same_one_none_is_lost() -> None:
    store = watched()
    store.merge([event(5, 4), event(6, 4)], 0.0)
    assert told(store) == [6]
    store.tell_events(PATIENCE)
    assert told(store) == [5]
    assert store.event_count == 2


# Published again


def request(sequence: int, request_id: str, previous: int = 0, origin: Origin = A, topic: str = "t") -> Record:
    content = Event(topic, "event", previous=previous, request_id=request_id)
    return Record(Kind.EVENT, (origin, sequence), origin, sequence, sequence, content)


def test_of_the_events_of_one_request_each_node_tells_the_one_that_comes_first() -> None:
    one, other = request(1, "r", origin=A), request(5, "r", origin=C)
    for first, second in ((one, other), (other, one)):
        store = watched()
        store.merge([first], 0.0)
        store.merge([second], 1.0)
        assert told(store) == [first.sequence]
        assert kept(store) == [first.sequence]
        assert store.published("t", "r") == first
        assert store.event_count == 2  # others may have the second one only, and have to be told of both
        assert {record.dot for record in store.records()} == {one.dot, other.dot}


def test_events_of_different_requests_and_of_none_are_told_each() -> None:
    store = watched()
    records = [request(1, "r"), request(2, "s", 1), request(3, "r", 2, topic="u"), request(4, "", 3), request(5, "", 4)]
    store.merge(records, 0.0)
    assert told(store) == [1, 2, 3, 4, 5]
    assert store.published("t", "") is None


def test_who_waits_for_an_event_that_is_not_told_does_not_wait_for_ever() -> None:
    store = watched()
    store.merge([request(1, "r", origin=C)], 0.0)
    store.merge([event(2, 1)], 0.0)
    assert told(store) == [1]
    store.merge([request(1, "r", origin=A)], 0.0)
    assert told(store) == [2]


def test_a_request_is_forgotten_with_its_events() -> None:
    store = watched()
    store.merge([request(1, "r", origin=A)], 0.0)
    store.merge([request(5, "r", origin=C)], 1.0)
    store.forget_events(60.5, 60.0)
    assert store.published("t", "r") is None
    assert [record.origin for record in store.records()] == [C]
    store.forget_events(61.0, 60.0)
    assert store.event_count == 0
    assert list(store.records()) == []
    store.merge([request(9, "r", origin=C)], 62.0)
    assert told(store) == [1, 9]
