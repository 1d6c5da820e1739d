"""What is kept aside of a store's slots: deletions as long as they are remembered, and what was superseded too early.

See store.py for why. Deletions age from when they came, in their slots or in graves, until they are purged. *Guards*
are writes that were superseded before they were settled, *graves* are deletions that were superseded: both keep what
they supersede themselves out of their slot, whatever becomes of it.

One of an origin is enough for a slot, the last: when it was written, its origin covered all that it covered for those
before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.journal import Area
from gossip_grpc.core.logs import Log
from gossip_grpc.core.records import DELETABLE_KINDS, Dot, Kind, Origin, Record, wins

Name = tuple[Kind, Hashable]
"""A kind and a slot."""


class Aside:
    """What one store keeps aside.

    Args:
        is_settled: whether all is covered that an origin covered when it wrote a sequence.
        note: called with each record of which something has become.

    Attributes:
        tombstones: deletions by dot, each with the time from which its retention counts, in the order of these.
        guards: by kind and slot, and by origin.
        graves: likewise.
        logs: the graves of each origin.
    """

    def __init__(self, is_settled: Callable[[Origin, int], bool], note: Callable[[Record], None]) -> None:
        self.tombstones: dict[Dot, tuple[Record, float]] = {}
        self.guards: dict[Name, dict[Origin, Record]] = {}
        self.graves: dict[Name, dict[Origin, Record]] = {}
        self.logs: dict[Origin, Log] = {}
        self._is_settled = is_settled
        self._note = note

    def put(self, record: Record, area: Area) -> None:
        """Take a guard or a grave from a disk."""
        name, origin = (record.kind, record.slot), record.origin
        if area is Area.GUARD:
            self.guards.setdefault(name, {})[origin] = record
        else:
            self.graves.setdefault(name, {})[origin] = record
            self.logs.setdefault(origin, Log()).add(record)

    def records(self) -> Iterator[Record]:
        """All guards and graves."""
        for aside in (self.guards, self.graves):
            for kept in aside.values():
                yield from kept.values()

    def area(self, record: Record) -> Area | None:
        """Where a record is kept, if it is."""
        if self.in_grave(record):
            return Area.GRAVE
        return Area.GUARD if self.guards.get((record.kind, record.slot), {}).get(record.origin) is record else None

    def in_grave(self, record: Record) -> bool:
        """Whether a record is a grave."""
        return self.graves.get((record.kind, record.slot), {}).get(record.origin) is record

    def guards_beyond(self, coverage: Coverage) -> list[Record]:
        """The guards that a coverage lacks."""
        return [
            record
            for kept in self.guards.values()
            for record in kept.values()
            if not coverage.covers(record.origin, record.sequence)
        ]

    def supersedes(self, record: Record) -> bool:
        """Whether something kept aside supersedes the record."""
        name = (record.kind, record.slot)
        return any(wins(kept, record) for aside in (self.guards, self.graves) for kept in aside.get(name, {}).values())

    def old(self, now: float, retention: float) -> list[Record]:
        """Deletions that have been kept for at least so many seconds."""
        found = []
        for record, since in self.tombstones.values():
            if now - since < retention:
                break
            found.append(record)
        return found

    def keep(self, loser: Record, winner: Record | None, now: float) -> None:
        """Keep a record that `winner` supersedes, if it must be. Counters are never deleted, and need not."""
        if loser.kind not in DELETABLE_KINDS:
            return
        if loser.deletes:
            self.bury(loser, winner, now)
            return
        origin = loser.origin
        if self._is_settled(origin, loser.sequence):
            return
        if winner is not None and winner.origin == origin and winner.sequence >= loser.sequence:
            return
        kept = self.guards.setdefault((loser.kind, loser.slot), {})
        other = kept.get(origin)
        if other is None or other.sequence < loser.sequence:
            kept[origin] = loser
            self._note(loser)
            if other is not None:
                self._note(other)

    def bury(self, loser: Record, winner: Record | None, now: float) -> None:
        """Keep a superseded deletion, unless its origin has made a later one of the slot."""
        origin, name = loser.origin, (loser.kind, loser.slot)
        other = self.graves.get(name, {}).get(origin)
        later = [kept for kept in (other, winner) if kept is not None and kept.origin == origin and kept.deletes]
        if any(kept.sequence > loser.sequence for kept in later) or (winner is not None and winner.dot == loser.dot):
            self.tombstones.pop(loser.dot, None)
            return
        if other is not None:
            self.exhume(other)
            self.tombstones.pop(other.dot, None)
        self.tombstones.setdefault(loser.dot, (loser, now))  # a lease may have been live until now
        self.graves.setdefault(name, {})[origin] = loser
        self.logs.setdefault(origin, Log()).add(loser)
        self._note(loser)

    def exhume(self, record: Record) -> None:
        """Let go of a grave."""
        name = (record.kind, record.slot)
        del self.graves[name][record.origin]
        if not self.graves[name]:
            del self.graves[name]
        self._note(record)
        self.logs[record.origin].discard(self.in_grave)

    def settle(self) -> None:
        """Let go of guards that are settled by now."""
        for name, kept in list(self.guards.items()):
            for origin, record in list(kept.items()):
                if self._is_settled(origin, record.sequence):
                    del kept[origin]
                    self._note(record)
            if not kept:
                del self.guards[name]

    def dig_out(self, record: Record) -> Record:
        """In a repair, what is kept aside of a record's dot comes back instead of it, if a deletion, else goes.

        A dot is kept in one place, whatever a peer or broken memory makes of its content: disks go by dots.
        """
        name, origin = (record.kind, record.slot), record.origin
        guards = self.guards.get(name, {})
        guard, grave = guards.get(origin), self.graves.get(name, {}).get(origin)
        if guard is not None and guard.sequence == record.sequence:
            del guards[origin]
            if not guards:
                del self.guards[name]
            self._note(guard)
        if grave is None or grave.sequence != record.sequence:
            return record
        self.exhume(grave)
        record, since = anew(grave), self.tombstones[grave.dot][1]
        self.tombstones[grave.dot] = (record, since)
        return record


def anew(record: Record) -> Record:
    """The same record as another object. Logs tell what has gone from what has come (back) by the object."""
    return Record(record.kind, record.slot, record.origin, record.sequence, record.clock, record.content)
