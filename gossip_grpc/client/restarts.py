"""When and where a stream begins once more. No IO: the clients take its steps, as those of a call.

The first connection is found as that of a call is, within the client's timeout. Once a node has told something, the
stream goes on after whatever ends it: at the same node if that is there, for its token is good there, else at the next
one. Streams that keep breaking off begin again after growing pauses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from google.protobuf.message import Message

from gossip_grpc.client.calls import Stream
from gossip_grpc.client.failover import PAUSE_FIRST, PAUSE_MOST, Attempts, Step, Target, Targets
from gossip_grpc.client.failures import Failure
from gossip_grpc.client.resuming import Resuming
from gossip_grpc.client.retries import Effect
from gossip_grpc.client.sessions import Carrier
from gossip_grpc.errors import GossipError

LASTING = 5.0
"""Seconds after which a stream counts as one that lasts."""

_AGED = ("max connection age", "enter idle")
"""gRPC's words when a node ends a connection for its age; the second in 1.66."""

T = TypeVar("T")


class Following(Generic[T]):
    """One stream, over all its connections.

    Args:
        stream: of the table.
        targets: the addresses.
        carrier: of the client's session.
        timeout: seconds for the first connection.
        retries: whether more than one address may be tried.
    """

    def __init__(self, stream: Stream[T], targets: Targets, carrier: Carrier, timeout: float, *, retries: bool) -> None:
        self._stream = stream
        self._targets = targets
        self._carrier = carrier
        self._retries = retries
        self._timeout = timeout
        self._resuming = Resuming(stream)
        self._attempts = Attempts(targets, stream.request, timeout=timeout, retries=retries)
        self._told = False  # something, by the node that is asked now
        self._begun = 0.0
        self._restarts = 0
        self._pause = 0.0
        self._reset: T | None = None

    def next(self) -> Step:
        """What to do next.

        Raises:
            GossipError: nothing more.
        """
        if self._pause:
            step, self._pause = Step(None, self._pause), 0.0
            return step
        try:
            return self._attempts.next()
        except GossipError as error:
            raise self._final(error) from None

    def request(self) -> Message:
        """What to ask now."""
        request = self._resuming.request()
        self._carrier.attach(request)
        return request

    def take(self, target: Target, event: T) -> Iterator[T]:
        """What the caller is to hear when a node has told something."""
        if not self._told:
            self._told = True
            self._begun = self._targets.clock()
            self._attempts.succeeded(target)
        if self._reset is not None:
            reset, self._reset = self._reset, None
            yield reset
        if self._resuming.take(event):
            yield event

    def failed(self, target: Target, failure: Failure) -> None:
        """The stream was cut off, or could not be begun.

        Raises:
            GossipError: for good; `resume_token` in its metadata tells where to go on, if it is known.
        """
        if not self._told:
            try:
                self._attempts.failed(target, failure)
            except GossipError as error:
                raise self._final(error) from None
            return
        self._told = False
        slow = self._resuming.can_follow(failure.error)
        lost = failure.effect not in (Effect.REFUSED, Effect.STANDS)
        # The node is there, and only wants its clients to look around now and then.
        aged = any(words in failure.problem for words in _AGED)
        if not (self._stream.reconnect or aged) or not (slow or lost):
            raise self._final(failure.error)
        if failure.effect is Effect.LATER:
            self._targets.failed(target, failure.retry_after or 0.0)
        elif lost:
            self._targets.doubt(target)
        self._reset = self._reset or self._resuming.restart(f"{target.address} was lost ({failure.problem})")
        lasted = self._targets.clock() - self._begun > LASTING
        self._restarts = 0 if lasted else self._restarts + 1
        if self._restarts > 1:
            self._pause = min(PAUSE_FIRST * 2.0 ** min(self._restarts, 10), PAUSE_MOST) * self._targets.jitter()
        if slow or len(self._targets) == 1:  # otherwise another node is asked meanwhile
            self._pause = max(self._pause, failure.retry_after or 0.0)
        self._attempts = Attempts(
            self._targets,
            self._stream.request,
            timeout=self._stream.reconnect or self._timeout,
            retries=True,
            patient=True,
        )

    def _final(self, error: GossipError) -> GossipError:
        if self._resuming.token:
            error.metadata.setdefault("resume_token", self._resuming.token)
        return error
