"""The simulated network: how long a message takes from one node to another, and whether it arrives at all."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

REORDER_DELAY = 0.1
"""Seconds that a message out of order is late at most; by how many is uniform."""


class Latency(NamedTuple):
    """Seconds that a message takes one way: uniform from `low` to `high`, and a random tail on top.

    The tail is exponential with a mean of `tail` seconds, as of queues on the way; 0 for none.
    """

    low: float = 0.0
    high: float = 0.0
    tail: float = 0.0

    def sample(self, rng: random.Random) -> float:
        """One message's latency."""
        seconds = self.low + (self.high - self.low) * rng.random()
        if self.tail:
            seconds += rng.expovariate(1.0 / self.tail)
        return seconds


DEFAULT_LATENCY = Latency(0.001, 0.005)


@dataclass(frozen=True, slots=True)
class Link:
    """What becomes of messages from one node to another.

    Attributes:
        latency: how long they take.
        loss: share of them that never arrive.
        duplicate: share of the requests that arrive a second time, later.
        reorder: share of them that are late by up to `REORDER_DELAY`, so that later ones overtake them.
        bandwidth: bytes a second; messages wait for those before them. None for no bound.
    """

    latency: Latency = DEFAULT_LATENCY
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    bandwidth: float | None = None


class Cut(NamedTuple):
    """Links that carry nothing.

    Attributes:
        groups: names of nodes; none of a group reaches any of another one. Nodes not named keep all their links.
        one_way: only what the first group sends to the second is lost.
    """

    groups: tuple[frozenset[str], ...]
    one_way: bool = False

    def stops(self, source: str, target: str) -> bool:
        """Whether nothing gets from source to target."""
        if self.one_way:
            return source in self.groups[0] and target in self.groups[1]
        here = there = None
        for number, group in enumerate(self.groups):
            if source in group:
                here = number
            if target in group:
                there = number
        return here is not None and there is not None and here != there


class Network:
    """All links, and the cuts. A message is lost or late by the state of its link when it is sent.

    Attributes:
        plain: whether all that links do now is to take a while: nothing is lost, nor comes twice.
    """

    def __init__(self, default: Link) -> None:
        self.default = default
        self.cuts: list[Cut] = []
        self._links: dict[tuple[str, str], Link] = {}
        self._of_node: dict[str, Link] = {}
        self._busy: dict[tuple[str, str], float] = {}
        self.plain = False
        self._changed()

    def link(self, source: str, target: str) -> Link:
        """The link that carries what source sends to target."""
        if not self._links and not self._of_node:
            return self.default
        return (
            self._links.get((source, target)) or self._of_node.get(source) or self._of_node.get(target) or self.default
        )

    def set_link(self, source: str, target: str, link: Link) -> None:
        """Give one link, one way, other properties."""
        self._links[source, target] = link
        self._changed()

    def set_node(self, name: str, link: Link) -> None:
        """Give all links of a node, both ways, other properties."""
        self._of_node[name] = link
        self._changed()

    def cut(self, groups: Iterable[Iterable[str]], *, one_way: bool = False) -> None:
        """Cut links; see `Cut`. Adds to the cuts that there are."""
        self.cuts.append(Cut(tuple(frozenset(group) for group in groups), one_way))
        self._changed()

    def heal(self) -> None:
        """End all cuts, and give every link its first properties back."""
        self.cuts.clear()
        self._links.clear()
        self._of_node.clear()
        self._changed()

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets from source to target at all."""
        return any(cut.stops(source, target) for cut in self.cuts)

    def send(self, source: str, target: str, size: int, now: float, rng: random.Random) -> float | None:
        """When a message sent now arrives; None if it never does.

        Args:
            source: name of the sending node.
            target: name of the receiving one.
            size: bytes.
            now: virtual time.
            rng: the sender's share of randomness.
        """
        if self.plain:  # nearly always, and this is called for every message
            low, high, _ = self.default.latency
            return now + low + (high - low) * rng.random()
        if self.cuts and self.is_cut(source, target):
            return None
        link = self.link(source, target)
        if link.loss and rng.random() < link.loss:
            return None
        arrival = now + link.latency.sample(rng)
        if link.bandwidth is not None:
            start = max(self._busy.get((source, target), 0.0), now)
            self._busy[source, target] = sent = start + size / link.bandwidth
            arrival += sent - now
        if link.reorder and rng.random() < link.reorder:
            arrival += rng.random() * REORDER_DELAY
        return arrival

    def repeat(self, source: str, target: str, size: int, now: float, rng: random.Random) -> float | None:
        """When a duplicate of a message arrives that is sent now; None if there is none."""
        link = self.link(source, target)
        if not link.duplicate or rng.random() >= link.duplicate:
            return None
        return self.send(source, target, size, now, rng)

    def sent_at(self, source: str, target: str, now: float) -> float:
        """When the link has sent all that it was given: later than now only where bandwidth is bounded."""
        return max(self._busy.get((source, target), 0.0), now)

    def _changed(self) -> None:
        """See whether all that links do is to take a while, from a range."""
        first = self.default
        simple = Link(first.latency._replace(tail=0.0)) == first
        self.plain = simple and not (self.cuts or self._links or self._of_node)
