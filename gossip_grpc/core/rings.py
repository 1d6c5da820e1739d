"""Rings: the members in an order that every node computes alike, each ring by another hash.

Ring 0 carries the rumors (see rumor.py); failure detection takes its monitors from further ones (see monitors.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache

from xxhash import xxh3_64_intdigest


def position(node_id: str, ring: int = 0) -> int:
    """Where a node stands on a ring: a 64-bit hash of its name, seeded by the ring."""
    return xxh3_64_intdigest(node_id.encode(), ring)


@lru_cache(maxsize=2**14)
def place(node_id: str, ring: int) -> tuple[int, str]:
    """What a ring is sorted by: a node's position, and its name, as two may stand at one position."""
    return position(node_id, ring), node_id


class Ring:
    """Other nodes in the order in which they follow a node on a ring. Never changed.

    Attributes:
        names: the other nodes, from the node's successor to its predecessor.
    """

    __slots__ = ("_ring", "_start", "names")

    def __init__(self, node_id: str, others: Iterable[str], ring: int = 0) -> None:
        self._ring = ring
        self._start = place(node_id, ring)
        self.names = tuple(sorted(others, key=self._rank))

    def behind(self, name: str) -> Sequence[str]:
        """The nodes that follow another one, which may be missing from the ring, up to the end of `names`."""
        return self.names[bisect_right(self.names, self._rank(name), key=self._rank) :]

    def _rank(self, name: str) -> tuple[bool, int, str]:
        there = place(name, self._ring)
        return (there < self._start, *there)
