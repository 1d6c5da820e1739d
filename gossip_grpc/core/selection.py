"""Peer selection: with whom the next round of anti-entropy is made.

| selector      | picks                                                                                     |
| ------------- | ----------------------------------------------------------------------------------------- |
| `random`      | uniformly; the classic, robust, spreads in O(log n) rounds                                |
| `round-robin` | through a shuffled list, shuffled anew after each pass: nobody waits longer than 2n rounds |
| `hypercube`   | round r the node 2^(r mod log n) ranks further on: deterministic doubling                 |
| `zone-aware`  | mostly in the own zone, sometimes far, by distance weight                                 |

Beside them `revive` is the fifth kind: who else is tried in a round, so that partitions heal unattended.

None of them looks at every candidate in every round: candidates come as the same tuple until they change.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import NamedTuple, Protocol

MAX_DRAWS = 4
"""Random draws for each name that is to be picked, before all of the names are looked at."""


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

    def select(self, candidates: tuple[Candidate, ...]) -> Candidate:
        """The peer for the next round."""
        ...


class RandomSelector:
    """Uniform choice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def select(self, candidates: tuple[Candidate, ...]) -> Candidate:
        """The peer for the next round."""
        return self._rng.choice(candidates)


class RoundRobinSelector:
    """Through a shuffled list; newcomers enter at a random place, as in SWIM (Das et al., DSN 2002, 4.3)."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: tuple[Candidate, ...] = ()
        self._waiting: list[Candidate] = []

    def select(self, candidates: tuple[Candidate, ...]) -> Candidate:
        """The peer for the next round."""
        if candidates is not self._candidates:
            self._replace(candidates)
        if not self._waiting:
            self._waiting = list(candidates)
            self._rng.shuffle(self._waiting)
        return self._waiting.pop()

    def _replace(self, candidates: tuple[Candidate, ...]) -> None:
        by_name = {candidate.node_id: candidate for candidate in candidates}
        self._waiting = [by_name[old.node_id] for old in self._waiting if old.node_id in by_name]
        known = {candidate.node_id for candidate in self._candidates}
        for candidate in candidates if known else ():
            if candidate.node_id not in known:
                self._waiting.insert(self._rng.randint(0, len(self._waiting)), candidate)
        self._candidates = candidates


class HypercubeSelector:
    """Deterministic doubling: in round r, the node 2^(r mod d) ranks after this one, d = ceil(log2 n).

    Where all nodes agree on the members and start together, a write reaches everybody in d rounds.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._round = 0

    def select(self, candidates: tuple[Candidate, ...]) -> Candidate:
        """The peer for the next round."""
        following = bisect_left(candidates, self._node_id, key=lambda candidate: candidate.node_id)
        step = 1 << (self._round % len(candidates).bit_length())
        self._round += 1
        return candidates[(following + step - 1) % len(candidates)]


class ZoneAwareSelector:
    """Distance has two values, own zone and elsewhere; near gets `near_share` of the rounds, whatever the zones' sizes.

    Within each the choice is uniform. A share per zone, not a weight per node, keeps the traffic between zones the
    same part of all traffic as zones grow.
    """

    near_share = 0.8

    def __init__(self, rng: random.Random, zone: str) -> None:
        self._rng = rng
        self._zone = zone
        self._candidates: tuple[Candidate, ...] = ()
        self._near: list[Candidate] = []
        self._far: list[Candidate] = []

    def select(self, candidates: tuple[Candidate, ...]) -> Candidate:
        """The peer for the next round."""
        if candidates is not self._candidates:
            self._candidates = candidates
            self._near = [candidate for candidate in candidates if candidate.zone == self._zone]
            self._far = [candidate for candidate in candidates if candidate.zone != self._zone]
        if self._near and (not self._far or self._rng.random() < self.near_share):
            return self._rng.choice(self._near)
        return self._rng.choice(self._far)


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


def pick(names: Sequence[str], count: int, rng: random.Random, *, avoid: AbstractSet[str | None]) -> list[str]:
    """Up to `count` of some names (there is one at least) uniformly at random, none of them to be avoided.

    First by drawing names until they fit, so that of many names few are looked at.
    """
    picked: list[str] = []
    for _ in range(MAX_DRAWS * count):
        name = names[int(rng.random() * len(names))]
        if name not in avoid and name not in picked:
            picked.append(name)
            if len(picked) == count:
                break
    if len(picked) < count:
        rest = [name for name in names if name not in avoid and name not in picked]
        picked += rng.sample(rest, min(count - len(picked), len(rest)))
    return picked
