"""What a verb is made into: one call with one answer, a listing in pages, or a stream. Nothing here calls anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.results import Session
from gossip_grpc.gen.gossip.v1 import (
    cluster_pb2_grpc,
    counter_pb2_grpc,
    event_pb2_grpc,
    kv_pb2,
    kv_pb2_grpc,
    set_pb2_grpc,
)

DEFAULT_RECONNECT = 60.0
"""Seconds for which a stream that has lost its node looks for one that goes on with it."""

T = TypeVar("T")
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response")


class Stubs:
    """The generated stubs of one channel, blocking or asyncio's: both have the same methods."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        self.kv = kv_pb2_grpc.KeyValueServiceStub(channel)
        self.counter = counter_pb2_grpc.CounterServiceStub(channel)
        self.set = set_pb2_grpc.SetServiceStub(channel)
        self.event = event_pb2_grpc.EventServiceStub(channel)
        self.cluster = cluster_pb2_grpc.ClusterServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)  # its types know no methods


class Requests:
    """The messages of a call that takes several, for either kind of client.

    Attributes:
        messages: all of them; the first says what holds for all.
    """

    def __init__(self, messages: list[kv_pb2.KeyValueServicePutManyRequest]) -> None:
        self.messages = messages
        self._rest = iter(messages)

    def again(self) -> Requests:
        """The same, from the first one on: each attempt takes its own."""
        return Requests(self.messages)

    def __iter__(self) -> Requests:
        return self

    def __next__(self) -> kv_pb2.KeyValueServicePutManyRequest:
        return next(self._rest)

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> kv_pb2.KeyValueServicePutManyRequest:
        for message in self._rest:
            return message
        raise StopAsyncIteration


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call with one response: with what request or requests, how it is read, and what it tells of a session.

    `token` is given the response and what was read of it; a call about no data tells nothing. `timeout` is in seconds;
    None leaves it to the client. `unnamed` says that the client is to give the request a `request_id`; an embedded node
    needs none, as no answer of it is ever lost.
    """

    method: Callable[[Stubs], Callable[..., Any]]
    request: Message | Requests
    read: Callable[[Any], T]
    token: Callable[[Any, T], Session | None] | None = None
    timeout: float | None = None
    unnamed: bool = False

    @property
    def message(self) -> Message:
        """The request, or the first of several."""
        return self.request.messages[0] if isinstance(self.request, Requests) else self.request

    def sending(self) -> Any:
        """What one attempt sends."""
        return self.request.again() if isinstance(self.request, Requests) else self.request


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """One call that answers again and again, until either side ends it.

    Attributes:
        method: of the stubs.
        request: the first; later ones have another token.
        read: a response.
        reset: makes the event RESET with a cause in words; None if the call cannot be resumed.
        reconnect: seconds for which somebody is looked for who goes on with it; 0 not to.
        is_snapshot: whether what comes after a RESET replaces what was told before.
    """

    method: Callable[[Stubs], Callable[..., Any]]
    request: Message
    read: Callable[[Any], T]
    reset: Callable[[str], T] | None = None
    reconnect: float = 0.0
    is_snapshot: bool = True


class _Paged(Protocol):
    next_page_token: str


_Page = TypeVar("_Page", bound=_Paged)

Listing: TypeAlias = Callable[[str], Call[tuple[list[T], str]]]
"""Page token ("" for the first page) -> the call for that page, answered by its items and the next token or ""."""


def call(
    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[_Request, _Response]],
    request: _Request,
    read: Callable[[_Response], T],
    token: Callable[[_Response, T], Session | None] | None = None,
    *,
    timeout: float | None,
    unnamed: bool = False,
) -> Call[T]:
    """A call; a function rather than the class itself, so that the type checker ties its parts together."""
    return Call(method, request, read, token, checked.timeout(timeout), unnamed)


def listing(
    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[_Request, _Page]],
    request: Callable[[str], _Request],
    read: Callable[[_Page], Iterable[T]],
    token: Callable[[_Page, list[T]], Session | None] | None = None,
    *,
    timeout: float | None,
) -> Listing[T]:
    """A listing; each page is a call with a deadline of its own."""
    timeout = checked.timeout(timeout)

    def page(page_token: str) -> Call[tuple[list[T], str]]:
        return Call(
            method,
            request(page_token),
            lambda response: (list(read(response)), response.next_page_token),
            None if token is None else lambda response, found: token(response, found[0]),
            timeout,
        )

    return page


def stream(
    method: Callable[[Stubs], grpc.UnaryStreamMultiCallable[_Request, _Response]],
    request: _Request,
    read: Callable[[_Response], T],
    reset: Callable[[str], T],
    *,
    reconnect: float,
    is_snapshot: bool = True,
) -> Stream[T]:
    """A stream that can be resumed."""
    return Stream(method, request, read, reset, checked.reconnect(reconnect), is_snapshot)
