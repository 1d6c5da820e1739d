"""How the tokens of sessions become one, and how one is kept short: pure, for nodes, clients and the simulator alike.

A token asks for single writes (`dots`) and for all writes of an origin up to one (`complete`). Dots that continue what
is complete are taken into it at no loss. If more than `exact` are left, the older ones are taken into it too; that asks
for more than was seen, for everything before them as well, but never for less.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import attrgetter
from typing import Protocol, TypeVar

EXACT = 4
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
    last: dict[Hashable, int] = {}

    def lift(dot: W) -> None:
        origin, sequence = dot.origin, dot.sequence
        if sequence > last.get(origin, 0):
            ends.pop(origin, None)  # so that the last seen comes last
            ends[origin], last[origin] = dot, sequence

    for end in complete:
        lift(end)
    loose = list(dict.fromkeys(dots))
    while True:
        steps = [dot.sequence - last.get(dot.origin, 0) for dot in loose]
        if 1 in steps:
            for dot in sorted(loose, key=_sequence):
                if dot.sequence == last.get(dot.origin, 0) + 1:
                    lift(dot)
            continue
        loose = [dot for dot, step in zip(loose, steps, strict=True) if step > 1]
        if len(loose) <= exact:
            return tuple(loose), tuple(ends.values())[-MAX_ENTRIES:]
        for dot in loose[: len(loose) - exact]:
            lift(dot)
