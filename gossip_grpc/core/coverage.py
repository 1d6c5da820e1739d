"""Coverage: which writes a node's state reflects, as a version vector and ranges of dots above it.

> I1. If a node's coverage includes dot d, its state reflects d: it holds d's record, or a record that supersedes it
> in the slot, or the slot was deleted and purged after d.

Writes of one origin are covered without a hole up to its *sequence*; rumors that overtook others leave ranges above
it, kept sorted, apart from each other and from the sequence. So two coverages of the same dots are equal.

Its hash is the sum of a hash of each origin's part. Once asked for it is kept: what changes an origin takes its part
out of the sum first (`_touch`), and the next `hash` puts in what has become of it. So it costs what has changed since,
not what there is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from xxhash import xxh3_64_intdigest

from gossip_grpc.core.records import Dot, Origin

_MODULUS = 2**64

EVERYTHING = 2**64 - 1
"""The sequence up to which a folded origin is covered: no write has a greater one."""

Ranges = list[tuple[int, int]]
"""Sorted ranges of sequences, both ends included, apart from each other by at least one."""


class Coverage:
    """A set of dots. Empty, or made of the parts given, which become its own.

    Args:
        vector: origin -> sequence covered without a hole.
        above: origin -> ranges covered above it.
        folded: node -> the generation up to which all of its writes are covered.

    Attributes:
        changed: origins of which something has changed since somebody emptied it; None while nobody wants to know. Of
            a node that is folded it holds at least the last origin that is.
    """

    __slots__ = ("_above", "_folded", "_sum", "_touched", "_vector", "changed")

    def __init__(
        self,
        vector: dict[Origin, int] | None = None,
        above: dict[Origin, Ranges] | None = None,
        folded: Mapping[str, int] | None = None,
    ) -> None:
        self._vector: dict[Origin, int] = vector if vector is not None else {}
        self._above: dict[Origin, Ranges] = above if above is not None else {}
        self._folded: dict[str, int] = {}
        self.changed: set[Origin] | None = None
        self._sum: int | None = None  # None until the hash is asked for
        self._touched: set[Origin] = set()  # whose part is not in the sum
        if folded:
            self.fold(folded)

    @classmethod
    def of(cls, dots: Iterable[Dot | tuple[Origin, int]]) -> Coverage:
        """The coverage of just these dots."""
        coverage = cls()
        for origin, sequence in dots:
            coverage.add(origin, sequence)
        return coverage

    def copy(self) -> Coverage:
        """An independent copy."""
        copy = Coverage(dict(self._vector), {origin: list(ranges) for origin, ranges in self._above.items()})
        copy._folded = dict(self._folded)
        copy._sum, copy._touched = self._sum, set(self._touched)
        return copy

    def sequence(self, origin: Origin) -> int:
        """Highest sequence of the origin covered without a hole, 0 for none; `EVERYTHING` of one that is folded."""
        if self._folded and self.is_folded(origin):
            return EVERYTHING
        return self._vector.get(origin, 0)

    def above(self, origin: Origin) -> Ranges:
        """Ranges of the origin covered above its sequence. Not to be changed."""
        return self._above.get(origin, [])

    def origins(self) -> set[Origin]:
        """All origins of which at least one write is covered, those that are folded left out."""
        return self._vector.keys() | self._above.keys()

    @property
    def folded(self) -> Mapping[str, int]:
        """Node -> the generation up to which all of its writes are covered. Not to be changed."""
        return self._folded

    def is_folded(self, origin: Origin) -> bool:
        """Whether all that the origin ever wrote counts as covered, because its life ended long ago."""
        return origin.generation <= self._folded.get(origin.node_id, -1)

    def fold(self, lives: Mapping[str, int]) -> set[str]:
        """Let one entry a node cover all writes of its generations up to the one given; returns for whom it is new."""
        new = {node: last for node, last in lives.items() if last > self._folded.get(node, -1)}
        if not new:
            return set()
        self._folded |= new
        gone = [origin for origin in self.origins() if origin.generation <= new.get(origin.node_id, -1)]
        for origin in gone:
            self._vector.pop(origin, None)
            self._above.pop(origin, None)
        if self.changed is not None:
            self.changed |= {*gone, *(Origin(node, last) for node, last in new.items())}
        self._sum = None
        self._touched = set()
        return set(new)

    def highest(self, origin: Origin) -> int:
        """Highest sequence of the origin covered, holes below it or not; 0 for none."""
        if self._folded and self.is_folded(origin):
            return EVERYTHING
        ranges = self._above.get(origin)
        return ranges[-1][1] if ranges else self._vector.get(origin, 0)

    def covers(self, origin: Origin, sequence: int) -> bool:
        """Whether the dot is in this set."""
        if sequence <= self._vector.get(origin, 0):
            return True
        ranges = self._above.get(origin)
        if not ranges:
            return bool(self._folded) and self.is_folded(origin)
        index = bisect_right(ranges, (sequence, _INFINITY)) - 1
        return index >= 0 and sequence <= ranges[index][1]

    def add(self, origin: Origin, sequence: int) -> bool:
        """Add one dot; returns whether it was new."""
        current = self._vector.get(origin, 0)
        if sequence <= current or (self._folded and self.is_folded(origin)):
            return False
        self._touch(origin)
        ranges = self._above.get(origin)
        if ranges is None:
            if sequence == current + 1:
                self._vector[origin] = sequence
            else:
                self._above[origin] = [(sequence, sequence)]
            return True
        first, last = ranges[-1]
        if sequence == last + 1:  # Deltas come in order: nearly always the end of the last range, or past it.
            ranges[-1] = (first, sequence)
            return True
        if sequence > last:
            ranges.append((sequence, sequence))
            return True
        return self.add_range(origin, sequence, sequence)

    def add_range(self, origin: Origin, first: int, last: int) -> bool:
        """Add the origin's dots from `first` to `last`, both included; returns whether any was new."""
        current = self._vector.get(origin, 0)
        if last <= current or (self._folded and self.is_folded(origin)):
            return False
        old = self._above.get(origin, [])
        merged = _insert(old, max(first, current + 1), last)
        if merged == old:
            return False
        self._store(origin, current, merged)
        return True

    def merge(self, other: Coverage) -> set[str]:
        """Take the union with another coverage; returns the nodes of which it folds more."""
        new = self.fold(other._folded)
        for origin, sequence in other._vector.items():
            if sequence > self.sequence(origin):
                self._store(origin, sequence, self._above.get(origin, []))
        for origin, ranges in other._above.items():
            for first, last in ranges:
                self.add_range(origin, first, last)
        return new

    def includes(self, other: Coverage) -> bool:
        """Whether every dot of the other is in this set."""
        vector, folded = self._vector, self._folded
        if any(generation > folded.get(node_id, -1) for node_id, generation in other._folded.items()):
            return False
        for origin, sequence in other._vector.items():
            if sequence > vector.get(origin, 0) and not self._covers_range(origin, 1, sequence):
                return False
        return all(
            self._covers_range(origin, first, last) for origin, ranges in other._above.items() for first, last in ranges
        )

    def hash(self) -> int:
        """64-bit hash, equal for equal coverages on any machine."""
        stale = self._touched
        if self._sum is None:
            stale = self.origins()
            self._sum = sum(
                xxh3_64_intdigest(f"{len(node)} {node} {last} folded".encode()) for node, last in self._folded.items()
            )
        self._sum = (self._sum + sum(map(self._part, stale))) % _MODULUS
        self._touched = set()
        return self._sum

    def dots(self) -> Iterator[Dot]:
        """Every dot, one by one, those of folded origins left out. For tests and small sets."""
        for origin in sorted(self.origins()):
            for first, last in [(1, self.sequence(origin)), *self.above(origin)]:
                for sequence in range(first, last + 1):
                    yield Dot(origin, sequence)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coverage):
            return NotImplemented
        return self._vector == other._vector and self._above == other._above and self._folded == other._folded

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        parts = [f"{origin}: {self.sequence(origin)} {self.above(origin) or ''}" for origin in sorted(self.origins())]
        parts += [f"{node_id}: all up to {generation}" for node_id, generation in sorted(self._folded.items())]
        return f"Coverage({', '.join(parts)})"

    def _covers_range(self, origin: Origin, first: int, last: int) -> bool:
        current = self._vector.get(origin, 0)
        if last <= current or (self._folded and self.is_folded(origin)):
            return True
        first = max(first, current + 1)
        ranges = self._above.get(origin, [])
        index = bisect_right(ranges, (first, _INFINITY)) - 1
        return index >= 0 and last <= ranges[index][1]

    def _part(self, origin: Origin) -> int:
        """What one origin adds to the hash; 0 if nothing of it is covered."""
        sequence, ranges = self._vector.get(origin, 0), self._above.get(origin)
        if not sequence and not ranges:
            return 0
        node_id, generation = origin
        return xxh3_64_intdigest(f"{len(node_id)} {node_id} {generation} {sequence} {ranges or ''}".encode())

    def _touch(self, origin: Origin) -> None:
        """Take the origin's part out of the sum, before it changes."""
        if self.changed is not None:
            self.changed.add(origin)
        if self._sum is not None and origin not in self._touched:
            self._touched.add(origin)
            self._sum -= self._part(origin)

    def _store(self, origin: Origin, sequence: int, ranges: Ranges) -> None:
        """Set the origin's sequence and ranges, folding into the sequence the ranges that it reaches."""
        self._touch(origin)
        kept = 0
        for first, last in ranges:
            if first > sequence + 1:
                break
            sequence = max(sequence, last)
            kept += 1
        if sequence:
            self._vector[origin] = sequence
        if kept < len(ranges):
            self._above[origin] = ranges[kept:]
        else:
            self._above.pop(origin, None)


_INFINITY = float("inf")


def _insert(ranges: Ranges, first: int, last: int) -> Ranges:
    """The ranges with one more, joined where it touches or overlaps others."""
    begin = end = bisect_right(ranges, (first, _INFINITY))
    while begin > 0 and ranges[begin - 1][1] >= first - 1:
        begin -= 1
        first = min(first, ranges[begin][0])
        last = max(last, ranges[begin][1])
    while end < len(ranges) and ranges[end][0] <= last + 1:
        last = max(last, ranges[end][1])
        end += 1
    return [*ranges[:begin], (first, last), *ranges[end:]]
