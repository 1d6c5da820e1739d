"""The values of counters, kept up to date as the records come and go that they are made of.

A counter is the sum of one *part* an origin: of what that origin has added less what it has subtracted, that which a
reset has seen is left out, and so is each addition that is void (requests.py).

An origin's sums only grow, so each of its additions has a *mark* of its own, the sums after it. Whether a share or a
reset has an addition in it is told by the mark, whatever came in which order: the part reflects the additions whose
marks are above the reset's sums and not above the share's. A void takes away what it names as long as that is so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from gossip_grpc.core.keys import SortedKeys
from gossip_grpc.core.records import Kind, Origin, Record, Sums

_SHARE, _RESET, _VOID = Kind.COUNTER_SHARE, Kind.COUNTER_RESET, Kind.COUNTER_VOID


class Tallies:
    """The counters of one store.

    Args:
        held: the record of a slot, if there is one.
    """

    def __init__(self, held: Callable[[Kind, Hashable], Record | None]) -> None:
        self.keys = SortedKeys()
        self._held = held
        self._values: dict[str, int] = {}
        self._parts: dict[str, dict[Origin, int]] = {}
        self._voids: dict[tuple[str, Origin], dict[Sums, Record]] = {}

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
        slots = [(key, origin) for origin in self._parts.get(key, ())]
        found = [self._held(kind, slot) for kind in (_SHARE, _RESET) for slot in slots]
        voids = [record for slot in slots for record in self._voids.get(slot, {}).values()]
        return [record for record in found if record is not None] + voids

    def enter(self, record: Record) -> None:
        """A record has come into its slot."""
        slot: Any = record.slot
        if record.kind is _VOID:
            key, mark, origin = slot
            self._voids.setdefault((key, origin), {})[mark] = record
        else:
            key, origin = slot
        if key not in self._parts:
            self._parts[key] = {}
            self._values[key] = 0
            self.keys.add(key)
        self._count(key, origin)

    def leave(self, record: Record) -> None:
        """A record has left its slot; nearly always to be replaced, so that the counter stays."""
        slot: Any = record.slot
        if record.kind is _VOID:
            key, mark, origin = slot
            voids = self._voids[key, origin]
            del voids[mark]
            if not voids:
                del self._voids[key, origin]
        else:
            key, origin = slot
        self._count(key, origin)

    def _count(self, key: str, origin: Origin) -> None:
        share, reset = self._sums(_SHARE, key, origin), self._sums(_RESET, key, origin)
        # A reset may arrive before the share it saw, which is at least that.
        part = max(share[0] - reset[0], 0) - max(share[1] - reset[1], 0)
        for mark, void in self._voids.get((key, origin), {}).items():
            if reset < mark <= share:
                part -= void.content
        parts = self._parts[key]
        self._values[key] += part - parts.get(origin, 0)
        parts[origin] = part

    def _sums(self, kind: Kind, key: str, origin: Origin) -> Sums:
        record = self._held(kind, (key, origin))
        return (0, 0) if record is None else record.content
