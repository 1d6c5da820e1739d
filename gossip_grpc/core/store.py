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
deleted and gets a full delta; at its end it drops what the sender covers but does not hold, counters aside: they are
never deleted.

**Leases** (leases.py) are values that become tombstones by themselves: from then on all of this is about them too.

**Lives that ended.** A node that starts without its state writes as a new origin. An origin of which a newer generation
is known and of which nothing new has come for the retention is *folded*: all that it ever wrote counts as covered,
which takes one entry a node, however often it began anew. Its records stay. Its floors stay exact for one retention
more, until all that are not cut off have folded it too; then one entry stands for them, which whoever has not folded it
is below. What nobody here has seen of it by then, and somebody cut off has, is left to the backstop: or a full delta
drops it there. Leases are in no fingerprint, so of those the backstop knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from gossip_grpc.core.aside import Aside, anew
from gossip_grpc.core.clock import LamportClock
from gossip_grpc.core.coverage import EVERYTHING, Coverage, Ranges
from gossip_grpc.core.elements import Place
from gossip_grpc.core.events import Events
from gossip_grpc.core.feed import Cause, CounterUpdate, EventUpdate, RegisterUpdate, SetUpdate, Update
from gossip_grpc.core.journal import Area, Changes, Kept, Knowledge
from gossip_grpc.core.keys import SortedKeys
from gossip_grpc.core.leases import Leases, is_over
from gossip_grpc.core.logs import Log
from gossip_grpc.core.records import (
    DELETABLE_KINDS,
    SYSTEM_KINDS,
    Accusation,
    Dot,
    Kind,
    Member,
    Origin,
    Record,
    Sums,
    Value,
    fingerprint,
    wins,
)
from gossip_grpc.core.requests import Requests, receipt_of
from gossip_grpc.core.sets import Sets
from gossip_grpc.core.sync import Delta, Digest
from gossip_grpc.core.tallies import Tallies

_MODULUS = 2**64
MAX_HELD = 20_000
"""Ranges of dots held that a full delta tells at most, no more than a digest takes (`wire.MAX_RANGES`): what is more
fragmented is sent whole."""

_REGISTER, _SET_ELEMENT = Kind.REGISTER, Kind.SET_ELEMENT  # why: see records.py
_PLAIN = (str, bytes)
_MEMBER, _ACCUSATION, _EVENT = Kind.MEMBER, Kind.ACCUSATION, Kind.EVENT
_RECEIPT = Kind.COUNTER_RECEIPT

_NOTHING = Coverage()


class Store:
    """All records of one node. Local writes are made as `origin`; `now` is in seconds on any steady clock.

    Attributes:
        coverage: the dots reflected; changed only by this class.
        floor: origin -> highest sequence of a purged tombstone.
        fingerprint: sum of the fingerprints of all live user records, modulo 2^64.
        version: grows with every change of records, coverage, floor or context, but not as leases come to their end: no
            digest says so. For caches.
        members_version: grows with every change of a member record or an accusation.
        members_changed: names of the members that such changes since the last look were about; emptied by who looks.
        live: number of live user records.
        purge_blocked: tombstones that are old enough to purge but not settled.
        reserved: no write gets a sequence up to it: some may have been used by writes that were lost in a crash before
            a peer saw them. The next write covers them too; not before, for peers that know more tell that this store
            is an old copy.
        expired: how many leases have ended, those abandoned among them.
        folds: how many generations have been folded here.
        wall_offset: Unix time less the steady clock, in seconds; leases end by it.
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
        self.reserved = 0
        self.expired = 0
        self.folds = 0
        self.wall_offset = 0.0
        self._now = 0.0  # as of the last input
        self._journal: list[Record] | None = None
        self._feed: list[Update] | None = None
        self._leases = Leases()
        self._events = Events(self.coverage)
        self._shown: set[str] = set()  # keys of which the slot holds a lease that is seen
        self._ended: dict[Origin, tuple[tuple[int, Ranges], float]] = {}
        """Lives that have ended: what is covered of them, and since when."""
        self._folded: dict[str, float] = {}  # since when
        self._context: dict[Origin, int] = {}
        self._slots: dict[Kind, dict[Hashable, Record]] = {kind: {} for kind in Kind}
        self._logs: dict[Origin, Log] = {}
        self._aside = Aside(self._is_settled, self._note)
        self._keys = SortedKeys()
        self._tallies = Tallies(self.get)
        self._requests = Requests(self._tallies.share, origin.node_id)
        self._accusations: dict[str, dict[str, Record]] = {}
        self._sets = Sets()

    # Reading

    def get(self, kind: Kind, slot: Hashable) -> Record | None:
        """The record of a slot, tombstone or not."""
        return self._slots[kind].get(slot)

    def register(self, key: str) -> Record | None:
        """The live record of a register, if it is to be seen."""
        record = self._slots[_REGISTER].get(key)
        if record is None or record.content is None or (record.is_lease and key not in self._shown):
            return None
        return record

    def keys(self, prefix: str = "", last: str | None = None) -> Iterator[str]:
        """Keys of live registers after `last`, in order."""
        return self._keys.after(prefix, last)

    def counter(self, key: str) -> int:
        """The value of a counter; 0 if nobody added to it (see tallies.py)."""
        return self._tallies.value(key)

    def share(self, key: str, origin: Origin) -> Sums:
        """What one origin has added to and subtracted from a counter, resets and voids aside."""
        return self._tallies.share(key, origin)

    def counter_keys(self, prefix: str = "", last: str | None = None) -> Iterator[str]:
        """Keys of counters after `last`, in order."""
        return self._tallies.keys.after(prefix, last)

    def counter_origins(self, key: str) -> list[Origin]:
        """Origins that have a share of a counter, or of which a share was reset or an addition is void."""
        return self._tallies.origins(key)

    def counter_records(self, key: str) -> list[Record]:
        """What a counter's value reflects: shares, resets and voids of all its origins."""
        return self._tallies.records(key)

    def additions(self, key: str, element: Value) -> list[Record]:
        """The additions that hold an element in a set."""
        slots = self._slots[_SET_ELEMENT]
        return [slots[key, element, origin] for origin in self.elements(key).get(element, ())]

    def elements(self, key: str) -> dict[Value, tuple[Origin, ...]]:
        """Elements of a set, each with the origins whose additions hold it there. Not to be changed."""
        return self._sets.elements(key)

    def set_keys(self, prefix: str = "", last: str | None = None) -> Iterator[str]:
        """Keys of sets that are not empty after `last`, in order."""
        return self._sets.keys.after(prefix, last)

    def places(self, key: str, last: Place | None = None) -> Iterator[Place]:
        """Where the elements of a set stand that come after `last`, in order (see elements.py)."""
        return self._sets.places(key, last)

    def sort_in(self, most: int, set_key: str | None = None) -> bool:
        """Prepare listings of keys, or of a set's elements, by so many of them; returns whether that was all.

        A listing does it by itself, but may take a second or two for the first million (see keys.py).
        """
        if set_key is not None:
            return self._sets.settle(set_key, most)
        return all(keys.settle(most) for keys in (self._keys, self._tallies.keys, self._sets.keys))

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
        """Number of tombstones kept, superseded ones and leases that are over among them."""
        return len(self._aside.tombstones)

    @property
    def guarded(self) -> int:
        """Number of slots for which superseded writes are kept until they are settled."""
        return len(self._aside.guards)

    @property
    def context(self) -> dict[Origin, int]:
        """The causal context: origin -> sequence at whose writing it covered nothing that is not covered here."""
        own = self.coverage.sequence(self.origin)
        return {**self._context, self.origin: own} if own else dict(self._context)

    @property
    def next_sequence(self) -> int:
        """The sequence of the next local write."""
        return max(self.coverage.sequence(self.origin), self.reserved) + 1

    # Writing

    def write(self, kind: Kind, slot: Hashable, content: Any, now: float) -> Record:
        """Make a local write, which always wins its slot for what this store has merged."""
        self._now = now
        sequence = self.next_sequence
        record = Record(kind, slot, self.origin, sequence, self.clock.tick(), content)
        self.coverage.add_range(self.origin, self.coverage.sequence(self.origin) + 1, sequence)
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
        self._now = now
        if repair:
            records = map(anew, records)
        add = self.coverage.add
        apply = self._apply
        clock = self.clock.time
        fresh = []
        registers = self._slots[_REGISTER]
        aside, journal = self._aside, self._journal
        quick = not repair and self._feed is None
        entered: list[Record] = []
        log, logged = Log(), None
        for record in records:
            new = add(record.origin, record.sequence)
            if not new and (not repair or record.kind is _EVENT or record.kind is _RECEIPT):
                continue
            if record.clock > clock:
                clock = record.clock
            if (
                quick
                and record.kind is _REGISTER
                and record.slot not in registers
                and type(record.content) in _PLAIN
                and not ((aside.guards or aside.graves) and aside.supersedes(record))
            ):
                # What `_apply` does with a value in an empty slot, in a third of the time: most of a bulk load.
                if record.origin is not logged:
                    logged = record.origin
                    log = self._log_of(logged)
                registers[record.slot] = record
                log.add(record)
                if journal is not None:
                    journal.append(record)
                entered.append(record)
                fresh.append(record)
            elif apply(record, now, guarded=not repair) or new:
                fresh.append(record)
        self._enter_registers(entered)
        self.clock.witness(clock)
        if fresh:
            self.version += 1
        return fresh

    def merge_superseded(self, records: Iterable[Record], now: float) -> list[Record]:
        """Cover records that lost their slots at the sender, after its others; returns those that were new here."""
        self._now = now
        fresh = []
        for record in records:
            if self.coverage.add(record.origin, record.sequence):
                self.clock.witness(record.clock)
                if record.deletes:
                    self._aside.tombstones[record.dot] = (record, now)
                old = self._slots[record.kind].get(record.slot)
                if old is not None and wins(record, old):
                    self._take_out(old, record)
                self._aside.keep(record, old, now)
                fresh.append(record)
        if fresh:
            self.version += 1
        return fresh

    def complete(self, header: Delta, received: Coverage | None = None) -> int:
        """End a complete delta: take over what the sender covered. Returns the number of records dropped.

        Args:
            header: the delta's header; its snapshot is the sender's digest when the delta was read.
            received: in a full delta, the dots of all records that the sender holds.
        """
        snapshot = header.snapshot
        dropped = 0
        self.learn_context(snapshot.context)
        if received is not None:
            for kind in DELETABLE_KINDS:
                for record in list(self._slots[kind].values()):
                    origin, sequence = record.origin, record.sequence
                    if snapshot.coverage.covers(origin, sequence) and not received.covers(origin, sequence):
                        self._take_out(record, None)
                        dropped += 1
            for origin, sequence in snapshot.floor.items():
                self._raise_floor(origin, sequence)
        self._note_folds(self.coverage.merge(snapshot.coverage))
        # Not by the records alone: what is superseded or purged has a clock too, and is covered from now on.
        self.clock.witness(header.clock)
        self.version += 1
        return dropped

    def learn_context(self, context: dict[Origin, int]) -> None:
        """Take over the causal context of a peer whose coverage this store's coverage includes."""
        for origin, sequence in context.items():
            if origin != self.origin and not self._is_settled(origin, sequence):
                self._context[origin] = sequence
                self._note_origin(origin)
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
            before = self._seen(record)
            self._remove(record)
            self._aside.tombstones.pop(record.dot, None)
            self._tell(before, record)
            self._look_after(record)
            self.version += 1

    def expire(self, now: float) -> int:
        """End the leases whose time has come, `leases.MAX_DUE` at a time; returns how many."""
        self._now = now
        count = 0
        for record in self._leases.due(now, self.wall_offset):
            self._age(record)
            count += 1
        return count

    def next_expiry(self) -> float:
        """When `expire` is due next, on the steady clock."""
        return self._leases.deadline() - self.wall_offset

    def set_down(self, node_id: str, now: float, *, down: bool) -> None:
        """Hide the ephemeral values of a member that is DEAD or has left, or show them again."""
        self._now = now
        if down:
            self._leases.down.add(node_id)
        else:
            self._leases.down.discard(node_id)
        for record in self._leases.owned(node_id):
            if record in self._leases and down == (record.slot in self._shown):
                before = self._seen(record)
                if down:
                    self._hide(record)
                else:
                    self._show(record)
                self._tell(before, record, Cause.HIDDEN if down else Cause.SHOWN)

    def renew(self, generation: int) -> None:
        """Write as a new life from now on. What the old one wrote, as far as it is covered here, is settled."""
        old, written = self.origin, self.coverage.sequence(self.origin)
        self.origin = Origin(old.node_id, generation)
        self.reserved = 0
        if written:
            self.learn_context({old: written})
        self._note_origin(old)
        self.version += 1

    # Events

    @property
    def event_count(self) -> int:
        """Number of events that are kept."""
        return len(self._events)

    @property
    def events_told(self) -> range:
        """The numbers of the events that have been told to subscribers and are kept, in that order."""
        return self._events.kept

    def published(self, topic: str, request_id: str) -> Record | None:
        """The event that was published for a request and is kept; None if there is none, or no request."""
        return self._events.published(topic, request_id)

    def event(self, number: int) -> Record:
        """The event of a number in `events_told`."""
        return self._events.told(number)

    def tell_events(self, now: float) -> None:
        """Tell the events that have waited long enough for others, or have what they waited for."""
        self._tell_events(self._events.due(now))

    def event_deadline(self) -> float:
        """When `tell_events` is due next; infinite while no event waits."""
        return self._events.deadline()

    def forget_events(self, now: float, retention: float) -> None:
        """Forget the events that were told `retention` seconds ago. Their dots stay covered."""
        for record in self._events.forget(now, retention):
            self._let_go(record)

    def _take_event(self, record: Record, now: float) -> None:
        self._slots[_EVENT][record.slot] = record
        self._log(record)
        self._tell_events(self._events.take(record, now))

    def _tell_events(self, told: list[Record]) -> None:
        if self._feed is not None:
            self._feed += map(EventUpdate, told)

    def _let_go(self, record: Record) -> None:
        """Forget an event or a receipt. Its dot stays covered."""
        del self._slots[record.kind][record.slot]
        self._logs[record.origin].discard(self._in_slot)

    # Requests

    @property
    def receipt_count(self) -> int:
        """Number of receipts that are kept."""
        return len(self._requests)

    def counted(self, key: str, request_id: str) -> Record | None:
        """The receipt of the addition that counts for a request; None if none is held here, with its share."""
        return self._requests.counted(key, request_id)

    def void_repeats(self, now: float, *, own: bool = False) -> list[Record]:
        """Write the voids that are due (see requests.py), all or those of requests that this node has counted itself.

        Returns what others have to be told: each with the share that makes it due, before it.
        """
        told: dict[Dot, Record] = {}
        for record, winner in self._requests.repeats(own=own):
            slot: Any = record.slot
            amount, mark = receipt_of(record)
            name = (slot[0], mark, record.origin)
            if self.get(Kind.COUNTER_VOID, name) is None:
                void = self.write(Kind.COUNTER_VOID, name, amount, now)
                share = self._slots[Kind.COUNTER_SHARE][slot[0], winner.origin]
                told |= {share.dot: share, void.dot: void}
        return list(told.values())

    def forget_requests(self, now: float, retention: float, most: int) -> None:
        """Forget the receipts that came `retention` seconds ago, and the oldest of more than `most`."""
        for record in self._requests.old(now, retention, most):
            self._requests.drop(record)
            self._let_go(record)
            self._note(record)

    def _take_receipt(self, record: Record, now: float) -> bool:
        slots = self._slots[_RECEIPT]
        old = slots.get(record.slot)
        if old is not None:
            if not wins(record, old):
                return False
            self._requests.drop(old)
            self._let_go(old)
            self._note(old)
        slots[record.slot] = record
        self._log(record)
        self._note(record)
        self._requests.take(record, now)
        return True

    def fold(self, now: float, age: float) -> int:
        """Fold lives that ended at least `age` seconds ago; to be called now and then. Returns how many."""
        self._now = now
        lives: dict[str, list[Origin]] = {name: [record.origin] for name, record in self.members().items()}
        covered = self.coverage.origins()
        for origin in covered:
            lives.setdefault(origin.node_id, []).append(origin)
        ended: dict[Origin, tuple[tuple[int, Ranges], float]] = {}
        ripe: dict[str, int] = {}
        for node_id, origins in lives.items():
            # Never our own, whoever says that he is the one after us.
            latest = self.origin if node_id == self.origin.node_id else max(origins)
            waits = False
            for origin in sorted(one for one in covered.intersection(origins) if one < latest):
                known = (self.coverage.sequence(origin), list(self.coverage.above(origin)))
                mark = self._ended.get(origin)
                since = mark[1] if mark is not None and mark[0] == known else now
                ended[origin] = (known, since)
                waits = waits or now - since < age
                if not waits:  # none before those before it
                    ripe[node_id] = origin.generation
        self._ended = ended
        self._note_folds(self.coverage.fold(ripe))
        self._events.fold()
        self._join_floors(now, age)
        count = len(covered) - len(self.coverage.origins())
        self.folds += count
        return count

    def _note_folds(self, nodes: set[str]) -> None:
        """More has been folded of these nodes."""
        if nodes:
            self._folded |= dict.fromkeys(nodes, self._now)
            for origin in [name for name in self._context if self.coverage.is_folded(name)]:
                del self._context[origin]
                self._note_origin(origin)
            self.version += 1

    def _join_floors(self, now: float, age: float) -> None:
        """Let one entry stand for all floors of a node's lives that were folded long ago."""
        for node_id, since in self._folded.items():
            floors = sorted(name for name in self.floor if name.node_id == node_id and self.coverage.is_folded(name))
            if floors and now - since >= age:
                for origin in floors[:-1]:
                    del self.floor[origin]
                    self._note_origin(origin)
                self._raise_floor(floors[-1], EVERYTHING)

    def purge(self, now: float, retention: float) -> int:
        """Purge tombstones held for at least `retention` seconds and within the causal context; returns how many."""
        self._now = now
        aside = self._aside
        aside.settle()
        old = aside.old(now, retention)
        purged = 0
        for record in old:
            if self._is_settled(record.origin, record.sequence):
                if self._in_slot(record):
                    self._remove(record)
                else:
                    aside.exhume(record)
                del aside.tombstones[record.dot]
                self._raise_floor(record.origin, record.sequence)
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
        """All records that the digest lacks, in one consistent snapshot: members first, then by origin and sequence.

        Where the digest is below the floor the delta is full: it says what is held here, so that the rest is dropped.
        """
        full = not repair and any(base.coverage.sequence(origin) < floor for origin, floor in self.floor.items())
        held = self._held() if full else None
        coverage = Coverage() if repair or (full and held is None) else base.coverage
        records = [
            record
            for kind in SYSTEM_KINDS
            for record in self._slots[kind].values()
            if not coverage.covers(record.origin, record.sequence)
        ]
        records += self._missing(self._logs, coverage, self._in_slot)
        aside = self._aside
        aside.settle()
        superseded = aside.guards_beyond(coverage) + self._missing(aside.logs, coverage, aside.in_grave)
        return Delta(
            base,
            self.digest(),
            full=full,
            repair=repair,
            records=records,
            superseded=superseded,
            clock=self.clock.time,
            held=held,
        )

    def _held(self) -> Coverage | None:
        """The dots of the deletable records that are in their slots; None if they are more than `MAX_HELD` ranges."""
        vector: dict[Origin, int] = {}
        above: dict[Origin, Ranges] = {}
        left = MAX_HELD
        for origin, log in self._logs.items():
            ranges: Ranges = []
            first = last = 0
            for record in log.missing(origin, _NOTHING, self._in_slot):
                sequence = record.sequence
                if record.kind not in DELETABLE_KINDS:
                    # Nobody asks for it, so it makes no range of its own: there may be very many receipts.
                    if last and sequence == last + 1:
                        last = sequence
                    continue
                if sequence != last + 1 and last:
                    ranges.append((first, last))
                if sequence != last + 1 or not last:
                    first = sequence
                last = sequence
            if last:
                ranges.append((first, last))
            left -= len(ranges)
            if left < 0:
                return None
            if ranges and ranges[0][0] == 1:
                vector[origin] = ranges.pop(0)[1]
            if ranges:
                above[origin] = ranges
        return Coverage(vector, above)

    def _missing(self, logs: dict[Origin, Log], coverage: Coverage, held: Callable[[Record], bool]) -> list[Record]:
        found: list[Record] = []
        for origin in sorted(logs):
            if self.coverage.highest(origin) > coverage.sequence(origin):
                found += logs[origin].missing(origin, coverage, held)
        return found

    # For a disk

    @classmethod
    def load(
        cls,
        origin: Origin,
        clock: int,
        kept: Iterable[Kept],
        origins: Mapping[Origin, Knowledge],
        folded: Mapping[str, int],
        now: float = 0.0,
        wall_offset: float = 0.0,
    ) -> Store:
        """A store as its changes (`take_changes`) add up to it.

        Args:
            origin: who writes here.
            clock: the Lamport clock.
            kept: every record that is kept, with `since` on the steady clock of now.
            origins: what is known of each origin.
            folded: node -> the generation up to which its lives are folded.
            now: the time.
            wall_offset: Unix time less the steady clock: leases may have ended since.
        """
        store = cls(origin)
        store._now = now
        store.wall_offset = wall_offset
        store.clock.witness(clock)
        store.coverage = Coverage(
            {name: known.sequence for name, known in origins.items() if known.sequence},
            {name: list(known.above) for name, known in origins.items() if known.above},
            folded,
        )
        store._events = Events(store.coverage)
        store.floor = {name: known.floor for name, known in origins.items() if known.floor}
        store._context = {name: known.context for name, known in origins.items() if known.context and name != origin}
        store._folded = dict.fromkeys(folded, now)
        leases = []
        aging = []
        for record, area, since in kept:
            if area is not Area.SLOT:
                store._aside.put(record, area)
            else:
                store._slots[record.kind][record.slot] = record
                if record.kind is _MEMBER or record.kind is _ACCUSATION:
                    store._index_member(record)
                    continue
                store._log(record)
                if record.kind is _RECEIPT:
                    store._requests.take(record, now)
                elif record.is_lease:
                    leases.append((record, since is not None))
                elif not record.is_tombstone:
                    store._enter(record)
            if since is not None:
                aging.append((since, record))
        aging.sort(key=_since)
        store._aside.tombstones.update((record.dot, (record, since)) for since, record in aging)
        for record, ages in leases:
            if ages:
                store._leases.own(record)
            else:
                store._place_lease(record)
        return store

    def keep_journal(self, *, known: bool = False) -> None:
        """Note from now on what changes, for `take_changes`; all that there is counts as changed, if not `known`."""
        if known:
            self._journal, self.coverage.changed = [], set()
            return
        self._journal = [
            *(record for record in self.records() if record.kind is not _EVENT),
            *self._aside.records(),
        ]
        folded = (Origin(node_id, last) for node_id, last in self.coverage.folded.items())
        self.coverage.changed = {*self.coverage.origins(), *self.floor, *self._context, *folded}

    def snapshot(self) -> Changes:
        """All that there is, as changes; for a store that keeps no journal."""
        self.keep_journal()
        changes = self.take_changes()
        self._journal = self.coverage.changed = None
        return changes or Changes(self.origin, self.clock.time, 0, [], [], {}, {}, own=False)

    def take_changes(self) -> Changes | None:
        """What has changed since the last time; None if nothing has.

        Raises:
            ValueError: no journal is kept.
        """
        journal, touched = self._journal, self.coverage.changed
        if journal is None or touched is None:
            raise ValueError("keep_journal first")
        if not journal and not touched:
            return None
        self._journal, self.coverage.changed = [], set()
        kept: dict[Dot, Kept] = {}
        gone: dict[Dot, None] = {}
        for record in journal:
            area = self._area(record)
            if area is None:
                gone[record.dot] = None
            else:
                aging = self._aside.tombstones.get(record.dot)
                kept[record.dot] = Kept(record, area, None if aging is None else aging[1])
        return Changes(
            self.origin,
            self.clock.time,
            self.coverage.sequence(self.origin),
            list(kept.values()),
            [dot for dot in gone if dot not in kept],
            {origin: self._knowledge(origin) for origin in touched},
            dict(self.coverage.folded),
            self.origin in touched,
        )

    def _knowledge(self, origin: Origin) -> Knowledge | None:
        if self.coverage.is_folded(origin):
            floor = self.floor.get(origin, 0)
            return Knowledge(0, (), floor) if floor else None
        return Knowledge(
            self.coverage.sequence(origin),
            tuple(self.coverage.above(origin)),
            self.floor.get(origin, 0),
            self._context.get(origin, 0),
        )

    def _area(self, record: Record) -> Area | None:
        return Area.SLOT if self._in_slot(record) else self._aside.area(record)

    def _note(self, record: Record) -> None:
        """Something has become of a record."""
        if self._journal is not None:
            self._journal.append(record)

    def _note_origin(self, origin: Origin) -> None:
        """Something else than coverage is known of an origin now."""
        if self.coverage.changed is not None:
            self.coverage.changed.add(origin)

    # For those who watch

    def feed(self, *, on: bool) -> None:
        """Keep a feed from now on, or no more."""
        self._feed = [] if on else None

    def take_updates(self) -> list[Update]:
        """What clients could see change since the last time, in order; nothing while no feed is kept."""
        if not self._feed:
            return []
        updates, self._feed = self._feed, []
        return updates

    def _seen(self, record: Record) -> Any:
        """What clients see of what a record is about: a live record, a counter's value, whether an element is there."""
        if self._feed is None:
            return None
        slot: Any = record.slot
        if record.kind is _REGISTER:
            return self.register(slot)
        if record.kind is _SET_ELEMENT:
            return slot[1] in self._sets.elements(slot[0])
        if record.kind is _MEMBER or record.kind is _ACCUSATION:
            return None
        return self._tallies.value(slot[0])

    def _tell(self, before: Any, record: Record, cause: Cause = Cause.WRITTEN) -> None:
        """Feed what has become of what `_seen` said, by a record."""
        if self._feed is None:
            return
        after = self._seen(record)
        if after is before or (after == before and record.kind is not _REGISTER):
            return
        slot: Any = record.slot
        update: Update
        if record.kind is _REGISTER:
            update = RegisterUpdate(slot, before, after, record, cause)
        elif record.kind is _SET_ELEMENT:
            update = SetUpdate(slot[0], slot[1], after, record)
        else:
            update = CounterUpdate(slot[0], before, after, record)
        self._feed.append(update)

    # Keeping the parts together

    def _apply(self, record: Record, now: float, *, guarded: bool = True) -> bool:
        """Put a record into its slot if it wins there; returns whether it did.

        A repair is not `guarded`: what a peer with the same coverage holds is no ghost.
        """
        if record.kind is _EVENT:
            self._take_event(record, now)
            return True
        if record.kind is _RECEIPT:
            return self._take_receipt(record, now)
        aside, slots = self._aside, self._slots[record.kind]
        old = slots.get(record.slot)
        if not guarded:
            record = aside.dig_out(record)
        deletes = record.deletes
        if deletes and not self._enter_deletion(record, old, now):
            return False
        if guarded and (aside.guards or aside.graves) and aside.supersedes(record):
            aside.keep(record, None, now)
            return False
        if old is not None and not wins(record, old):
            aside.keep(record, old, now)
            return False
        before = None if self._feed is None else self._seen(record)
        if old is not None:
            self._remove(old)
            aside.keep(old, record, now)
        slots[record.slot] = record
        if self._journal is not None:
            self._journal.append(record)
        if record.kind is _MEMBER or record.kind is _ACCUSATION:
            self._index_member(record)
            self._look_after(record)
            return True
        self._log(record)
        if not deletes:
            self._enter(record)
        elif record.is_lease:
            self._place_lease(record)
        if self._feed is not None:
            self._tell(before, record)
        return True

    def _enter_deletion(self, record: Record, old: Record | None, now: float) -> bool:
        """Note since when a deletion is kept. Returns whether there is anything to do: always, but in a repair."""
        if old is not None and old in self._leases and old.dot == record.dot:
            return False
        held, _ = self._aside.tombstones.setdefault(record.dot, (record, now))
        return held is record  # else it is in its slot; or one dot is of two writes, and somebody lies

    def _log(self, record: Record) -> None:
        self._log_of(record.origin).add(record)

    def _log_of(self, origin: Origin) -> Log:
        log = self._logs.get(origin)
        if log is None:
            log = self._logs[origin] = Log()
        return log

    def _enter(self, record: Record) -> None:
        """Count and list a live user record."""
        self.live += 1
        self.fingerprint = (self.fingerprint + fingerprint(record)) % _MODULUS
        self._index(record)

    def _enter_registers(self, records: list[Record]) -> None:
        """Count and list registers' live records that have just come into their slots, some of which may have left."""
        if records:
            self.live += len(records)
            self.fingerprint = (self.fingerprint + sum(map(fingerprint, records))) % _MODULUS
            self._keys.update([str(record.slot) for record in records])

    def _take_out(self, record: Record, winner: Record | None) -> None:
        """Take a record out of its slot because of what was seen elsewhere; nothing takes its place."""
        before = self._seen(record)
        self._remove(record)
        self._aside.keep(record, winner, self._now)
        self._tell(before, winner or record)

    # Leases

    def _place_lease(self, record: Record) -> None:
        """A lease has come into its slot."""
        member = self.members().get(record.origin.node_id)
        life = None if member is None else member.origin
        if is_over(record, self._now, self.wall_offset, life):
            self._leases.own(record)
            self._aside.tombstones.setdefault(record.dot, (record, self._now))
            return
        self._aside.tombstones.pop(record.dot, None)
        self._leases.add(record)
        self.live += 1
        if self._leases.is_shown(record):
            self._show(record)

    def _show(self, record: Record) -> None:
        self._shown.add(str(record.slot))
        self._index(record)

    def _hide(self, record: Record) -> None:
        self._unindex(record)
        self._shown.discard(str(record.slot))

    def _age(self, record: Record) -> None:
        """A lease is over, or abandoned: from now on it is a tombstone."""
        before = self._seen(record)
        self._end_lease(record)
        self._aside.tombstones[record.dot] = (record, self._now)
        self.expired += 1
        self._note(record)
        self._tell(before, record, Cause.EXPIRED)

    def _end_lease(self, record: Record) -> None:
        """A lease is live no more."""
        if record.slot in self._shown:
            self._hide(record)
        self._leases.age(record)
        self.live -= 1

    def _look_after(self, member: Record) -> None:
        """A member record has come or gone: which of the node's ephemeral values are abandoned now, and which not?"""
        if member.kind is not _MEMBER:
            return
        name = member.origin.node_id
        present = self.members().get(name)
        life = None if present is None else present.origin
        for record in self._leases.owned(name):
            over = is_over(record, self._now, self.wall_offset, life)
            if over == (record in self._leases):
                if over:
                    self._age(record)
                else:
                    before = self._seen(record)
                    self._place_lease(record)
                    self._note(record)
                    self._tell(before, record, Cause.SHOWN)

    def _remove(self, record: Record) -> None:
        """Take a record out of its slot and of all that counts it."""
        del self._slots[record.kind][record.slot]
        if self._journal is not None:
            self._journal.append(record)
        if record.kind is _MEMBER or record.kind is _ACCUSATION:
            self._unindex_member(record)
            return
        self._logs[record.origin].discard(self._in_slot)
        if record.is_lease:
            if record in self._leases:
                self._end_lease(record)
            self._leases.remove(record)
        elif not record.is_tombstone:
            self.fingerprint = (self.fingerprint - fingerprint(record)) % _MODULUS
            self.live -= 1
            self._unindex(record)

    def _in_slot(self, record: Record) -> bool:
        return self._slots[record.kind].get(record.slot) is record

    def _is_settled(self, origin: Origin, sequence: int) -> bool:
        """Whether all is covered here that the origin covered when it wrote that."""
        if origin == self.origin:
            return True
        return self._context.get(origin, 0) >= sequence or self.coverage.is_folded(origin)

    def _raise_floor(self, origin: Origin, sequence: int) -> None:
        if sequence > self.floor.get(origin, 0):
            self.floor[origin] = sequence
            self._note_origin(origin)

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
        if record.kind is _REGISTER:
            self._keys.add(str(record.slot))
        elif record.kind is _SET_ELEMENT:
            self._sets.enter(record)
        else:
            self._tallies.enter(record)

    def _unindex(self, record: Record) -> None:
        if record.kind is _REGISTER:
            self._keys.discard(str(record.slot))
        elif record.kind is _SET_ELEMENT:
            self._sets.leave(record)
        else:
            self._tallies.leave(record)


_since = itemgetter(0)


def member_of(record: Record) -> Member:
    """The content of a member record."""
    member: Member = record.content
    return member


def accusation_of(record: Record) -> Accusation:
    """The content of an accusation."""
    accusation: Accusation = record.content
    return accusation
