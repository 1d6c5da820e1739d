"""Sessions: what the bearer of a token has written and seen, and what a node must do before it serves a call with one.

A node serves it once its coverage includes the token's writes and its Lamport clock has passed the token's: then a read
reflects them (read-your-writes, monotonic reads), and a write wins over them (writes follow reads).

Whose writes are covered is passed already, for a node's clock is at least that of every write it covers. Only a token
without writes moves the clock: of a call that changed nothing. So the clock is let go as far as `MAX_LENT` in a node's
life by tokens, and no client can lift it out of what peers take (see `MAX_LEAD` in clock.py).
"""

from __future__ import annotations

from typing import NamedTuple

from gossip_grpc.core.clock import MAX_LEAD
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Dot
from gossip_grpc.core.store import Store
from gossip_grpc.errors import LocalError, Reason
from gossip_grpc.tokens import EXACT, join

MAX_LENT = MAX_LEAD // 2
"""How far tokens may move a node's clock in all of its life. What it writes then is still taken by every peer."""


class Session(NamedTuple):
    """A token.

    Attributes:
        clock: the greatest Lamport clock of the writes.
        dots: single writes, those last seen last.
        complete: all writes of each origin up to its sequence.
    """

    clock: int = 0
    dots: tuple[Dot, ...] = ()
    complete: tuple[Dot, ...] = ()

    def merge(self, other: Session, exact: int = EXACT) -> Session:
        """One token that asks for what both ask for; see tokens.py."""
        dots, complete = join((*self.dots, *other.dots), (*self.complete, *other.complete), exact)
        return Session(max(self.clock, other.clock), dots, complete)

    def missing(self, coverage: Coverage) -> Session:
        """What of it a coverage lacks."""
        return Session(
            self.clock,
            tuple(dot for dot in self.dots if not coverage.covers(*dot)),
            tuple(end for end in self.complete if coverage.sequence(end.origin) < end.sequence),
        )

    def met(self, coverage: Coverage) -> bool:
        """Whether a coverage lacks nothing of it."""
        return all(coverage.sequence(origin) >= sequence for origin, sequence in self.complete) and all(
            coverage.covers(origin, sequence) for origin, sequence in self.dots
        )

    def names(self) -> list[str]:
        """Its writes in words, `node/generation:sequence` each, or `node/generation:1-sequence` for all up to one."""
        return [*map(str, self.dots), *(f"{end.origin}:1-{end.sequence}" for end in self.complete)]


class Gate:
    """Lets a node's clock pass the tokens of those whose writes it covers.

    Attributes:
        lent: how far tokens have moved the clock.
    """

    __slots__ = ("_store", "lent")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lent = 0

    def enter(self, session: Session) -> None:
        """Pass the clock of a session of which nothing is missing.

        Raises:
            LocalError: the clock is too far ahead; nothing was changed.
        """
        clock = self._store.clock
        lead = session.clock - clock.time
        if lead <= 0:
            return
        if self.lent + lead > MAX_LENT:
            raise LocalError(
                f"session.clock is {session.clock}, too far ahead of the node's {clock.time} for the writes that the "
                "session names; hand on tokens as they were answered, or begin a new session",
                reason=Reason.CLOCK_POISON,
                field="session.clock",
            )
        self.lent += lead
        clock.witness(session.clock)
