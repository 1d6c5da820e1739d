"""Logs: the records that one origin has written, by sequence, so that what a peer lacks of it is found at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Origin, Record

_SPARSE = 64
"""A log is compacted once more than this and more than half of its entries are gone."""

_sequence = attrgetter("sequence")


class Log:
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
