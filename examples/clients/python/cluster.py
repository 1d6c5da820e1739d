"""A client of several nodes: it asks one of them, and moves on to the next when that one fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from gossip.v1 import (
    cluster_pb2_grpc,
    counter_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    kv_pb2,
    kv_pb2_grpc,
    set_pb2_grpc,
)
from grpc_status import rpc_status
from session import Session

ATTEMPT_TIMEOUT = 5.0
"""Seconds that one node gets to answer in."""

CALL_TIMEOUT = 20.0
"""Seconds that all nodes together get."""

PAUSE = 0.2
"""Seconds to wait when all nodes have failed; twice as long each time that they fail again ..."""

MAX_PAUSE = 2.0
"""... but no longer than this."""

# Another node may do what a node has refused for one of these reasons. For any other, it would refuse it as well.
ASK_ANOTHER = frozenset({"NOT_READY", "STOPPING", "DISK_FAILED", "SESSION_BEHIND", "SESSION_LIMIT", "WATCH_LIMIT"})

OPTIONS = (
    # gRPC's own default waits for up to two minutes after a node is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A watcher may hear nothing for hours; this is how it learns that the node's host is gone.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)

T = TypeVar("T")
D = TypeVar("D", bound=Message)


class Told(Protocol):
    """What a stream tells, and where to go on after it."""

    resume_token: str


E = TypeVar("E", bound=Told)


class Node:
    """One node, with the stubs of its services."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.kv = kv_pb2_grpc.KeyValueServiceStub(self.channel)
        self.counter = counter_pb2_grpc.CounterServiceStub(self.channel)
        self.set = set_pb2_grpc.SetServiceStub(self.channel)
        self.event = event_pb2_grpc.EventServiceStub(self.channel)
        self.cluster = cluster_pb2_grpc.ClusterServiceStub(self.channel)


class Cluster:
    def __init__(self, nodes: Sequence[Node], first: int = 0) -> None:
        self.nodes = nodes
        self._current = first

    def starting_at(self, index: int) -> Self:
        """The same nodes and connections, for one that asks another node first."""
        return type(self)(self.nodes, index % len(self.nodes))

    async def close(self) -> None:
        await asyncio.gather(*(node.channel.close() for node in self.nodes))

    @property
    def current(self) -> Node:
        """The node that is asked now."""
        return self.nodes[self._current]

    async def call(self, call: Callable[[Node], Awaitable[T]]) -> T:
        """Ask the current node, and the others while it makes sense.

        For reads, and for writes that do no harm if they are done twice: Put, Delete, Add and Remove of a set; and Add
        of a counter and Publish, if they have a request_id that stays the same.
        """
        failures = 0
        async with asyncio.timeout(CALL_TIMEOUT):
            while True:
                node = self.current
                try:
                    return await call(node)
                except grpc.aio.AioRpcError as error:
                    if not _moves_on(error):
                        raise
                self._leave(node)
                failures += 1
                if failures % len(self.nodes) == 0:
                    await rest(failures // len(self.nodes))

    def watch(
        self, prefix: str, token: str = "", session: Session | None = None
    ) -> AsyncGenerator[kv_pb2.KeyValueServiceWatchResponse, None]:
        """What there is below a prefix and every change of it, for ever."""

        def begin(node: Node, token: str) -> AsyncIterator[kv_pb2.KeyValueServiceWatchResponse]:
            return node.kv.Watch(
                kv_pb2.KeyValueServiceWatchRequest(
                    prefix=prefix, resume_token=token, session=session.token() if session else None
                )
            )

        return self._follow(begin, token)

    def subscribe(
        self, topics: Sequence[str], token: str = ""
    ) -> AsyncGenerator[event_pb2.EventServiceSubscribeResponse, None]:
        """The events of some topics that come from now on, or after a token, for ever."""

        def begin(node: Node, token: str) -> AsyncIterator[event_pb2.EventServiceSubscribeResponse]:
            return node.event.Subscribe(event_pb2.EventServiceSubscribeRequest(topics=topics, resume_token=token))

        return self._follow(begin, token)

    async def _follow(self, begin: Callable[[Node, str], AsyncIterator[E]], token: str) -> AsyncGenerator[E, None]:
        """A stream that goes on where it was when a node fails or cuts a slow reader off.

        At that node without loss or repeat; another one sends RESET and what it has. The resume_token of what was
        received resumes it later.
        """
        failures = 0
        while True:
            node = self.current
            stream = begin(node, token)
            try:
                async for told in stream:
                    failures = 0
                    token = told.resume_token or token
                    yield told
            except grpc.aio.AioRpcError as error:
                info = detail(error, ErrorInfo)
                if info and info.reason == "SLOW_WATCHER":
                    token = info.metadata["resume_token"]
                    continue
                if not _moves_on(error):
                    raise
            finally:
                stream.cancel()
            self._leave(node)
            failures += 1
            if failures % len(self.nodes) == 0:
                await rest(failures // len(self.nodes))

    def _leave(self, failed: Node) -> None:
        # Unless another task has done so already.
        if self.current is failed:
            self._current = (self._current + 1) % len(self.nodes)


def _moves_on(error: grpc.aio.AioRpcError) -> bool:
    info = detail(error, ErrorInfo)
    if info:
        # The node has answered, and done nothing. So SESSION_BEHIND is no unknown outcome, though its code is
        # DEADLINE_EXCEEDED, too.
        return info.reason in ASK_ANOTHER
    # No node says so: nobody knows whether the call took effect.
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def detail(error: grpc.aio.AioRpcError, kind: type[D]) -> D | None:
    """What the node says of an error to programs; None if it says nothing of that kind."""
    status = rpc_status.from_call(error)
    found = kind()
    for packed in status.details if status else ():
        if packed.Unpack(found):
            return found
    return None


async def rest(failures: int = 1) -> None:
    """Wait, not equally long for all clients, so that they do not all come at once to a node that is back."""
    await asyncio.sleep(min(PAUSE * 2 ** (failures - 1), MAX_PAUSE) * random.uniform(0.5, 1.5))
