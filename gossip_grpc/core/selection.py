"""Peer selection: with whom the next round of anti-entropy is made.

| selector      | picks                                                                                     |
| ------------- | ----------------------------------------------------------------------------------------- |
| `random`      | uniformly; the classic, robust, spreads in O(log n) rounds                                |
| `round-robin` | through a shuffled list, shuffled anew after each pass: nobody waits longer than 2n rounds |
| `hypercube`   | round r the node 2^(r mod log n) ranks further on: deterministic doubling                 |
| `zone-aware`  | mostly in the own zone, sometimes far, by distance weight                                 |

Beside them `revive` is the fifth kind: who else is tried in a round, so that partitions heal unattended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class SelectorKind(StrEnum):
    """The selectors by name."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    HYPERCUBE = "hypercube"
    ZONE_AWARE = "zone-aware"


class Candidate(NamedTuple):
    """A peer that may be selected."""

    node_id: str
    zone: str = ""


class Selector(Protocol):
    """Selects one of some candidates, in order of node_id and never empty."""

    def select(self, candidates: Sequence[Candidate]) -> Candidate:
        """The peer for the next round."""
        ...


class RandomSelector:
    """Uniform choice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def select(self, candidates: Sequence[Candidate]) -> Candidate:
        """The peer for the next round."""
        return self._rng.choice(candidates)


class RoundRobinSelector:
    """Through a shuffled list; newcomers enter at a random place, as in SWIM (Das et al., DSN 2002, 4.3)."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: list[str] = []
        self._known: set[str] = set()

    def select(self, candidates: Sequence[Candidate]) -> Candidate:
        """The peer for the next round."""
        by_name = {candidate.node_id: candidate for candidate in candidates}
        for name in sorted(by_name.keys() - self._known) if self._known else ():
            self._waiting.insert(self._rng.randint(0, len(self._waiting)), name)
        self._known = set(by_name)
        self._waiting = [name for name in self._waiting if name in by_name]
        if not self._waiting:
            self._waiting = sorted(by_name)
            self._rng.shuffle(self._waiting)
        return by_name[self._waiting.pop()]


class HypercubeSelector:
    """Deterministic doubling: in round r, the node 2^(r mod d) ranks after this one, d = ceil(log2 n).

    Where all nodes agree on the members and start together, a write reaches everybody in d rounds.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._round = 0

    def select(self, candidates: Sequence[Candidate]) -> Candidate:
        """The peer for the next round."""
        after = [candidate for candidate in candidates if candidate.node_id > self._node_id]
        before = [candidate for candidate in candidates if candidate.node_id < self._node_id]
        ranked = after + before  # ranked[k] is k + 1 ranks after this node
        dimensions = len(ranked).bit_length()
        step = 1 << (self._round % dimensions)
        self._round += 1
        return ranked[(step - 1) % len(ranked)]


class ZoneAwareSelector:
    """Distance has two values, own zone and elsewhere; near gets `near_share` of the rounds, whatever the zones' sizes.

    Within each the choice is uniform. A share per zone, not a weight per node, keeps the traffic between zones the
    same part of all traffic as zones grow.
    """

    near_share = 0.8

    def __init__(self, rng: random.Random, zone: str) -> None:
        self._rng = rng
        self._zone = zone

    def select(self, candidates: Sequence[Candidate]) -> Candidate:
        """The peer for the next round."""
        near = [candidate for candidate in candidates if candidate.zone == self._zone]
        far = [candidate for candidate in candidates if candidate.zone != self._zone]
        if near and (not far or self._rng.random() < self.near_share):
            return self._rng.choice(near)
        return self._rng.choice(far)


def make_selector(kind: SelectorKind, *, node_id: str, zone: str, rng: random.Random) -> Selector:
    """The selector of that name for a node."""
    makers: dict[SelectorKind, Callable[[], Selector]] = {
        SelectorKind.RANDOM: lambda: RandomSelector(rng),
        SelectorKind.ROUND_ROBIN: lambda: RoundRobinSelector(rng),
        SelectorKind.HYPERCUBE: lambda: HypercubeSelector(node_id),
        SelectorKind.ZONE_AWARE: lambda: ZoneAwareSelector(rng, zone),
    }
    return makers[kind]()


def revive(unreachable: Sequence[str], reachable: int, rng: random.Random) -> str | None:
    """One unreachable peer to try beside the round, with probability unreachable / (reachable + 1), or None.

    So the attempts of a whole cluster do not grow with the number of its dead.
    """
    if unreachable and rng.random() < len(unreachable) / (reachable + 1):
        return rng.choice(unreachable)
    return None
