"""The phi accrual failure detector: how surprising it is that a heartbeat has not come yet.

Hayashibara et al., "The phi Accrual Failure Detector", SRDS 2004. The times between heartbeats are taken for normally
distributed, with the mean and the standard deviation of a window of the last of them:

    phi(t) = -log10(P(a heartbeat comes later than t)) = -log10(Q((t - mean - pause) / deviation))

Q is the tail of the standard normal distribution, Q(z) = erfc(z / sqrt 2) / 2. At phi = 1 one suspicion in 10 is wrong,
at phi = 8 one in 10^8, as far as the model holds. It does not for pauses (garbage collection, a busy machine): they are
no part of any distribution that a window of 200 can learn. So a pause is added to the mean, as in Akka, and the
deviation has a floor, for a quiet network makes it so small that any delay would be a surprise.
"""

from __future__ import annotations

from collections import deque
from math import erfc, log, log1p, sqrt

MAX_PHI = 300.0
"""Phi is clamped here: the tail beyond is too small for a double."""

WINDOW = 200
"""Intervals remembered."""

_LOG_10 = log(10.0)
_SQRT_2 = sqrt(2.0)


def phi(elapsed: float, mean: float, deviation: float) -> float:
    """How surprising it is that nothing came for so long: 0 to `MAX_PHI`, monotone in `elapsed`.

    Args:
        elapsed: seconds since the last heartbeat.
        mean: expected seconds between two, any pause that is to be tolerated included.
        deviation: standard deviation in seconds, above 0.
    """
    x = (elapsed - mean) / (deviation * _SQRT_2)
    if x < 0:
        # Q is close to 1 here: by its complement, for 1 - tiny is 1.
        return -log1p(-0.5 * erfc(-x)) / _LOG_10
    tail = 0.5 * erfc(x)
    return min(-log(tail) / _LOG_10, MAX_PHI) if tail > 0.0 else MAX_PHI


class Intervals:
    """A sliding window of the times between heartbeats, with their mean and deviation.

    Args:
        expected: seconds between two heartbeats, as configured. The window is seeded with it, give or take a quarter,
            so that the first heartbeats are not judged by themselves alone.

    Attributes:
        mean: of the window, in seconds.
    """

    __slots__ = ("_squares", "_window", "mean")

    def __init__(self, expected: float) -> None:
        self._window = deque([expected * 0.75, expected * 1.25])
        self.mean = expected
        self._squares = 2 * (expected * 0.25) ** 2  # the sum of squared distances from the mean

    def add(self, interval: float) -> None:
        """Add the time between the last two heartbeats.

        By Welford's method (Technometrics 4(3), 1962), which loses no digits where sums of squares would. Taking out
        the oldest adds rounding errors, so all is summed up anew once in a while.
        """
        window = self._window
        window.append(interval)
        if len(window) <= WINDOW:
            distance = interval - self.mean
            self.mean += distance / len(window)
            self._squares += distance * (interval - self.mean)
            return
        oldest = window.popleft()
        before = self.mean
        self.mean += (interval - oldest) / WINDOW
        self._squares += (interval - oldest) * (interval - self.mean + oldest - before)
        if self._squares < 0.0 or interval > _LARGE * self.mean or oldest > _LARGE * self.mean:
            self.mean = sum(window) / WINDOW
            self._squares = sum((one - self.mean) ** 2 for one in window)

    def deviation(self, floor: float) -> float:
        """The standard deviation of the window, at least `floor` seconds."""
        return max(sqrt(max(self._squares, 0.0) / len(self._window)), floor)


_LARGE = 4.0
"""An interval so many times the mean may take digits off the sums: they are made anew then."""
