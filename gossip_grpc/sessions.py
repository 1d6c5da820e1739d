"""Calls with a session wait here until the node covers what the session has written and seen.

A call that need not wait, as of a client that stays with one node, costs a look at the coverage. One that waits is
woken by what the node merges, and helps itself: rumors take milliseconds, and after that the node is made to compare
with the writer at once, rather than in one of its rounds. See core/sessions.py for what is asked of a node.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gossip_grpc import wire
from gossip_grpc.core.sessions import Gate, Session
from gossip_grpc.errors import BehindError, LimitError, NotReadyError, Reason
from gossip_grpc.scheduler import Scheduler

DEFAULT_PATIENCE = 5.0
"""Seconds that a call without a deadline waits."""

MARGIN = 0.2
"""Share of the time left that a call is answered before its deadline, so that its caller hears what was missing ..."""

MAX_MARGIN = 0.25
"""... but no more seconds than this."""

MAX_WAITING = 1_000
"""Most calls that wait at a time."""

ASK_AFTER = 0.02
"""Seconds that a rumor gets before the writer is asked."""

ASK_AGAIN = 0.2
"""Seconds until the same node is asked again."""

LOOK_SECONDS = 20e-6
"""Seconds between looks at the coverage for each that waits; a look takes some hundredth of it."""

MAX_NAMES = 8
"""Most writes that an error names in its metadata."""

MAX_SAID = 500
"""Characters of names in its message at most, unless it is one: messages are cut at twice as many (edge.py)."""


class _Waiter:
    __slots__ = ("missing", "woken")

    def __init__(self, missing: Session, woken: asyncio.Future[None]) -> None:
        self.missing = missing
        self.woken = woken


class Sessions:
    """The sessions of one node's callers.

    Args:
        scheduler: the driver of its engine.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._engine = scheduler.engine
        self._store = scheduler.engine.store
        self._gate = Gate(self._store)
        self._waiters: dict[_Waiter, None] = {}
        self._version = -1  # of the store, at the last look
        self._looked = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._asked: dict[str, float] = {}
        self._turn = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiters)

    async def reach(self, request: Any, context: Any) -> None:
        """Wait until this node may serve a request: until it covers all that the request's session names.

        To be awaited before anything is read or changed. The clock has passed the session's afterwards.

        Args:
            request: any message with a field `session`; without a session there is nothing to wait for.
            context: of the call, for its deadline; None for a call from inside.

        Raises:
            LocalError: the session is not one, or its clock is too far ahead.
            BehindError: the deadline came first; the error names what is missing.
            LimitError: too many wait already.
            NotReadyError: the node stops.
        """
        if not request.HasField("session"):
            return
        await self.wait(wire.decode_session(request.session), _patience(context))

    async def wait(self, session: Session, patience: float) -> None:
        """As `reach`, for at most so many seconds."""
        if not session.met(self._store.coverage):
            await self._wait(session, self._scheduler.now() + patience)
        self._gate.enter(session)

    def close(self) -> None:
        """End all that wait: the node stops."""
        self._closed = True
        for waiter in self._waiters:
            _wake(waiter)

    async def _wait(self, missing: Session, end: float) -> None:
        if len(self._waiters) >= MAX_WAITING:
            raise LimitError(
                f"{len(self._waiters)} calls wait already for what their sessions have seen; try again shortly, or ask "
                "another node",
                reason=Reason.SESSION_LIMIT,
            )
        waiter = _Waiter(missing, asyncio.get_running_loop().create_future())
        self._waiters[waiter] = None
        self._scheduler.on_input = self._look
        pause = ASK_AFTER
        try:
            while not self._closed:
                waiter.missing = missing = missing.missing(self._store.coverage)
                if not (missing.dots or missing.complete):
                    return
                left = end - self._scheduler.now()
                if left <= 0:
                    raise _behind(missing)
                await asyncio.wait((waiter.woken,), timeout=min(pause, left))
                if not waiter.woken.done():
                    self._ask(missing)
                    pause = ASK_AGAIN
            raise NotReadyError("the node stops; ask another one", reason=Reason.STOPPING)
        finally:
            del self._waiters[waiter]
            if not self._waiters:
                self._rest()

    def _rest(self) -> None:
        """Nobody waits any more."""
        self._scheduler.on_input = None
        self._asked.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """After an input: wake those that need not wait any more. Of all the time a hundredth at most goes to it."""
        if self._store.version == self._version or self._timer is not None:
            return
        early = self._looked + LOOK_SECONDS * len(self._waiters) - self._scheduler.now()
        if early > 0:
            self._timer = asyncio.get_running_loop().call_later(early, self._look_now)
        else:
            self._look_now()

    def _look_now(self) -> None:
        self._timer = None
        self._looked = self._scheduler.now()
        self._version = self._store.version
        coverage = self._store.coverage
        for waiter in self._waiters:
            if waiter.missing.met(coverage):
                _wake(waiter)

    def _ask(self, missing: Session) -> None:
        """Compare with who wrote what is missing; if that node cannot be reached, with another one."""
        engine, membership = self._engine, self._engine.membership
        if engine.leaving:
            return
        (name, _), _ = (missing.dots or missing.complete)[0]
        if name == self._store.origin.node_id or membership.address(name) is None or not membership.reachable(name):
            peers = membership.reachable_peers()
            if not peers:
                return
            self._turn += 1
            name = peers[self._turn % len(peers)].node_id
        now = self._scheduler.now()
        if now - self._asked.get(name, -ASK_AGAIN) >= ASK_AGAIN:
            self._asked[name] = now
            engine.compare_with(membership.peer(name), fetch=True)
            self._scheduler.pump()


def _wake(waiter: _Waiter) -> None:
    if not waiter.woken.done():
        waiter.woken.set_result(None)


def _patience(context: Any) -> float:
    """Seconds that a call may wait: a little less than its caller does."""
    left: float | None = None if context is None else context.time_remaining()
    return DEFAULT_PATIENCE if left is None else left - min(left * MARGIN, MAX_MARGIN)


def _behind(missing: Session) -> BehindError:
    names = missing.names()
    said = names[:MAX_NAMES]
    while len(said) > 1 and sum(map(len, said)) > MAX_SAID:
        said.pop()
    more = f" and {len(names) - len(said)} more" if len(names) > len(said) else ""
    return BehindError(
        f"this node does not cover {', '.join(said)}{more} yet, which the session has written or seen; "
        "nothing was done. Allow more time, or ask another node; if these were lost with a node, begin a new session",
        metadata={"missing": ",".join(names[:MAX_NAMES]), "missing_count": str(len(names))},
    )
