"""Random schedules of 3 to 6 stores: whatever is lost, reordered, cut off, purged or wiped, all end up equal.

`pytest tests/test_schedules.py --schedules 30000 --first-seed 0` runs any number by hand; a failure prints its seed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

from gossip_grpc.core.records import Dot, Kind, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta, compare
from gossip_grpc.core.transfer import InboundDelta

RETENTION = 40.0
KEYS = ["a", "b", "c"]
ELEMENTS = ["x", "y"]


@dataclass
class History:
    """What was done, by whom, and what must hold of the end."""

    writes: dict[str, set[Dot]] = field(default_factory=lambda: defaultdict(set))
    deletions: list[tuple[str, Dot, set[Dot]]] = field(default_factory=list)
    owned: dict[str, list[tuple[Dot, str | None, set[Dot]]]] = field(default_factory=lambda: defaultdict(list))
    adds: dict[tuple[str, Origin], list[tuple[Dot, int]]] = field(default_factory=lambda: defaultdict(list))
    counters_reset: bool = False
    live_adds: dict[tuple[str, str], set[Dot]] = field(default_factory=lambda: defaultdict(set))
    removed_adds: set[Dot] = field(default_factory=set)


class World:
    """Some stores, the pushes on their way between them, and a partition."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.generation = 1
        self.stores = [Store(Origin(f"n{i}", 1)) for i in range(self.random.randint(3, 6))]
        self.synced = [True] * len(self.stores)
        self.pushes: list[tuple[int, Record]] = []
        self.sides = [0] * len(self.stores)
        self.history = History()
        self.heals = 0
        self.resets = self.random.random() < 0.5
        self.push_chance = self.random.choice([0.1, 0.5, 0.9])

    def run(self, steps: int) -> None:
        actions = [self.write] * 10 + [self.deliver] * 8 + [self.sync_some] * 5 + [self.purge] * 2
        actions += [self.partition, self.lose_everything]
        for _ in range(steps):
            self.now += self.random.expovariate(1.0)
            if self.random.random() < 0.02:
                self.now += RETENTION  # Long silence: everything held by now may be purged.
            self.random.choice(actions)()
            self.check_zombies()
        self.heal()

    def write(self) -> None:
        i = self.random.randrange(len(self.stores))
        if not self.synced[i]:
            return
        store, history = self.stores[i], self.history
        key = self.random.choice(KEYS)
        action = self.random.choice(["put", "put", "delete", "own", "add", "reset", "set-add", "set-add", "set-remove"])
        made: list[Record] = []
        if action == "put":
            made.append(store.write(Kind.REGISTER, key, f"{i}@{self.now:.1f}", self.now))
            history.writes[key].add(made[0].dot)
        elif action == "delete" and store.register(key):
            seen = {dot for dot in history.writes[key] if store.coverage.covers(*dot)}
            made.append(store.write(Kind.REGISTER, key, None, self.now))
            history.deletions.append((key, made[0].dot, seen))
        elif action == "own":
            name = f"own-{store.origin.node_id}"
            seen = {dot for dot, _, _ in history.owned[name] if store.coverage.covers(*dot)}
            value = None if self.random.random() < 0.3 and store.register(name) else f"{self.now:.2f}"
            made.append(store.write(Kind.REGISTER, name, value, self.now))
            history.owned[name].append((made[0].dot, value, seen))
        elif action == "add":
            amount = self.random.choice([1, 2, -1])
            added, subtracted = store.share(key, store.origin)
            share = (added + max(amount, 0), subtracted + max(-amount, 0))
            made.append(store.write(Kind.COUNTER_SHARE, (key, store.origin), share, self.now))
            history.adds[key, store.origin].append((made[0].dot, amount))
        elif action == "reset" and self.resets:
            made += [
                store.write(Kind.COUNTER_RESET, (key, origin), store.share(key, origin), self.now)
                for origin in store.counter_origins(key)
            ]
            history.counters_reset |= bool(made)
        elif action == "set-add":
            element = self.random.choice(ELEMENTS)
            sequence = store.coverage.sequence(store.origin) + 1
            made.append(store.write(Kind.SET_ELEMENT, (key, element, store.origin), (sequence, False), self.now))
            history.live_adds[key, element].add(made[0].dot)
        elif action == "set-remove":
            element = self.random.choice(ELEMENTS)
            for origin in store.elements(key).get(element, ()):
                record = store.get(Kind.SET_ELEMENT, (key, element, origin))
                assert record is not None
                content = (record.content[0], True)
                made.append(store.write(Kind.SET_ELEMENT, (key, element, origin), content, self.now))
                # A removal takes away what its origin added up to the addition named, seen or superseded.
                history.removed_adds |= {
                    dot
                    for dot in history.live_adds[key, element]
                    if dot.origin == origin and dot.sequence <= content[0]
                }
        for record in made:
            for peer in range(len(self.stores)):
                if peer != i and self.random.random() < self.push_chance:
                    self.pushes.append((peer, record))

    def deliver(self) -> None:
        """Any push on its way arrives, or is lost, or arrives and stays to arrive again."""
        for _ in range(self.random.randint(1, 4)):
            if not self.pushes:
                return
            index = self.random.randrange(len(self.pushes))
            target, record = self.pushes[index]
            if self.random.random() < 0.8:
                self.pushes.pop(index)
            sender = next(i for i, s in enumerate(self.stores) if s.origin.node_id == record.origin.node_id)
            if self.sides[sender] == self.sides[target] and self.random.random() < 0.8:
                self.stores[target].merge([record], self.now)

    def sync_some(self) -> None:
        a, b = self.random.sample(range(len(self.stores)), 2)
        if self.sides[a] == self.sides[b]:
            self.pull(a, b, cut=self.random.random() < 0.3)

    def pull(self, a: int, b: int, *, cut: bool = False) -> bool:
        """Store a pulls from store b in chunks of two records; a cut one stops half-way. Returns whether it agreed."""
        here, there = self.stores[a], self.stores[b]
        verdict = compare(here.digest(), there.digest())
        if not verdict.we_lack and not verdict.diverged:
            here.learn_context(there.context)
            self.synced[a] = True
            return verdict.agreed
        delta = there.delta(here.digest(), repair=verdict.diverged)
        complete = receive(here, delta, self.now, stop_after=len(delta.records) // 4 if cut else None)
        self.synced[a] = self.synced[a] or complete
        if verdict.diverged:
            self.heals += 1
            receive(there, here.delta(there.digest(), repair=True), self.now)
        return False

    def purge(self) -> None:
        self.random.choice(self.stores).purge(self.now, RETENTION)

    def partition(self) -> None:
        self.sides = (
            [self.random.randint(0, 1) for _ in self.stores] if self.random.random() < 0.6 else [0] * len(self.stores)
        )

    def lose_everything(self) -> None:
        """A node comes back empty under a new generation; it must sync before it writes."""
        i = self.random.randrange(len(self.stores))
        if sum(self.synced) <= 2 or self.random.random() < 0.5:
            return
        self.generation += 1
        old = self.stores[i]
        self.stores[i] = Store(Origin(old.origin.node_id, self.generation))
        self.synced[i] = False

    def heal(self) -> None:
        """Deliver nothing more, pull all from all until nobody learns anything."""
        self.sides = [0] * len(self.stores)
        for _ in range(10):
            agreed = [self.pull(a, b) for a in range(len(self.stores)) for b in range(len(self.stores)) if a != b]
            if all(agreed):
                return
        raise AssertionError("no agreement after ten rounds of everybody with everybody")

    def check_zombies(self) -> None:
        """A store that covers a deletion shows no write that the deleter had seen."""
        for store in self.stores:
            for key, deletion, seen in self.history.deletions:
                record = store.register(key)
                if record is not None and store.coverage.covers(*deletion):
                    assert record.dot not in seen, f"{record} is back at {store.origin} after {deletion}"

    def check_end(self) -> None:
        first = self.stores[0]
        for store in self.stores:
            assert store.coverage == first.coverage
            assert store.fingerprint == first.fingerprint
            assert content(store) == content(first)
        self.check_zombies()
        for name, writes in self.history.owned.items():
            known = [write for write in writes if first.coverage.covers(*write[0])]
            # A life that began without seeing its predecessor's writes is concurrent with them.
            if known and {dot for dot, _, _ in known[:-1]} <= known[-1][2]:
                record = first.register(name)
                assert (record.content if record else None) == known[-1][1], f"{name}: not its owner's last word"
        if not self.history.counters_reset:
            for key in KEYS:
                assert first.counter(key) == self.replicated(first, key), f"{key}: the sum is not what was added"
        for (key, element), dots in self.history.live_adds.items():
            seen = {dot for dot in dots if first.coverage.covers(*dot)}
            if seen - self.history.removed_adds:
                assert element in first.elements(key), f"{key}/{element}: an addition nobody saw was removed"

    def replicated(self, store: Store, key: str) -> int:
        """What all origins added up to their last addition that reached the store: a share counts all before it."""
        total = 0
        for (name, _), adds in self.history.adds.items():
            covered = [index for index, (dot, _) in enumerate(adds) if name == key and store.coverage.covers(*dot)]
            if covered:
                total += sum(amount for _, amount in adds[: covered[-1] + 1])
        return total


def receive(store: Store, delta: Delta, now: float, stop_after: int | None = None) -> bool:
    """Merge a delta in chunks of two records; returns whether it was completed."""
    inbound = InboundDelta(store, delta)
    chunks = [(delta.records[i : i + 2], False) for i in range(0, len(delta.records), 2)]
    chunks += [([record], True) for record in delta.superseded]
    for number, (records, superseded) in enumerate(chunks):
        if number == stop_after:
            return False
        inbound.merge(records, now, synced=True, superseded=superseded)
    if stop_after is not None:
        return False
    inbound.complete()
    return True


def content(store: Store) -> dict[str, object]:
    """What users see."""
    return {
        "registers": {key: store.register(key).content for key in store.keys()},  # type: ignore[union-attr]
        "counters": {key: store.counter(key) for key in store.counter_keys()},
        "sets": {key: set(store.elements(key)) for key in store.set_keys()},
    }


def run_schedule(seed: int) -> World:
    world = World(seed)
    try:
        world.run(steps=120)
        world.check_end()
    except Exception as error:
        raise AssertionError(f"schedule with seed {seed}: {error}") from error
    return world


def test_any_schedule_ends_in_agreement(schedules: range) -> None:
    for seed in schedules:
        run_schedule(seed)
