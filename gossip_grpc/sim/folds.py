"""Who folded which lives, and what it had seen of them: so that the checkers know what folding has let go of.

A store that folds a life claims to cover all that it wrote, also what was lost with it, or was at somebody who is cut
off for longer than the retention. Such writes are in doubt: nobody need hold them any more, and somebody may. All
others of a folded life are covered for certain by everybody who claims it: who has not folded it itself has taken it
over at the end of a complete delta, and with it what the others had seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Dot


class Fold(NamedTuple):
    """One decision of one store.

    Attributes:
        first: the lowest generation that it folded then.
        last: the highest one.
        known: what it covered of them.
    """

    first: int
    last: int
    known: Coverage


class Folds:
    """All decisions to fold.

    Attributes:
        made: with the node whose lives each is about, in the order in which they were made.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, Fold]] = []
        self._folds: defaultdict[str, list[Fold]] = defaultdict(list)

    def __bool__(self) -> bool:
        return bool(self.made)

    def add(self, node_id: str, fold: Fold) -> None:
        """Note one."""
        self.made.append((node_id, fold))
        self._folds[node_id].append(fold)

    def doubts(self, dot: Dot) -> bool:
        """Whether anybody has folded the life of a write without covering the write."""
        origin, sequence = dot
        return any(
            fold.first <= origin.generation <= fold.last and not fold.known.covers(origin, sequence)
            for fold in self._folds.get(origin.node_id, ())
        )


class Noted(Coverage):
    """The coverage of a store, whose own decisions to fold are noted; not what it takes over from others."""

    __slots__ = ("_folds", "_taking")

    def __init__(self, coverage: Coverage, folds: Folds) -> None:
        super().__init__()
        self._folds = folds
        self._taking = True
        super().merge(coverage)
        self._taking = False

    def merge(self, other: Coverage) -> set[str]:
        """As of Coverage."""
        self._taking = True
        new = super().merge(other)
        self._taking = False
        return new

    def fold(self, lives: Mapping[str, int]) -> set[str]:
        """As of Coverage, and noted."""
        for node_id, last in () if self._taking else lives.items():
            first = self.folded.get(node_id, -1) + 1
            if last < first:
                continue
            known = Coverage()
            for origin in self.origins():
                if origin.node_id == node_id:
                    for low, high in [(1, self.sequence(origin)), *self.above(origin)]:
                        known.add_range(origin, low, high)
            self._folds.add(node_id, Fold(first, last, known))
        return super().fold(lives)
