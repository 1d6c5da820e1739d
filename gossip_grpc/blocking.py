"""A node beside blocking code: it runs in a thread, and is used from all others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from gossip_grpc.client.calls import Call, Stream
from gossip_grpc.client.groups import Cluster, Counters, Events, KeyValue, Sets
from gossip_grpc.client.methods import blocking
from gossip_grpc.client.verbs import cluster
from gossip_grpc.config import Config
from gossip_grpc.errors import UnavailableError
from gossip_grpc.node import Node, run_loop

T = TypeVar("T")


class BlockingNode(Cluster):
    """A node in a thread of its own: `with BlockingNode(Config(...)) as node: ...`.

    It has the verbs of `Client` (`kv`, `counter`, `set`, `event`, `members`, `watch`, `status`, `leave` and so on),
    with the same results and exceptions, and makes them without a network in between. All threads may use it.

    The thread does not keep the program from ending: whoever does not stop the node, with `stop` or by leaving the
    `with`, lets it crash.

    Raises:
        ConfigError: on start, if an address cannot be listened on.
    """

    leave = blocking(cluster.leave)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.kv = KeyValue(self)
        self.counter = Counters(self)
        self.set = Sets(self)
        self.event = Events(self)
        self._started: Future[tuple[Node, asyncio.AbstractEventLoop]] = Future()
        self._thread = threading.Thread(target=self._run, name="gossip-grpc node", daemon=True)
        self._stopping = False

    @property
    def peer_address(self) -> str:
        """Where peers reach it."""
        return self._running()[0].peer_address

    @property
    def client_address(self) -> str:
        """Where clients reach it."""
        return self._running()[0].client_address

    def start(self) -> None:
        """Start the node, and wait until it serves; use `wait_ready` before writes."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._stopping = True
            raise

    def wait_ready(self) -> None:
        """Wait until the node takes writes."""
        self._await(self._running()[0].wait_ready())

    def stop(self) -> None:
        """Leave the cluster in order, and wait until that is done. Stopping twice does nothing."""
        if self._started.done() and not self._started.exception():
            node, loop = self._started.result()
            if not self._stopping:
                with suppress(RuntimeError):  # it has ended by itself
                    loop.call_soon_threadsafe(node.request_stop, "the program stops it")
            self._stopping = True
            self._thread.join()

    def run(self, call: Call[T], /) -> T:
        """Execute one call of the clients' table; the groups' methods come here."""
        return self._await(self._running()[0].run(call))

    def stream(self, stream: Stream[T], /) -> Generator[T, None, None]:
        """Execute one streaming call of the clients' table. Closing the generator ends the call."""
        events = self._running()[0].stream(stream)

        async def following() -> list[T]:
            return [event] if (event := await anext(events, None)) is not None else []

        try:
            while found := self._await(following()):
                yield from found
        finally:
            if self._thread.is_alive() and not self._stopping:
                self._await(events.aclose())

    def _running(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        if self._stopping or not self._thread.is_alive() or not self._started.done():
            raise UnavailableError(
                "the node does not run; use it inside of `with BlockingNode(...) as node:`, and see its log"
            )
        if threading.current_thread() is self._thread:
            raise RuntimeError("this would wait for itself: it is called from the node's own thread")
        return self._started.result()

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        _, loop = self._started.result()
        waiting = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return waiting.result()
        except CancelledError:
            raise UnavailableError("the node has stopped meanwhile") from None
        except BaseException:
            waiting.cancel()  # of Ctrl-C
            raise

    def _run(self) -> None:
        try:
            run_loop(self._main())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                raise

    async def _main(self) -> None:
        async with Node(self.config) as node:
            self._started.set_result((node, asyncio.get_running_loop()))
            await node.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
