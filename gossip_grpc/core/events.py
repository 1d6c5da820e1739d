"""Events: what was published, kept for a while, and handed to subscribers in order.

An event is a record with a slot of its own, so that whatever way it comes, a store takes it once. Those of one origin
are *told* in the order in which they were published: each names the one before it (`Event.previous`), and waits until
that one has been told or is covered without being there, because it was forgotten elsewhere. If it was lost with its
publisher it is waited for no longer than `PATIENCE`.

Of those with one topic and one `request_id` a store tells the first: the others are calls of the same publisher, made
again. They are kept like the others, untold, for whoever has not seen the first.

Events are forgotten `retention` seconds after they were told. Their dots stay covered, so none comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Event, Origin, Record

PATIENCE = 5.0
"""Seconds that an event waits for one before it that nobody may have any more."""


class Events:
    """The events that one store keeps: those that have been told, in that order, and those that wait.

    Args:
        coverage: of the store, which covers an event before it is taken.
    """

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._number = 0
        self._told: dict[int, tuple[float, Record]] = {}  # with the time each was told
        self._last: dict[Origin, int] = {}  # the last one told
        self._waiting: dict[Origin, dict[int, tuple[float, Record]]] = {}  # by the one that each waits for
        self._requests: dict[tuple[str, str], Record] = {}  # those told that have a request_id
        self._repeats: list[tuple[float, Record]] = []  # with the time each would have been told

    def __len__(self) -> int:
        return len(self._told) + len(self._repeats) + sum(map(len, self._waiting.values()))

    def take(self, record: Record, now: float) -> list[Record]:
        """An event has come; returns what can be told now, in order."""
        origin, previous = record.origin, event_of(record).previous
        # Two after the same one are the mistake of a peer: the second does not wait.
        if self._is_due(origin, previous) or previous in self._waiting.get(origin, {}):
            return self._tell(record, now)
        self._waiting.setdefault(origin, {})[previous] = (now, record)
        return []

    def due(self, now: float) -> list[Record]:
        """What has waited, and can be told now."""
        told: list[Record] = []
        for origin, waiting in sorted(self._waiting.items()):
            for previous, (since, record) in sorted(waiting.items()):
                # One that was told just now may have let others go.
                if previous in waiting and (now - since >= PATIENCE or self._is_due(origin, previous)):
                    del waiting[previous]
                    told += self._tell(record, now)
            if not waiting:
                self._waiting.pop(origin, None)
        return told

    def deadline(self) -> float:
        """When `due` is to be asked at the latest; infinite while nothing waits."""
        waiting = (since for waiting in self._waiting.values() for since, _ in waiting.values())
        return min(waiting, default=float("inf")) + PATIENCE

    @property
    def kept(self) -> range:
        """The numbers of those that have been told and are kept."""
        return range(self._number - len(self._told) + 1, self._number + 1)

    def told(self, number: int) -> Record:
        """The event of that number, if it is kept."""
        return self._told[number][1]

    def forget(self, now: float, retention: float) -> Iterator[Record]:
        """Take those that were told `retention` seconds ago."""
        for number in self.kept:
            since, record = self._told[number]
            if now - since < retention:
                break
            del self._told[number]
            self._requests.pop(_request(record), None)
            yield record
        old = sum(now - since >= retention for since, _ in self._repeats)
        for _, record in self._repeats[:old]:
            yield record
        del self._repeats[:old]

    def published(self, topic: str, request_id: str) -> Record | None:
        """The event of a request, if it has been told and is kept."""
        return self._requests.get((topic, request_id))

    def fold(self) -> None:
        """Lives that ended long ago publish no more."""
        self._last = {origin: last for origin, last in self._last.items() if not self._coverage.is_folded(origin)}

    def _is_due(self, origin: Origin, previous: int) -> bool:
        """Whether nothing is to be waited for: the one before was told, or is covered and will not come any more."""
        if self._last.get(origin, 0) >= previous:
            return True
        before = (record.sequence <= previous for _, record in self._waiting.get(origin, {}).values())
        return self._coverage.sequence(origin) >= previous and not any(before)

    def _tell(self, record: Record, now: float) -> list[Record]:
        """Tell an event, and those that have waited for it; returns those that no other was told instead of."""
        waiting = self._waiting.get(record.origin, {})
        due = [record]
        while (following := waiting.pop(due[-1].sequence, None)) is not None:
            due.append(following[1])
        told = []
        for one in due:
            name = _request(one)
            if name in self._requests:
                self._repeats.append((now, one))
                continue
            if name[1]:
                self._requests[name] = one
            self._number += 1
            self._told[self._number] = (now, one)
            told.append(one)
        self._last[record.origin] = max(self._last.get(record.origin, 0), due[-1].sequence)
        if not waiting:
            self._waiting.pop(record.origin, None)
        return told


def _request(record: Record) -> tuple[str, str]:
    event = event_of(record)
    return event.topic, event.request_id


def event_of(record: Record) -> Event:
    """The content of an event's record."""
    event: Event = record.content
    return event
