"""The journal: what a store tells its disk adds up to the store, whatever happens. Crash recovery rests on that."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.coverage import EVERYTHING, Coverage
from gossip_grpc.core.journal import Area, Kept, Knowledge
from gossip_grpc.core.records import Kind, Lease, Member, Origin, Receipt, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta, Digest
from tests import samples
from tests.samples import A, B, C, D, lease, member, register, share
from tests.shadow import Shadow, same
from tests.test_store import DAY, pull, put
from tests.world import RETENTION, World

few_keys = st.sampled_from(["k", "l"])
anything = st.one_of(
    samples.registers(few_keys),
    samples.leases(few_keys),
    samples.shares(few_keys),
    samples.resets(few_keys),
    samples.receipts(few_keys),
    samples.voids(few_keys),
    samples.elements(few_keys),
    samples.members(),
    samples.accusations(),
)
kept_aside = st.one_of(samples.registers(few_keys), samples.leases(few_keys), samples.elements(few_keys))


def goes_on_alike(one: Store, other: Store, now: float, retention: float) -> None:
    """Two stores that are the same still are after the same has happened to both."""
    name = one.origin.node_id
    peer = Store(Origin("peer", 1))
    peer.merge(one.delta(Digest()).records, now)
    put(peer, "a", None, now)
    for store in (one, other):
        store.write(Kind.REGISTER, "a", Lease("after", int((now + store.wall_offset) * 1000) + 2_000, True), now)
        store.write(Kind.MEMBER, name, Member(99, f"{name}:1"), now)
        store.expire(now + 1.0)
        pull(store, peer, now + 1.0)
        store.expire(now + 10.0)
        store.learn_context({origin: one.coverage.sequence(origin) for origin in sorted(one.coverage.origins())})
        store.purge(now + retention, retention)
    same(one, other)


# Random histories


def test_a_disk_that_follows_holds_the_store_at_any_moment() -> None:
    for seed in range(150):
        order = random.Random(seed)

        def check(world: World, order: random.Random = order) -> None:
            if order.random() < 0.2:
                for store, disk in zip(world.stores, world.disks, strict=True):
                    disk.check(store, world.now, order)

        world = World(seed, reckless=seed % 2 == 0, watch=check)
        try:
            world.run(steps=120)
            for store, disk in zip(world.stores, world.disks, strict=True):
                goes_on_alike(store, disk.check(store, world.now), world.now, RETENTION)
        except Exception as error:
            raise AssertionError(f"schedule with seed {seed}: {error}") from error


class Change:
    """Something that may happen to a store, drawn by Hypothesis: hostile things among them."""

    @staticmethod
    def merge(store: Store, data: st.DataObject, now: float) -> None:
        store.merge(data.draw(st.lists(anything, max_size=8)), now)

    @staticmethod
    def repair(store: Store, data: st.DataObject, now: float) -> None:
        # Honest as to which write is of which slot: of two of one dot a disk, which goes by dots, would hold one.
        held = {record.dot: (record.kind, record.slot) for record in store.records()}
        held |= {record.dot: (record.kind, record.slot) for record, _ in store._aside.tombstones.values()}
        held |= {one.dot: (one.kind, one.slot) for kept in store._aside.guards.values() for one in kept.values()}
        drawn = data.draw(st.lists(anything, max_size=8))
        honest = [one for one in drawn if held.setdefault(one.dot, (one.kind, one.slot)) == (one.kind, one.slot)]
        store.merge(honest, now, repair=True)

    @staticmethod
    def superseded(store: Store, data: st.DataObject, now: float) -> None:
        store.merge_superseded(data.draw(st.lists(kept_aside, max_size=8)), now)

    @staticmethod
    def write(store: Store, data: st.DataObject, now: float) -> None:
        key = data.draw(few_keys)
        content = data.draw(st.sampled_from(["v", b"v", None, Lease("v", 3_000), Lease("v", 0, True)]))
        store.write(Kind.REGISTER, key, content, now)

    @staticmethod
    def count(store: Store, data: st.DataObject, now: float) -> None:
        key = data.draw(few_keys)
        added, subtracted = store.share(key, store.origin)
        store.write(Kind.COUNTER_SHARE, (key, store.origin), (added + 2, subtracted + 1), now)

    @staticmethod
    def request(store: Store, data: st.DataObject, now: float) -> None:
        key, amount = data.draw(few_keys), data.draw(samples.few_amounts)
        added, subtracted = store.share(key, store.origin)
        share = (added + max(amount, 0), subtracted + max(-amount, 0))
        slot = (key, data.draw(samples.few_names), store.origin)
        store.write(Kind.COUNTER_RECEIPT, slot, Receipt(amount, share), now)
        store.write(Kind.COUNTER_SHARE, (key, store.origin), share, now)

    @staticmethod
    def take_back(store: Store, data: st.DataObject, now: float) -> None:
        store.void_repeats(now)

    @staticmethod
    def forget_requests(store: Store, data: st.DataObject, now: float) -> None:
        store.forget_requests(now, data.draw(st.sampled_from([1.0, 100.0])), data.draw(st.sampled_from([1, 100])))

    @staticmethod
    def announce(store: Store, data: st.DataObject, now: float) -> None:
        store.write(Kind.MEMBER, store.origin.node_id, Member(data.draw(st.integers(1, 3)), "h:1"), now)

    @staticmethod
    def full(store: Store, data: st.DataObject, now: float) -> None:
        origin = data.draw(samples.few_origins)
        coverage = Coverage({origin: 3})
        if data.draw(st.booleans()):
            coverage.fold({origin.node_id: origin.generation})
        snapshot = Digest(coverage, {origin: 2}, {origin: 3})
        if coverage.highest(store.origin) <= store.coverage.sequence(store.origin):  # as InboundDelta checks
            received = data.draw(st.sampled_from([Coverage(), Coverage({origin: 2}), None]))
            store.complete(Delta(Digest(), snapshot, full=received is not None), received)

    @staticmethod
    def learn(store: Store, data: st.DataObject, now: float) -> None:
        store.learn_context({data.draw(samples.few_origins): data.draw(st.integers(1, 3))})

    @staticmethod
    def forget(store: Store, data: st.DataObject, now: float) -> None:
        store.forget(Kind.MEMBER, data.draw(samples.few_names))

    @staticmethod
    def settle(store: Store, data: st.DataObject, now: float) -> None:
        store.settle(data.draw(samples.few_names))

    @staticmethod
    def purge(store: Store, data: st.DataObject, now: float) -> None:
        store.purge(now, 2.0)

    @staticmethod
    def expire(store: Store, data: st.DataObject, now: float) -> None:
        store.expire(now)

    @staticmethod
    def judge(store: Store, data: st.DataObject, now: float) -> None:
        store.set_down(data.draw(samples.few_names), now, down=data.draw(st.booleans()))

    @staticmethod
    def fold(store: Store, data: st.DataObject, now: float) -> None:
        store.fold(now, data.draw(st.sampled_from([0.0, 2.0])))

    @staticmethod
    def renew(store: Store, data: st.DataObject, now: float) -> None:
        store.renew(store.origin.generation + 1)


CHANGES = [name for name in vars(Change) if not name.startswith("_")]


@given(st.lists(st.sampled_from(CHANGES), max_size=12), st.data())
def test_whatever_happens_a_disk_that_follows_holds_the_store(changes: list[str], data: st.DataObject) -> None:
    store = Store(Origin("c", 1))
    shadow = Shadow(store)
    now = 0.0
    for name in changes:
        now += 0.5
        getattr(Change, name)(store, data, now)
        if data.draw(st.booleans()):
            shadow.follow(store)
            shadow.clock = store.clock.time  # may go on by what is no change: see below
            shadow.check(store, now)


@given(st.lists(st.sampled_from(CHANGES), max_size=12), st.data())
def test_a_journal_that_begins_late_holds_all_that_there_is(changes: list[str], data: st.DataObject) -> None:
    store = Store(Origin("c", 1))
    for number, name in enumerate(changes):
        getattr(Change, name)(store, data, number / 2)
    Shadow(store).check(store, len(changes) / 2)


# One by one


def test_nothing_is_noted_before_somebody_asks_for_it() -> None:
    store = Store(A)
    put(store, "x", "1")
    with pytest.raises(ValueError, match="keep_journal first"):
        store.take_changes()
    store.keep_journal()
    changes = store.take_changes()
    assert changes is not None
    assert [one.record.slot for one in changes.kept] == ["x"]
    assert store.take_changes() is None


def followed(store: Store) -> Store:
    """The same store, of which all that there is has been written down."""
    store.keep_journal()
    store.take_changes()
    return store


def test_changes_say_what_is_kept_and_how_what_is_gone_and_what_is_known() -> None:
    store = followed(Store(A))
    first = put(store, "x", "1", now=1.0)
    second = put(store, "x", None, now=2.0)
    changes = store.take_changes()
    assert changes is not None
    assert (changes.origin, changes.clock, changes.sequence, changes.own) == (A, 2, 2, True)
    assert changes.kept == [Kept(second, Area.SLOT, 2.0)]
    assert changes.gone == [first.dot]
    assert changes.origins == {A: Knowledge(2)}
    assert changes.folded == {}


def test_what_came_from_others_is_not_our_own() -> None:
    store = followed(Store(A))
    store.merge([register("x", "1", B, 1, clock=1), register("x", None, C, 2, clock=2)], 3.0)
    changes = store.take_changes()
    assert changes is not None
    assert not changes.own
    assert changes.sequence == 0
    assert {one.area for one in changes.kept} == {Area.SLOT, Area.GUARD}
    assert changes.origins == {B: Knowledge(1), C: Knowledge(0, ((2, 2),))}


def test_a_superseded_deletion_is_told_with_its_age() -> None:
    store = followed(Store(A))
    deleted = put(store, "x", None, now=1.0)
    put(store, "x", "1", now=5.0)
    changes = store.take_changes()
    assert changes is not None
    assert Kept(deleted, Area.GRAVE, 1.0) in changes.kept


@pytest.mark.parametrize("others", [[], [register("x", "older", C, 1, clock=1)]], ids=["alone", "among others"])
def test_what_a_repair_puts_back_is_written_as_the_content_of_its_slot(others: list[Record]) -> None:
    store = Store(A)
    shadow = Shadow(store)
    store.merge([*others, register("x", "v", B, 1, clock=2)], 0.0)
    store.complete(Delta(Digest(), Digest(Coverage({B: 1}), floor={B: 1}), full=True), Coverage())
    assert store.guarded == 1, "not settled"
    shadow.check(store, 0.0)
    store.merge([register("x", "v", B, 1, clock=2)], 1.0, repair=True)
    assert store.guarded == len(others)
    loaded = shadow.check(store, 1.0)
    assert loaded.register("x") is not None


def test_what_was_learned_of_an_origin_alone_is_a_change() -> None:
    store = followed(Store(A))
    store.learn_context({B: 3})
    changes = store.take_changes()
    assert changes is not None
    assert changes.origins == {B: Knowledge(0, (), 0, 3)}


def test_the_fold_of_a_life_of_which_nothing_was_known_is_a_change() -> None:
    store = followed(Store(A))
    folded = Coverage(folded={"b": 1})
    store.complete(Delta(Digest(), Digest(folded)))
    changes = store.take_changes()
    assert changes is not None
    assert (changes.folded, changes.origins) == ({"b": 1}, {B: None})


def test_what_was_known_of_a_life_that_is_folded_goes_even_if_none_of_it_was_covered() -> None:
    store = followed(Store(A))
    store.learn_context({B: 3})
    store.take_changes()
    store.complete(Delta(Digest(), Digest(Coverage(folded={"b": 5}))))
    changes = store.take_changes()
    assert changes is not None
    assert changes.origins == {B: None, Origin("b", 5): None}


def test_of_a_folded_life_its_floor_is_all_that_is_kept() -> None:
    store = followed(Store(A))
    store.merge([member(Origin("b", 2)), register("x", None, B, 1)], 0.0)
    store.learn_context({B: 1})
    store.purge(DAY, DAY)
    store.fold(DAY, DAY)
    store.fold(2 * DAY, DAY)
    changes = store.take_changes()
    assert changes is not None
    assert changes.origins[B] == Knowledge(0, (), 1)
    store.fold(3 * DAY, DAY)
    changes = store.take_changes()
    assert changes is not None
    assert changes.origins == {B: Knowledge(0, (), EVERYTHING)}


def test_a_new_life_writes_down_that_it_is_one() -> None:
    store = followed(Store(A))
    put(store, "x", "1")
    store.take_changes()
    store.renew(9)
    changes = store.take_changes()
    assert changes is not None
    assert (changes.origin, changes.sequence, changes.own) == (Origin("a", 9), 0, False)
    assert changes.origins == {A: Knowledge(1, (), 0, 1)}


def test_a_clock_that_goes_on_by_itself_is_written_with_the_next_change() -> None:
    store = followed(Store(A))
    store.clock.witness(40)
    assert store.take_changes() is None
    put(store, "x", "1")
    changes = store.take_changes()
    assert changes is not None
    assert changes.clock == 41


def test_a_loaded_store_goes_on_writing_where_it_stopped() -> None:
    store = Store(A)
    shadow = Shadow(store)
    put(store, "x", "1")
    shadow.follow(store)
    loaded = shadow.load(5.0)
    record = put(loaded, "x", "2", 6.0)
    assert (record.sequence, record.clock) == (2, 2)


def test_loading_takes_rows_in_any_order_and_ages_as_they_were() -> None:
    kept = [
        Kept(register("y", None, B, 2), Area.SLOT, 7.0),
        Kept(lease("z", "v", B, 3, expires_at=1), Area.SLOT, 5.0),
        Kept(register("x", None, B, 1), Area.GRAVE, -DAY),
        Kept(share("n", 2, 1, C, 1), Area.SLOT),
        Kept(register("x", "v", D, 1), Area.GUARD),
    ]
    store = Store.load(A, 9, kept, {B: Knowledge(3, (), 0, 3)}, {}, 8.0)
    assert (store.clock.time, store.live, store.tombstones, store.guarded) == (9, 1, 3, 1)
    assert [record.slot for record, _ in store._aside.tombstones.values()] == ["x", "z", "y"]
    assert store.purge(8.0, DAY) == 1
    assert store.floor == {B: 1}


def test_a_loaded_record_is_of_no_use_to_a_store_that_let_go_of_it() -> None:
    store = Store(A)
    shadow = Shadow(store)
    record = lease("x", "v", B, 1, ephemeral=True)
    store.merge([record], 0.0)
    shadow.follow(store)
    store.learn_context({B: 1})
    store.purge(DAY, DAY)
    shadow.follow(store)
    assert shadow.kept == {}
    assert shadow.origins == {B: Knowledge(1, (), 1, 1)}
