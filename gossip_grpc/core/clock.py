"""The Lamport clock: one per node, it orders register writes and refuses poison.

Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", CACM 21(7), 1978.
"""

from __future__ import annotations

from gossip_grpc.errors import Reason, RemoteError

MAX_CLOCK = 2**62
"""Greatest clock a record may carry. Above it a peer is broken or hostile."""

MAX_LEAD = 2**32
"""How far ahead of ours a synced node accepts a clock: a century of writes, but no jump to the end of the range."""


class LamportClock:
    """A counter that ticks on every local write and takes the maximum on every record merged."""

    __slots__ = ("time",)

    def __init__(self, time: int = 0) -> None:
        self.time = time

    def tick(self) -> int:
        """Advance by one and return the new time, the timestamp of one local write."""
        self.time += 1
        return self.time

    def witness(self, time: int) -> None:
        """Take the maximum with the clock of a record merged."""
        if time > self.time:
            self.time = time

    def check(self, highest: int, *, synced: bool) -> None:
        """Refuse a message whose highest clock is poison, before anything of it is merged.

        Args:
            highest: the greatest clock in the message.
            synced: whether this node has synced once; until then it cannot judge how far ahead is too far.

        Raises:
            RemoteError: the clock is above `MAX_CLOCK`, or more than `MAX_LEAD` ahead of ours.
        """
        if highest > MAX_CLOCK:
            raise RemoteError(
                f"clock {highest} is above 2^62; the message was refused whole", reason=Reason.CLOCK_POISON
            )
        if synced and highest > self.time + MAX_LEAD:
            raise RemoteError(
                f"clock {highest} is more than 2^32 ahead of ours ({self.time}); the message was refused whole",
                reason=Reason.CLOCK_POISON,
            )
