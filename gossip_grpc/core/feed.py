"""The feed: every change that a client could see, in the order in which it took place in one store.

A store keeps it only while somebody watches. An update holds references to immutable records, so it costs little until
it is let go of.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from gossip_grpc.core.events import event_of
from gossip_grpc.core.records import Record, Value


class Cause(StrEnum):
    """What made the difference."""

    WRITTEN = "WRITTEN"
    """A write, made here or merged: of a deletion too."""
    EXPIRED = "EXPIRED"
    """A lease is over, or abandoned."""
    HIDDEN = "HIDDEN"
    """The node that an ephemeral value stands for is not a live member any more."""
    SHOWN = "SHOWN"
    """It is one again."""


class RegisterUpdate(NamedTuple):
    """A register's value is another one. `before` and `after` are live records, None for no value."""

    key: str
    before: Record | None
    after: Record | None
    record: Record
    """The write that made the difference; of what no write has made, the one that put the value there."""
    cause: Cause


class CounterUpdate(NamedTuple):
    """A counter's value is another one."""

    key: str
    before: int
    after: int
    record: Record
    """The write that made the difference."""


class SetUpdate(NamedTuple):
    """An element has come into a set (`present`), or left it."""

    key: str
    element: Value
    present: bool
    record: Record
    """The write that made the difference."""


class EventUpdate(NamedTuple):
    """An event is to be told to subscribers."""

    record: Record

    @property
    def key(self) -> str:
        """Its topic."""
        return event_of(self.record).topic


Update = RegisterUpdate | CounterUpdate | SetUpdate | EventUpdate
