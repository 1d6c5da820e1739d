"""A world of 3 to 6 stores, to which seeded random things happen, and what must be true of them all the same.

Values are written, leased and deleted, records pushed, lost and pushed again, syncs cut off, tombstones purged, lives
folded; disks are read again, restored from backups, or lost. Every store has a clock of its own, which differs from
the others' by a few seconds.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.leases import lease_of
from gossip_grpc.core.records import Dot, Kind, Lease, Member, Origin, Receipt, Record
from gossip_grpc.core.store import Store, member_of
from gossip_grpc.core.sync import Delta, compare
from gossip_grpc.core.transfer import InboundDelta
from tests.shadow import Shadow

RETENTION = 40.0
SKEW = 3.0
LONGEST = 60.0
"""Seconds that a value is leased for at most."""
KEYS = ["a", "b", "c"]
ELEMENTS = ["x", "y"]
REQUESTS = {f"request-{number}": (KEYS[number % len(KEYS)], number % 3 - 1 or 5) for number in range(12)}
"""By id: the counter and the amount."""


@dataclass
class History:
    """What was done, by whom, and what must hold of the end."""

    writes: dict[str, set[Dot]] = field(default_factory=lambda: defaultdict(set))
    deletions: list[tuple[str, Dot, set[Dot]]] = field(default_factory=list)
    owned: dict[str, list[tuple[Dot, str | Lease | None, set[Dot]]]] = field(default_factory=lambda: defaultdict(list))
    adds: dict[tuple[str, Origin], list[tuple[Dot, int]]] = field(default_factory=lambda: defaultdict(list))
    counters_reset: bool = False
    requests: dict[str, list[tuple[Dot, Dot, int]]] = field(default_factory=lambda: defaultdict(list))
    """Of a request, its receipts with the dots of the shares."""
    live_adds: dict[tuple[str, str], set[Dot]] = field(default_factory=lambda: defaultdict(set))
    removed_adds: set[Dot] = field(default_factory=set)


class World:
    """Some stores, the pushes on their way between them, and a partition.

    Args:
        seed: decides everything.
        reckless: fold lives although somebody may have seen what others have not: then only agreement is promised.
        watch: called after each step.
    """

    def __init__(
        self, seed: int, *, reckless: bool = False, watch: Callable[[World], None] = lambda world: None
    ) -> None:
        self.random = random.Random(seed)
        self.reckless = reckless
        self.watch = watch
        self.now = 0.0
        self.generation = 1
        self.history = History()
        self.pasts: dict[Origin, Coverage] = {}
        """What each origin covered when it wrote last."""
        self.stores: list[Store] = []
        self.disks: list[Shadow] = []
        self.backups: dict[int, Shadow] = {}
        self.skews = [self.random.uniform(-SKEW, SKEW) for _ in range(self.random.randint(3, 6))]
        self.pushes: list[tuple[int, list[Record]]] = []
        self.push_chance = self.random.choice([0.1, 0.5, 0.9])
        for i in range(len(self.skews)):
            self.begin(i, Store(Origin(f"n{i}", 1)))
        self.synced = [True] * len(self.stores)
        self.sides = [0] * len(self.stores)
        self.heals = 0
        self.excused: set[str] = set()
        self.resets = self.random.random() < 0.5

    def begin(self, i: int, store: Store) -> None:
        """A node begins, or begins again, with a store; it announces itself if it is a new life."""
        store.wall_offset = self.skews[i]
        self.stores[i:] = [store, *self.stores[i + 1 :]]
        self.disks[i:] = [Shadow(store), *self.disks[i + 1 :]]
        self.announce(i)

    def announce(self, i: int) -> None:
        """A node whose life is not known yet says its member record."""
        store = self.stores[i]
        name = store.origin.node_id
        known = store.members().get(name)
        if known is None or known.origin != store.origin:
            incarnation = 1 if known is None else member_of(known).incarnation + 1
            self.made(i, [store.write(Kind.MEMBER, name, Member(incarnation, f"{name}:1"), self.now)])

    def run(self, steps: int) -> None:
        actions = [self.write] * 10 + [self.deliver] * 8 + [self.sync_some] * 5 + [self.purge] * 2
        actions += [self.expire] * 4 + [self.fold] * 3 + [self.partition, self.lose_everything, self.judge]
        actions += [self.restart, self.back_up, self.restore]
        for _ in range(steps):
            self.now += self.random.expovariate(1.0)
            if self.random.random() < 0.02:
                self.now += RETENTION  # Long silence: everything held by now may be purged.
            self.random.choice(actions)()
            self.check_zombies()
            self.after_step()
        self.heal()
        self.after_step()

    def after_step(self) -> None:
        for store, disk in zip(self.stores, self.disks, strict=True):
            disk.follow(store)
        self.watch(self)

    def write(self) -> None:
        i = self.random.randrange(len(self.stores))
        if not self.synced[i]:
            return
        store, history = self.stores[i], self.history
        key = self.random.choice(KEYS)
        action = self.random.choice(
            [
                "put",
                "put",
                "lease",
                "lease",
                "delete",
                "own",
                "add",
                "request",
                "reset",
                "set-add",
                "set-add",
                "set-remove",
            ]
        )
        made: list[Record] = []
        if action == "put":
            made.append(store.write(Kind.REGISTER, key, f"{i}@{self.now:.1f}", self.now))
            history.writes[key].add(made[0].dot)
        elif action == "lease":
            # It is the deletion of all that its writer had seen, as a put is: only that it is to go by itself.
            seen = {dot for dot in history.writes[key] if store.coverage.covers(*dot)}
            made.append(store.write(Kind.REGISTER, key, self.lease(store), self.now))
            history.writes[key].add(made[0].dot)
            history.deletions.append((key, made[0].dot, seen))
        elif action == "delete" and store.register(key):
            seen = {dot for dot in history.writes[key] if store.coverage.covers(*dot)}
            made.append(store.write(Kind.REGISTER, key, None, self.now))
            history.deletions.append((key, made[0].dot, seen))
        elif action == "own":
            name = f"own-{store.origin.node_id}"
            seen = {dot for dot, _, _ in history.owned[name] if store.coverage.covers(*dot)}
            value: str | Lease | None = (
                None if self.random.random() < 0.3 and store.register(name) else f"{self.now:.2f}"
            )
            if self.random.random() < 0.3:
                value = self.lease(store)
            made.append(store.write(Kind.REGISTER, name, value, self.now))
            history.owned[name].append((made[0].dot, value, seen))
        elif action == "add":
            amount = self.random.choice([1, 2, -1])
            added, subtracted = store.share(key, store.origin)
            share = (added + max(amount, 0), subtracted + max(-amount, 0))
            made.append(store.write(Kind.COUNTER_SHARE, (key, store.origin), share, self.now))
            history.adds[key, store.origin].append((made[0].dot, amount))
        elif action == "request":
            made += self.request(store)
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
        self.made(i, made, together=action == "request")

    def request(self, store: Store) -> list[Record]:
        """Some caller, or the same one again, adds for a request."""
        request_id = self.random.choice(sorted(REQUESTS))
        key, amount = REQUESTS[request_id]
        if store.counted(key, request_id) is not None:
            return []
        added, subtracted = store.share(key, store.origin)
        share = (added + max(amount, 0), subtracted + max(-amount, 0))
        slot = (key, request_id, store.origin)
        receipt = store.write(Kind.COUNTER_RECEIPT, slot, Receipt(amount, share), self.now)
        record = store.write(Kind.COUNTER_SHARE, (key, store.origin), share, self.now)
        self.history.adds[key, store.origin].append((record.dot, amount))
        self.history.requests[request_id].append((receipt.dot, record.dot, amount))
        return [receipt, record]

    def take_back(self, i: int) -> None:
        """A node has merged something: what is counted twice is void."""
        if self.synced[i]:
            self.made(i, self.stores[i].void_repeats(self.now))

    def lease(self, store: Store) -> Lease:
        """A value for some seconds by the store's wall clock, or for its present life, or for both."""
        ttl, ephemeral = self.random.choice([(True, False), (True, False), (False, True), (True, True)])
        end = self.now + store.wall_offset + self.random.uniform(0.001, LONGEST)
        return Lease(f"{store.origin}@{self.now:.1f}", int(end * 1000) + 1 if ttl else 0, ephemeral)

    def made(self, i: int, made: list[Record], *, together: bool = False) -> None:
        """Push records that were written, one by one or all in one message."""
        if made:
            self.pasts[self.stores[i].origin] = self.stores[i].coverage.copy()
        for message in [made] if together and made else [[record] for record in made]:
            for peer in range(len(self.skews)):
                if peer != i and self.random.random() < self.push_chance:
                    self.pushes.append((peer, message))

    def deliver(self) -> None:
        """Any push on its way arrives, or is lost, or arrives and stays to arrive again."""
        for _ in range(self.random.randint(1, 4)):
            if not self.pushes:
                return
            index = self.random.randrange(len(self.pushes))
            target, message = self.pushes[index]
            if self.random.random() < 0.8:
                self.pushes.pop(index)
            sender = next(i for i, s in enumerate(self.stores) if s.origin.node_id == message[0].origin.node_id)
            if self.sides[sender] == self.sides[target] and self.random.random() < 0.8:
                self.stores[target].merge(message, self.now)
                self.take_back(target)

    def sync_some(self) -> None:
        a, b = self.random.sample(range(len(self.stores)), 2)
        if self.sides[a] == self.sides[b]:
            self.pull(a, b, cut=self.random.random() < 0.3)

    def pull(self, a: int, b: int, *, cut: bool = False) -> bool:
        """Store a pulls from store b in chunks of two records; a cut one stops half-way. Returns whether it agreed."""
        here, there = self.stores[a], self.stores[b]
        for store, other in ((here, there), (there, here)):
            assert other.coverage.highest(store.origin) <= store.coverage.sequence(store.origin)
        verdict = compare(here.digest(), there.digest())
        if not verdict.we_lack and not verdict.diverged:
            here.learn_context(there.context)
            self.synced[a] = True
            return verdict.agreed
        delta = there.delta(here.digest(), repair=verdict.diverged)
        complete = receive(here, delta, self.now, stop_after=len(delta.records) // 4 if cut else None)
        self.synced[a] = self.synced[a] or complete
        self.take_back(a)
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
        self.backups.pop(i, None)
        self.begin(i, Store(Origin(self.stores[i].origin.node_id, self.generation)))
        self.synced[i] = False

    def restart(self) -> None:
        """A node comes back with what is on its disk: all of it."""
        i = self.random.randrange(len(self.stores))
        self.disks[i].follow(self.stores[i])
        self.begin(i, self.disks[i].load(self.now, self.skews[i], self.random))

    def back_up(self) -> None:
        i = self.random.randrange(len(self.stores))
        self.disks[i].follow(self.stores[i])
        self.backups[i] = self.disks[i].copy()

    def restore(self) -> None:
        """A node comes back with an old disk. If it has written since, it finds that out, and is another life."""
        if not self.backups:
            return
        i = self.random.choice(sorted(self.backups))
        lost = self.stores[i].origin, self.stores[i].coverage.sequence(self.stores[i].origin)
        store = self.backups.pop(i).load(self.now, self.skews[i], self.random)
        self.synced[i] = False
        if (store.origin, store.coverage.sequence(store.origin)) != lost:
            self.generation += 1
            store.renew(self.generation)
        self.begin(i, store)

    def expire(self) -> None:
        self.random.choice(self.stores).expire(self.now)

    def judge(self) -> None:
        """Some node takes another one for dead, or for alive."""
        name = self.random.choice(self.stores).origin.node_id
        self.random.choice(self.stores).set_down(name, self.now, down=self.random.random() < 0.5)

    def fold(self) -> None:
        """Some node folds lives that ended; unless it is reckless, once everybody knows all that they wrote and saw."""
        present = {store.origin for store in self.stores}
        ended = [past for origin, past in self.pasts.items() if origin not in present]
        if self.reckless or all(store.coverage.includes(past) for past in ended for store in self.stores):
            for store in self.random.sample(self.stores, 2):
                store.fold(self.now, RETENTION / 8)

    def heal(self) -> None:
        """Deliver nothing more, pull all from all until nobody learns anything; then wait until no clock matters."""
        self.sides = [0] * len(self.stores)
        self.agree()
        for store in self.stores:
            for name in {other.origin.node_id for other in self.stores}:
                store.set_down(name, self.now, down=False)
        ends = sorted(
            lease_of(record).expires_at / 1000 for store in self.stores for record in store.records() if record.is_lease
        )
        for end in ends:
            if self.now - SKEW <= end <= self.now + SKEW:
                self.now = end + SKEW + 0.1
        for store in self.stores:
            store.expire(self.now)

    def agree(self) -> None:
        for _ in range(10):
            agreed = [self.pull(a, b) for a in range(len(self.stores)) for b in range(len(self.stores)) if a != b]
            if all(agreed):
                return
        raise AssertionError("no agreement after ten rounds of everybody with everybody")

    def check_zombies(self) -> None:
        """A store that covers a deletion, or a lease, shows no write that its writer had seen."""
        if self.reckless:
            return
        for store in self.stores:
            for key, deletion, seen in self.history.deletions:
                record = store.register(key)
                if record is not None and store.coverage.covers(*deletion):
                    assert record.dot not in seen, f"{record} is back at {store.origin} after {deletion}"

    def is_over(self, dot: Dot, lease: Lease) -> bool:
        """Whether a lease is to be seen nowhere any more."""
        alive = dot.origin in {store.origin for store in self.stores}
        return 0 < lease.expires_at / 1000 <= self.now or (lease.ephemeral and not alive)

    def check_end(self) -> None:
        if self.reckless:
            self.check_agreement()
            return
        self.check_agreement()
        self.check_promises()

    def check_agreement(self) -> None:
        first = self.stores[0]
        for store in self.stores:
            assert store.coverage == first.coverage
            assert store.fingerprint == first.fingerprint
            self.excuse(first, store)
        for store in self.stores:
            mine, theirs = content(store), content(first)
            for key in self.excused:
                mine["registers"].pop(key, None)
                theirs["registers"].pop(key, None)
            assert mine == theirs

    def excuse(self, one: Store, other: Store) -> None:
        """Leases that one shows and the other does not, by a deletion that had not seen them and that was purged.

        Of a value it would be the backstop's to heal; but leases, which end by each node's clock, are in no
        fingerprint. Lives that were folded recklessly may lack them too.
        """
        for here, there in ((one, other), (other, one)):
            for key in here.keys():
                shown = here.register(key)
                assert shown is not None
                purged = [
                    dot
                    for name, dot, seen in self.history.deletions
                    if name == key and shown.dot not in seen and self.purged(here, dot)
                ]
                if there.register(key) is None and shown.is_lease and (purged or self.reckless):
                    self.excused.add(key)

    def purged(self, store: Store, dot: Dot) -> bool:
        return store.coverage.covers(*dot) and dot.sequence <= store.floor.get(dot.origin, 0)

    def check_promises(self) -> None:
        first = self.stores[0]
        self.check_zombies()
        for name, writes in self.history.owned.items():
            known = [write for write in writes if first.coverage.covers(*write[0])]
            # A life that began without seeing its predecessor's writes is concurrent with them.
            if known and {dot for dot, _, _ in known[:-1]} <= known[-1][2]:
                record = first.register(name)
                last, said = known[-1][0], known[-1][1]
                if isinstance(said, Lease) and self.is_over(last, said):
                    said = None
                assert (record.content if record else None) == said, f"{name}: not its owner's last word"
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
        for request_id, made in self.history.requests.items():
            if REQUESTS[request_id][0] == key:
                total -= sum(amount for *_, amount in self.known(store, key, made)[1:])
        return total

    def known(self, store: Store, key: str, made: list[tuple[Dot, Dot, int]]) -> list[tuple[Dot, Dot, int]]:
        """Of what was counted for a request, that of which the receipt has reached a store, and the addition."""
        return [
            (receipt, share, amount)
            for receipt, share, amount in made
            if store.coverage.covers(*receipt)
            and any(
                dot.sequence >= share.sequence and store.coverage.covers(*dot)
                for dot, _ in self.history.adds[key, share.origin]
            )
        ]


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


def content(store: Store) -> dict[str, dict[str, Any]]:
    """What users see."""
    return {
        "registers": {key: store.register(key).content for key in store.keys()},  # type: ignore[union-attr]
        "counters": {key: store.counter(key) for key in store.counter_keys()},
        "sets": {key: set(store.elements(key)) for key in store.set_keys()},
    }
