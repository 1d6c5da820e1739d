"""Watching: what has happened, kept in a log that all watchers read, each from where it is.

So what is kept is bounded, however many they are, and however slow. A watcher is told all that there is, and then every
event; between the two there is no gap, and nothing comes twice. What there is may be too much for one step of the loop:
it is read in pieces, in order, each at a moment when the watcher has read the whole log. An event about what no piece
has reached yet is left out, for the piece will show what came of it; one about what a piece has shown is told, before
the next piece. So whenever a piece is read, and at the marker behind the last, the watcher has been told what the node
holds, as far as the pieces have come.

A watcher that is too slow is cut off, and can go on with its token. A token names the run of the node, not its
generation: that survives a restart where the state is on disk, and the log does not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, Protocol, TypeVar

from xxhash import xxh3_64_intdigest

from gossip_grpc.core.limits import UINT64_MAX
from gossip_grpc.errors import LimitError, LocalError, NotReadyError, Reason

MAX_LAG = 1_000
"""Events that a watcher may be behind for longer than `PATIENCE`, beside those that it missed when it came: so that it
can resume. Many more may happen in one step, as when a partition heals, which is no fault of a watcher."""

PATIENCE = 5.0
"""Seconds that an event may wait for a watcher that is that far behind."""

_BATCH = 100
_BATCH_BYTES = 64 << 10
"""Bounds of what is taken from the log at a time: a watcher that stands still keeps that much from being let go of."""

_TOKEN = re.compile(r"([^/]+)/([0-9]{1,20})/([0-9]{1,20})/([0-9a-f]{16})", re.ASCII)

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Entry(NamedTuple, Generic[T]):
    """An event in a log: its number, when it happened, what, and about how many bytes that takes."""

    number: int
    at: float
    item: T
    size: int


class Log(Generic[T]):
    """The last events.

    Args:
        most: how many are kept.
        most_bytes: how many bytes they may take together; a single one may take more.
    """

    def __init__(self, most: int, most_bytes: float = float("inf")) -> None:
        self.number = 0
        self.size = 0
        self.closed = False
        self._most = most
        self._most_bytes = most_bytes
        self._entries: dict[int, Entry[T]] = {}  # by number: a watcher that is behind finds its place at once
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, items: Iterable[tuple[T, int]], at: float) -> None:
        """Log what has happened, each with its size, and tell those who wait."""
        entries = self._entries
        for item, size in items:
            self.number += 1
            entries[self.number] = Entry(self.number, at, item, size)
            self.size += size
            while len(entries) > self._most or (self.size > self._most_bytes and len(entries) > 1):
                self.size -= entries.pop(self.number - len(entries) + 1).size
        self.wake()

    def clear(self) -> None:
        """Let go of all, and of what happens until the next is added: no token of before is good any more."""
        self._entries = {}
        self.size = 0
        self.number += 1

    def close(self) -> None:
        """End all watchers."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Let those who wait look."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self, last: int) -> int:
        """Wait until something is added, or the log is closed (see `follow`)."""
        await self._news.wait()
        return last

    def holds(self, number: int) -> bool:
        """Whether all is kept that came after a number."""
        return self.number - len(self._entries) <= number <= self.number

    def after(self, number: int) -> list[Entry[T]]:
        """The next events after a number, some at a time: the log moves on while they are sent."""
        found: list[Entry[T]] = []
        size = 0
        for following in range(number + 1, min(number + _BATCH, self.number) + 1):
            entry = self._entries[following]
            size += entry.size
            if found and size > _BATCH_BYTES:
                break
            found.append(entry)
        return found

    def is_too_slow(self, number: int, slack: float, now: float) -> bool:
        """Whether one who has read up to a number is to be cut off; he may be behind by `slack` events."""
        if not self.holds(number):
            return True  # what he lacks is not kept any more, however quick he is
        return self.number - number > slack and now - self._entries[number + 1].at > PATIENCE


class View(Protocol[T, R_co]):
    """What one watcher is told.

    Attributes:
        scope: names the call and its parameters; tokens are good for the same only.
        noun: what there is, in words.
    """

    scope: str
    noun: str

    def pieces(self) -> Iterator[Iterable[R_co]]:
        """All that there is, in pieces; each is read when it is asked for."""

    def events(self, entries: list[Entry[T]], token: Callable[[int], str]) -> Iterable[R_co]:
        """Those events that are about what a piece has reached, or all if no pieces were asked for.

        Args:
            entries: of the log.
            token: the token of an event's number.
        """

    def reset(self, cause: str) -> R_co:
        """Says that pieces follow though there was a token."""

    def current(self, cause: str, token: str) -> R_co:
        """The marker."""


class Watchers:
    """All who watch a node, whatever they watch.

    Args:
        most: how many may watch at a time.
        life: names this run of the node.
    """

    def __init__(self, most: int, life: int) -> None:
        self.count = 0
        self.life = life
        self._most = most

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count one.

        Raises:
            LimitError: too many watch already.
        """
        if self.count >= self._most:
            raise LimitError(
                f"the node has {self.count} of max_watchers, {self._most}, already; ask another node, or try again "
                "later",
                reason=Reason.WATCH_LIMIT,
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class Source(Protocol[T]):
    """What watchers follow: a log, and the names of the node and its run."""

    log: Log[T]
    node_id: str
    life: int

    def refresh(self) -> None:
        """Log what has happened by now."""


async def follow(
    source: Source[T], view: View[T, R], given: str, news: Callable[[int], Awaitable[int]]
) -> AsyncGenerator[R, None]:
    """All that there is, or what came after the token given; then what comes.

    Args:
        source: of events.
        view: what the watcher is told.
        given: a token, or empty.
        news: who has read the log up to a number, all of it, waits with this until something happens that may concern
            him, or the log is closed; it answers up to which number he need not read.

    Raises:
        LocalError: the token is none.
        LimitError: the watcher is too slow.
        NotReadyError: the node stops.
    """
    log, loop = source.log, asyncio.get_running_loop()
    ending = _checksum(view.scope)

    def tokens(number: int) -> str:
        return f"{source.node_id}/{source.life}/{number}/{ending}"

    source.refresh()
    found, cause = _begin(source, view, given)
    pieces: Iterator[Iterable[R]] | None = None
    if found is None:
        pieces = view.pieces()
        if given:
            yield view.reset(cause)
    source.refresh()  # whoever was told of a reset has waited meanwhile
    last = log.number if found is None else found
    mark = log.number
    slack = float("inf") if pieces is not None else MAX_LAG + mark - last
    current = False
    while True:
        source.refresh()
        if pieces is None and not current and last >= mark:
            current = True
            yield view.current(cause, tokens(last))
            continue
        if log.closed:
            raise NotReadyError(
                "the node stops; watch another one",
                reason=Reason.STOPPING,
                metadata={} if pieces is not None else {"resume_token": tokens(last)},
            )
        if log.is_too_slow(last, slack, loop.time()):
            raise LimitError(
                f"this watcher is {log.number - last} events behind; "
                + ("begin anew" if pieces is not None else "resume with its token")
                + ", and read faster",
                reason=Reason.SLOW_WATCHER,
                metadata={} if pieces is not None else {"resume_token": tokens(last)},
            )
        if last < log.number:
            batch = log.after(last)
            for response in view.events(batch, tokens if pieces is None else _no_token):
                yield response
            last = batch[-1].number
        elif pieces is not None:
            piece = next(pieces, None)
            if piece is None:
                pieces, mark, slack = None, last, MAX_LAG
            for response in piece or ():
                yield response
        else:
            last = await news(last)
            continue
        await asyncio.sleep(0)  # a watcher inside of this process may take all at once: let others have the loop


def _begin(source: Source[T], view: View[T, R], given: str) -> tuple[int | None, str]:
    """The number after which to go on, None for all that there is; and why, in words."""
    if not given:
        return None, f"these are all {view.noun}"
    node_id, life, number = _parse(view, given)
    if (node_id, life) != (source.node_id, source.life):
        whose = f"another run of {node_id}" if node_id == source.node_id else f"node {node_id}"
        return None, f"the token is of {whose}, so these are all {view.noun}"
    if not source.log.holds(number):
        return None, f"what came after the token is not kept any more, so these are all {view.noun}"
    return number, "resumed"


def _no_token(_: int) -> str:
    """Who has not been told all yet cannot go on from there."""
    return ""


def _parse(view: View[T, R], token: str) -> tuple[str, int, int]:
    """Node, run and number of a token."""
    found = _TOKEN.fullmatch(token)
    if found and found[4] == _checksum(view.scope) and int(found[2]) <= UINT64_MAX:
        return found[1], int(found[2]), int(found[3])
    raise LocalError(
        "resume_token is not one that this call has answered to the same request; leave it out for all",
        field="resume_token",
    )


def _checksum(scope: str) -> str:
    return f"{xxh3_64_intdigest(scope.encode()):016x}"
