"""What has changed in the store, for those who watch keys or subscribe to events: one log for all.

The store keeps a feed only while somebody watches, and for `LINGER` seconds after the last watcher has gone, so that he
can come back with his token. A node that nobody watches pays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from sys import getsizeof
from typing import Protocol, TypeVar

from gossip_grpc.bells import Bells
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.feed import CounterUpdate, EventUpdate, RegisterUpdate, Update
from gossip_grpc.core.records import Record, value_of
from gossip_grpc.event_view import size_of
from gossip_grpc.watching import Log, View, Watchers, follow

KEPT = 100_000
"""Changes that are kept at most: ten seconds of 10,000 a second."""

KEPT_BYTES = 64 << 20
"""Memory that the changes kept may take, with their keys and values, the old and the new."""

LINGER = 300.0
"""Seconds for which changes are kept when nobody watches any more."""

OVERHEAD = 500
"""Bytes of a change and its record beside key and values."""

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class KeyView(View[Update, R_co], Protocol[R_co]):
    """What a watcher of keys is told: of one kind of update, those whose key has the prefix."""

    @property
    def kind(self) -> type[Update]:
        """The kind of update."""

    @property
    def prefix(self) -> str:
        """What the keys begin with."""


class Changes:
    """The log of one run of a node.

    Args:
        engine: of the node.
        watchers: all who watch it.
    """

    def __init__(self, engine: Engine, watchers: Watchers) -> None:
        self.log: Log[Update] = Log(KEPT, KEPT_BYTES)
        self.node_id = engine.store.origin.node_id
        self.life = watchers.life
        self.on = False
        self._engine = engine
        self._watchers = watchers
        self._bells = Bells()
        self._count = 0
        self._end: asyncio.TimerHandle | None = None

    def refresh(self) -> None:
        """Log what has changed since the last time; to be called after every input of the engine."""
        updates = self._engine.store.take_updates()
        if not updates:
            return
        first = self.log.number + 1
        self.log.add([(update, _size(update)) for update in updates], asyncio.get_running_loop().time())
        for number, update in enumerate(updates, first):
            self._bells.ring(type(update), update.key, number)

    def close(self) -> None:
        """End all watchers, and keep nothing any more."""
        self.log.close()
        self._bells.ring_all()
        self._stop()

    async def watch(self, view: KeyView[R], token: str) -> AsyncGenerator[R, None]:
        """All that a view shows, or what came after the token; then what comes.

        Raises:
            LocalError: the token is none.
            LimitError: too many watch already, or this watcher is too slow.
            NotReadyError: the node stops.
        """

        async def news(last: int) -> int:
            return max(last, await self._bells.wait(view.kind, view.prefix) - 1)

        with self._watchers.admit():
            self._start()
            self._count += 1
            try:
                async with aclosing(follow(self, view, token, news)) as responses:
                    async for response in responses:
                        yield response
            finally:
                self._count -= 1
                if not self._count and not self.log.closed:
                    self._end = asyncio.get_running_loop().call_later(LINGER, self._stop)

    def _start(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if not self.on:
            self.on = True
            self._engine.store.feed(on=True)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self.on:
            self.on = False
            self._engine.store.feed(on=False)
            self.log.clear()


def _size(update: Update) -> int:
    """About how much memory keeping a change takes."""
    if isinstance(update, EventUpdate):
        return OVERHEAD + size_of(update.record)
    size = OVERHEAD + getsizeof(update.key)
    if isinstance(update, RegisterUpdate):
        return size + _value_size(update.before) + _value_size(update.after)
    return size if isinstance(update, CounterUpdate) else size + getsizeof(update.element)


def _value_size(record: Record | None) -> int:
    return 0 if record is None else getsizeof(value_of(record))
