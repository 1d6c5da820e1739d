"""How the tokens of sessions become one, and how one is kept short: pure, for nodes, clients and the simulator alike.

A token asks for single writes (`dots`) and for all writes of an origin up to one (`complete`). Dots that continue what
is complete are taken into it at no loss. If more than `exact` are left, the older ones are taken into it too; that asks
for more than was seen, for everything before them as well, but never for less.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import attrgetter
from typing import Protocol, TypeVar

EXACT = 8
"""Most single writes in a token that a client carries: each costs every call some 30 bytes and a microsecond."""

MAX_ENTRIES = 1_000
"""Most dots of a token, and most entries of `complete`."""


class Write(Protocol):
    """A dot, of the node's kind or the client's. Equal ones name one write."""

    @property
    def origin(self) -> Hashable:
        """Who wrote."""
        ...

    @property
    def sequence(self) -> int:
        """Its count of writes, from 1."""
        ...


W = TypeVar("W", bound=Write)

_sequence = attrgetter("sequence")


def join(dots: Iterable[W], complete: Iterable[W], exact: int = EXACT) -> tuple[tuple[W, ...], tuple[W, ...]]:
    """The dots and the complete entries, one an origin, of a token that asks for all of these, in short.

    Args:
        dots: single writes, of any number; those last seen last.
        complete: up to where an origin's writes are asked for, of any number.
        exact: most single writes that are left.

    Of more than `MAX_ENTRIES` origins those longest not seen are let go.
    """
    ends: dict[Hashable, W] = {}
    for end in complete:
        _raise(ends, end)
    loose = list(dict.fromkeys(dots))
    while True:
        for dot in sorted(loose, key=_sequence):
            if dot.sequence == _end(ends, dot) + 1:
                _raise(ends, dot)
        loose = [dot for dot in loose if dot.sequence > _end(ends, dot)]
        if len(loose) <= exact:
            return tuple(loose), tuple(ends.values())[-MAX_ENTRIES:]
        for dot in loose[: len(loose) - exact]:
            _raise(ends, dot)


def _end(ends: dict[Hashable, W], dot: W) -> int:
    end = ends.get(dot.origin)
    return 0 if end is None else end.sequence


def _raise(ends: dict[Hashable, W], dot: W) -> None:
    if dot.sequence > _end(ends, dot):
        ends.pop(dot.origin, None)  # so that the last seen comes last
        ends[dot.origin] = dot
