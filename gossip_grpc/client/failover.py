"""Which node a call goes to, and where it goes on after a failure. No IO: the clients ask, wait and call.

A client stays with one node for as long as that does what it is asked; so its session rarely has to be waited for.
After a failure it goes on to the next address, and stays there. An address that has failed is avoided for a while, at
first a second, then twice as long each time up to half a minute: so it does not cost each call the time to find out.
Where all are avoided they are tried all the same, the one first whose time is up first.

Before a call goes to an address that has not answered yet, or not since it failed, it is asked for its health: that may
time out without leaving it open whether the call was carried out. With one address there is no choice to be made, and
no such question.

A call goes through all addresses, then pauses, longer each time and never the same, and goes through them again, until
its deadline. With one address it ends at once when nobody listens there: there is nobody else to ask.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

from google.protobuf.message import Message

from gossip_grpc.client.failures import Failure
from gossip_grpc.client.retries import RULES, Effect, Repeat, is_write, may_repeat
from gossip_grpc.errors import Attempt, GossipError, InvalidArgumentError, Reason

AVOID_FIRST, AVOID_MOST = 1.0, 30.0
"""Seconds for which an address is avoided that has failed once, and at most."""

PAUSE_FIRST, PAUSE_MOST = 0.05, 1.0
"""Seconds between two rounds through all addresses: the first, and the longest."""

PROBE_TIMEOUT = 2.0
"""Seconds that an address may take to be connected to and to tell its health."""

LEAST_SHARE = 0.02
"""Share of a call's time below which no other attempt is begun: its end would hide why the others failed."""

_LONGEST_PROBLEM = 300
"""Letters of what one address said."""


class Target:
    """One address, and what is known of the node there.

    Attributes:
        address: as the user gave it.
        trusted: whether it has answered, and not failed since.
        failures: since it last answered.
        avoided_until: on the clock of `Targets`.
    """

    __slots__ = ("address", "avoided_until", "failures", "trusted")

    def __init__(self, address: str) -> None:
        self.address = address
        self.trusted = False
        self.failures = 0
        self.avoided_until = float("-inf")


class Targets:
    """The addresses of one client; threads may share it.

    Args:
        addresses: at least one, each once.
        shuffle: whether to begin anywhere, so that many clients with the same addresses do not all ask the first.
        clock: seconds.
    """

    def __init__(
        self, addresses: Iterable[str], *, shuffle: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._targets = [Target(address) for address in addresses]
        self._random = random.Random()  # noqa: S311 - no secret
        if shuffle:
            self._random.shuffle(self._targets)
        self._current = 0
        self._lock = Lock()
        self.clock = clock

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def current(self) -> Target:
        """The one that calls go to."""
        return self._targets[self._current]

    def order(self) -> list[Target]:
        """All, the current one first."""
        begin = self._current
        return self._targets[begin:] + self._targets[:begin]

    def answered(self, target: Target) -> None:
        """It did what it was asked: stay with it, unless there is another one to stay with."""
        with self._lock:
            target.trusted = True
            target.failures = 0
            target.avoided_until = float("-inf")
            if self.current.avoided_until > self.clock() or not self.current.trusted:
                self._current = self._targets.index(target)

    def failed(self, target: Target, least: float = 0.0) -> None:
        """It did not, or could not: avoid it for a while, at least for so many seconds."""
        with self._lock:
            target.trusted = False
            if target.avoided_until > self.clock() and not least:
                return  # of many calls that failed together the first one counts
            period = min(AVOID_FIRST * 2**target.failures, AVOID_MOST)
            target.failures = min(target.failures + 1, 10)
            target.avoided_until = self.clock() + max(least, period * self._random.uniform(0.75, 1.25))

    def doubt(self, target: Target) -> None:
        """It may be gone: ask before it is used again."""
        target.trusted = False

    def jitter(self) -> float:
        """A factor from 0.5 to 1."""
        return self._random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done next: pause for some seconds, or ask a target.

    Attributes:
        target: whom to ask; None to pause.
        timeout: seconds of the pause, or of the call.
        probe: seconds that the target may take to tell its health first; 0 not to ask it.
        must_serve: whether it must say that it serves; otherwise it is enough that it says something.
    """

    target: Target | None
    timeout: float
    probe: float = 0.0
    must_serve: bool = False


class Attempts:
    """One call's way.

    Args:
        targets: the addresses.
        request: the call's, or the first of several.
        timeout: seconds for all attempts together.
        retries: whether there may be more than one.
        patient: whether to go on asking a single address where nobody listens, and those that could not do it now.

    Raises:
        InvalidArgumentError: the call is about one node, and there are several addresses.
    """

    def __init__(
        self, targets: Targets, request: Message, *, timeout: float, retries: bool = True, patient: bool = False
    ) -> None:
        self._targets = targets
        self._timeout = timeout
        self._retries = retries
        self._patient = patient
        self._writes = is_write(request)
        self._repeatable = may_repeat(request)
        self._begun: float | None = None
        self._tried: set[Target] = set()  # in this round
        self._excluded: set[Target] = set()
        self._barred: dict[Target, float] = {}  # until when, as they said themselves
        self._rounds = 0
        self._failures: list[tuple[Target, Failure]] = []
        if len(targets) > 1 and RULES[type(request)] is Repeat.ONE_NODE:
            problem = "must be that of the node which this call is about; make a client with this one alone"
            raise InvalidArgumentError(
                f"address {problem}", reason=Reason.INVALID_ARGUMENT, fields={"address": problem}
            )

    def next(self) -> Step:
        """What to do next.

        Raises:
            GossipError: nothing more; it tells what was tried.
        """
        now = self._targets.clock()
        if self._begun is None:
            self._begun = now
        left = self._timeout - (now - self._begun)
        if self._failures and left <= self._timeout * LEAST_SHARE:
            raise self.error()
        waiting = [one for one in self._targets.order() if one not in self._tried and one not in self._excluded]
        ready = [one for one in waiting if self._barred.get(one, now) <= now]
        if not ready:
            pause = self._pause(now)
            if pause is None or pause >= left:
                raise self.error()
            self._tried.clear()
            self._rounds += 1
            return Step(None, pause)
        fresh = [one for one in ready if one.avoided_until <= now]
        target = fresh[0] if fresh else min(ready, key=lambda one: one.avoided_until)
        others = len(fresh) - 1 if fresh else len(ready) - 1
        share = left / 2 if others > 0 and self._repeatable and self._retries else left
        if len(self._targets) == 1 or target.trusted:
            return Step(target, share)
        return Step(target, share, min(PROBE_TIMEOUT, left / (others + 2)), must_serve=not self._rounds)

    def failed(self, target: Target, failure: Failure) -> None:
        """An attempt has failed.

        Raises:
            GossipError: for good.
        """
        self._failures.append((target, failure))
        effect = failure.effect
        if effect in (Effect.REFUSED, Effect.STANDS):
            self._targets.answered(target)
            raise self.error()
        self._targets.failed(target, failure.retry_after or 0.0)
        if not self._retries or (effect is Effect.UNKNOWN and not self._repeatable):
            raise self.error()
        self._tried.add(target)
        if effect is Effect.ELSEWHERE and not self._patient:
            self._excluded.add(target)
        if failure.retry_after:
            self._barred[target] = self._targets.clock() + failure.retry_after

    def left(self) -> float:
        """Seconds until the deadline, once there was a step; some if it has passed, for gRPC takes no less."""
        passed = 0.0 if self._begun is None else self._targets.clock() - self._begun
        return max(self._timeout - passed, 0.001)

    def succeeded(self, target: Target) -> None:
        """An attempt was answered."""
        self._targets.answered(target)

    def error(self) -> GossipError:
        """What all the failures so far come to."""
        # What a node has explained says more than that another one is gone.
        explained = [failure for _, failure in self._failures if failure.error.reason is not None]
        last = explained[-1] if explained else self._failures[-1][1]
        error = last.error
        error.attempts = tuple(Attempt(target.address, failure.problem) for target, failure in self._failures)
        error.may_have_taken_effect = self._writes and any(
            failure.effect in (Effect.UNKNOWN, Effect.STANDS) for _, failure in self._failures
        )
        effect = "; the write may have taken effect" if error.may_have_taken_effect else ""
        if len(self._failures) > 1:
            if self._writes and not effect:
                effect = "; nothing was written"
            error.args = (f"no node has done it, after {_in_words(error.attempts)}{effect}",)
        elif effect and last.effect is Effect.UNKNOWN and "taken effect" not in str(error):
            error.args = (f"{error}{effect}",)
        return error

    def _pause(self, now: float) -> float | None:
        """Seconds until the next round; None if there is none."""
        left = [one for one in self._targets.order() if one not in self._excluded]
        if not left:
            return None
        if len(self._targets) == 1 and not self._patient:
            last = self._failures[-1][1]
            if last.effect is Effect.UNREACHABLE or (last.effect is Effect.LATER and last.retry_after is None):
                return None
        pause: float = min(PAUSE_FIRST * 2.0 ** min(self._rounds, 10), PAUSE_MOST) * self._targets.jitter()
        return max(pause, min(self._barred.get(one, now) for one in left) - now)


def _in_words(attempts: Sequence[Attempt]) -> str:
    """Each different one once, with how often it was."""
    return "; ".join(
        f"{address}: {problem[:_LONGEST_PROBLEM]}" + (f" ({count} times)" if count > 1 else "")
        for (address, problem), count in Counter(attempts).items()
    )
