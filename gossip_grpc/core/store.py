"""The store: all records of a node, its coverage, and the merge that keeps invariant I1 (see coverage.py).

Coverage grows by a local write, by each record merged (its own dot only) and by the end of a complete delta, when it
takes the maximum with the sender's coverage as of the sender's snapshot.

**Deletion.** A tombstone kills the writes that its deleter had seen, so it may only be purged where none of them can
arrive any more. Age alone does not tell: a node may hold a tombstone by rumor and not cover a write that the deleter
had seen; purge there, sync with a node cut off since before the deletion, and the dead value is back
(`test_schedules.py` finds such schedules). Hence a second invariant:

> I2. If a node covers dot d, then it covers all that d's origin covered when it wrote d (d is *settled*), or it holds
> d's record, or a later one of the same origin in the same slot.

A store knows what is settled by its *causal context*, origin -> sequence: it covers all that the origin covered when
it wrote that sequence. The context is learned from peers whose coverage ours includes: theirs, and their own last
write. A tombstone is purged once it is old and settled. What is superseded before that is kept aside: it guards its
slot against what it supersedes itself, whatever becomes of the slot, and travels in deltas, marked as superseded so
that nobody takes it for the slot's content. There are two sorts of it:

- *Guards*, writes that are superseded before they are settled. Let go once they are.
- *Graves*, tombstones that are superseded. Who learned of such a deletion by its dot alone could show what it deleted:
  a node that purged a later tombstone of the slot takes an older write, which it sees only then, as new. So a
  superseded tombstone is kept until it would be purged, and the floor covers it as any other.

Purging raises the *GC floor* (origin -> highest sequence purged). A peer whose coverage is below it may hold what was
deleted and gets a full delta; at its end it drops what the sender covers but does not hold.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import attrgetter
from typing import Any

from gossip_grpc.core.clock import LamportClock
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.keys import SortedKeys
from gossip_grpc.core.records import (
    SYSTEM_KINDS,
    USER_KINDS,
    Accusation,
    Dot,
    Kind,
    Member,
    Origin,
    Record,
    Value,
    fingerprint,
    wins,
)
from gossip_grpc.core.sync import Delta, Digest

_MODULUS = 2**64
_SPARSE = 64
"""A log is compacted once more than this and more than half of its entries are superseded."""

_REGISTER, _SET_ELEMENT = Kind.REGISTER, Kind.SET_ELEMENT  # why: see records.py
_MEMBER, _ACCUSATION = Kind.MEMBER, Kind.ACCUSATION

_sequence = attrgetter("sequence")


class _Log:
    """The user records of one origin by sequence, those that are gone among them until the next compaction."""

    __slots__ = ("entries", "live", "sorted")

    def __init__(self) -> None:
        self.entries: list[Record] = []
        self.live = 0
        self.sorted = True

    def add(self, record: Record) -> None:
        """Append a record, in whatever order they come."""
        if self.entries and self.entries[-1].sequence > record.sequence:
            self.sorted = False
        self.entries.append(record)
        self.live += 1

    def discard(self, held: Callable[[Record], bool]) -> None:
        """Note that a record is gone; `held` tells which are not."""
        self.live -= 1
        stale = len(self.entries) - self.live
        if stale > _SPARSE and stale > self.live:
            self.entries = [entry for entry in self.entries if held(entry)]

    def missing(self, origin: Origin, coverage: Coverage, held: Callable[[Record], bool]) -> list[Record]:
        """The records held that a coverage lacks, in order."""
        if not self.sorted:
            self.entries.sort(key=_sequence)
            self.sorted = True
        entries = self.entries[bisect_right(self.entries, coverage.sequence(origin), key=_sequence) :]
        if self.live < len(self.entries):
            entries = [record for record in entries if held(record)]
        if coverage.above(origin):
            entries = [record for record in entries if not coverage.covers(origin, record.sequence)]
        return entries


class Store:
    """All records of one node. Local writes are made as `origin`; `now` is in seconds on any steady clock.

    Attributes:
        coverage: the dots reflected; changed only by this class.
        floor: origin -> highest sequence of a purged tombstone.
        fingerprint: sum of the fingerprints of all live user records, modulo 2^64.
        version: grows with every change of state, coverage or context; for caches.
        members_version: grows with every change of a member record or an accusation.
        members_changed: names of the members that such changes since the last look were about; emptied by who looks.
        live: number of live user records.
        purge_blocked: tombstones that are old enough to purge but not settled.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.clock = LamportClock()
        self.coverage = Coverage()
        self.floor: dict[Origin, int] = {}
        self.fingerprint = 0
        self.version = 0
        self.members_version = 0
        self.members_changed: set[str] = set()
        self.live = 0
        self.purge_blocked = 0
        self._context: dict[Origin, int] = {}
        self._slots: dict[Kind, dict[Hashable, Record]] = {kind: {} for kind in Kind}
        self._logs: dict[Origin, _Log] = {}
        self._tombstones: dict[Dot, tuple[Record, float]] = {}  # with the time each came, in that order
        self._guards: dict[tuple[Kind, Hashable], dict[Origin, Record]] = {}
        self._graves: dict[tuple[Kind, Hashable], dict[Origin, Record]] = {}
        self._grave_logs: dict[Origin, _Log] = {}
        self._keys = SortedKeys()
        self._counters: dict[str, dict[Origin, None]] = {}
        self._counter_keys = SortedKeys()
        self._accusations: dict[str, dict[str, Record]] = {}
        self._sets: dict[str, dict[Value, tuple[Origin, ...]]] = {}
        self._set_keys = SortedKeys()

    # Reading

    def get(self, kind: Kind, slot: Hashable) -> Record | None:
        """The record of a slot, tombstone or not."""
        return self._slots[kind].get(slot)

    def register(self, key: str) -> Record | None:
        """The live record of a register."""
        record = self._slots[Kind.REGISTER].get(key)
        return None if record is None or record.content is None else record

    def keys(self, prefix: str = "", last: str | None = None) -> Iterator[str]:
        """Keys of live registers after `last`, in order."""
        return self._keys.after(prefix, last)

    def counter(self, key: str) -> int:
        """The value of a counter: sum(P - P0) - sum(N - N0). 0 if nobody added to it."""
        total = 0
        for origin in self._counters.get(key, ()):
            added, subtracted = self.share(key, origin)
            reset = self._slots[Kind.COUNTER_RESET].get((key, origin))
            seen_added, seen_subtracted = reset.content if reset else (0, 0)
            # A reset may arrive before the share it saw; the share is at least what the reset saw.
            total += max(added - seen_added, 0) - max(subtracted - seen_subtracted, 0)
        return total

    def share(self, key: str, origin: Origin) -> tuple[int, int]:
        """What one origin has added to and subtracted from a counter, resets aside."""
        record = self._slots[Kind.COUNTER_SHARE].get((key, origin))
        return record.content if record else (0, 0)

    def counter_keys(self, prefix: str = "", last: str | None = None) -> Iterator[str]:
        """Keys of counters after `last`, in order."""
        return self._counter_keys.after(prefix, last)

    def counter_origins(self, key: str) -> list[Origin]:
        """Origins that have a share of a counter, or whose share was reset."""
        return list(self._counters.get(key, ()))

    def counter_records(self, key: str) -> list[Record]:
        """What a counter's value reflects: the shares and the resets of all its origins."""
        slots = [(key, origin) for origin in self._counters.get(key, ())]
        found = [self._slots[kind].get(slot) for kind in (Kind.COUNTER_SHARE, Kind.COUNTER_RESET) for slot in slots]
        return [record for record in found if record is not None]

    def additions(self, key: str, elements: Iterable[Value]) -> list[Record]:
        """The additions that hold elements in a set."""
        held, slots = self.elements(key), self._slots[Kind.SET_ELEMENT]
        return [slots[key, element, origin] for element in elements for origin in held[element]]

    def elements(self, key: str) -> dict[Value, tuple[Origin, ...]]:
        """Elements of a set, each with the origins whose additions hold it there. Not to be changed."""
        return self._sets.get(key, {})

    def set_keys(self, prefix: str = "", last: str | None = None) -> Iterator[str]:
        """Keys of sets that are not empty after `last`, in order."""
        return self._set_keys.after(prefix, last)

    def members(self) -> dict[str, Record]:
        """The member records by node_id. Not to be changed."""
        return self._slots[Kind.MEMBER]  # type: ignore[return-value]  # a member's slot is its node_id

    def accusations(self, node_id: str) -> dict[str, Record]:
        """The accusations of a member, void ones too, by accuser. Not to be changed."""
        return self._accusations.get(node_id, {})

    def accused(self) -> Iterator[str]:
        """The names of those that accusations are about, void ones too."""
        return iter(self._accusations)

    def records(self) -> Iterator[Record]:
        """Every record, of all kinds."""
        for slots in self._slots.values():
            yield from slots.values()

    @property
    def tombstones(self) -> int:
        """Number of tombstones kept, superseded ones among them."""
        return len(self._tombstones)

    @property
    def guarded(self) -> int:
        """Number of slots for which superseded writes are kept until they are settled."""
        return len(self._guards)

    @property
    def context(self) -> dict[Origin, int]:
        """The causal context: origin -> sequence at whose writing it covered nothing that is not covered here."""
        own = self.coverage.sequence(self.origin)
        return {**self._context, self.origin: own} if own else dict(self._context)

    # Writing

    def write(self, kind: Kind, slot: Hashable, content: Any, now: float) -> Record:
        """Make a local write, which always wins its slot for what this store has merged."""
        sequence = self.coverage.sequence(self.origin) + 1
        record = Record(kind, slot, self.origin, sequence, self.clock.tick(), content)
        self.coverage.add(self.origin, sequence)
        self.version += 1
        self._apply(record, now)
        return record

    def merge(self, records: Iterable[Record], now: float, *, repair: bool = False) -> list[Record]:
        """Merge received records and cover their dots; returns what was new here or, in a repair, changed a slot.

        Args:
            records: what was received, each of a valid dot and clock.
            now: the time, from which the retention of tombstones counts.
            repair: merge also records whose dots are covered.
        """
        add = self.coverage.add
        apply = self._apply
        clock = self.clock.time
        fresh = []
        for record in records:
            new = add(record.origin, record.sequence)
            if not new and not repair:
                continue
            if record.clock > clock:
                clock = record.clock
            if apply(record, now, guarded=not repair) or new:
                fresh.append(record)
        self.clock.witness(clock)
        if fresh:
            self.version += 1
        return fresh

    def merge_superseded(self, records: Iterable[Record], now: float) -> list[Record]:
        """Cover records that lost their slots at the sender, after its others; returns those that were new here."""
        fresh = []
        for record in records:
            if self.coverage.add(record.origin, record.sequence):
                self.clock.witness(record.clock)
                if record.is_tombstone:
                    self._tombstones[record.dot] = (record, now)
                old = self._slots[record.kind].get(record.slot)
                if old is not None and wins(record, old):
                    self._remove(old)
                    self._keep_aside(old, record)
                self._keep_aside(record, old)
                fresh.append(record)
        if fresh:
            self.version += 1
        return fresh

    def complete(self, header: Delta, received: Coverage | None = None) -> int:
        """End a complete delta: take over what the sender covered. Returns the number of records dropped.

        Args:
            header: the delta's header; its snapshot is the sender's digest when the delta was read.
            received: in a full delta, the dots of all its records.
        """
        snapshot = header.snapshot
        dropped = 0
        self.learn_context(snapshot.context)
        if received is not None:
            for kind in USER_KINDS:
                for record in list(self._slots[kind].values()):
                    origin, sequence = record.origin, record.sequence
                    if snapshot.coverage.covers(origin, sequence) and not received.covers(origin, sequence):
                        self._remove(record)
                        self._keep_aside(record)
                        dropped += 1
            for origin, sequence in snapshot.floor.items():
                self.floor[origin] = max(self.floor.get(origin, 0), sequence)
        self.coverage.merge(snapshot.coverage)
        # Not by the records alone: what is superseded or purged has a clock too, and is covered from now on.
        self.clock.witness(header.clock)
        self.version += 1
        return dropped

    def learn_context(self, context: dict[Origin, int]) -> None:
        """Take over the causal context of a peer whose coverage this store's coverage includes."""
        for origin, sequence in context.items():
            if origin != self.origin and sequence > self._context.get(origin, 0):
                self._context[origin] = sequence
                self.version += 1

    def settle(self, node_id: str) -> None:
        """Take all that is covered of a node that is gone for good as settled: nobody else can tell any more."""
        self.learn_context(
            {
                origin: self.coverage.sequence(origin)
                for origin in self.coverage.origins()
                if origin.node_id == node_id and self.coverage.sequence(origin)
            }
        )

    def forget(self, kind: Kind, slot: Hashable) -> None:
        """Drop a record by this node's own decision. Its dot stays covered, so it never comes back."""
        record = self._slots[kind].get(slot)
        if record is not None:
            self._remove(record)
            self._tombstones.pop(record.dot, None)
            self.version += 1

    def purge(self, now: float, retention: float) -> int:
        """Purge tombstones held for at least `retention` seconds and within the causal context; returns how many."""
        self._settle()
        old = []
        for record, since in self._tombstones.values():  # in order of arrival
            if now - since < retention:
                break
            old.append(record)
        context = self.context if old else {}
        purged = 0
        for record in old:
            if context.get(record.origin, 0) >= record.sequence:
                if self._in_slot(record):
                    self._remove(record)
                else:
                    self._exhume(record)
                del self._tombstones[record.dot]
                self.floor[record.origin] = max(self.floor.get(record.origin, 0), record.sequence)
                purged += 1
        self.purge_blocked = len(old) - purged
        if purged:
            self.version += 1
        return purged

    # Syncing

    def digest(self) -> Digest:
        """What this store knows, as of now."""
        return Digest(self.coverage.copy(), dict(self.floor), self.context, self.fingerprint)

    def delta(self, base: Digest, *, repair: bool = False) -> Delta:
        """All records that the digest lacks, in one consistent snapshot: members first, then by origin and sequence."""
        full = not repair and any(base.coverage.sequence(origin) < floor for origin, floor in self.floor.items())
        coverage = Coverage() if full or repair else base.coverage
        records = [
            record
            for kind in SYSTEM_KINDS
            for record in self._slots[kind].values()
            if not coverage.covers(record.origin, record.sequence)
        ]
        records += self._missing(self._logs, coverage, self._in_slot)
        self._settle()
        superseded = [
            record
            for by_origin in self._guards.values()
            for record in by_origin.values()
            if not coverage.covers(record.origin, record.sequence)
        ]
        superseded += self._missing(self._grave_logs, coverage, self._in_grave)
        return Delta(
            base,
            self.digest(),
            full=full,
            repair=repair,
            records=records,
            superseded=superseded,
            clock=self.clock.time,
        )

    def _missing(
        self, logs: dict[Origin, _Log], coverage: Coverage, held: Callable[[Record], bool]
    ) -> Iterator[Record]:
        for origin in sorted(logs):
            if self.coverage.highest(origin) > coverage.sequence(origin):
                yield from logs[origin].missing(origin, coverage, held)

    # Keeping the parts together

    def _apply(self, record: Record, now: float, *, guarded: bool = True) -> bool:
        """Put a record into its slot if it wins there; returns whether it did.

        A repair is not `guarded`: what a peer with the same coverage holds is no ghost.
        """
        slots = self._slots[record.kind]
        old = slots.get(record.slot)
        tombstone = record.is_tombstone
        if tombstone:
            held, _ = self._tombstones.setdefault(record.dot, (record, now))
            if held is old:
                return False
            if held is not record:  # in a repair
                record = held
                self._exhume(record)
        if guarded and (self._guards or self._graves) and self._is_guarded(record):
            self._keep_aside(record)
            return False
        if old is not None:
            if not wins(record, old):
                self._keep_aside(record, old)
                return False
            self._remove(old)
            self._keep_aside(old, record)
        slots[record.slot] = record
        if record.kind is _MEMBER or record.kind is _ACCUSATION:
            self._index_member(record)
            return True
        log = self._logs.get(record.origin)
        if log is None:
            log = self._logs[record.origin] = _Log()
        log.add(record)
        if not tombstone:
            self.fingerprint = (self.fingerprint + fingerprint(record)) % _MODULUS
            self.live += 1
            self._index(record)
        return True

    def _remove(self, record: Record) -> None:
        """Take a record out of its slot and of all that counts it."""
        del self._slots[record.kind][record.slot]
        if record.kind is _MEMBER or record.kind is _ACCUSATION:
            self._unindex_member(record)
            return
        self._logs[record.origin].discard(self._in_slot)
        if not record.is_tombstone:
            self.fingerprint = (self.fingerprint - fingerprint(record)) % _MODULUS
            self.live -= 1
            self._unindex(record)

    def _in_slot(self, record: Record) -> bool:
        return self._slots[record.kind].get(record.slot) is record

    def _in_grave(self, record: Record) -> bool:
        return self._graves.get((record.kind, record.slot), {}).get(record.origin) is record

    def _is_guarded(self, record: Record) -> bool:
        """Whether something kept aside supersedes the record."""
        name = (record.kind, record.slot)
        return any(
            wins(kept, record) for aside in (self._guards, self._graves) for kept in aside.get(name, {}).values()
        )

    def _keep_aside(self, loser: Record, winner: Record | None = None) -> None:
        """Keep a superseded record as a guard or a grave, if it must be. Counters are never deleted, and need neither.

        One of an origin is enough for a slot, the last: when it was written, its origin covered all that it covered
        for those before.
        """
        if loser.kind not in (_REGISTER, _SET_ELEMENT):
            return
        if loser.is_tombstone:
            self._bury(loser, winner)
            return
        origin = loser.origin
        if origin == self.origin or self._context.get(origin, 0) >= loser.sequence:
            return
        if winner is not None and winner.origin == origin and winner.sequence >= loser.sequence:
            return
        kept = self._guards.setdefault((loser.kind, loser.slot), {})
        if origin not in kept or kept[origin].sequence < loser.sequence:
            kept[origin] = loser

    def _bury(self, loser: Record, winner: Record | None) -> None:
        """Keep a superseded tombstone, unless its origin has made a later one of the slot."""
        origin, name = loser.origin, (loser.kind, loser.slot)
        other = self._graves.get(name, {}).get(origin)
        later = [kept for kept in (other, winner) if kept is not None and kept.origin == origin and kept.is_tombstone]
        if any(kept.sequence > loser.sequence for kept in later):
            self._tombstones.pop(loser.dot, None)
            return
        if other is not None:
            self._exhume(other)
            self._tombstones.pop(other.dot, None)
        self._graves.setdefault(name, {})[origin] = loser
        self._grave_logs.setdefault(origin, _Log()).add(loser)

    def _exhume(self, record: Record) -> None:
        """Let go of a grave."""
        name = (record.kind, record.slot)
        del self._graves[name][record.origin]
        if not self._graves[name]:
            del self._graves[name]
        self._grave_logs[record.origin].discard(self._in_grave)

    def _settle(self) -> None:
        """Let go of guards that are settled by now."""
        for name, kept in list(self._guards.items()):
            for origin, record in list(kept.items()):
                if self._context.get(origin, 0) >= record.sequence:
                    del kept[origin]
            if not kept:
                del self._guards[name]

    def _index_member(self, record: Record) -> None:
        slot: Any = record.slot
        name = slot
        if record.kind is _ACCUSATION:
            name, accuser = slot
            self._accusations.setdefault(name, {})[accuser] = record
        self.members_changed.add(name)
        self.members_version += 1

    def _unindex_member(self, record: Record) -> None:
        slot: Any = record.slot
        name = slot
        if record.kind is _ACCUSATION:
            name, accuser = slot
            del self._accusations[name][accuser]
            if not self._accusations[name]:
                del self._accusations[name]
        self.members_changed.add(name)
        self.members_version += 1

    def _index(self, record: Record) -> None:
        slot: Any = record.slot
        if record.kind is _REGISTER:
            self._keys.add(slot)
        elif record.kind is _SET_ELEMENT:
            key, element, origin = slot
            elements = self._sets.get(key)
            if elements is None:
                elements = self._sets[key] = {}
                self._set_keys.add(key)
            elements[element] = (*elements.get(element, ()), origin)
        else:
            key, origin = slot
            if key not in self._counters:
                self._counters[key] = {}
                self._counter_keys.add(key)
            self._counters[key][origin] = None

    def _unindex(self, record: Record) -> None:
        slot: Any = record.slot
        if record.kind is _REGISTER:
            self._keys.discard(slot)
        elif record.kind is _SET_ELEMENT:
            key, element, origin = slot
            elements = self._sets[key]
            rest = tuple(other for other in elements[element] if other != origin)
            if rest:
                elements[element] = rest
                return
            del elements[element]
            if not elements:
                del self._sets[key]
                self._set_keys.discard(key)
        # Counter slots are only ever replaced; their origins stay in the index.


def member_of(record: Record) -> Member:
    """The content of a member record."""
    member: Member = record.content
    return member


def accusation_of(record: Record) -> Accusation:
    """The content of an accusation."""
    accusation: Accusation = record.content
    return accusation
