"""The two clients: each executes the table of calls in its own way, and neither knows more of it than that."""

from __future__ import annotations

import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import suppress
from functools import wraps
from inspect import Parameter, Signature, signature
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast

import grpc

from gossip_grpc.client import verbs
from gossip_grpc.client.failures import error_of
from gossip_grpc.client.results import Item, Session, Value, Written
from gossip_grpc.client.sessions import Carrier
from gossip_grpc.client.upload import Entries, Upload, entries_of
from gossip_grpc.client.verbs import Call, Listing, Stream, Stubs
from gossip_grpc.errors import GossipError, InvalidArgumentError, Reason

DEFAULT_ADDRESS = "127.0.0.1:7947"
DEFAULT_TIMEOUT = 5.0

_OPTIONS = (
    # A node is asked directly: a proxy of the environment is meant for the web.
    ("grpc.enable_http_proxy", 0),
    # gRPC's defaults let a client wait for up to two minutes after a node is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A node bounds what it answers with (pages of 1 MiB, or one value of whatever size it is configured to take).
    ("grpc.max_receive_message_length", -1),
    # A watcher may hear nothing for hours: without this it would never find out that the node's host is gone. The node
    # is asked only while a call is open; how long its answer may take is the timeout of pings, 60 s by default, and not
    # grpc.keepalive_timeout_ms (grpcio 1.85).
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)
# HOST:PORT, [IPv6]:PORT, or a target of gRPC with its scheme, such as unix:/run/node.sock or dns:///name:7947.
# gRPC would take a name alone too, and ask port 443.
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>\d+)|(?:unix|dns|ipv4|ipv6|xds):\S+")

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


# --- how a verb of the table becomes a method ---


class _Runs(Protocol):
    def run(self, call: Call[T], /) -> T: ...


class _RunsAsync(Protocol):
    async def run(self, call: Call[T], /) -> T: ...


class _Streams(Protocol):
    def stream(self, stream: Stream[T], /) -> Generator[T, None, None]: ...


class _StreamsAsync(Protocol):
    def stream(self, stream: Stream[T], /) -> AsyncGenerator[T, None]: ...


class _Calls(_Runs, _Streams, Protocol):
    pass


class _CallsAsync(_RunsAsync, _StreamsAsync, Protocol):
    pass


def _blocking(verb: Callable[P, Call[T]]) -> Callable[Concatenate[_Runs, P], T]:
    @_method_of(verb)
    def method(self: _Runs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(verb(*args, **kwargs))

    return method


def _awaiting(verb: Callable[P, Call[T]]) -> Callable[Concatenate[_RunsAsync, P], Awaitable[T]]:
    @_method_of(verb)
    async def method(self: _RunsAsync, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(verb(*args, **kwargs))

    return method


def _iterating(verb: Callable[P, Listing[T]]) -> Callable[Concatenate[_Runs, P], Iterator[T]]:
    @_method_of(verb)
    def method(self: _Runs, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        # The verb here, the pages in the generator: wrong arguments raise at the call, not at the first item.
        return _pages(self, verb(*args, **kwargs))

    return method


def _iterating_async(verb: Callable[P, Listing[T]]) -> Callable[Concatenate[_RunsAsync, P], AsyncIterator[T]]:
    @_method_of(verb)
    def method(self: _RunsAsync, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return _pages_async(self, verb(*args, **kwargs))

    return method


def _gathering(verb: Callable[P, Listing[T]], into: Callable[[Iterable[T]], R]) -> Callable[Concatenate[_Runs, P], R]:
    @_method_of(verb)
    def method(self: _Runs, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return into(_pages(self, verb(*args, **kwargs)))

    return method


def _gathering_async(
    verb: Callable[P, Listing[T]], into: Callable[[Iterable[T]], R]
) -> Callable[Concatenate[_RunsAsync, P], Awaitable[R]]:
    @_method_of(verb)
    async def method(self: _RunsAsync, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return into([item async for item in _pages_async(self, verb(*args, **kwargs))])

    return method


def _streaming(verb: Callable[P, Stream[T]]) -> Callable[Concatenate[_Streams, P], Generator[T, None, None]]:
    @_method_of(verb)
    def method(self: _Streams, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self.stream(verb(*args, **kwargs))

    return method


def _streaming_async(verb: Callable[P, Stream[T]]) -> Callable[Concatenate[_StreamsAsync, P], AsyncGenerator[T, None]]:
    @_method_of(verb)
    def method(self: _StreamsAsync, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self.stream(verb(*args, **kwargs))

    return method


def _pages(runner: _Runs, listing: Listing[T]) -> Iterator[T]:
    token = ""
    while True:
        items, token = runner.run(listing(token))
        yield from items
        if not token:
            return


async def _pages_async(runner: _RunsAsync, listing: Listing[T]) -> AsyncIterator[T]:
    token = ""
    while True:
        items, token = await runner.run(listing(token))
        for item in items:
            yield item
        if not token:
            return


def _method_of(verb: Callable[..., Any]) -> Callable[[T], T]:
    """Gives a method the documentation and the parameters of its verb, for help() and editors."""

    def dress(method: T) -> T:
        dressed: Any = wraps(verb)(cast("Any", method))
        own = [Parameter("self", Parameter.POSITIONAL_ONLY), *signature(verb).parameters.values()]
        dressed.__signature__ = Signature(own)
        return cast("T", dressed)

    return dress


# --- the groups of verbs ---


class _Group:
    def __init__(self, client: _Calls) -> None:
        self.run = client.run
        self.stream = client.stream


class KeyValue(_Group):
    """Registers: one value a key."""

    get = _blocking(verbs.get_entry)
    put = _blocking(verbs.put_entry)
    delete = _blocking(verbs.delete_entry)
    list = _iterating(verbs.list_entries)
    watch = _streaming(verbs.watch_entries)

    def put_many(self, entries: Entries, *, durability: str | None = None) -> Written:
        """Writes many keys, given as a mapping or as pairs of key and value (or as `Item`), in order.

        They may be far more than fit into memory, and come as slowly as they like. They are sent in batches of up to
        1,000, each written whole or not at all. If one is refused, or the node cannot be reached any more, those before
        it stay written: `metadata["written"]` of the error says how many entries that is at least.
        """
        upload = Upload(durability)
        for entry in entries_of(entries):
            if (call := upload.add(entry)) is not None:
                self._send(upload, call)
        if (call := upload.rest()) is not None:
            self._send(upload, call)
        return upload.written

    def _send(self, upload: Upload, call: Call[Written]) -> None:
        try:
            self.run(call)
        except GossipError as error:
            upload.failed(error)
            raise


class Counters(_Group):
    """Counters that every node adds to."""

    get = _blocking(verbs.get_counter)
    add = _blocking(verbs.add_to_counter)
    reset = _blocking(verbs.reset_counter)
    list = _iterating(verbs.list_counters)
    watch = _streaming(verbs.watch_counters)


class Sets(_Group):
    """Sets in which an addition wins over a concurrent removal."""

    get = _gathering(verbs.list_elements, set)
    add = _blocking(verbs.add_elements)
    remove = _blocking(verbs.remove_elements)
    list = _iterating(verbs.list_sets)
    watch = _streaming(verbs.watch_sets)


class Events(_Group):
    """Events, published to the subscribers of all nodes."""

    publish = _blocking(verbs.publish_event)
    subscribe = _streaming(verbs.subscribe_to_events)


class _AsyncGroup:
    def __init__(self, client: _CallsAsync) -> None:
        self.run = client.run
        self.stream = client.stream


class AsyncKeyValue(_AsyncGroup):
    """Registers: one value a key."""

    get = _awaiting(verbs.get_entry)
    put = _awaiting(verbs.put_entry)
    delete = _awaiting(verbs.delete_entry)
    list = _iterating_async(verbs.list_entries)
    watch = _streaming_async(verbs.watch_entries)

    async def put_many(
        self, entries: Entries | AsyncIterable[tuple[str, Value] | Item], *, durability: str | None = None
    ) -> Written:
        """Writes many keys, given as a mapping or as pairs of key and value (or as `Item`), in order.

        They may be far more than fit into memory, and come as slowly as they like, from an async iterable too. They are
        sent in batches of up to 1,000, each written whole or not at all. If one is refused, or the node cannot be
        reached any more, those before it stay written: `metadata["written"]` of the error says how many entries that is
        at least.
        """
        upload = Upload(durability)
        if isinstance(entries, AsyncIterable):
            async for entry in entries:
                if (call := upload.add(entry)) is not None:
                    await self._send(upload, call)
        else:
            for entry in entries_of(entries):
                if (call := upload.add(entry)) is not None:
                    await self._send(upload, call)
        if (call := upload.rest()) is not None:
            await self._send(upload, call)
        return upload.written

    async def _send(self, upload: Upload, call: Call[Written]) -> None:
        try:
            await self.run(call)
        except GossipError as error:
            upload.failed(error)
            raise


class AsyncCounters(_AsyncGroup):
    """Counters that every node adds to."""

    get = _awaiting(verbs.get_counter)
    add = _awaiting(verbs.add_to_counter)
    reset = _awaiting(verbs.reset_counter)
    list = _iterating_async(verbs.list_counters)
    watch = _streaming_async(verbs.watch_counters)


class AsyncSets(_AsyncGroup):
    """Sets in which an addition wins over a concurrent removal."""

    get = _gathering_async(verbs.list_elements, set)
    add = _awaiting(verbs.add_elements)
    remove = _awaiting(verbs.remove_elements)
    list = _iterating_async(verbs.list_sets)
    watch = _streaming_async(verbs.watch_sets)


class AsyncEvents(_AsyncGroup):
    """Events, published to the subscribers of all nodes."""

    publish = _awaiting(verbs.publish_event)
    subscribe = _streaming_async(verbs.subscribe_to_events)


# --- the clients ---


class _Bearer:
    """A client with what it carries from call to call."""

    address: str
    timeout: float
    _carrier: Carrier

    @property
    def session(self) -> Session:
        """The token of all that this client has written and read, and of what it was handed; set it to begin anew.

        Calls carry it. So whatever node is asked shows what the client has seen already, or waits until it can
        (DeadlineError with reason SESSION_BEHIND if it cannot in time), and what the client writes wins over what it
        has read. `Session()` is that of a client that has seen nothing.
        """
        return self._carrier.session

    @session.setter
    def session(self, session: Session) -> None:
        self._carrier.replace(session)

    def adopt(self, session: Session) -> None:
        """From now on sees what another client has written and read, too."""
        self._carrier.learn(session)

    def _read(self, call: Call[T], response: Any) -> T:
        result = call.read(response)
        if call.token is not None:
            token = call.token(response, result)
            if token is not None:
                self._carrier.learn(token)
        return result

    def _failed(self, failed: grpc.Call) -> GossipError:
        error = error_of(failed, address=self.address, timeout=self.timeout)
        if token := error.metadata.get("session"):  # what is not there was deleted
            with suppress(InvalidArgumentError):  # which must not hide what failed
                self._carrier.learn(Session.parse(token))
        return error


class Cluster:
    """The node asked, and the cluster as it sees it."""

    status = _blocking(verbs.get_status)
    members = _gathering(verbs.list_members, list)
    explain = _blocking(verbs.explain_member)
    set_tags = _blocking(verbs.set_tags)
    forget = _blocking(verbs.forget_member)
    ping = _blocking(verbs.ping_member)
    watch = _streaming(verbs.watch_members)
    backup = _streaming(verbs.backup)


class Client(Cluster, _Bearer):
    """A blocking client of one node; threads may share it.

    Args:
        address: HOST:PORT of the node's client listener.
        timeout: seconds that each call may take; a listing makes one call a page.
        channel: a ready channel to use instead of one of the client's own. It stays open when the client closes.
        session: the token of another client, whose writes and reads this one is to see; see `session`.
        sessions: whether calls carry a session; without, a node answers with what it has, and never waits.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        channel: grpc.Channel | None = None,
        session: Session | None = None,
        sessions: bool = True,
    ) -> None:
        self._carrier = Carrier(session, on=sessions)
        self.address, self.timeout = _check(address, timeout)
        self._own = grpc.insecure_channel(address, options=_OPTIONS) if channel is None else None
        self._stubs: Stubs | None = Stubs(channel or cast("grpc.Channel", self._own))
        self.kv = KeyValue(self)
        self.counter = Counters(self)
        self.set = Sets(self)
        self.event = Events(self)

    leave = _blocking(verbs.leave)

    def run(self, call: Call[T], /) -> T:
        """Executes one call of the table; the methods of the groups come here."""
        if self._stubs is None:
            raise _closed()
        self._carrier.attach(call.request)
        try:
            response = call.method(self._stubs)(call.request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self._failed(cast("grpc.Call", error)) from error
        return self._read(call, response)

    def stream(self, stream: Stream[T], /) -> Generator[T, None, None]:
        """Executes one streaming call of the table. Closing the generator ends the call."""
        if self._stubs is None:
            raise _closed()
        self._carrier.attach(stream.request)
        call = stream.method(self._stubs)(stream.request)
        try:
            for response in call:
                yield stream.read(response)
        except grpc.RpcError as error:
            raise self._failed(cast("grpc.Call", error)) from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Closes the connection. The client cannot be used any more; closing it again does nothing."""
        self._stubs = None
        if self._own:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncCluster:
    """The node asked, and the cluster as it sees it."""

    status = _awaiting(verbs.get_status)
    members = _gathering_async(verbs.list_members, list)
    explain = _awaiting(verbs.explain_member)
    set_tags = _awaiting(verbs.set_tags)
    forget = _awaiting(verbs.forget_member)
    ping = _awaiting(verbs.ping_member)
    watch = _streaming_async(verbs.watch_members)
    backup = _streaming_async(verbs.backup)


class AsyncClient(AsyncCluster, _Bearer):
    """A client of one node for asyncio, with the verbs of `Client`; those that list are async iterators.

    Args:
        address: HOST:PORT of the node's client listener.
        timeout: seconds that each call may take; a listing makes one call a page.
        channel: a ready channel to use instead of one of the client's own. It stays open when the client closes.
        session: the token of another client, whose writes and reads this one is to see; see `session`.
        sessions: whether calls carry a session; without, a node answers with what it has, and never waits.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        channel: grpc.aio.Channel | None = None,
        session: Session | None = None,
        sessions: bool = True,
    ) -> None:
        self._carrier = Carrier(session, on=sessions)
        self.address, self.timeout = _check(address, timeout)
        self._own: grpc.aio.Channel | None = None
        self._stubs = None if channel is None else Stubs(channel)
        self._closed = False
        self.kv = AsyncKeyValue(self)
        self.counter = AsyncCounters(self)
        self.set = AsyncSets(self)
        self.event = AsyncEvents(self)

    leave = _awaiting(verbs.leave)

    async def run(self, call: Call[T], /) -> T:
        """Executes one call of the table; the methods of the groups come here."""
        self._carrier.attach(call.request)
        try:
            response = await call.method(self._open())(call.request, timeout=self.timeout)
        except grpc.aio.AioRpcError as error:
            raise self._failed(cast("grpc.Call", error)) from error
        return self._read(call, response)

    async def stream(self, stream: Stream[T], /) -> AsyncGenerator[T, None]:
        """Executes one streaming call of the table. Closing the generator ends the call."""
        self._carrier.attach(stream.request)
        call = stream.method(self._open())(stream.request)
        try:
            async for response in call:
                yield stream.read(response)
        except grpc.aio.AioRpcError as error:
            raise self._failed(cast("grpc.Call", error)) from error
        finally:
            call.cancel()

    def _open(self) -> Stubs:
        if self._closed:
            raise _closed()
        if self._stubs is None:
            # Only now: a channel belongs to the loop that runs when it is made.
            self._own = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
            self._stubs = Stubs(self._own)
        return self._stubs

    async def close(self) -> None:
        """Closes the connection. The client cannot be used any more; closing it again does nothing."""
        self._closed = True
        if self._own:
            await self._own.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _check(address: object, timeout: object) -> tuple[str, float]:
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if not isinstance(address, str) or not found or not 0 < int(found["port"] or 1) < 2**16:
        problem = f"must be HOST:PORT such as {DEFAULT_ADDRESS}, not {address!r}"
        raise InvalidArgumentError(f"address {problem}", reason=Reason.INVALID_ARGUMENT, fields={"address": problem})
    if not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        problem = f"must be a number of seconds above 0, not {timeout!r}"
        raise InvalidArgumentError(f"timeout {problem}", reason=Reason.INVALID_ARGUMENT, fields={"timeout": problem})
    return address, timeout


def _closed() -> GossipError:
    return GossipError("this client is closed; make a new one")
