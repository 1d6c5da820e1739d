"""Rings: the members in an order that every node computes alike, each ring by another hash.

Ring 0 carries the rumors (see rumor.py). Failure detection will take its monitors from further ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from xxhash import xxh3_64_intdigest


def position(node_id: str, ring: int = 0) -> int:
    """Where a node stands on a ring: a 64-bit hash of its name, seeded by the ring."""
    return xxh3_64_intdigest(node_id.encode(), ring)


def successors(node_id: str, others: Iterable[str], ring: int = 0) -> list[str]:
    """The other nodes in the order in which they follow `node_id` on a ring."""
    order = sorted((position(other, ring), other) for other in others)
    start = bisect_right(order, (position(node_id, ring), node_id))
    return [name for _, name in order[start:] + order[:start]]
