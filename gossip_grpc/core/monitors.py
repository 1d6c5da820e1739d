"""Who monitors whom: rings of the members that nobody accuses.

There are `RINGS` rings, each an order of its own that every node computes alike (see rings.py). A node sends its
heartbeats to its successor on every ring: its *monitors*. So a node sends and gets as many heartbeats as there are
rings, whatever the cluster's size. An accused member stands on no ring: its monitors stay those that would follow it,
and who it monitored gets another monitor.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from gossip_grpc.core.rings import place

RINGS = 3
"""Monitors of a member, as far as there are members enough."""

FIRST_RING = 1
"""Ring 0 carries the rumors."""


class Monitors:
    """The rings, of the members that are alive and that nobody accuses."""

    __slots__ = ("_clear", "_rings", "_sorted")

    def __init__(self) -> None:
        self._clear: set[str] = set()
        self._rings: list[list[tuple[int, str]]] = [[] for _ in range(RINGS)]
        self._sorted = True  # members come one by one, or all at once: then they are sorted once

    def __contains__(self, name: str) -> bool:
        return name in self._clear

    def add(self, name: str) -> None:
        """Let a member stand on the rings."""
        if name not in self._clear:
            self._clear.add(name)
            self._sorted = False
            for number, ring in enumerate(self._rings, FIRST_RING):
                ring.append(place(name, number))

    def remove(self, name: str) -> None:
        """Take a member from the rings."""
        if name in self._clear:
            self._clear.remove(name)
            for number, ring in enumerate(self._in_order(), FIRST_RING):
                del ring[bisect_left(ring, place(name, number))]

    def of(self, name: str) -> list[str]:
        """The monitors of a member, which may stand on the rings or not: up to `RINGS` names, in order of ring."""
        found: dict[str, None] = {}
        for number, ring in enumerate(self._in_order(), FIRST_RING):
            if ring:
                _, successor = ring[bisect_right(ring, place(name, number)) % len(ring)]
                found[successor] = None
        found.pop(name, None)
        return list(found)

    def monitored_by(self, name: str) -> list[str]:
        """The members on the rings that have this one, which stands on them too, as a monitor."""
        found: dict[str, None] = {}
        for number, ring in enumerate(self._in_order(), FIRST_RING):
            if ring:
                _, predecessor = ring[bisect_left(ring, place(name, number)) - 1]
                found[predecessor] = None
        found.pop(name, None)
        return list(found)

    def _in_order(self) -> list[list[tuple[int, str]]]:
        if not self._sorted:
            self._sorted = True
            for ring in self._rings:
                ring.sort()
        return self._rings
