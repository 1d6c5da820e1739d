"""How far one stream has come, so that it can go on at any node with nothing lost or told twice unseen. No IO.

A node goes on after one of its own tokens, if it still knows what came since. To any other token it answers RESET, and
tells all anew. Before it has told all there is no token to go on with; whoever is cut off within that begins anew, and
RESET is put in here. Events are told once however often a stream begins anew: they have names.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from gossip_grpc.client.calls import Stream
from gossip_grpc.client.results import Event
from gossip_grpc.errors import GossipError, Reason

REMEMBERED = 20_000
"""Names of events that are kept, to know them again: two of an event that has a `request_id`."""

T = TypeVar("T")


class Resuming(Generic[T]):
    """One stream.

    Attributes:
        token: to go on with; empty if there is none.
    """

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._first: str = getattr(stream.request, "resume_token", "")
        self.token = self._first
        self._without_token = False  # something was told since the token, and bore none
        self._names: dict[Hashable, None] = {}

    def request(self) -> Message:
        """What is asked next."""
        if self._stream.reset is None or self.token == self._first:
            return self._stream.request
        request: Any = type(self._stream.request)()
        request.CopyFrom(self._stream.request)
        request.resume_token = self.token
        return cast("Message", request)

    def take(self, event: T) -> bool:
        """Note what was told; whether the caller is to hear it."""
        if self._stream.reset is None:
            return True
        told: Any = event
        if told.token:
            self.token, self._without_token = told.token, False
        else:
            self._without_token = True
            if told.kind == "reset" and self._stream.is_snapshot:
                # What was known is to be forgotten. Going on after the old token, at the node that it is of, would
                # leave that out.
                self.token = ""
        return self._is_new(getattr(told, "event", None))

    def restart(self, cause: str) -> T | None:
        """What the caller is to hear before the stream begins once more."""
        if self._stream.reset is None or self.token or not self._without_token:
            return None
        self._without_token = False
        return self._stream.reset(f"{cause} before all had been told: it is told anew")

    def can_follow(self, error: GossipError) -> bool:
        """Whether a stream that was cut off with this error, for being read too slowly, may go on; takes its token."""
        if error.reason != Reason.SLOW_WATCHER:
            return False
        token = error.metadata.get("resume_token", "")
        if token:
            self.token, self._without_token = token, False
        return token != ""

    def _is_new(self, event: Event | None) -> bool:
        if event is None:
            return True
        names: list[Hashable] = [event.dot]
        if event.request_id:
            names.append((event.topic, event.request_id))
        known = any(name in self._names for name in names)
        for name in names:
            self._names.pop(name, None)  # to the end
            self._names[name] = None
        while len(self._names) > REMEMBERED:
            del self._names[next(iter(self._names))]
        return not known
