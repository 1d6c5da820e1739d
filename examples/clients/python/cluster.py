"""A client of several nodes: it asks one of them, and moves on to the next when that one fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from gossip.v1 import cluster_pb2_grpc, counter_pb2_grpc, kv_pb2, kv_pb2_grpc, set_pb2_grpc
from grpc_status import rpc_status
from session import Session

ATTEMPT_TIMEOUT = 5.0
"""Seconds that one node gets to answer in."""

CALL_TIMEOUT = 20.0
"""Seconds that all nodes together get."""

PAUSE = 0.2

# The node has answered with one of these, and did nothing: another node may do it. With any other reason the next one
# would answer the same.
ASK_ANOTHER = frozenset({"NOT_READY", "STOPPING", "SESSION_BEHIND"})

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


class Node:
    """One node, with the stubs of its services."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.kv = kv_pb2_grpc.KeyValueServiceStub(self.channel)
        self.counter = counter_pb2_grpc.CounterServiceStub(self.channel)
        self.set = set_pb2_grpc.SetServiceStub(self.channel)
        self.cluster = cluster_pb2_grpc.ClusterServiceStub(self.channel)


class Cluster:
    def __init__(self, addresses: Sequence[str]) -> None:
        self.nodes = [Node(address) for address in addresses]
        self._current = 0

    async def close(self) -> None:
        await asyncio.gather(*(node.channel.close() for node in self.nodes))

    @property
    def current(self) -> Node:
        """The node that is asked now."""
        return self.nodes[self._current]

    async def call(self, call: Callable[[Node], Awaitable[T]]) -> T:
        """Ask the current node, and the others while it makes sense.

        For reads, and for writes that say what is to be: Put, Delete, Add and Remove of a set. Not for adding to a
        counter, which counts twice if it is done twice.
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
                    await rest()

    async def watch(
        self, prefix: str, token: str = "", session: Session | None = None
    ) -> AsyncGenerator[kv_pb2.KeyValueServiceWatchResponse, None]:
        """What there is below a prefix and every change of it, for ever.

        When a node fails or cuts a slow watcher off, it goes on where it was: at that node without loss or repeat; at
        another one with RESET and a snapshot. An event's token resumes it later.
        """
        failures = 0
        while True:
            node = self.current
            stream = node.kv.Watch(
                kv_pb2.KeyValueServiceWatchRequest(
                    prefix=prefix, resume_token=token, session=session.token() if session else None
                )
            )
            try:
                async for event in stream:
                    failures = 0
                    token = event.resume_token or token
                    yield event
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
                await rest()

    def _leave(self, failed: Node) -> None:
        # Unless another task has done so already.
        if self.current is failed:
            self._current = (self._current + 1) % len(self.nodes)


def _moves_on(error: grpc.aio.AioRpcError) -> bool:
    info = detail(error, ErrorInfo)
    if info:
        return info.reason in ASK_ANOTHER
    # Nobody knows whether it took effect.
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def detail(error: grpc.aio.AioRpcError, kind: type[D]) -> D | None:
    """What the node says of an error to programs; None if it says nothing of that kind."""
    status = rpc_status.from_call(error)
    found = kind()
    for packed in status.details if status else ():
        if packed.Unpack(found):
            return found
    return None


async def rest() -> None:
    """A moment, not the same for all clients."""
    await asyncio.sleep(random.uniform(PAUSE / 2, PAUSE * 1.5))
