"""How a verb of the table becomes a method of a client, with the verb's parameters and documentation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from gossip_grpc.client.calls import Call, Listing, Stream

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class _Runs(Protocol):
    def run(self, call: Call[T], /) -> T: ...


class _RunsAsync(Protocol):
    async def run(self, call: Call[T], /) -> T: ...


class _Streams(Protocol):
    def stream(self, stream: Stream[T], /) -> Generator[T, None, None]: ...


class _StreamsAsync(Protocol):
    def stream(self, stream: Stream[T], /) -> AsyncGenerator[T, None]: ...


class Calls(_Runs, _Streams, Protocol):
    """What executes the table of calls."""


class CallsAsync(_RunsAsync, _StreamsAsync, Protocol):
    """The same for asyncio."""


def blocking(verb: Callable[P, Call[T]]) -> Callable[Concatenate[_Runs, P], T]:
    """A method that makes a call."""

    @_method_of(verb)
    def method(self: _Runs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(verb(*args, **kwargs))

    return method


def awaiting(verb: Callable[P, Call[T]]) -> Callable[Concatenate[_RunsAsync, P], Coroutine[Any, Any, T]]:
    """A coroutine that makes a call."""

    @_method_of(verb)
    async def method(self: _RunsAsync, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(verb(*args, **kwargs))

    return method


def iterating(verb: Callable[P, Listing[T]]) -> Callable[Concatenate[_Runs, P], Iterator[T]]:
    """A method that iterates over the pages of a listing."""

    @_method_of(verb)
    def method(self: _Runs, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        # The verb here, the pages in the generator: wrong arguments raise at the call, not at the first item.
        return _pages(self, verb(*args, **kwargs))

    return method


def iterating_async(verb: Callable[P, Listing[T]]) -> Callable[Concatenate[_RunsAsync, P], AsyncIterator[T]]:
    """The same for asyncio."""

    @_method_of(verb)
    def method(self: _RunsAsync, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return _pages_async(self, verb(*args, **kwargs))

    return method


def gathering(verb: Callable[P, Listing[T]], into: Callable[[Iterable[T]], R]) -> Callable[Concatenate[_Runs, P], R]:
    """A method that gathers the pages of a listing."""

    @_method_of(verb)
    def method(self: _Runs, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return into(_pages(self, verb(*args, **kwargs)))

    return method


def gathering_async(
    verb: Callable[P, Listing[T]], into: Callable[[Iterable[T]], R]
) -> Callable[Concatenate[_RunsAsync, P], Coroutine[Any, Any, R]]:
    """The same for asyncio."""

    @_method_of(verb)
    async def method(self: _RunsAsync, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return into([item async for item in _pages_async(self, verb(*args, **kwargs))])

    return method


def streaming(verb: Callable[P, Stream[T]]) -> Callable[Concatenate[_Streams, P], Generator[T, None, None]]:
    """A method that iterates over a stream."""

    @_method_of(verb)
    def method(self: _Streams, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self.stream(verb(*args, **kwargs))

    return method


def streaming_async(verb: Callable[P, Stream[T]]) -> Callable[Concatenate[_StreamsAsync, P], AsyncGenerator[T, None]]:
    """The same for asyncio."""

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
