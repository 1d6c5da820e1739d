"""What a subscriber is told: the events of his topics that the node keeps, if he wants them, and those that come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from os.path import commonprefix
from sys import getsizeof

from gossip_grpc import wire
from gossip_grpc.core.events import event_of
from gossip_grpc.core.feed import EventUpdate, Update
from gossip_grpc.core.records import Record
from gossip_grpc.core.store import Store
from gossip_grpc.errors import LimitError, Reason
from gossip_grpc.gen.gossip.v1 import event_pb2
from gossip_grpc.watching import Entry

PIECE = 1_000
"""Events that are looked at in one step."""

PIECE_BYTES = 64 << 10
"""A piece ends once its events are more than this: for as long as it is sent, they are kept from being let go of."""


class Topics:
    """Topics, and beginnings of topics that end in `*`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = sorted(set(patterns))
        self._whole = frozenset(pattern for pattern in self.patterns if not pattern.endswith("*"))
        self._beginnings = tuple(pattern[:-1] for pattern in self.patterns if pattern.endswith("*"))

    def __contains__(self, topic: str) -> bool:
        return topic in self._whole or topic.startswith(self._beginnings)


class EventView:
    """How far a subscriber has been told what is kept.

    Args:
        store: the store.
        patterns: what is subscribed to.
        retained: whether to begin with what is kept. With a token that is of no use here, it must be.
    """

    kind = EventUpdate

    def __init__(self, store: Store, patterns: Sequence[str], *, retained: bool) -> None:
        self._store = store
        self._topics = Topics(patterns)
        self._retained = retained
        self._reading = False  # what is kept
        self.prefix = commonprefix([pattern.removesuffix("*") for pattern in patterns])  # noqa: RUF071  letters are meant
        self.scope = f"event {self._topics.patterns}"
        self.noun = "events that this node keeps" if retained else "events from now on"

    def pieces(self) -> Iterator[Iterable[event_pb2.EventServiceSubscribeResponse]]:
        """The events that are kept, in the order in which they were told; none if they are not asked for."""
        self._reading = self._retained
        return self._kept(self._store.events_told.start)

    def _kept(self, following: int) -> Iterator[Iterable[event_pb2.EventServiceSubscribeResponse]]:
        """From the one of this number on, until there is none more: what comes from then on is in the log."""
        while self._reading:
            kept = self._store.events_told
            if following < kept.start:
                raise LimitError(
                    "events were forgotten before this subscriber had read them; begin anew, and read faster",
                    reason=Reason.SLOW_WATCHER,
                )
            found: list[Record] = []
            size = 0
            for number in range(following, min(following + PIECE, kept.stop)):
                following = number + 1
                record = self._store.event(number)
                if event_of(record).topic in self._topics:
                    found.append(record)
                    size += size_of(record)
                    if size > PIECE_BYTES:
                        break
            self._reading = following < kept.stop
            yield (_response(record, "") for record in found)

    def events(
        self, entries: list[Entry[Update]], token: Callable[[int], str]
    ) -> Iterable[event_pb2.EventServiceSubscribeResponse]:
        """The events of these topics; while pieces are read none, for they will come to them."""
        if self._reading:
            return
        for entry in entries:
            update = entry.item
            if type(update) is EventUpdate and update.key in self._topics:
                yield _response(update.record, token(entry.number))

    def reset(self, cause: str) -> event_pb2.EventServiceSubscribeResponse:
        """What is kept follows, whatever was received before."""
        return event_pb2.EventServiceSubscribeResponse(kind=event_pb2.SUBSCRIPTION_EVENT_KIND_RESET, cause=cause)

    def current(self, cause: str, token: str) -> event_pb2.EventServiceSubscribeResponse:
        """The marker."""
        kind = event_pb2.SUBSCRIPTION_EVENT_KIND_CURRENT
        return event_pb2.EventServiceSubscribeResponse(kind=kind, cause=cause, resume_token=token)


def size_of(record: Record) -> int:
    """About how much memory the words of an event take."""
    event = event_of(record)
    return getsizeof(event.topic) + getsizeof(event.payload) + getsizeof(event.ordering_key)


def _response(record: Record, token: str) -> event_pb2.EventServiceSubscribeResponse:
    return event_pb2.EventServiceSubscribeResponse(
        kind=event_pb2.SUBSCRIPTION_EVENT_KIND_EVENT, event=wire.encode_event(record), resume_token=token
    )
