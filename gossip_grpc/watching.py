"""What has happened to members, kept for those who watch, and for those who come back.

All watchers read one log, each from where it is: what is kept is bounded however many there are, and however slow. A
watcher is told all members, and then every event; between the two there is no gap and nothing twice, for both are taken
in one step of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from itertools import islice
from typing import NamedTuple

from gossip_grpc import members
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.limits import UINT64_MAX
from gossip_grpc.core.membership import Change
from gossip_grpc.core.records import Record
from gossip_grpc.errors import LimitError, LocalError, NotReadyError, Reason
from gossip_grpc.gen.gossip.v1 import cluster_pb2

KEPT = 10_000
"""Events that are kept."""

MAX_LAG = 1_000
"""Events that a watcher may be behind for longer than `PATIENCE`, beside those that it missed when it came: so that it
can resume. Many more may happen in one step, as when a partition heals, which is no fault of a watcher."""

PATIENCE = 5.0
"""Seconds that an event may wait for a watcher that is that far behind."""

_BATCH = 100


class Event(NamedTuple):
    """Something that has happened: what, at what time, to which member record (None if it is forgotten)."""

    number: int
    change: Change
    at: float
    record: Record | None


class MemberEvents:
    """The log of one life of a node.

    Args:
        engine: of the node.
        most: how many may watch at a time.
    """

    def __init__(self, engine: Engine, most: int) -> None:
        self.watchers = 0
        self._engine = engine
        self._most = most
        self._log: deque[Event] = deque(maxlen=KEPT)
        self._number = 0
        self._news = asyncio.Event()
        self._closed = False

    def add(self, change: Change, now: float) -> None:
        """Log what has become of a member."""
        self._number += 1
        record = self._engine.store.members().get(change.node_id) if change.after is not None else None
        self._log.append(Event(self._number, change, now, record))
        self._wake()

    def close(self) -> None:
        """End all watchers."""
        self._closed = True
        self._wake()

    async def watch(self, token: str) -> AsyncGenerator[cluster_pb2.ClusterServiceWatchMembersResponse, None]:
        """All members, or what came after the token; then what comes.

        Raises:
            LocalError: the token is none.
            LimitError: too many watch already, or this watcher is too slow.
            NotReadyError: the node stops.
        """
        last, cause = self._begin(token)
        if self.watchers >= self._most:
            raise LimitError(
                f"{self.watchers} clients are watching, and max_watchers is {self._most}; ask another node, or try "
                "again later",
                reason=Reason.WATCH_LIMIT,
            )
        self.watchers += 1
        try:
            if last is None:
                last = self._number
                for response in self._snapshot():
                    yield response
            mark = self._number
            slack = MAX_LAG + mark - last
            current = False
            while True:
                if last >= mark and not current:
                    current = True
                    kind = cluster_pb2.MEMBER_EVENT_KIND_CURRENT
                    yield cluster_pb2.ClusterServiceWatchMembersResponse(
                        kind=kind, cause=cause, resume_token=self._token(last)
                    )
                if self._too_slow(last, slack):
                    raise LimitError(
                        f"this watcher is {self._number - last} events behind; resume with its token, and read faster",
                        reason=Reason.SLOW_WATCHER,
                        metadata={"resume_token": self._token(last)},
                    )
                if self._closed:
                    raise NotReadyError("the node stops; watch another one", reason=Reason.STOPPING)
                if last == self._number:
                    await self._news.wait()
                    continue
                for event in self._after(last):
                    yield self._response(event)
                    last = event.number
        finally:
            self.watchers -= 1

    def _begin(self, token: str) -> tuple[int | None, str]:
        """The number after which to go on, None for a snapshot; and why, in words."""
        if not token:
            return None, "these are all members"
        node_id, generation, number = _parse(token)
        origin = self._engine.store.origin
        if (node_id, generation) != origin:
            life = f"another life of {node_id}" if node_id == origin.node_id else f"node {node_id}"
            return None, f"the token is of {life}, so these are all members"
        if not self._number - len(self._log) <= number <= self._number:
            return None, "what came after the token is not kept any more, so these are all members"
        return number, "resumed"

    def _snapshot(self) -> list[cluster_pb2.ClusterServiceWatchMembersResponse]:
        engine, now = self._engine, asyncio.get_running_loop().time()
        found = [members.encode(engine, record, now) for _, record in sorted(engine.store.members().items())]
        kind = cluster_pb2.MEMBER_EVENT_KIND_SNAPSHOT
        return [
            cluster_pb2.ClusterServiceWatchMembersResponse(kind=kind, member=member, cause=member.cause)
            for member in found
        ]

    def _too_slow(self, last: int, slack: int) -> bool:
        behind = self._number - last
        if behind > len(self._log):
            return True  # what it lacks is not kept any more, however quick it is
        if behind <= slack:
            return False
        return asyncio.get_running_loop().time() - self._log[-behind].at > PATIENCE

    def _after(self, number: int) -> list[Event]:
        """The next events after a number, some at a time: the log moves on while they are sent."""
        first = number - (self._number - len(self._log))
        return list(islice(self._log, first, first + _BATCH))

    def _response(self, event: Event) -> cluster_pb2.ClusterServiceWatchMembersResponse:
        change = event.change
        if event.record is None:
            member = cluster_pb2.Member(node_id=change.node_id)
        else:
            now = asyncio.get_running_loop().time()
            member = members.encode(self._engine, event.record, now)
        status = change.after or change.before  # of a member that is forgotten, its last
        member.status = cluster_pb2.MemberStatus.Value(f"MEMBER_STATUS_{status}")
        if change.after is not change.before:
            word = "REAPED" if change.after is None else change.after
            member.cause = change.cause
        else:
            word = "UPDATED"
        return cluster_pb2.ClusterServiceWatchMembersResponse(
            kind=cluster_pb2.MemberEventKind.Value(f"MEMBER_EVENT_KIND_{word}"),
            member=member,
            cause=change.cause,
            resume_token=self._token(event.number),
        )

    def _token(self, number: int) -> str:
        origin = self._engine.store.origin
        return f"{origin.node_id}/{origin.generation}/{number}"

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _parse(token: str) -> tuple[str, int, int]:
    """Node, generation and number of a token."""
    node_id, *numbers = token.split("/")
    if len(numbers) == 2 and all(text.isascii() and text.isdigit() and len(text) <= 20 for text in numbers):
        generation, number = map(int, numbers)
        if generation <= UINT64_MAX:
            return node_id, generation, number
    raise LocalError("resume_token is not one that this call has answered; leave it out for all", field="resume_token")
