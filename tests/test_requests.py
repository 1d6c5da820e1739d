"""Requests: an addition that is made again counts once, at whichever nodes it is made, in whatever order they hear."""

from __future__ import annotations

import itertools
import random

import pytest

from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.feed import CounterUpdate
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.messages import Call, PushRequest
from gossip_grpc.core.records import Dot, Kind, Member, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest
from gossip_grpc.errors import LocalError
from tests.samples import A, B, C, D, receipt, reset, share, void
from tests.shadow import Shadow
from tests.test_store import check

# What a and b wrote when the same caller came to both: 5 are added, beside what else each has added.
AT_A = [share("n", 1, 0, A, 1), receipt("n", "r", 5, (6, 0), A, 2), share("n", 6, 0, A, 3)]
AT_B = [receipt("n", "r", 5, (5, 0), B, 4), share("n", 5, 0, B, 5), share("n", 7, 0, B, 6)]
AT_D = [receipt("n", "r", 5, (5, 3), D, 7), share("n", 5, 3, D, 8)]


def heard(*messages: list[Record], origin: Origin = C) -> Store:
    """A store that has merged messages, and voids after each of them what is counted twice."""
    store = Store(origin)
    for records in messages:
        store.merge(records, 0.0)
        store.void_repeats(0.0)
        check(store)
    return store


def voids(store: Store) -> list[tuple[object, object]]:
    return [(record.slot, record.content) for record in store.records() if record.kind is Kind.COUNTER_VOID]


# In the store


def test_what_two_nodes_have_counted_for_one_request_counts_once_where_both_are_known() -> None:
    store = heard(AT_A)
    assert store.counter("n") == 6
    store = heard(AT_A, AT_B)
    assert store.counter("n") == 1 + 5 + 2
    assert voids(store) == [(("n", (5, 0), B), 5)]


@pytest.mark.parametrize("order", list(itertools.permutations([AT_A, AT_B, AT_D])))
def test_every_node_takes_the_same_addition_for_the_one_that_counts(order: tuple[list[Record], ...]) -> None:
    store = heard(*order)
    assert store.counter("n") == 1 + 5 + 2 - 3
    counted = store.counted("n", "r")
    assert counted is not None
    assert counted.origin == A


def test_records_may_come_one_by_one_in_any_order() -> None:
    records = AT_A + AT_B + AT_D
    for seed in range(200):
        shuffled = records[:]
        random.Random(seed).shuffle(shuffled)
        assert heard(*([record] for record in shuffled)).counter("n") == 1 + 5 + 2 - 3


def test_voids_of_several_nodes_are_one() -> None:
    here, there = heard(AT_A, AT_B), heard(AT_B, AT_A, origin=Origin("e", 1))
    for one, other in ((here, there), (there, here)):
        one.merge(other.delta(Digest()).records, 0.0)
        check(one)
        assert one.counter("n") == 8
    assert here.fingerprint == there.fingerprint
    assert voids(here) == voids(there)


def test_nothing_is_void_whose_other_is_not_held() -> None:
    # a may have been lost with its share: then what b has counted is all there is.
    store = heard([AT_A[1]], AT_B)
    assert store.counter("n") == 7
    assert voids(store) == []
    store.merge([AT_A[2]], 0.0)
    store.void_repeats(0.0)
    assert store.counter("n") == 8


def test_a_receipt_without_its_share_is_not_taken_for_counted() -> None:
    store = heard([AT_A[0], AT_A[1]])
    assert store.counted("n", "r") is None
    store.merge([AT_A[2]], 0.0)
    assert store.counted("n", "r") == AT_A[1]
    assert store.counted("n", "other") is None
    assert store.counted("other", "r") is None


def test_only_what_this_node_has_counted_itself_is_taken_back_at_once() -> None:
    bystander, party = Store(C), Store(B)
    for store in (bystander, party):
        store.merge(AT_A + AT_B, 0.0)
    assert bystander.void_repeats(0.0, own=True) == []
    assert [record.kind for record in party.void_repeats(0.0, own=True)] == [Kind.COUNTER_SHARE, Kind.COUNTER_VOID]
    # Should those that it is about be gone, somebody else does it later.
    told = bystander.void_repeats(1.0)
    assert told[0] == AT_A[2], "with what makes it due, for those who lack that"
    assert bystander.counter("n") == party.counter("n") == 8


def test_what_is_void_is_looked_at_once_and_not_with_each_addition() -> None:
    store = heard([share("n", 10_000, 0, B, 20_000)], [void("n", 1, (mark, 0), B, A, mark) for mark in range(1, 5_001)])
    assert store.counter("n") == 5_000
    part = store._tallies._parts["n"][B]
    part.voids.clear()  # whoever looked at all of them again would find none
    store.merge([share("n", 10_001, 0, B, 20_001)], 0.0)
    assert store.counter("n") == 5_001


def test_a_reset_takes_the_addition_that_is_void_with_it() -> None:
    seen = reset("n", B, (5, 0), C, 20)
    for first, second in ((AT_B, [seen]), ([seen], AT_B)):
        store = heard(AT_A, first, second)
        assert store.counter("n") == 6 + 2
    # It comes first, and has not seen it.
    assert heard([reset("n", B, (0, 0), C, 20)], AT_A, AT_B).counter("n") == 8


def test_a_void_may_come_before_the_share_it_is_about() -> None:
    store = heard([void("n", 5, (5, 0), B, D, 9)])
    assert list(store.counter_keys()) == ["n"]
    assert store.counter("n") == 0
    store.merge(AT_B, 0.0)
    assert store.counter("n") == 2
    assert {record.kind for record in store.counter_records("n")} == {Kind.COUNTER_SHARE, Kind.COUNTER_VOID}


def test_a_void_that_another_one_supersedes_leaves_the_value_as_it_is() -> None:
    store = heard(AT_B, [void("n", 5, (5, 0), B, A, 9)], [void("n", 5, (5, 0), B, D, 12)])
    assert store.counter("n") == 2
    # A liar's: nodes agree on it all the same.
    assert heard(AT_B, [void("n", 9, (5, 0), B, A, 9)], [void("n", 5, (5, 0), B, D, 12)]).counter("n") == -2


def test_who_watches_is_told_each_value_that_the_node_had() -> None:
    store = heard(AT_A)
    store.feed(on=True)
    store.merge(AT_B, 0.0)
    store.void_repeats(0.0)
    seen = [(one.before, one.after) for one in store.take_updates() if isinstance(one, CounterUpdate)]
    assert seen == [(6, 11), (11, 13), (13, 8)]


def test_receipts_are_forgotten_after_their_time_and_never_come_back() -> None:
    store = heard(AT_A, AT_B)
    before = store.counter("n"), store.fingerprint
    store.forget_requests(59.0, 60.0, 100)
    assert store.receipt_count == 2
    store.forget_requests(60.0, 60.0, 100)
    assert store.receipt_count == 0
    assert store.counted("n", "r") is None
    store.merge(AT_A + AT_B, 61.0)
    assert store.receipt_count == 0
    assert (store.counter("n"), store.fingerprint) == before


def test_of_too_many_receipts_the_oldest_are_forgotten() -> None:
    store = Store(C)
    for number in range(5):
        store.merge([receipt("n", f"r{number}", 1, (1, 0), A, number + 1)], float(number))
    store.forget_requests(5.0, 60.0, 2)
    assert sorted(record.slot[1] for record in store.records()) == ["r3", "r4"]  # type: ignore[index]  # its slot


def test_what_is_not_decided_yet_still_is_when_one_of_three_receipts_is_forgotten() -> None:
    store = Store(C)
    store.merge([AT_D[0]], 0.0)
    store.merge(AT_A + AT_B[:1], 10.0)
    store.forget_requests(60.0, 60.0, 100)
    assert store.receipt_count == 2
    store.merge(AT_B[1:], 61.0)
    store.void_repeats(61.0)
    assert store.counter("n") == 8


def test_each_of_several_additions_of_one_node_is_void_by_itself() -> None:
    both = [*AT_B, receipt("n", "s", 2, (9, 0), B, 7), share("n", 9, 0, B, 8)]
    store = heard(AT_A, both, [receipt("n", "s", 2, (8, 0), A, 4), share("n", 8, 0, A, 5)])
    assert store.counter("n") == 1 + 5 + 2 + 2
    store.merge([void("n", 5, (5, 0), B, D, 30)], 0.0)  # somebody else's supersedes one of them
    check(store)
    assert store.counter("n") == 10


def test_nodes_that_have_forgotten_at_different_times_agree_on_the_value() -> None:
    here, there = heard(AT_A), heard(AT_B, origin=Origin("e", 1))
    here.forget_requests(100.0, 60.0, 100)
    for _ in range(2):
        for one, other in ((here, there), (there, here)):
            one.merge(other.delta(one.digest()).records, 100.0)
            one.void_repeats(100.0)
    # One of them still knew of both.
    assert here.counter("n") == there.counter("n")
    assert here.fingerprint == there.fingerprint


def test_a_later_receipt_of_the_same_origin_stands_for_the_one_that_it_has_forgotten() -> None:
    later = receipt("n", "r", 5, (12, 0), B, 8)
    store = heard(AT_B, [later, share("n", 12, 0, B, 9)])
    assert store.receipt_count == 1
    assert store.counted("n", "r") == later
    assert heard([later, share("n", 12, 0, B, 9)], AT_B).counted("n", "r") == later


def test_a_repair_brings_no_receipt_twice() -> None:
    store = heard(AT_A)
    store.merge(AT_A, 0.0, repair=True)
    assert store.receipt_count == 1
    check(store)


def test_a_disk_keeps_receipts_and_what_is_void() -> None:
    store = heard(AT_A)
    disk = Shadow(store)
    store.merge(AT_B, 0.0)
    store.void_repeats(0.0)
    disk.check(store, 0.0)
    store.forget_requests(60.0, 60.0, 100)
    loaded = disk.check(store, 60.0)
    assert (loaded.counter("n"), loaded.receipt_count) == (8, 0)


# At a node


def node(name: str = "a", **settings: object) -> Engine:
    member = Member(1, f"{name}:1")
    return Engine(Origin(name, 1), member, Settings(**settings), random.Random(1), 0.0)  # type: ignore[arg-type]


def add(engine: Engine, amount: int = 5, request_id: str = "r", now: float = 0.0) -> Dot | None:
    """As a caller does it, maybe again; returns the write that had counted already."""
    before = engine.counted("n", amount, request_id)
    if before is None:
        engine.add("n", amount, now, request_id=request_id)
    return before


def tell(engine: Engine, other: Engine, now: float = 0.0) -> None:
    """All that one knows reaches the other, at once."""
    other.on_push(engine.store.origin, "x:1", engine.store.delta(other.digest()[0]).records, None, now)


def test_the_same_request_at_one_node_counts_once() -> None:
    engine = node()
    assert add(engine) is None
    assert engine.store.counter("n") == 5
    before = add(engine)
    assert before == Dot(engine.store.origin, engine.store.coverage.sequence(engine.store.origin))
    assert engine.store.counter("n") == 5
    add(engine, request_id="other")
    add(engine, request_id="")
    add(engine, request_id="")
    assert engine.store.counter("n") == 20


def test_an_id_that_has_added_something_else_is_refused() -> None:
    engine = node()
    add(engine)
    with pytest.raises(LocalError, match="request_id 'r' has added 5 to this counter, not 6") as caught:
        add(engine, amount=6)
    assert caught.value.field == "request_id"
    assert engine.store.counter("n") == 5


def test_nothing_to_add_leaves_no_receipt() -> None:
    engine = node()
    assert engine.add("n", 0, 0.0, request_id="r") is None
    assert engine.store.receipt_count == 0


def test_a_node_that_has_heard_of_it_does_not_count_it_again() -> None:
    one, other = node("a"), node("b")
    add(one)
    tell(one, other)
    assert add(other) == Dot(one.store.origin, one.store.coverage.sequence(one.store.origin))
    assert other.store.counter("n") == 5


def test_what_both_have_counted_is_taken_back_when_they_meet_and_others_are_told() -> None:
    one, other = node("a"), node("b")
    add(one, -5)
    add(other, -5)
    tell(one, other)
    assert other.store.counter("n") == -5
    other.tick(1.0)
    pushed = [
        record
        for effect in other.effects()
        if isinstance(effect, Call) and isinstance(effect.request, PushRequest)
        for record in effect.request.records
    ]
    assert Kind.COUNTER_VOID in {record.kind for record in pushed}
    tell(other, one)
    assert one.store.counter("n") == -5


def test_receipt_and_share_go_out_in_one_message() -> None:
    one, other = node("a"), node("b")
    tell(other, one)
    one.effects()
    add(one, now=1.0)
    one.tick(2.0)
    pushes = [
        [record.kind for record in effect.request.records if record.slot != "a"]
        for effect in one.effects()
        if isinstance(effect, Call) and isinstance(effect.request, PushRequest)
    ]
    assert [Kind.COUNTER_RECEIPT, Kind.COUNTER_SHARE] in pushes


def test_a_node_that_is_not_ready_takes_nothing_back_before_it_is() -> None:
    waiting = node("c", has_seeds=True, bootstrap_window=1.0)
    one, other = node("a"), node("b")
    add(one)
    add(other)
    tell(one, waiting)
    tell(other, waiting)
    assert waiting.store.counter("n") == 10
    waiting.tick(5.0)
    assert waiting.ready
    assert waiting.store.counter("n") == 5


def test_a_node_that_leaves_writes_no_more() -> None:
    leaving, one, other = node("c"), node("a"), node("b")
    add(one)
    add(other)
    leaving.leave(0.0)
    tell(one, leaving)
    tell(other, leaving)
    assert voids(leaving.store) == []


def test_a_node_forgets_by_its_settings() -> None:
    engine = node(request_retention=10.0, limits=Limits(max_receipts=1))
    add(engine)
    add(engine, request_id="s")
    engine.tick(2.0)
    assert engine.store.receipt_count == 1
    engine.tick(12.0)
    assert engine.store.receipt_count == 0
