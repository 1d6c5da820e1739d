"""What has happened to members, for those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import NamedTuple

from gossip_grpc import members
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.membership import Change
from gossip_grpc.core.records import Record
from gossip_grpc.gen.gossip.v1 import cluster_pb2
from gossip_grpc.watching import Entry, Log, Watchers, follow

KEPT = 10_000
"""Events that are kept."""


class Event(NamedTuple):
    """What has become of a member, and its record; None if it is forgotten."""

    change: Change
    record: Record | None


class MemberEvents:
    """The log of one run of a node.

    Args:
        engine: of the node.
        watchers: all who watch it.
    """

    def __init__(self, engine: Engine, watchers: Watchers) -> None:
        self.log: Log[Event] = Log(KEPT)
        self.node_id = engine.store.origin.node_id
        self.life = watchers.life
        self._engine = engine
        self._watchers = watchers

    def add(self, change: Change, now: float) -> None:
        """Log what has become of a member."""
        record = self._engine.store.members().get(change.node_id) if change.after is not None else None
        self.log.add([(Event(change, record), 0)], now)

    def refresh(self) -> None:
        """Changes are logged when they happen."""

    async def watch(self, token: str) -> AsyncGenerator[cluster_pb2.ClusterServiceWatchMembersResponse, None]:
        """All members, or what came after the token; then what comes.

        Raises:
            LocalError: the token is none.
            LimitError: too many watch already, or this watcher is too slow.
            NotReadyError: the node stops.
        """
        with self._watchers.admit():
            async with aclosing(follow(self, _Members(self._engine), token, self.log.news)) as responses:
                async for response in responses:
                    yield response


class _Members:
    """What a watcher of members is told."""

    scope = "members"
    noun = "members"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def pieces(self) -> Iterator[Iterable[cluster_pb2.ClusterServiceWatchMembersResponse]]:
        engine, now = self._engine, asyncio.get_running_loop().time()
        found = [members.encode(engine, record, now) for _, record in sorted(engine.store.members().items())]
        kind = cluster_pb2.MEMBER_EVENT_KIND_SNAPSHOT
        yield [
            cluster_pb2.ClusterServiceWatchMembersResponse(kind=kind, member=member, cause=member.cause)
            for member in found
        ]

    def events(
        self, entries: list[Entry[Event]], token: Callable[[int], str]
    ) -> Iterable[cluster_pb2.ClusterServiceWatchMembersResponse]:
        return (self._event(entry.item, token(entry.number)) for entry in entries)

    def _event(self, event: Event, token: str) -> cluster_pb2.ClusterServiceWatchMembersResponse:
        change, record = event
        if record is None:
            member = cluster_pb2.Member(node_id=change.node_id)
        else:
            member = members.encode(self._engine, record, asyncio.get_running_loop().time())
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
            resume_token=token,
        )

    def reset(self, cause: str) -> cluster_pb2.ClusterServiceWatchMembersResponse:
        """All is told anew."""
        kind = cluster_pb2.MEMBER_EVENT_KIND_RESET
        return cluster_pb2.ClusterServiceWatchMembersResponse(kind=kind, cause=cause)

    def current(self, cause: str, token: str) -> cluster_pb2.ClusterServiceWatchMembersResponse:
        kind = cluster_pb2.MEMBER_EVENT_KIND_CURRENT
        return cluster_pb2.ClusterServiceWatchMembersResponse(kind=kind, cause=cause, resume_token=token)
