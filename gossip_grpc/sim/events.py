"""Virtual time: what happens next, and nothing in between."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class EventQueue:
    """Calls to be made at given times, in order of time and, at one time, in the order in which they were asked for.

    Attributes:
        now: seconds since the world began; moves only in `run_until`.
        done: calls made so far.
    """

    __slots__ = ("_heap", "_order", "done", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.done = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, time: float, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` at `time`; at once after what is due now, if that has passed."""
        self._order += 1
        heappush(self._heap, (time, self._order, callback, args))

    def run_until(self, end: float) -> None:
        """Make all calls that are due up to `end`, that included; then it is `end`."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            time, _, callback, args = heappop(heap)
            if time > self.now:
                self.now = time
            self.done += 1
            callback(*args)
        self.now = max(self.now, end)

    def __len__(self) -> int:
        return len(self._heap)
