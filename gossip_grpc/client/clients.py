"""The two clients: each executes the table of calls in its own way, and neither knows more of it than that.

Where a call goes, and when it is tried again, is decided in `failover.py`; how a stream goes on, in `resuming.py`. Both
do no IO: the clients take their steps, the one with threads, the other on a loop.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast
from uuid import uuid4

import grpc
from grpc_health.v1 import health_pb2

from gossip_grpc.client import connections
from gossip_grpc.client.arguments import timeout as check_timeout
from gossip_grpc.client.calls import Call, Stream, Stubs
from gossip_grpc.client.connections import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, check_addresses, closed
from gossip_grpc.client.failover import Attempts, Step, Target, Targets
from gossip_grpc.client.failures import Failure, failure_of, unreachable
from gossip_grpc.client.groups import (
    AsyncCluster,
    AsyncCounters,
    AsyncEvents,
    AsyncKeyValue,
    AsyncSets,
    Cluster,
    Counters,
    Events,
    KeyValue,
    Sets,
)
from gossip_grpc.client.methods import awaiting, blocking
from gossip_grpc.client.restarts import Following
from gossip_grpc.client.results import Session
from gossip_grpc.client.sessions import Carrier
from gossip_grpc.client.verbs import cluster
from gossip_grpc.errors import GossipError, InvalidArgumentError

T = TypeVar("T")
C = TypeVar("C", grpc.Channel, grpc.aio.Channel)

_HEALTH = health_pb2.HealthCheckRequest()
_GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


class _Bearer(ABC, Generic[C]):
    """What both kinds of client are made of: addresses, what they carry from call to call, and channels.

    Args:
        address: as of the clients.
        timeout: as of the clients.
        channel: as of the clients.
        session: as of the clients.
        sessions: as of the clients.
        shuffle: as of the clients.
        retries: as of the clients.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        timeout: float,
        channel: C | None,
        session: Session | None,
        sessions: bool,
        shuffle: bool,
        retries: bool,
    ) -> None:
        self._carrier = Carrier(session, on=sessions)
        self.addresses = check_addresses(address)
        """All that were given, in order."""
        self.timeout = _seconds(timeout)
        """Seconds that each call may take."""
        if channel is not None and len(self.addresses) > 1:
            problem = "must be one where a channel is given; leave the channel out"
            raise InvalidArgumentError(f"address {problem}", fields={"address": problem})
        self._targets = Targets(self.addresses, shuffle=shuffle)
        self._retries = retries
        self._given: C | None = channel
        self._own: dict[Target, C] = {}
        self._stubs: dict[Target, Stubs] = {}

    @property
    def address(self) -> str:
        """That of the node which calls go to as long as it does what it is asked."""
        return self._targets.current.address

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

    def _attempts(self, call: Call[Any]) -> Attempts:
        request: Any = call.message
        if call.unnamed:
            request.request_id = str(uuid4())
        self._carrier.attach(request)
        return Attempts(self._targets, request, timeout=call.timeout or self.timeout, retries=self._retries)

    def _stubs_of(self, target: Target) -> Stubs:
        stubs = self._stubs.get(target)
        if stubs is None:
            if self._given is None:
                self._own[target] = self._connect(target.address)
            stubs = self._stubs[target] = Stubs(self._given or self._own[target])
        return stubs

    @abstractmethod
    def _connect(self, address: str) -> C:
        """A new channel of this kind of client."""

    def _read(self, call: Call[T], response: Any) -> T:
        result = call.read(response)
        if call.token is not None:
            token = call.token(response, result)
            if token is not None:
                self._carrier.learn(token)
        return result

    def _failure(self, failed: grpc.Call, target: Target, timeout: float) -> Failure:
        failure = failure_of(failed, address=target.address, timeout=timeout)
        if token := failure.error.metadata.get("session"):  # what is not there was deleted
            with suppress(InvalidArgumentError):  # which must not hide what failed
                self._carrier.learn(Session.parse(token))
        return failure


class Client(Cluster, _Bearer[grpc.Channel]):
    """A blocking client of a cluster; threads may share it.

    Args:
        address: HOST:PORT of a node's client listener, or those of several: calls go to one of them, and on to the next
            when that one fails.
        timeout: seconds that each call may take, with all its attempts; a listing makes one call a page. Calls take
            one of their own, too.
        channel: a ready channel to use instead of the client's own. It stays open when the client closes.
        session: the token of another client, whose writes and reads this one is to see; see `session`.
        sessions: whether calls carry a session; without, a node answers with what it has, and never waits.
        shuffle: whether to begin with any of the addresses; otherwise with the first.
        retries: whether a call that has failed is tried again where that is safe (see docs/python.md).
    """

    def __init__(
        self,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        channel: grpc.Channel | None = None,
        session: Session | None = None,
        sessions: bool = True,
        shuffle: bool = True,
        retries: bool = True,
    ) -> None:
        _Bearer.__init__(self, address, timeout, channel, session, sessions, shuffle, retries)
        self._closed = threading.Event()
        self._connecting = threading.Lock()
        self.kv = KeyValue(self)
        self.counter = Counters(self)
        self.set = Sets(self)
        self.event = Events(self)

    leave = blocking(cluster.leave)

    def run(self, call: Call[T], /) -> T:
        """Executes one call of the table; the methods of the groups come here."""
        attempts = self._attempts(call)
        method = call.method
        while True:
            step = attempts.next()
            target = step.target
            if target is None:
                self._closed.wait(step.timeout)
                self._check_open(None)
                continue
            stubs = self._open(target)
            timeout = step.timeout
            if step.probe:
                if (unfit := self._probe(stubs, target, step)) is not None:
                    attempts.failed(target, unfit)
                    continue
                timeout = min(timeout, attempts.left())
            try:
                response = method(stubs)(call.sending(), timeout=timeout)
            except grpc.RpcError as error:
                self._check_open(error)
                _failed(attempts, target, self._failure(cast("grpc.Call", error), target, timeout), error)
                continue
            attempts.succeeded(target)
            return self._read(call, response)

    def stream(self, stream: Stream[T], /) -> Generator[T, None, None]:
        """Executes one streaming call of the table. Closing the generator ends the call."""
        following = Following(stream, self._targets, self._carrier, self.timeout, retries=self._retries)
        while True:
            step = following.next()
            target = step.target
            if target is None:
                self._closed.wait(step.timeout)
                self._check_open(None)
                continue
            stubs = self._open(target)
            if step.probe and (unfit := self._probe(stubs, target, step)) is not None:
                following.failed(target, unfit)
                continue
            call = stream.method(stubs)(following.request())
            try:
                for response in call:
                    yield from following.take(target, stream.read(response))
                return
            except grpc.RpcError as error:
                self._check_open(error)
                failure = self._failure(cast("grpc.Call", error), target, self.timeout)
                try:
                    following.failed(target, failure)
                except GossipError as final:
                    raise final from error
            finally:
                call.cancel()

    def _probe(self, stubs: Stubs, target: Target, step: Step) -> Failure | None:
        try:
            health = stubs.health.Check(_HEALTH, timeout=step.probe)
        except grpc.RpcError as error:
            self._check_open(error)
            return _unreached(cast("grpc.Call", error), target, step)
        return _unfit(health, target, step)

    def _connect(self, address: str) -> grpc.Channel:
        return grpc.insecure_channel(address, options=connections.OPTIONS)

    def _open(self, target: Target) -> Stubs:
        with self._connecting:
            self._check_open(None)
            return self._stubs_of(target)

    def _check_open(self, cause: Exception | None) -> None:
        if self._closed.is_set():
            raise closed() from cause

    def close(self) -> None:
        """Closes the connections. The client cannot be used any more; closing it again does nothing."""
        with self._connecting:
            self._closed.set()
            for channel in self._own.values():
                channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(AsyncCluster, _Bearer[grpc.aio.Channel]):
    """A client of a cluster for asyncio, with the verbs of `Client`; those that list are async iterators.

    Args:
        address: HOST:PORT of a node's client listener, or those of several: calls go to one of them, and on to the next
            when that one fails.
        timeout: seconds that each call may take, with all its attempts; a listing makes one call a page. Calls take
            one of their own, too.
        channel: a ready channel to use instead of the client's own. It stays open when the client closes.
        session: the token of another client, whose writes and reads this one is to see; see `session`.
        sessions: whether calls carry a session; without, a node answers with what it has, and never waits.
        shuffle: whether to begin with any of the addresses; otherwise with the first.
        retries: whether a call that has failed is tried again where that is safe (see docs/python.md).
    """

    def __init__(
        self,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        channel: grpc.aio.Channel | None = None,
        session: Session | None = None,
        sessions: bool = True,
        shuffle: bool = True,
        retries: bool = True,
    ) -> None:
        _Bearer.__init__(self, address, timeout, channel, session, sessions, shuffle, retries)
        self._closed = False
        self.kv = AsyncKeyValue(self)
        self.counter = AsyncCounters(self)
        self.set = AsyncSets(self)
        self.event = AsyncEvents(self)

    leave = awaiting(cluster.leave)

    async def run(self, call: Call[T], /) -> T:
        """Executes one call of the table; the methods of the groups come here."""
        attempts = self._attempts(call)
        method = call.method
        while True:
            step = attempts.next()
            target = step.target
            if target is None:
                await asyncio.sleep(step.timeout)
                continue
            stubs = self._open(target)
            timeout = step.timeout
            if step.probe:
                if (unfit := await self._probe(stubs, target, step)) is not None:
                    attempts.failed(target, unfit)
                    continue
                timeout = min(timeout, attempts.left())
            try:
                response = await method(stubs)(call.sending(), timeout=timeout)
            except grpc.aio.AioRpcError as error:
                self._check_open(error)
                _failed(attempts, target, self._failure(cast("grpc.Call", error), target, timeout), error)
                continue
            attempts.succeeded(target)
            return self._read(call, response)

    async def stream(self, stream: Stream[T], /) -> AsyncGenerator[T, None]:
        """Executes one streaming call of the table. Closing the generator ends the call."""
        following = Following(stream, self._targets, self._carrier, self.timeout, retries=self._retries)
        while True:
            step = following.next()
            target = step.target
            if target is None:
                await asyncio.sleep(step.timeout)
                continue
            stubs = self._open(target)
            if step.probe and (unfit := await self._probe(stubs, target, step)) is not None:
                following.failed(target, unfit)
                continue
            call = stream.method(stubs)(following.request())
            try:
                async for response in call:
                    for event in following.take(target, stream.read(response)):
                        yield event
                return
            except grpc.aio.AioRpcError as error:
                self._check_open(error)
                failure = self._failure(cast("grpc.Call", error), target, self.timeout)
                try:
                    following.failed(target, failure)
                except GossipError as final:
                    raise final from error
            finally:
                call.cancel()

    async def _probe(self, stubs: Stubs, target: Target, step: Step) -> Failure | None:
        try:
            health = await stubs.health.Check(_HEALTH, timeout=step.probe)
        except grpc.aio.AioRpcError as error:
            self._check_open(error)
            return _unreached(cast("grpc.Call", error), target, step)
        return _unfit(health, target, step)

    def _connect(self, address: str) -> grpc.aio.Channel:
        # Only when it is used: a channel belongs to the loop that runs when it is made.
        return grpc.aio.insecure_channel(address, options=connections.OPTIONS)

    def _open(self, target: Target) -> Stubs:
        self._check_open(None)
        return self._stubs_of(target)

    def _check_open(self, cause: Exception | None) -> None:
        if self._closed:
            raise closed() from cause

    async def close(self) -> None:
        """Closes the connections. The client cannot be used any more; closing it again does nothing."""
        self._closed = True
        for channel in self._own.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _seconds(timeout: object) -> float:
    seconds = check_timeout(timeout)
    if seconds is None:
        problem = "must be a number of seconds above 0, not None"
        raise InvalidArgumentError(f"timeout {problem}", fields={"timeout": problem})
    return seconds


def _failed(attempts: Attempts, target: Target, failure: Failure, cause: Exception) -> None:
    try:
        attempts.failed(target, failure)
    except GossipError as error:
        raise error from cause


def _unreached(failed: grpc.Call, target: Target, step: Step) -> Failure | None:
    """What an unanswered question for health means; any answer, such as of a node that has no health, is one."""
    code = failed.code()
    if code not in _GONE:
        return None
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return unreachable(target.address, f"no connection within {step.probe:.3g} s")
    return unreachable(target.address, failure_of(failed, address=target.address, timeout=step.probe).problem)


def _unfit(health: health_pb2.HealthCheckResponse, target: Target, step: Step) -> Failure | None:
    if not step.must_serve or health.status != health_pb2.HealthCheckResponse.NOT_SERVING:
        return None
    return unreachable(target.address, "it does not serve: it is not ready yet, or stops")
