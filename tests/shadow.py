"""A disk without a disk: what the journal of a store adds up to, and whether a store loaded from it is the same one."""

from __future__ import annotations

import random
from typing import Any

from gossip_grpc.core.coverage import EVERYTHING, Coverage
from gossip_grpc.core.journal import Kept, Knowledge
from gossip_grpc.core.records import Dot, Kind, Origin, Record, Value
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest


class Shadow:
    """What a disk that follows a store holds."""

    def __init__(self, store: Store) -> None:
        self.origin = store.origin
        self.clock = store.clock.time
        self.kept: dict[Dot, Kept] = {}
        self.origins: dict[Origin, Knowledge] = {}
        self.folded: dict[str, int] = {}
        store.keep_journal()
        self.follow(store)

    def follow(self, store: Store) -> None:
        """Write what has changed since the last time."""
        changes = store.take_changes()
        if changes is None:
            return
        assert not changes.kept or len({one.record.dot for one in changes.kept}) == len(changes.kept)
        assert not {one.record.dot for one in changes.kept} & set(changes.gone)
        assert changes.sequence == store.coverage.sequence(store.origin)
        if changes.sequence > self.sequence(changes.origin):
            assert changes.own
        self.origin, self.clock, self.folded = changes.origin, changes.clock, changes.folded
        for dot in changes.gone:
            self.kept.pop(dot, None)
        for one in changes.kept:
            self.kept[one.record.dot] = one
        for origin, known in changes.origins.items():
            if known is None:
                self.origins.pop(origin, None)
            else:
                self.origins[origin] = known

    def sequence(self, origin: Origin) -> int:
        known = self.origins.get(origin)
        return 0 if known is None else known.sequence

    def copy(self) -> Shadow:
        """As of now: a backup."""
        copy = Shadow.__new__(Shadow)
        copy.origin, copy.clock, copy.folded = self.origin, self.clock, dict(self.folded)
        copy.kept, copy.origins = dict(self.kept), dict(self.origins)
        return copy

    def load(self, now: float, wall_offset: float = 0.0, rng: random.Random | None = None) -> Store:
        """The store that a node would begin with, its rows in any order."""
        kept = list(self.kept.values())
        if rng is not None:
            rng.shuffle(kept)
        return Store.load(self.origin, self.clock, kept, self.origins, self.folded, now, wall_offset)

    def check(self, store: Store, now: float, rng: random.Random | None = None) -> Store:
        """The store that would be loaded now is this store; returns it.

        What has ended is over in both. Who is down, membership tells a store at its start.
        """
        store.expire(now)
        self.follow(store)
        loaded = self.load(now, store.wall_offset, rng)
        for name in store._leases.down:
            loaded.set_down(name, now, down=True)
        same(store, loaded)
        return loaded


def same(one: Store, other: Store) -> None:
    """Two stores hold the same, in the same places, and would tell any peer the same."""
    assert other.origin == one.origin
    assert other.clock.time == one.clock.time
    assert other.coverage == one.coverage
    assert other.floor == one.floor
    assert other.context == one.context
    assert other.fingerprint == one.fingerprint
    assert other.live == one.live
    assert (other.tombstones, other.guarded) == (one.tombstones, one.guarded)
    assert other.digest() == one.digest()
    assert other.digest().hash() == one.digest().hash()
    for kind in Kind:
        assert other._slots[kind] == one._slots[kind]
    assert other._aside.tombstones == one._aside.tombstones
    ages = [since for _, since in other._aside.tombstones.values()]
    assert ages == sorted(ages)
    assert other._aside.guards == one._aside.guards
    assert other._aside.graves == one._aside.graves
    assert other._shown == one._shown
    assert {record.dot for record in other.records() if record in other._leases} == {
        record.dot for record in one.records() if record in one._leases
    }
    assert {name: set(map(_dot, held.values())) for name, held in other._leases._owned.items()} == {
        name: set(map(_dot, held.values())) for name, held in one._leases._owned.items()
    }
    assert other.next_expiry() == one.next_expiry()
    assert list(other.keys()) == list(one.keys())
    assert list(other.counter_keys()) == list(one.counter_keys())
    for key in one.counter_keys():
        assert other.counter(key) == one.counter(key)
        assert set(other.counter_origins(key)) == set(one.counter_origins(key))
        assert set(other.counter_records(key)) == set(one.counter_records(key))
    assert other.receipt_count == one.receipt_count
    for record in one.records():
        if record.kind is Kind.COUNTER_RECEIPT:
            slot: Any = record.slot
            assert other.counted(*slot[:2]) == one.counted(*slot[:2])
    assert list(other.set_keys()) == list(one.set_keys())
    for key in one.set_keys():
        assert _holders(other, key) == _holders(one, key)
    assert other.members() == one.members()
    assert set(other.accused()) == set(one.accused())
    for node_id in one.accused():
        assert other.accusations(node_id) == one.accusations(node_id)
    for base in _bases(one):
        here, there = one.delta(base), other.delta(base)
        assert (there.full, there.snapshot, there.clock) == (here.full, here.snapshot, here.clock)
        assert _as_set(there.records) == _as_set(here.records)
        assert _as_set(there.superseded) == _as_set(here.superseded)


def _bases(store: Store) -> list[Digest]:
    """Digests of peers that know nothing, half, and all of it."""
    half = {
        origin: sequence // 2 + 1
        for origin in store.coverage.origins()
        if 0 < (sequence := store.coverage.sequence(origin)) < EVERYTHING
    }
    return [Digest(), Digest(Coverage(half)), store.digest()]


def _holders(store: Store, key: str) -> dict[Value, set[Origin]]:
    return {element: set(origins) for element, origins in store.elements(key).items()}


def _as_set(records: list[Record]) -> set[tuple[object, ...]]:
    return {(record.kind, record.slot, record.dot, record.clock, str(record.content)) for record in records}


def _dot(record: Record) -> Dot:
    return record.dot
