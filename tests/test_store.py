"""The store: what users see of it, what merging, deleting and purging do, and what travels in a delta."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core import store as store_module
from gossip_grpc.core.coverage import EVERYTHING, Coverage
from gossip_grpc.core.leases import is_over
from gossip_grpc.core.records import Dot, Kind, Member, Origin, Receipt, Record, fingerprint
from gossip_grpc.core.store import Store, member_of
from gossip_grpc.core.sync import Delta, Digest
from gossip_grpc.core.transfer import InboundDelta
from tests import samples
from tests.samples import A, B, C, D, addition, lease, member, register, removal, reset, share

DAY = 86_400.0


def put(store: Store, key: str, value: str | bytes | None, now: float = 0.0) -> Record:
    return store.write(Kind.REGISTER, key, value, now)


def add(store: Store, key: str, amount: int) -> Record:
    added, subtracted = store.share(key, store.origin)
    content = (added + max(amount, 0), subtracted + max(-amount, 0))
    return store.write(Kind.COUNTER_SHARE, (key, store.origin), content, 0.0)


def reset_seen(store: Store, key: str) -> list[Record]:
    return [
        store.write(Kind.COUNTER_RESET, (key, origin), store.share(key, origin), 0.0)
        for origin in store.counter_origins(key)
    ]


def set_add(store: Store, key: str, element: str | bytes) -> Record:
    sequence = store.coverage.sequence(store.origin) + 1
    return store.write(Kind.SET_ELEMENT, (key, element, store.origin), (sequence, False), 0.0)


def set_remove(store: Store, key: str, element: str | bytes) -> list[Record]:
    removed = []
    for origin in store.elements(key).get(element, ()):
        held = store.get(Kind.SET_ELEMENT, (key, element, origin))
        assert held is not None
        removed.append(store.write(Kind.SET_ELEMENT, (key, element, origin), (held.content[0], True), 0.0))
    return removed


def pull(here: Store, there: Store, now: float = 0.0, *, repair: bool = False) -> Delta:
    """Bring here what it lacks of there, completely; returns the delta."""
    delta = there.delta(here.digest(), repair=repair)
    inbound = InboundDelta(here, delta)
    inbound.merge(delta.records, now, synced=True)
    inbound.merge(delta.superseded, now, synced=True, superseded=True)
    inbound.complete()
    return delta


def graves(store: Store) -> list[Record]:
    """The superseded tombstones kept."""
    return [record for record in store.delta(Digest()).superseded if record.deletes]


def value(store: Store, key: str) -> object:
    record = store.register(key)
    return None if record is None else record.content


def check(store: Store) -> None:
    """What is kept for speed agrees with the records; of the members, nobody is DEAD and nobody has left."""
    user = [record for record in store.records() if record.kind not in (Kind.MEMBER, Kind.COUNTER_RECEIPT)]
    live = [record for record in user if not record.is_tombstone and not is_aged(store, record)]
    assert store.live == len(live)
    assert store.tombstones == len(user) - len(live) + len(graves(store))
    assert store.fingerprint == sum(fingerprint(record) for record in live if not record.is_lease) % 2**64
    assert list(store.keys()) == sorted(str(r.slot) for r in live if r.kind is Kind.REGISTER)
    for key in store.counter_keys():
        assert store.counter(key) == sum(counted(store, key, origin) for origin in store.counter_origins(key))


def is_aged(store: Store, record: Record) -> bool:
    """Whether a record is a lease that is over, or abandoned, as of the store's last input."""
    if not record.is_lease:
        return False
    member = store.members().get(record.origin.node_id)
    return is_over(record, store._now, store.wall_offset, None if member is None else member.origin)


def counted(store: Store, key: str, origin: Origin) -> int:
    """What one origin adds to a counter's value, by the rule."""
    reset = store.get(Kind.COUNTER_RESET, (key, origin))
    share, seen = store.share(key, origin), reset.content if reset else (0, 0)
    void = [
        record.content
        for record in store.records()
        if record.kind is Kind.COUNTER_VOID and record.slot[::2] == (key, origin) and seen < record.slot[1] <= share  # type: ignore[index]  # its slot
    ]
    return int(max(share[0] - seen[0], 0) - max(share[1] - seen[1], 0) - sum(void))


# Writing


def test_writes_have_sequences_without_holes_and_growing_clocks() -> None:
    store = Store(A)
    written = [put(store, "x", "1"), add(store, "n", 1), set_add(store, "s", "e"), put(store, "x", None)]
    assert [record.sequence for record in written] == [1, 2, 3, 4]
    assert [record.clock for record in written] == [1, 2, 3, 4]
    assert store.coverage == Coverage({A: 4})


def test_a_local_write_wins_over_all_that_was_merged() -> None:
    store = Store(A)
    store.merge([register("x", "z", B, 1, clock=1000)], 0.0)
    assert put(store, "x", "mine").clock == 1001
    assert value(store, "x") == "mine"


def test_every_change_of_state_gives_a_new_version() -> None:
    store, peer = Store(A), Store(B)
    versions = [store.version]
    put(store, "x", "1")
    versions.append(store.version)
    store.merge([put(peer, "y", "1")], 0.0)
    versions.append(store.version)
    pull(store, peer)
    versions.append(store.version)
    store.learn_context({C: 1})
    versions.append(store.version)
    put(store, "x", None)
    versions.append(store.version)
    store.purge(DAY, DAY)
    versions.append(store.version)
    store.forget(Kind.REGISTER, "y")
    versions.append(store.version)
    assert versions == sorted(set(versions))


def test_what_changes_nothing_gives_no_new_version() -> None:
    store = Store(A)
    record = register("x", "1", B)
    store.merge([record], 0.0)
    version = store.version
    store.merge([record], 0.0)
    store.merge_superseded([record], 0.0)
    store.learn_context({A: 5})
    store.forget(Kind.REGISTER, "nothing")
    assert store.purge(DAY, DAY) == 0
    assert store.version == version


# Registers and listings


def test_a_deleted_register_has_no_value_but_a_tombstone() -> None:
    store = Store(A)
    put(store, "x", "1")
    put(store, "x", None)
    assert store.register("x") is None
    tombstone = store.get(Kind.REGISTER, "x")
    assert tombstone is not None
    assert tombstone.is_tombstone
    assert (store.live, store.tombstones, store.fingerprint) == (0, 1, 0)


def test_each_kind_has_a_key_space_of_its_own() -> None:
    store = Store(A)
    put(store, "x", "text")
    add(store, "x", 7)
    set_add(store, "x", "e")
    assert value(store, "x") == "text"
    assert store.counter("x") == 7
    assert list(store.elements("x")) == ["e"]


def test_listings_hold_live_keys_in_order_a_page_at_a_time() -> None:
    store = Store(A)
    for key in ("b2", "a1", "b1", "b3", "c1"):
        put(store, key, "v")
        add(store, key, 1)
        set_add(store, key, "e")
    put(store, "b2", None)
    set_remove(store, "b2", "e")
    assert list(store.keys()) == ["a1", "b1", "b3", "c1"]
    assert list(store.keys("b")) == ["b1", "b3"]
    assert list(store.keys("b", "b1")) == ["b3"]
    assert list(store.counter_keys("b", "b1")) == ["b2", "b3"]
    assert list(store.set_keys("b")) == ["b1", "b3"]
    assert list(store.set_keys("b", "b1")) == ["b3"]
    put(store, "b2", "again")
    set_add(store, "b2", "e")
    assert list(store.keys("b")) == list(store.set_keys("b")) == ["b1", "b2", "b3"]


# Counters


def test_a_counter_is_the_sum_of_all_shares() -> None:
    here, there = Store(A), Store(B)
    add(here, "n", 5)
    add(here, "n", -7)
    add(there, "n", 10)
    pull(here, there)
    assert here.counter("n") == 8
    assert here.share("n", A) == (5, 7)
    assert here.counter_origins("n") == [A, B]
    assert here.counter("unknown") == 0
    assert here.share("n", C) == (0, 0)


def test_a_reset_cancels_what_it_saw_and_never_a_concurrent_addition() -> None:
    here, there = Store(A), Store(B)
    add(here, "n", 5)
    pull(there, here)
    reset_seen(there, "n")
    assert there.counter("n") == 0
    add(here, "n", 3)
    pull(here, there)
    pull(there, here)
    assert here.counter("n") == there.counter("n") == 3


def test_two_concurrent_resets_cancel_once() -> None:
    here, there = Store(A), Store(B)
    add(here, "n", 5)
    pull(there, here)
    reset_seen(there, "n")
    add(here, "n", -2)
    reset_seen(here, "n")
    add(here, "n", 1)
    pull(here, there)
    pull(there, here)
    assert here.counter("n") == there.counter("n") == 1


@pytest.mark.parametrize("first", ["share", "reset"])
def test_a_reset_may_come_before_the_share_it_saw(first: str) -> None:
    records = {"share": share("n", 5, 2, A, 1), "reset": reset("n", A, (5, 2), B, 1)}
    store = Store(C)
    store.merge([records[first]], 0.0)
    if first == "reset":
        assert store.counter("n") == 0
    store.merge(records.values(), 0.0)
    assert store.counter("n") == 0
    assert store.counter_origins("n") == [A]
    assert list(store.counter_keys()) == ["n"]


def test_a_late_share_below_what_a_reset_saw_counts_as_nothing() -> None:
    store = Store(C)
    store.merge([reset("n", A, (5, 2), B, 1), share("n", 3, 2, A, 1)], 0.0)
    assert store.counter("n") == 0
    store.merge([share("n", 6, 4, A, 9)], 0.0)
    assert store.counter("n") == (6 - 5) - (4 - 2)


# Sets


def test_an_addition_that_a_removal_did_not_see_survives_it() -> None:
    here, there = Store(A), Store(B)
    set_add(here, "s", "e")
    pull(there, here)
    set_add(here, "s", "e")
    set_remove(there, "s", "e")
    assert there.elements("s") == {}
    pull(here, there)
    pull(there, here)
    assert here.elements("s") == there.elements("s") == {"e": (A,)}


def test_an_element_stays_until_every_addition_is_removed() -> None:
    here, there = Store(A), Store(B)
    set_add(here, "s", "e")
    set_add(there, "s", "e")
    set_remove(there, "s", "e")
    pull(here, there)
    pull(there, here)
    assert here.elements("s") == {"e": (A,)}
    set_add(there, "s", "e")
    pull(here, there)
    assert here.elements("s") == {"e": (A, B)}
    assert len(set_remove(here, "s", "e")) == 2
    assert here.elements("s") == {}
    assert list(here.set_keys()) == []


def test_removing_one_of_two_holders_keeps_the_element() -> None:
    store = Store(C)
    added = addition("s", "e", A)
    store.merge([added, addition("s", "e", B), addition("s", "f", B, 2)], 0.0)
    store.merge([removal("s", "e", added, A)], 0.0)
    assert store.elements("s") == {"e": (B,), "f": (B,)}


def test_text_and_bytes_are_different_elements() -> None:
    store = Store(A)
    set_add(store, "s", "e")
    set_add(store, "s", b"e")
    assert set(store.elements("s")) == {"e", b"e"}
    assert store.elements("unknown") == {}


# Merging


def test_stale_duplicate_and_reordered_records_change_nothing() -> None:
    peer, store = Store(B), Store(A)
    history = [put(peer, "x", "1"), put(peer, "x", "2"), add(peer, "n", 1), add(peer, "n", 1), put(peer, "x", None)]
    assert store.merge(reversed(history), 0.0) == history[::-1]
    before = (store.digest(), store.version, list(store.records()))
    assert store.merge(history, 1.0) == []
    assert (store.digest(), store.version, list(store.records())) == before
    assert store.register("x") is None
    assert store.counter("n") == 2


def test_a_merged_record_covers_its_own_dot_only() -> None:
    store = Store(A)
    store.merge([register("x", "3", B, 3)], 0.0)
    assert store.coverage == Coverage.of([(B, 3)])


def test_a_covered_record_is_ignored_even_where_it_would_win() -> None:
    store = Store(A)
    store.merge([register("x", "old", B, 1, clock=1)], 0.0)
    assert store.merge([register("x", "other", B, 1, clock=99)], 0.0) == []
    assert value(store, "x") == "old"
    assert store.clock.time == 1


def test_merging_any_kind_moves_the_clock() -> None:
    for record in (register("x", "1", B, 7), share("n", 1, 0, B, 7), addition("s", "e", B, 7), member(B, 7)):
        store = Store(A)
        store.merge([record], 0.0)
        assert put(store, "y", "1").clock == 8


def test_a_superseded_record_moves_the_clock_too() -> None:
    store = Store(A)
    store.merge_superseded([register("x", "1", B, 7)], 0.0)
    assert put(store, "y", "1").clock == 8


few_keys = st.sampled_from(["k", "l"])
of_any_kind = st.one_of(
    samples.registers(few_keys),
    samples.leases(few_keys),
    samples.shares(few_keys),
    samples.resets(few_keys),
    samples.elements(few_keys),
    samples.members(),
)


@given(st.lists(of_any_kind, max_size=30), st.data())
def test_counts_fingerprint_and_listings_agree_with_the_records(records: list[Record], data: st.DataObject) -> None:
    store = Store(C)
    store.merge(records, 0.0)
    check(store)
    store.expire(1.0)
    check(store)
    slots = {record.dot: (record.kind, record.slot) for record in reversed(records)}
    again = data.draw(st.lists(of_any_kind, max_size=10))
    honest = [one for one in again if slots.setdefault(one.dot, (one.kind, one.slot)) == (one.kind, one.slot)]
    store.merge(honest, 1.0, repair=True)
    check(store)
    store.learn_context({record.origin: record.sequence for record in data.draw(st.permutations(records))[:3]})
    store.expire(DAY)
    store.purge(DAY, DAY)
    check(store)


@given(st.lists(of_any_kind, max_size=20), st.lists(of_any_kind, max_size=20))
def test_no_repair_however_it_lies_brings_a_store_down(records: list[Record], lies: list[Record]) -> None:
    store = Store(C)
    store.merge(records, 0.0)
    store.merge(lies, 0.0, repair=True)
    store.expire(DAY)
    store.learn_context({record.origin: 9 for record in lies})
    store.purge(2 * DAY, DAY)
    store.delta(Digest())


@pytest.mark.parametrize("clock", [1, 9])
@pytest.mark.parametrize("held", [register("x", None, B, 1, clock=2), lease("x", "v", B, 1, clock=2, expires_at=1)])
@pytest.mark.parametrize("buried", [True, False])
def test_a_dot_is_kept_in_one_place_whatever_a_repair_says_of_its_content(
    buried: bool, held: Record, clock: int
) -> None:
    store = Store(A)
    store.merge([held], 0.0)
    if buried:
        put(store, "x", "later")
    store.merge([register("x", "altered", B, 1, clock=clock)], 1.0, repair=True)
    store.merge([register("x", None, B, 1, clock=clock)], 1.0, repair=True)
    delta = store.delta(Digest())
    dots = [record.dot for record in [*delta.records, *delta.superseded]]
    assert sorted(dots) == ([Dot(A, 1)] if buried else []) + [Dot(B, 1)]
    store.expire(1.0)
    check(store)


def test_a_repair_of_a_deletion_that_bears_the_dot_of_another_one_is_not_taken() -> None:
    store = Store(A)
    held = register("x", None, B, 1)
    store.merge([held], 0.0)
    assert store.merge([register("y", None, B, 1)], 1.0, repair=True) == []
    assert store.get(Kind.REGISTER, "y") is None
    assert store.get(Kind.REGISTER, "x") is held


def test_members_are_neither_counted_nor_fingerprinted() -> None:
    store = Store(A)
    store.merge([member(B)], 0.0)
    assert (store.live, store.fingerprint) == (0, 0)
    assert list(store.members()) == ["b"]
    assert member_of(store.members()["b"]) == Member(1, "b:1")


def test_a_newer_member_record_replaces_the_old_one() -> None:
    store = Store(A)
    store.merge([member(B, 1, incarnation=1), member(B, 2, incarnation=2, zone="z")], 0.0)
    assert member_of(store.members()["b"]).zone == "z"
    assert store.merge([member(Origin("b", 0), 9, incarnation=9)], 0.0)
    assert member_of(store.members()["b"]).zone == "z"


def test_a_forgotten_record_never_comes_back() -> None:
    store = Store(A)
    record = member(B)
    store.merge([record], 0.0)
    store.forget(Kind.MEMBER, "b")
    assert store.members() == {}
    assert store.merge([record], 0.0) == []
    assert store.members() == {}


# Repair


def test_a_repair_merges_what_is_covered() -> None:
    store = Store(A)
    store.merge([register("x", "old", B, 1, clock=1)], 0.0)
    won = register("x", "other", B, 1, clock=2)
    assert store.merge([won], 0.0, repair=True) == [won]
    assert value(store, "x") == "other"


def test_a_repair_keeps_the_winner_and_counts_only_what_it_changed() -> None:
    store = Store(A)
    store.merge([register("x", "new", B, 2, clock=9)], 0.0)
    version = store.version
    assert store.merge([register("x", "old", B, 2, clock=3)], 0.0, repair=True) == []
    assert value(store, "x") == "new"
    assert store.version == version


def test_a_repair_that_covers_a_new_dot_gives_a_new_version_although_the_record_lost() -> None:
    store = Store(A)
    store.merge([register("x", "new", B, 2, clock=9)], 0.0)
    version = store.version
    lost = register("x", "old", C, 1, clock=3)
    assert store.merge([lost], 0.0, repair=True) == [lost]
    assert store.coverage.covers(C, 1)
    assert store.version > version


def test_a_repair_passes_by_the_guards() -> None:
    store = Store(A)
    guard, guarded = register("x", None, B, 1, clock=5), register("x", "v", C, 1, clock=3)
    store.merge_superseded([guard], 0.0)
    store.merge([guarded], 0.0, repair=True)
    assert value(store, "x") == "v"


# Digests and deltas


def test_a_digest_is_a_snapshot() -> None:
    store = Store(A)
    put(store, "x", "1")
    digest = store.digest()
    before = (digest.coverage.copy(), dict(digest.floor), dict(digest.context), digest.fingerprint)
    put(store, "x", None)
    store.purge(DAY, DAY)
    assert (digest.coverage, digest.floor, digest.context, digest.fingerprint) == before


def test_a_delta_holds_members_first_then_records_by_origin_and_sequence() -> None:
    store = Store(B)
    put(store, "own", "1")
    store.merge([register("k3", "v", C, 3), register("k1", "v", C, 1), member(C, 2), register("k2", "v", A, 1)], 0.0)
    delta = store.delta(Digest())
    assert [str(record.dot) for record in delta.records] == ["c/1:2", "a/1:1", "b/1:1", "c/1:1", "c/1:3"]


def test_a_delta_holds_what_the_digest_lacks_and_nothing_else() -> None:
    store = Store(B)
    for number in range(6):
        put(store, f"k{number}", "v")
    store.merge([member(C, 1), register("x", "v", C, 2)], 0.0)
    digest = Digest(Coverage.of([(B, 1), (B, 2), (B, 4), (C, 1)]))
    delta = store.delta(digest)
    assert [str(record.dot) for record in delta.records] == ["b/1:3", "b/1:5", "b/1:6", "c/1:2"]
    assert (delta.full, delta.repair, delta.base) == (False, False, digest)
    assert delta.snapshot == store.digest()
    assert store.delta(store.digest()).records == []


def test_a_delta_leaves_out_what_was_superseded() -> None:
    store = Store(A)
    put(store, "x", "1")
    put(store, "y", "1")
    put(store, "x", "2")
    assert [record.content for record in store.delta(Digest()).records] == ["1", "2"]


def test_a_repair_delta_holds_everything() -> None:
    store = Store(A)
    put(store, "x", "1")
    put(store, "y", "1")
    delta = store.delta(store.digest(), repair=True)
    assert (len(delta.records), delta.full, delta.repair) == (2, False, True)


def test_overwriting_keys_leaves_a_log_bounded_by_twice_the_live_records() -> None:
    store = Store(A)
    for number in range(200_000):
        put(store, f"k{number % 1000}", "v")
    log = store._logs[A]
    assert log.live == 1000
    assert len(log.entries) <= 2 * log.live + 1
    delta = store.delta(Digest())
    assert [record.sequence for record in delta.records] == list(range(199_001, 200_001))
    assert store.delta(Digest(Coverage({A: 199_998}))).records == delta.records[-2:]


def test_a_small_log_is_not_compacted_for_every_write() -> None:
    store = Store(A)
    for _ in range(60):
        put(store, "x", "v")
    assert len(store._logs[A].entries) == 60
    assert len(store.delta(Digest()).records) == 1


def test_compaction_keeps_a_log_that_arrived_in_disorder_in_order() -> None:
    store = Store(A)
    store.merge([register(f"k{n % 7}", "v", B, n) for n in range(300, 0, -1)], 0.0)
    assert [record.sequence for record in store.delta(Digest()).records] == list(range(294, 301))


# Completing


def test_a_complete_delta_covers_what_the_sender_covers_holes_and_all() -> None:
    sender = Store(B)
    for _ in range(3):
        put(sender, "x", "v")
    sender.merge([register("y", "v", C, 5)], 0.0)
    here = Store(A)
    pull(here, sender)
    assert here.coverage == sender.coverage == Coverage({B: 3}, {C: [(5, 5)]})


def test_context_is_learned_but_never_ones_own() -> None:
    store = Store(A)
    assert store.context == {}
    store.learn_context({A: 7, B: 3})
    store.learn_context({B: 2, C: 1})
    assert store.context == {B: 3, C: 1}
    put(store, "x", "1")
    assert store.context == {A: 1, B: 3, C: 1}


def test_a_complete_delta_brings_the_senders_context() -> None:
    sender, here = Store(B), Store(A)
    put(sender, "x", "1")
    sender.learn_context({C: 4})
    pull(here, sender)
    assert here.context == {B: 1, C: 4}


# Deleting and purging


def test_a_tombstone_is_purged_once_it_is_old_and_settled() -> None:
    store = Store(A)
    put(store, "x", "1", now=0.0)
    put(store, "x", None, now=10.0)
    assert store.purge(9.9 + DAY, DAY) == 0
    assert store.tombstones == 1
    assert store.purge(10.0 + DAY, DAY) == 1
    assert (store.tombstones, store.get(Kind.REGISTER, "x"), store.floor) == (0, None, {A: 2})


def test_a_removed_element_is_purged_like_a_deleted_register() -> None:
    store = Store(A)
    set_add(store, "s", "e")
    set_remove(store, "s", "e")
    assert store.purge(DAY, DAY) == 1
    assert (store.tombstones, store.floor) == (0, {A: 2})


def test_a_tombstone_that_is_not_settled_is_not_purged_however_old() -> None:
    deleter, here = Store(B), Store(A)
    put(deleter, "x", "1")
    here.merge([put(deleter, "x", None)], 0.0)
    assert here.purge(100 * DAY, DAY) == 0
    assert (here.tombstones, here.purge_blocked) == (1, 1)
    pull(here, deleter)
    assert here.purge(100 * DAY, DAY) == 1
    assert (here.tombstones, here.purge_blocked) == (0, 0)


def test_retention_counts_from_the_arrival_here() -> None:
    deleter, here = Store(B), Store(A)
    put(deleter, "x", None, now=0.0)
    pull(here, deleter, now=DAY)
    assert deleter.purge(DAY, DAY) == 1
    assert here.purge(DAY + 1, DAY) == 0
    assert here.purge(2 * DAY, DAY) == 1


def test_a_value_written_over_a_tombstone_is_not_purged() -> None:
    store = Store(A)
    put(store, "x", None)
    put(store, "x", "again")
    assert store.tombstones == 1
    assert store.purge(DAY, DAY) == 1
    assert (store.tombstones, store.floor) == (0, {A: 1})
    assert value(store, "x") == "again"


def test_a_peer_below_the_floor_is_told_what_is_held_and_drops_what_was_deleted() -> None:
    here, away = Store(A), Store(B)
    put(here, "x", "1")
    put(here, "keep", "1")
    pull(away, here)
    put(away, "mine", "unseen")
    put(here, "x", None)
    assert here.purge(DAY, DAY) == 1

    delta = pull(away, here)

    assert delta.full
    assert delta.records == []
    assert delta.held == Coverage.of([(A, 2)])
    assert value(away, "x") is None
    assert away.get(Kind.REGISTER, "x") is None
    assert value(away, "mine") == "unseen"
    assert value(away, "keep") == "1"
    assert away.floor == {A: 3}
    check(away)


def floored_store(count: int) -> Store:
    """A store of so many registers that has purged a tombstone which a newcomer lacks."""
    store = Store(A)
    put(store, "x", "1")
    for number in range(count):
        put(store, f"k{number}", "1")
    put(store, "x", None)
    assert store.purge(DAY, DAY) == 1
    return store


@pytest.mark.parametrize("most", [10, 0], ids=["by what is held", "whole, for it would be too much"])
def test_a_full_delta_gives_a_newcomer_all(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_HELD", most)
    here, newcomer = floored_store(3), Store(B)
    put(newcomer, "mine", "1")
    delta = pull(newcomer, here)
    assert delta.full
    assert (delta.held is None) == (most == 0)
    assert sorted(newcomer.keys()) == ["k0", "k1", "k2", "mine"]
    assert newcomer.coverage.includes(here.coverage)
    check(newcomer)


def test_a_full_delta_that_is_cut_again_and_again_comes_to_its_end() -> None:
    here, newcomer = floored_store(300), Store(B)
    for _ in range(100):
        delta = here.delta(newcomer.digest())
        assert delta.full
        cut = InboundDelta(newcomer, delta)
        cut.merge(delta.records[:3], 0.0, synced=True)
        assert cut.merged == 3
    assert pull(newcomer, here).records == []
    assert sum(1 for _ in newcomer.keys()) == 300
    assert not here.delta(newcomer.digest()).full
    check(newcomer)


def test_what_a_full_delta_is_told_to_be_held_has_the_shape_of_a_coverage() -> None:
    store = Store(D)
    store.merge([register(f"a{i}", "1", A, i) for i in (1, 2, 5, 6, 9)], 0.0)
    store.merge([register(f"b{i}", "1", B, i) for i in (3, 4)], 0.0)
    store.merge([register("c", "1", C, 1), register("c", "2", C, 2)], 0.0)
    held = Coverage.of([*((A, i) for i in (1, 2, 5, 6, 9)), (B, 3), (B, 4), (C, 2)])
    assert store._held() == held


def test_receipts_and_shares_make_no_ranges_of_their_own_of_what_is_held() -> None:
    store = Store(A)
    put(store, "x", "1")
    for number in range(100):
        store.write(Kind.COUNTER_RECEIPT, ("n", f"r{number}", A), Receipt(1, (number + 1, 0)), 0.0)
        store.write(Kind.COUNTER_SHARE, ("n", A), (number + 1, 0), 0.0)
    put(store, "y", "1")
    held = store._held()
    assert held is not None
    assert len(held.above(A)) == 1
    assert all(held.covers(A, sequence) for sequence in (1, 202))


def test_a_peer_above_the_floor_gets_no_full_delta() -> None:
    here, peer = Store(A), Store(B)
    put(here, "x", None)
    pull(peer, here)
    here.purge(DAY, DAY)
    put(here, "y", "1")
    assert not here.delta(peer.digest()).full
    assert here.delta(Digest()).full


def test_a_full_delta_drops_what_can_be_deleted_and_no_member() -> None:
    records = [register("x", "1", B, 1), addition("s", "e", B, 4)]
    here = Store(A)
    here.merge([*records, member(B, 5)], 0.0)
    header = Delta(Digest(), Digest(Coverage({B: 5}), floor={B: 5}), full=True)
    assert here.complete(header, Coverage()) == 2
    assert here.live == 0
    assert list(here.members()) == ["b"]
    check(here)


def test_a_full_delta_drops_no_counter_for_none_is_ever_deleted() -> None:
    # Who covers a share and lacks it has folded the life that wrote it, and not seen it.
    here = Store(A)
    here.merge([share("n", 7, 0, B, 1), share("n", 3, 0, C, 1), reset("n", C, (1, 0), C, 2)], 0.0)
    header = Delta(Digest(), Digest(Coverage(folded={"b": 1, "c": 1}), floor={B: 1}), full=True)
    assert here.complete(header, Coverage()) == 0
    assert here.counter("n") == 9
    check(here)


def test_a_full_delta_never_lowers_the_floor() -> None:
    here = Store(A)
    put(here, "x", None)
    here.purge(DAY, DAY)
    here.complete(Delta(Digest(), Digest(floor={A: 0, B: 3}, coverage=Coverage({B: 3})), full=True), Coverage())
    assert here.floor == {A: 1, B: 3}


def test_nothing_comes_back_after_delete_purge_and_heal() -> None:
    here, away, third = Store(A), Store(B), Store(C)
    old = put(here, "x", "old")
    pull(away, here)
    pull(third, here)
    put(here, "x", None)
    pull(third, here)
    here.purge(DAY, DAY)
    third.purge(DAY, DAY)
    pull(away, here)
    for one in (here, away, third):
        for other in (here, away, third):
            if one is not other:
                pull(one, other)
        one.merge([old], 0.0)
    assert [value(store, "x") for store in (here, away, third)] == [None, None, None]
    assert here.fingerprint == away.fingerprint == third.fingerprint == 0
    assert here.coverage == away.coverage == third.coverage


def test_who_is_given_what_others_have_purged_writes_after_it() -> None:
    here, empty = Store(A), Store(B)
    for value in ("1", "2", None):
        put(here, "x", value)
    assert here.purge(DAY, DAY) == 1
    pull(empty, here)
    assert empty.clock.time == 3, "though no record came with such a clock"
    assert put(empty, "x", "new").clock == 4


# Superseded records, kept aside until they are settled


def test_a_superseded_record_of_another_origin_is_kept_until_it_is_settled() -> None:
    store = Store(A)
    store.merge([register("x", "1", B, 1, clock=1)], 0.0)
    put(store, "x", "2")
    assert store.guarded == 1
    store.learn_context({B: 1})
    store.purge(0.0, DAY)
    assert store.guarded == 0


def test_what_need_not_be_kept_aside() -> None:
    def superseded(old: Record, new: Record, context: dict[Origin, int]) -> int:
        store = Store(A)
        store.learn_context(context)
        store.merge([old, new], 0.0)
        return store.guarded

    old, new = register("x", "1", B, 1, clock=1), register("x", "2", C, 1, clock=2)
    assert superseded(old, new, {}) == 1
    assert superseded(new, old, {}) == 1
    assert superseded(old, new, {B: 1}) == 0, "settled"
    assert superseded(register("x", "1", A, 1, clock=1), new, {}) == 0, "our own"
    assert superseded(old, register("x", "2", B, 2, clock=2), {}) == 0, "superseded by its own origin"
    assert superseded(reset("n", C, (1, 0), B), reset("n", C, (2, 0), C), {}) == 0, "a counter"


def test_a_superseded_record_guards_its_slot_against_what_it_supersedes() -> None:
    store = Store(A)
    tombstone = register("x", None, B, 1, clock=5)
    store.merge_superseded([tombstone], 0.0)
    dead = register("x", "dead", C, 1, clock=3)
    assert store.merge([dead], 0.0) == [dead]
    assert value(store, "x") is None
    store.merge([register("x", "newer", C, 2, clock=6)], 0.0)
    assert value(store, "x") == "newer"


def test_a_guard_is_of_its_own_slot_only() -> None:
    store = Store(A)
    store.merge_superseded([register("x", None, B, 1, clock=5)], 0.0)
    store.merge([register("y", "1", C, 1, clock=3)], 0.0)
    assert value(store, "y") == "1"


def test_of_one_origin_the_latest_superseded_record_of_a_slot_is_kept() -> None:
    store = Store(A)
    later, earlier = register("x", "2", B, 2, clock=2), register("x", "1", B, 1, clock=1)
    store.merge_superseded([later, earlier], 0.0)
    assert store.delta(Digest()).superseded == [later]
    store = Store(A)
    store.merge_superseded([earlier, later], 0.0)
    assert store.delta(Digest()).superseded == [later]


def test_a_superseded_record_takes_out_what_it_wins_over_and_keeps_it_aside() -> None:
    store = Store(A)
    old, new = register("x", "1", B, 1, clock=1), register("x", "2", C, 1, clock=2)
    store.merge([old], 0.0)
    assert store.merge_superseded([new], 0.0) == [new]
    assert store.get(Kind.REGISTER, "x") is None
    assert sorted(record.dot for record in store.delta(Digest()).superseded) == [old.dot, new.dot]
    check(store)


def test_a_superseded_record_that_loses_leaves_the_slot_alone() -> None:
    store = Store(A)
    store.merge([register("x", "2", C, 1, clock=2)], 0.0)
    store.merge_superseded([register("x", "1", B, 1, clock=1)], 0.0)
    assert value(store, "x") == "2"
    assert store.coverage.covers(B, 1)


def test_superseded_records_travel_in_deltas_to_those_who_lack_them() -> None:
    store, peer = Store(A), Store(C)
    lost = register("x", "1", B, 1, clock=1)
    store.merge([lost], 0.0)
    put(store, "x", "2")
    delta = pull(peer, store)
    assert (delta.superseded, [record.content for record in delta.records]) == ([lost], ["2"])
    assert value(peer, "x") == "2"
    assert peer.guarded == 1
    assert store.delta(peer.digest()).superseded == []


def test_settled_records_travel_no_more() -> None:
    store = Store(A)
    store.merge([register("x", "1", B, 1, clock=1), register("x", "1", C, 1, clock=1)], 0.0)
    put(store, "x", "2")
    store.learn_context({B: 1})
    assert [record.origin for record in store.delta(Digest()).superseded] == [C]


# Superseded tombstones, kept until they are purged


def test_a_superseded_tombstone_is_kept_until_it_is_old_and_settled_and_raises_the_floor() -> None:
    store = Store(A)
    store.merge([register("x", None, B, 1, clock=1)], 0.0)
    put(store, "x", "again", now=1.0)
    assert [record.dot for record in graves(store)] == [Dot(B, 1)]
    assert store.purge(DAY, DAY) == 0
    assert store.purge_blocked == 1
    store.learn_context({B: 1})
    assert store.purge(DAY - 1, DAY) == 0
    assert store.purge(DAY, DAY) == 1
    assert (graves(store), store.tombstones, store.floor, value(store, "x")) == ([], 0, {B: 1}, "again")


def test_a_deletion_reaches_who_purged_a_later_one_and_saw_the_deleted_value_only_then() -> None:
    # B deletes what it has seen. C, which has seen neither, deletes later; D holds C's tombstone alone and purges it.
    a, b, c, d = Store(A), Store(B), Store(C), Store(D)
    old = put(a, "x", "old")
    pull(b, a)
    put(b, "x", None)
    for _ in range(5):
        put(c, "y", "1")  # C's clock runs ahead
    later = put(c, "x", None)
    pull(d, c, now=0.0)
    assert d.purge(DAY, DAY) == 1
    d.merge([old], DAY)
    assert value(d, "x") == "old", "it cannot know better yet"
    b.merge([later], DAY)
    assert value(b, "x") is None
    pull(d, b, now=DAY)
    assert value(d, "x") is None, "B's own deletion came along, though it is superseded there"


def test_of_one_origin_the_latest_tombstone_of_a_slot_is_kept() -> None:
    first, second = register("x", None, B, 1, clock=1), register("x", None, B, 2, clock=2)
    for order in ([first, second], [second, first]):
        store = Store(A)
        store.merge_superseded(order, 0.0)
        assert graves(store) == [second]
        assert store.tombstones == 1
    store = Store(A)
    store.merge([second, first], 0.0)
    assert (graves(store), store.tombstones) == ([], 1)


def test_a_later_value_of_its_origin_does_not_stand_for_a_tombstone() -> None:
    store = Store(A)
    store.merge([register("x", None, B, 1, clock=1), register("x", "2", B, 2, clock=2)], 0.0)
    assert [record.dot for record in graves(store)] == [Dot(B, 1)]


def test_a_superseded_tombstone_guards_its_slot() -> None:
    store = Store(A)
    store.merge([register("x", None, B, 1, clock=5)], 0.0)
    put(store, "x", "1")
    store.forget(Kind.REGISTER, "x")
    store.merge([register("x", "dead", C, 1, clock=3)], 0.0)
    assert value(store, "x") is None


def test_superseded_tombstones_travel_in_order_to_those_who_lack_them() -> None:
    store, peer = Store(A), Store(D)
    store.merge([register(key, None, B, n, clock=n) for n, key in ((3, "z"), (1, "x"), (2, "y"))], 0.0)
    for key in "xyz":
        put(store, key, "again")
    assert [record.sequence for record in store.delta(Digest(Coverage({B: 1}))).superseded] == [2, 3]
    pull(peer, store, now=7.0)
    assert graves(peer) == graves(store)
    peer.learn_context({B: 3})
    assert peer.purge(7.0 + DAY - 1, DAY) == 0, "kept here from its arrival here"
    assert peer.purge(7.0 + DAY, DAY) == 3


@pytest.mark.parametrize("shared", [True, False])
def test_a_repair_digs_a_tombstone_out_and_keeps_its_age(shared: bool) -> None:
    store = Store(A)
    tombstone = register("x", None, B, 1, clock=1)
    store.merge([tombstone], 0.0)
    put(store, "x", "1", now=1.0)
    store.forget(Kind.REGISTER, "x")
    store.merge([tombstone if shared else register("x", None, B, 1, clock=1)], 2.0, repair=True)
    assert store.get(Kind.REGISTER, "x") == tombstone
    assert graves(store) == []
    assert store.delta(Digest()).records == [tombstone], "once"
    assert store.merge([register("x", None, B, 1, clock=1)], 3.0, repair=True) == []
    store.learn_context({B: 1})
    assert store.purge(DAY, DAY) == 1
    assert store.get(Kind.REGISTER, "x") is None
    check(store)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("content", ["v", None])
def test_what_went_and_came_back_by_a_repair_travels_once(content: str | None, shared: bool) -> None:
    store = Store(A)
    lost, again = (register("x", content, B, 1) for _ in range(2))
    store.merge([lost, register("y", "v", B, 2)], 0.0)
    header = Delta(Digest(), Digest(Coverage({B: 1}), floor={B: 1}), full=True)
    assert store.complete(header, Coverage()) == 1
    for _ in range(2):
        store.merge([lost if shared else again], 1.0, repair=True)
    delta = store.delta(Digest())
    assert ([record.sequence for record in delta.records], delta.superseded) == ([1, 2], [])


@pytest.mark.parametrize("shared", [True, False])
def test_a_grave_that_a_repair_names_again_travels_once(shared: bool) -> None:
    store = Store(A)
    buried = register("x", None, B, 1, clock=1)
    store.merge([buried, register("x", "v", C, 1, clock=2)], 0.0)
    for _ in range(2):
        store.merge([buried if shared else register("x", None, B, 1, clock=1)], 1.0, repair=True)
    assert store.delta(Digest()).superseded == [buried]
    store.learn_context({B: 1, C: 1})
    assert store.purge(DAY, DAY) == 1, "it keeps its age"


def test_many_graves_that_are_gone_are_not_looked_at_again() -> None:
    store = Store(A)
    for n in range(200):
        put(store, f"k{n}", None, now=float(n))
        put(store, f"k{n}", "again", now=float(n))
    assert store.purge(DAY + 150, DAY) == 151
    assert len(graves(store)) == 49
    assert len(store._aside.logs[A].entries) < 120


# Sequences that are reserved


def test_the_first_write_passes_what_is_reserved_and_covers_it() -> None:
    store = Store(A)
    store.write(Kind.REGISTER, "x", "1", 0.0)
    store.reserved = 5
    assert store.coverage == Coverage.of([(A, 1)])
    assert store.next_sequence == 6
    assert store.write(Kind.REGISTER, "x", "2", 0.0).sequence == 6
    assert store.write(Kind.REGISTER, "x", "3", 0.0).sequence == 7
    assert store.coverage == Coverage({A: 7})


def test_another_life_has_nothing_reserved() -> None:
    store = Store(A)
    store.reserved = 5
    store.renew(2)
    assert store.write(Kind.REGISTER, "x", "1", 0.0).sequence == 1


# What there is, at once


def test_a_snapshot_is_all_that_there_is_and_leaves_no_journal() -> None:
    store = Store(A)
    assert store.snapshot().kept == []
    record = store.write(Kind.REGISTER, "x", "1", 0.0)
    snapshot = store.snapshot()
    assert [kept.record for kept in snapshot.kept] == [record]
    assert snapshot.sequence == 1
    with pytest.raises(ValueError, match="keep_journal"):
        store.take_changes()


def test_a_journal_of_what_is_known_already_begins_empty() -> None:
    store = Store(A)
    store.write(Kind.REGISTER, "x", "1", 0.0)
    store.keep_journal(known=True)
    assert store.take_changes() is None
    record = store.write(Kind.REGISTER, "y", "1", 0.0)
    changes = store.take_changes()
    assert changes is not None
    assert [kept.record for kept in changes.kept] == [record]


# Lives that ended

A2, A3 = Origin("a", 2), Origin("a", 3)


def lives(*origins: Origin, at: Origin = D) -> Store:
    """A store that covers a write of each, and knows the member record of the last."""
    store = Store(at)
    store.merge([member(origins[-1])], 0.0)
    store.merge([register(f"by {origin}", "1", origin, 1 + (origin == origins[-1])) for origin in origins], 0.0)
    return store


def fold(store: Store, now: float, age: float = DAY) -> int:
    """What is folded at the second look, for the first one only sees how things stand."""
    store.fold(now, age)
    return store.fold(now + age, age)


def test_a_life_that_ended_is_folded_once_nothing_new_came_of_it_for_long() -> None:
    store = lives(A, A2, A3)
    version = store.version
    assert store.fold(0.0, DAY) == 0
    store.merge([register("late", "1", A2, 2)], 10.0)
    assert store.fold(10.0, DAY) == 0
    assert store.fold(DAY, DAY) == 1
    assert store.coverage.folded == {"a": 1}
    assert store.fold(9.0 + DAY, DAY) == 0
    assert store.fold(10.0 + DAY, DAY) == 1
    assert store.coverage == Coverage({A3: 2}, folded={"a": 2})
    assert store.folds == 2
    assert store.version > version
    assert value(store, "by a/1") == "1", "its records stay"
    assert store.merge([register("lost", "1", A, 9)], 0.0) == [], "and nothing of it is new any more"


def test_a_younger_life_is_not_folded_before_an_older_one() -> None:
    store = lives(A, A2, A3)
    store.fold(0.0, DAY)
    store.merge([register("late", "1", A, 2)], 10.0)
    assert store.fold(DAY, DAY) == 0
    assert store.fold(2 * DAY, DAY) == 2


def test_neither_the_present_life_nor_the_only_one_known_is_folded() -> None:
    store = lives(A)
    store.merge([register("x", "1", B, 1)], 0.0)
    put(store, "mine", "1")
    assert fold(store, 0.0) == 0
    store.forget(Kind.MEMBER, "a")
    assert fold(store, 5 * DAY) == 0


def test_a_store_never_folds_its_own_life_whoever_claims_to_follow_it() -> None:
    store = Store(A2)
    store.merge([register("former", "1", A, 1), register("claimed", "1", A3, 1)], 0.0)
    put(store, "mine", "1")
    assert fold(store, 0.0) == 1
    assert store.coverage.folded == {"a": 1}
    assert put(store, "mine", "2").sequence == 2


def test_what_a_folded_life_deleted_counts_as_settled() -> None:
    store = lives(A, A2)
    store.merge([register("x", None, A, 7)], 0.0)
    assert store.purge(DAY, DAY) == 0
    assert fold(store, DAY) == 1
    assert A not in store.context
    assert store.purge(2 * DAY, DAY) == 1


def floored() -> Store:
    """A store that has folded a life of which it has purged something."""
    store = lives(A, A2)
    store.merge([register("x", None, A, 2)], 0.0)
    store.learn_context({A: 2})
    assert store.purge(DAY, DAY) == 1
    assert fold(store, DAY) == 1
    return store


def test_floors_of_a_folded_life_stay_exact_for_one_retention_more_and_are_one_then() -> None:
    store = floored()
    assert store.floor == {A: 2}
    knows = Digest(Coverage({A: 2}))
    assert not store.delta(knows).full, "it has not folded, and covers what was purged"
    store.fold(3 * DAY - 1, DAY)
    assert store.floor == {A: 2}
    store.fold(3 * DAY, DAY)
    assert store.floor == {A: EVERYTHING}
    assert store.delta(knows).full, "who has not folded by now was cut off"
    assert not store.delta(Digest(Coverage(folded={"a": 1}))).full
    assert not store.delta(store.digest()).full


def test_one_floor_stands_for_all_folded_lives_of_a_node() -> None:
    store = floored()
    store.fold(3 * DAY, DAY)
    store.merge([member(A3, 1)], 3 * DAY)
    store.merge([register("y", None, A2, 3)], 3 * DAY)
    store.learn_context({A2: 3})
    assert store.purge(4 * DAY, DAY) == 1
    assert fold(store, 4 * DAY) == 1
    assert store.floor == {A: EVERYTHING, A2: 3}
    store.fold(6 * DAY, DAY)
    assert store.floor == {A2: EVERYTHING}
    assert store.floor.keys() == {A2}


def test_a_fold_is_taken_over_with_a_complete_delta_and_its_floors_later() -> None:
    there, here = floored(), Store(B)
    put(here, "mine", "1")
    delta = pull(here, there, now=2 * DAY)
    assert delta.full, "nothing was known here"
    assert here.coverage.folded == {"a": 1}
    assert here.coverage.includes(there.coverage)
    assert value(here, "by a/1") == "1"
    here.fold(3 * DAY - 1, DAY)
    assert here.floor == {A: 2}
    here.fold(3 * DAY, DAY)
    assert here.floor == {A: EVERYTHING}


def test_more_that_is_folded_later_has_its_own_time_until_floors_are_joined() -> None:
    here = Store(B)
    here.complete(Delta(Digest(), Digest(Coverage(folded={"a": 1}))))
    here.merge([register("x", None, A2, 1)], 2 * DAY)
    here.learn_context({A2: 1})
    here.purge(3 * DAY, DAY)
    here.complete(Delta(Digest(), Digest(Coverage(folded={"a": 2}))))
    assert here.context == {}
    here.fold(4 * DAY - 1, DAY)
    assert here.floor == {A2: 1}
    here.fold(4 * DAY, DAY)
    assert here.floor == {A2: EVERYTHING}


def test_who_was_cut_off_from_before_the_end_of_a_life_drops_what_it_deleted() -> None:
    there, away = lives(A, A2), lives(A, A2, at=C)
    put(away, "mine", "1")
    there.merge([register("by a/1", None, A, 2, clock=9)], 0.0)
    there.learn_context({A: 2})
    there.purge(DAY, DAY)
    fold(there, DAY)
    there.fold(3 * DAY, DAY)
    assert pull(away, there, now=3 * DAY).full
    assert value(away, "by a/1") is None
    assert value(away, "mine") == "1"
    pull(there, away, now=3 * DAY)
    assert there.digest().hash() == away.digest().hash()


def test_stores_that_folded_and_stores_that_did_not_agree_after_one_delta() -> None:
    folded, other = lives(A, A2), lives(A, A2, at=C)
    fold(folded, 0.0)
    assert folded.coverage.includes(other.coverage)
    assert not other.coverage.includes(folded.coverage)
    assert other.digest().hash() != folded.digest().hash()
    assert pull(other, folded).records == []
    assert other.digest().hash() == folded.digest().hash()


# A new life from an old disk


def test_who_begins_anew_keeps_what_it_held_and_uses_no_dot_twice() -> None:
    store = Store(A)
    put(store, "x", "1")
    add(store, "n", 5)
    store.renew(7)
    assert store.origin == Origin("a", 7)
    assert (value(store, "x"), store.counter("n")) == ("1", 5)
    assert store.context == {A: 2}, "what it wrote, it knows"
    record = add(store, "n", 2)
    assert record.dot == Dot(Origin("a", 7), 1)
    assert store.counter("n") == 7
    assert store.counter_origins("n") == [A, Origin("a", 7)]


def test_who_had_written_nothing_begins_anew_with_nothing_to_settle() -> None:
    store = Store(A)
    version = store.version
    store.renew(7)
    assert store.context == {}
    assert store.version > version
