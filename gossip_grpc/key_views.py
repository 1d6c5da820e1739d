"""What those who watch registers, counters or sets are told: what there is, in order of the keys, and what changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from gossip_grpc import wire
from gossip_grpc.core.elements import Place, element_at
from gossip_grpc.core.feed import Cause, CounterUpdate, RegisterUpdate, SetUpdate, Update
from gossip_grpc.core.records import Record, value_of, value_order
from gossip_grpc.core.store import Store
from gossip_grpc.gen.gossip.v1 import counter_pb2, kv_pb2, set_pb2
from gossip_grpc.watching import Entry

PIECE = 200
"""Keys, or elements of a set, that are read in one step."""

PIECE_BYTES = 64 << 10
"""A piece ends once its values are more than this: for as long as it is sent, they are kept from being let go of."""

SORTED = 1_000
"""Elements of a large set that are sorted in one step (see keys.py)."""

_KINDS = {
    Cause.EXPIRED: kv_pb2.KEY_VALUE_EVENT_KIND_EXPIRED,
    Cause.HIDDEN: kv_pb2.KEY_VALUE_EVENT_KIND_HIDDEN,
    Cause.SHOWN: kv_pb2.KEY_VALUE_EVENT_KIND_SHOWN,
}

_BEFORE: Place = (-1, b"")
"""Before all elements of a set."""

U = TypeVar("U", RegisterUpdate, CounterUpdate, SetUpdate)
P = TypeVar("P", str, tuple[str, Place])
R = TypeVar("R")


class _Walk(Generic[U, P, R]):
    """How far the pieces have come. All has been reached as long as nobody asks for them.

    Args:
        store: the store.
        prefix: of the keys that are told.
    """

    call: str
    kind: type[U]

    def __init__(self, store: Store, prefix: str) -> None:
        self.scope = f"{self.call} {prefix}"
        self._store = store
        self.prefix = prefix
        self._reached: P | None = None  # the last place; None for all

    def events(self, entries: list[Entry[Update]], token: Callable[[int], str]) -> Iterable[R]:
        """Those of this kind whose key has the prefix and has been reached."""
        kind, prefix, reached = self.kind, self.prefix, self._reached
        found: list[Any] = [
            entry for entry in entries if type(entry.item) is kind and entry.item.key.startswith(prefix)
        ]
        if reached is not None:
            found = [entry for entry in found if self._place(entry.item) <= reached]
        return (self._event(entry.item, token(entry.number)) for entry in found)

    def _place(self, update: U) -> P:
        raise NotImplementedError

    def _event(self, update: U, token: str) -> R:
        raise NotImplementedError


class KeyValueView(_Walk[RegisterUpdate, str, kv_pb2.KeyValueServiceWatchResponse]):
    """Registers."""

    call = "kv"
    noun = "entries"
    kind = RegisterUpdate

    def pieces(self) -> Iterator[Iterable[kv_pb2.KeyValueServiceWatchResponse]]:
        """The entries."""
        self._reached = ""
        while records := self._next():
            self._reached = str(records[-1].slot)
            yield map(_entry, records)
        self._reached = None

    def _place(self, update: RegisterUpdate) -> str:
        return update.key

    def _next(self) -> list[Record]:
        records: list[Record] = []
        size = 0
        for key in self._store.keys(self.prefix, self._reached):
            record = self._store.register(key)
            if record is not None:
                records.append(record)
                size += len(value_of(record) or "")
                if len(records) == PIECE or size > PIECE_BYTES:
                    break
        return records

    def _event(self, update: RegisterUpdate, token: str) -> kv_pb2.KeyValueServiceWatchResponse:
        old = None if update.before is None else value_of(update.before)
        return kv_pb2.KeyValueServiceWatchResponse(
            kind=_kind(update),
            key=update.key,
            entry=None if update.after is None else wire.encode_entry(update.after),
            old_value=None if old is None else wire.encode_value(old),
            dot=wire.encode_dot(update.record),
            clock=update.record.clock,
            resume_token=token,
        )

    def reset(self, cause: str) -> kv_pb2.KeyValueServiceWatchResponse:
        """All is told anew."""
        return kv_pb2.KeyValueServiceWatchResponse(kind=kv_pb2.KEY_VALUE_EVENT_KIND_RESET, cause=cause)

    def current(self, cause: str, token: str) -> kv_pb2.KeyValueServiceWatchResponse:
        """The marker."""
        kind = kv_pb2.KEY_VALUE_EVENT_KIND_CURRENT
        return kv_pb2.KeyValueServiceWatchResponse(kind=kind, cause=cause, resume_token=token)


class CounterView(_Walk[CounterUpdate, str, counter_pb2.CounterServiceWatchResponse]):
    """Counters."""

    call = "counter"
    noun = "counters"
    kind = CounterUpdate

    def pieces(self) -> Iterator[Iterable[counter_pb2.CounterServiceWatchResponse]]:
        """The counters."""
        store = self._store
        self._reached = ""
        while keys := list(islice(store.counter_keys(self.prefix, self._reached), PIECE)):
            self._reached = keys[-1]
            kind = counter_pb2.COUNTER_EVENT_KIND_SNAPSHOT
            yield [
                counter_pb2.CounterServiceWatchResponse(kind=kind, counter=wire.encode_counter(key, store.counter(key)))
                for key in keys
            ]
        self._reached = None

    def _place(self, update: CounterUpdate) -> str:
        return update.key

    def _event(self, update: CounterUpdate, token: str) -> counter_pb2.CounterServiceWatchResponse:
        return counter_pb2.CounterServiceWatchResponse(
            kind=counter_pb2.COUNTER_EVENT_KIND_CHANGED,
            counter=wire.encode_counter(update.key, update.after),
            old_value=wire.clamp(update.before),
            dot=wire.encode_dot(update.record),
            clock=update.record.clock,
            resume_token=token,
        )

    def reset(self, cause: str) -> counter_pb2.CounterServiceWatchResponse:
        """All is told anew."""
        return counter_pb2.CounterServiceWatchResponse(kind=counter_pb2.COUNTER_EVENT_KIND_RESET, cause=cause)

    def current(self, cause: str, token: str) -> counter_pb2.CounterServiceWatchResponse:
        """The marker."""
        kind = counter_pb2.COUNTER_EVENT_KIND_CURRENT
        return counter_pb2.CounterServiceWatchResponse(kind=kind, cause=cause, resume_token=token)


class SetView(_Walk[SetUpdate, tuple[str, Place], set_pb2.SetServiceWatchResponse]):
    """Sets."""

    call = "set"
    noun = "elements"
    kind = SetUpdate

    def pieces(self) -> Iterator[Iterable[set_pb2.SetServiceWatchResponse]]:
        """The elements: set by set, text before bytes, each in order."""
        store = self._store
        self._reached = ("", _BEFORE)
        while self._reached is not None:
            key, last = self._reached
            places = self._next(key, last)
            if places:
                self._reached = (key, places[-1])
                yield (_element(key, place) for place in places)
                continue
            following = next(store.set_keys(self.prefix, key), None)
            self._reached = None if following is None else (following, _BEFORE)  # whatever comes before it is told
            while following is not None and not store.sort_in(SORTED, following):
                yield ()

    def _next(self, key: str, last: Place) -> list[Place]:
        places: list[Place] = []
        size = 0
        for place in self._store.places(key, last):
            places.append(place)
            size += len(place[1])
            if len(places) == PIECE or size > PIECE_BYTES:
                break
        return places

    def _place(self, update: SetUpdate) -> tuple[str, Place]:
        return update.key, value_order(update.element)

    def _event(self, update: SetUpdate, token: str) -> set_pb2.SetServiceWatchResponse:
        return set_pb2.SetServiceWatchResponse(
            kind=set_pb2.SET_EVENT_KIND_ADDED if update.present else set_pb2.SET_EVENT_KIND_REMOVED,
            key=update.key,
            element=wire.encode_value(update.element),
            dot=wire.encode_dot(update.record),
            clock=update.record.clock,
            resume_token=token,
        )

    def reset(self, cause: str) -> set_pb2.SetServiceWatchResponse:
        """All is told anew."""
        return set_pb2.SetServiceWatchResponse(kind=set_pb2.SET_EVENT_KIND_RESET, cause=cause)

    def current(self, cause: str, token: str) -> set_pb2.SetServiceWatchResponse:
        """The marker."""
        kind = set_pb2.SET_EVENT_KIND_CURRENT
        return set_pb2.SetServiceWatchResponse(kind=kind, cause=cause, resume_token=token)


def _entry(record: Record) -> kv_pb2.KeyValueServiceWatchResponse:
    return kv_pb2.KeyValueServiceWatchResponse(
        kind=kv_pb2.KEY_VALUE_EVENT_KIND_SNAPSHOT,
        key=str(record.slot),
        entry=wire.encode_entry(record),
        dot=wire.encode_dot(record),
        clock=record.clock,
    )


def _element(key: str, place: Place) -> set_pb2.SetServiceWatchResponse:
    kind = set_pb2.SET_EVENT_KIND_SNAPSHOT
    return set_pb2.SetServiceWatchResponse(kind=kind, key=key, element=wire.encode_value(element_at(place)))


def _kind(update: RegisterUpdate) -> kv_pb2.KeyValueEventKind.ValueType:
    if update.cause is not Cause.WRITTEN:
        return _KINDS[update.cause]
    if update.after is not None:
        return kv_pb2.KEY_VALUE_EVENT_KIND_PUT
    lease = update.record.is_lease and update.record is not update.before
    if not lease:
        return kv_pb2.KEY_VALUE_EVENT_KIND_DELETED
    # A lease that was over, or hidden, when it came here has taken the place of a value.
    ephemeral = update.record.content.ephemeral
    return kv_pb2.KEY_VALUE_EVENT_KIND_HIDDEN if ephemeral else kv_pb2.KEY_VALUE_EVENT_KIND_EXPIRED
