"""The feed: replayed over what was there when it began, it gives what is there; and it tells of nothing else."""

from __future__ import annotations

import random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.feed import Cause, CounterUpdate, RegisterUpdate, SetUpdate
from gossip_grpc.core.records import Kind, Record, Value
from gossip_grpc.core.store import Store
from tests.samples import A, B, C, addition, lease, member, register, removal, reset, share
from tests.test_journal import CHANGES, Change
from tests.test_store import add, put, set_add, set_remove
from tests.world import World

V = TypeVar("V")


class Watcher:
    """Somebody who has seen a store once, and believes what he is told since."""

    def __init__(self, store: Store) -> None:
        store.feed(on=True)
        self.store = store
        self.registers, self.counters, self.elements = _content(store)

    def follow(self) -> None:
        """Replay what happened; each update must tell what was there, and that something else is there now."""
        for update in self.store.take_updates():
            if isinstance(update, RegisterUpdate):
                assert self.registers.get(update.key) == update.before
                assert update.before is not update.after
                _set(self.registers, update.key, update.after)
                if update.cause is Cause.SHOWN:
                    assert update.after is update.record
                if update.cause in (Cause.HIDDEN, Cause.EXPIRED):
                    assert (update.before, update.after) == (update.record, None)
            elif isinstance(update, CounterUpdate):
                assert self.counters.get(update.key, 0) == update.before != update.after
                _set(self.counters, update.key, update.after or None)
            elif isinstance(update, SetUpdate):
                name = (update.key, update.element)
                assert (name in self.elements) != update.present
                (self.elements.add if update.present else self.elements.discard)(name)
        assert (self.registers, self.counters, self.elements) == _content(self.store)


def _set(content: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        content.pop(key, None)
    else:
        content[key] = value


def _content(store: Store) -> tuple[dict[str, Record], dict[str, int], set[tuple[str, Value]]]:
    """What clients see; a counter at 0 is like one that nobody knows."""
    registers = {key: record for key in store.keys() if (record := store.register(key)) is not None}
    counters = {key: value for key in store.counter_keys() if (value := store.counter(key))}
    return registers, counters, {(key, element) for key in store.set_keys() for element in store.elements(key)}


# Random histories


@given(st.lists(st.sampled_from(CHANGES), max_size=12), st.data())
def test_whatever_happens_the_feed_tells_all_of_it_and_no_more(changes: list[str], data: st.DataObject) -> None:
    store = Store(C)
    store.write(Kind.MEMBER, "c", member(C).content, 0.0)
    watcher = Watcher(store)
    for number, name in enumerate(changes):
        getattr(Change, name)(store, data, number / 2)
        watcher.follow()


def test_who_watches_any_store_of_any_schedule_sees_what_it_holds() -> None:
    for seed in range(100):
        order = random.Random(seed)
        watchers: dict[int, Watcher] = {}

        def follow(world: World, order: random.Random = order, watchers: dict[int, Watcher] = watchers) -> None:
            for i, store in enumerate(world.stores):
                if i not in watchers or watchers[i].store is not store:
                    watchers[i] = Watcher(store)
                elif order.random() < 0.3:
                    watchers[i].follow()

        World(seed, reckless=seed % 2 == 0, watch=follow).run(steps=120)
        assert watchers


# One by one


def watched(*records: Record) -> Store:
    store = Store(A)
    store.merge(records, 0.0)
    store.feed(on=True)
    return store


def test_nobody_is_told_before_somebody_watches_nor_after() -> None:
    store = Store(A)
    put(store, "x", "1")
    assert store.take_updates() == []
    store.feed(on=True)
    assert store.take_updates() == []
    put(store, "x", "2")
    store.feed(on=False)
    put(store, "x", "3")
    assert store.take_updates() == []


def test_a_write_is_told_with_what_was_there_and_by_whom() -> None:
    store = watched(register("x", "1", B, 1))
    before = store.register("x")
    written = put(store, "x", "2")
    deleted = put(store, "x", None)
    assert store.take_updates() == [
        RegisterUpdate("x", before, written, written, Cause.WRITTEN),
        RegisterUpdate("x", written, None, deleted, Cause.WRITTEN),
    ]
    assert store.take_updates() == [], "once"


def test_the_same_value_written_again_is_another_write() -> None:
    store = watched()
    first, second = put(store, "x", "1"), put(store, "x", "1")
    assert [update.record for update in store.take_updates()] == [first, second]


def test_what_loses_its_slot_is_no_update() -> None:
    store = watched(register("x", "new", B, 2, clock=9))
    store.merge([register("x", "old", B, 1, clock=1), register("gone", None, C, 1), member(C)], 0.0)
    assert store.take_updates() == []


def test_a_counter_is_told_where_its_value_changes() -> None:
    store = watched(share("n", 5, 0, B, 1))
    added = add(store, "n", 2)
    seen = reset("n", B, (5, 0), C, 1)
    store.merge([seen, share("m", 3, 3, C, 2)], 0.0)
    assert store.take_updates() == [CounterUpdate("n", 5, 7, added), CounterUpdate("n", 7, 2, seen)]


def test_an_element_comes_with_its_first_addition_and_goes_with_its_last() -> None:
    store = watched()
    mine = set_add(store, "s", "e")
    theirs = addition("s", "e", B, 1)
    store.merge([theirs], 0.0)
    store.merge([removal("s", "e", theirs, B, 2)], 0.0)
    (removed,) = set_remove(store, "s", "e")
    assert store.take_updates() == [SetUpdate("s", "e", True, mine), SetUpdate("s", "e", False, removed)]


def test_what_takes_a_value_out_is_named() -> None:
    store = watched(register("x", "1", B, 1, clock=1), register("y", "1", B, 2, clock=1))
    before = [store.register(key) for key in ("x", "y")]
    assert before[1] is not None
    superseded = register("x", "2", C, 1, clock=2)
    store.merge_superseded([superseded], 0.0)
    store.forget(Kind.REGISTER, "y")
    assert store.take_updates() == [
        RegisterUpdate("x", before[0], None, superseded, Cause.WRITTEN),
        RegisterUpdate("y", before[1], None, before[1], Cause.WRITTEN),
    ]


def test_an_end_is_told_as_one() -> None:
    store = watched(lease("x", "v", B, 1, expires_at=5_000))
    leased = store.register("x")
    assert leased is not None
    store.expire(5.0)
    assert store.take_updates() == [RegisterUpdate("x", leased, None, leased, Cause.EXPIRED)]
