"""The values of counters, kept up to date as the records come and go that they are made of.

A counter is the sum of one *part* an origin: of what that origin has added less what it has subtracted, that which a
reset has seen is left out, and so is each addition that is void (requests.py).

An origin's sums only grow, so each of its additions has a *mark* of its own, the sums after it. Whether a share or a
reset has an addition in it is told by the mark, whatever came in which order: the part reflects the additions whose
marks are above the reset's sums and not above the share's. A void takes away what it names as long as that is so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Hashable
from typing import Any

from gossip_grpc.core.keys import SortedKeys
from gossip_grpc.core.records import Kind, Origin, Record, Sums

_SHARE, _RESET, _VOID = Kind.COUNTER_SHARE, Kind.COUNTER_RESET, Kind.COUNTER_VOID


class _Part:
    """What one origin makes of one counter.

    Attributes:
        share: the sums of its share, as they were last looked at.
        reset: what resets have seen of them, likewise.
        voids: by mark.
        marks: of the voids, in order.
        void_share: sum of the void amounts whose marks the share has reached.
        void_reset: sum of those whose marks the reset has seen.
        value: what it comes to.
    """

    __slots__ = ("marks", "reset", "share", "value", "void_reset", "void_share", "voids")

    def __init__(self) -> None:
        self.share: Sums = (0, 0)
        self.reset: Sums = (0, 0)
        self.voids: dict[Sums, Record] = {}
        self.marks: list[Sums] = []
        self.void_share = self.void_reset = self.value = 0

    def move(self, share: Sums, reset: Sums) -> None:
        """The sums are others now: look at the voids between the old ones and the new ones."""
        self.void_share += self._between(self.share, share)
        self.void_reset += self._between(self.reset, reset)
        self.share, self.reset = share, reset
        self._count()

    def void(self, mark: Sums, record: Record, sign: int) -> None:
        """A void has come (1), or gone (-1)."""
        if sign > 0:
            self.voids[mark] = record
            insort(self.marks, mark)
        else:
            del self.voids[mark]
            del self.marks[bisect_left(self.marks, mark)]
        self.void_share += sign * record.content * (mark <= self.share)
        self.void_reset += sign * record.content * (mark <= self.reset)
        self._count()

    def _between(self, old: Sums, new: Sums) -> int:
        """How much the sum of the voids up to `old` grows if it goes up to `new`."""
        if not self.marks or old == new:
            return 0
        first, last = bisect_right(self.marks, old), bisect_right(self.marks, new)
        amounts = (self.voids[mark].content for mark in self.marks[min(first, last) : max(first, last)])
        return sum(amounts) if last > first else -sum(amounts)

    def _count(self) -> None:
        # A reset may arrive before the share it saw, which is at least that.
        share, reset = self.share, self.reset
        self.value = max(share[0] - reset[0], 0) - max(share[1] - reset[1], 0)
        if share > reset:
            self.value -= self.void_share - self.void_reset


class Tallies:
    """The counters of one store. Their records are never deleted, only replaced.

    Args:
        held: the record of a slot, if there is one.
    """

    def __init__(self, held: Callable[[Kind, Hashable], Record | None]) -> None:
        self.keys = SortedKeys()
        self._held = held
        self._values: dict[str, int] = {}
        self._parts: dict[str, dict[Origin, _Part]] = {}

    def value(self, key: str) -> int:
        """The value of a counter; 0 if nobody added to it."""
        return self._values.get(key, 0)

    def origins(self, key: str) -> list[Origin]:
        """Origins that have a share of a counter, or of which a share was reset or an addition is void."""
        return list(self._parts.get(key, ()))

    def share(self, key: str, origin: Origin) -> Sums:
        """What one origin has added to and subtracted from a counter, resets and voids aside."""
        return self._sums(_SHARE, key, origin)

    def records(self, key: str) -> list[Record]:
        """What the value reflects: shares, resets and voids of all origins."""
        parts = self._parts.get(key, {})
        found = [self._held(kind, (key, origin)) for kind in (_SHARE, _RESET) for origin in parts]
        voids = [record for part in parts.values() for record in part.voids.values()]
        return [record for record in found if record is not None] + voids

    def enter(self, record: Record) -> None:
        """A record has come into its slot."""
        slot: Any = record.slot
        key, origin = slot[0], slot[-1]
        parts = self._parts.get(key)
        if parts is None:
            parts = self._parts[key] = {}
            self._values[key] = 0
            self.keys.add(key)
        part = parts.get(origin)
        if part is None:
            part = parts[origin] = _Part()
        before = part.value
        if record.kind is _VOID:
            part.void(slot[1], record, 1)
        else:
            part.move(self._sums(_SHARE, key, origin), self._sums(_RESET, key, origin))
        self._values[key] += part.value - before

    def leave(self, record: Record) -> None:
        """A record has left its slot, for another one to come: shares and resets are looked at when that has come."""
        slot: Any = record.slot
        if record.kind is _VOID:
            part = self._parts[slot[0]][slot[-1]]
            before = part.value
            part.void(slot[1], record, -1)
            self._values[slot[0]] += part.value - before

    def _sums(self, kind: Kind, key: str, origin: Origin) -> Sums:
        record = self._held(kind, (key, origin))
        return (0, 0) if record is None else record.content
