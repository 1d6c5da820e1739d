"""A failure detector in the style of SWIM, as memberlist has it: what ours is compared with, in the same world.

Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002;
Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection", DSN-W 2018. Every
`probe_interval` a node pings the next of all others in random order, and if it does not answer within `probe_timeout`
asks `indirect_checks` others to. If no answer has come by the end of the interval, the node spreads a suspicion, which
the member can refute by a higher incarnation; if it does not until the suspicion times out, it is dead:

    least   = suspicion_mult * max(1, log10 n) * probe_interval
    most    = suspicion_max_mult * least
    timeout = max(least, most - (most - least) * log(c + 1) / log(k + 1))

c of at most k = `suspicion_mult` - 2 others have confirmed the suspicion; without enough others for that, it is `least`
at once. A node whose probes fail and whose helpers are silent too takes itself to be unwell, and waits longer.

News spreads by gossip: every `gossip_interval` to `gossip_nodes` others, and with every ping and answer, each piece
`retransmit_mult * ceil(log10(n + 1))` times, the newest about a member instead of older ones. Messages are objects with
the sizes that memberlist's have. Left out are its TCP pings, which would be lost in this world like all else, and its
push-pull syncs every half minute: they would only bring news that gossip has missed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log, log10
from typing import Any, NamedTuple

from gossip_grpc.core.membership import Status
from gossip_grpc.sim.events import EventQueue
from gossip_grpc.sim.links import Link, Network

PING, ACK, NACK, INDIRECT = 75, 25, 15, 110
"""Bytes of messages, without the news that goes with them."""

NEWS = {Status.ALIVE: 85, Status.SUSPECT: 50, Status.DEAD: 50}
"""Bytes of a piece of news."""

PACKET = 1400
"""Bytes of a message at most."""

MAX_UNWELL = 7
"""How unwell a node can be: so many intervals longer it waits for its probes."""

GOSSIP_TO_THE_DEAD = 30.0
"""Seconds for which the dead are told too: they may not be."""


@dataclass(frozen=True, slots=True)
class Swim:
    """The knobs, by default those of memberlist for local networks. Times in seconds."""

    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    indirect_checks: int = 3
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    retransmit_mult: int = 4

    def suspicion(self, nodes: int) -> tuple[float, float]:
        """The least and the most that a suspicion may last."""
        least = self.suspicion_mult * max(1.0, log10(max(1, nodes))) * self.probe_interval
        return least, self.suspicion_max_mult * least

    def confirmations(self, nodes: int) -> int:
        """How many others must confirm a suspicion until it lasts the least; 0 where there are not enough."""
        wanted = self.suspicion_mult - 2
        return wanted if nodes - 2 >= wanted > 0 else 0

    def timeout(self, nodes: int, confirmed: int) -> float:
        """How long a suspicion lasts that so many others have confirmed."""
        least, most = self.suspicion(nodes)
        wanted = self.confirmations(nodes)
        if not wanted:
            return least
        return max(least, most - (most - least) * log(confirmed + 1) / log(wanted + 1))

    def transmissions(self, nodes: int) -> int:
        """How often a piece of news is sent."""
        return self.retransmit_mult * ceil(log10(nodes + 1))


class News(NamedTuple):
    """A piece of news: what somebody (`source`) says a member is, in an incarnation."""

    status: Status
    name: str
    incarnation: int
    source: str


@dataclass(slots=True)
class _Member:
    """What a node knows of another one."""

    incarnation: int = 1
    status: Status = Status.ALIVE
    since: float = -inf
    accusers: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Probe:
    """A ping that is waited for; for another node (`relay`), and its probe, or for oneself."""

    target: str
    incarnation: int
    relay: tuple[str, _Probe] | None = None
    answered: bool = False
    asked: int = 0
    nacks: int = 0


class _Node:
    """One node."""

    def __init__(self, world: SwimWorld, name: str, incarnation: int, members: dict[str, _Member]) -> None:
        self.world, self.name, self.incarnation, self.members = world, name, incarnation, members
        self.rng = random.Random(f"{world.seed}/swim/{name}/{incarnation}")
        self.unwell = 0
        self.paused = False
        self.waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._queue: dict[str, tuple[int, News]] = {}  # by member: how often sent
        self._order: list[str] = []
        now, knobs = world.events.now, world.knobs
        self.later(now + self.rng.random() * knobs.probe_interval, self._next_probe)
        self.later(now + self.rng.random() * knobs.gossip_interval, self._gossip)

    def later(self, time: float, callback: Callable[..., object], *args: Any) -> None:
        """Call it then, or when this node goes on; never in another life."""
        self.world.events.at(time, self.input, callback, args)

    def input(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """A timer, or a message: it waits while the node stands still."""
        if self.world.nodes.get(self.name) is not self:
            return
        if self.paused:
            self.waiting.append((callback, args))
        else:
            callback(*args)

    def _send(self, target: str, size: int, receive: Callable[..., object], *args: Any) -> None:
        """A message, with as much news as it can carry."""
        self.world.send(self, target, size, self._take_news(PACKET - size), receive, args)

    def _others(self, count: int, wanted: Callable[[str, _Member], bool]) -> list[str]:
        names = [name for name, member in self.members.items() if name != self.name and wanted(name, member)]
        return self.rng.sample(names, min(count, len(names)))

    # Probes

    def _next_probe(self) -> None:
        knobs, now = self.world.knobs, self.world.events.now
        wait = knobs.probe_interval
        while True:
            if not self._order:
                self._order = [name for name in self.members if name != self.name]
                self.rng.shuffle(self._order)
                if all(self.members[name].status is Status.DEAD for name in self._order):
                    break
            name = self._order.pop()
            if self.members[name].status is not Status.DEAD:
                probe = _Probe(name, self.members[name].incarnation)
                if self.members[name].status is Status.SUSPECT:
                    self._tell(News(Status.SUSPECT, name, self.members[name].incarnation, self.name))
                self._send(name, PING, _Node.pinged, self.name, probe)
                self.later(now + knobs.probe_timeout, self._ask_others, probe)
                wait *= self.unwell + 1
                self.later(now + wait, self._judge, probe)
                return
        self.later(now + wait, self._next_probe)

    def _ask_others(self, probe: _Probe) -> None:
        if probe.answered:
            return
        count = self.world.knobs.indirect_checks
        helpers = self._others(count, lambda name, known: name != probe.target and known.status is Status.ALIVE)
        probe.asked = len(helpers)
        for helper in helpers:
            self._send(helper, INDIRECT, _Node.asked, self.name, probe)

    def _judge(self, probe: _Probe) -> None:
        if probe.answered:
            self.unwell = max(self.unwell - 1, 0)
        else:
            self.unwell = min(self.unwell + (probe.asked - probe.nacks if probe.asked else 1), MAX_UNWELL)
            self.hear(News(Status.SUSPECT, probe.target, probe.incarnation, self.name))
        self._next_probe()

    def pinged(self, sender: str, probe: _Probe) -> None:
        """Somebody asks whether we are here."""
        self._send(sender, ACK, _Node.answered, probe)

    def asked(self, sender: str, probe: _Probe) -> None:
        """Somebody asks whether another one is there."""
        relayed = _Probe(probe.target, probe.incarnation, relay=(sender, probe))
        self._send(probe.target, PING, _Node.pinged, self.name, relayed)
        self.later(self.world.events.now + self.world.knobs.probe_timeout, self._given_up, relayed)

    def answered(self, probe: _Probe) -> None:
        """It is there."""
        if probe.relay is not None and not probe.answered:
            sender, asked = probe.relay
            self._send(sender, ACK, _Node.answered, asked)
        probe.answered = True

    def nacked(self, probe: _Probe) -> None:
        """A helper has not reached it, but has answered."""
        probe.nacks += 1

    def _given_up(self, probe: _Probe) -> None:
        if probe.relay is not None and not probe.answered:
            sender, asked = probe.relay
            self._send(sender, NACK, _Node.nacked, asked)

    # News

    def hear(self, news: News) -> None:
        """Learn a piece of news."""
        if news.name == self.name:
            if news.status is not Status.ALIVE and news.incarnation >= self.incarnation:
                self.incarnation = self.members[self.name].incarnation = news.incarnation + 1
                self.unwell = min(self.unwell + 1, MAX_UNWELL)
                self._tell(News(Status.ALIVE, self.name, self.incarnation, self.name))
            return
        member = self.members[news.name]
        if news.status is Status.ALIVE:
            if news.incarnation > member.incarnation:
                member.incarnation = news.incarnation
                self._tell(news)
                self._becomes(news.name, member, Status.ALIVE)
        elif news.incarnation >= member.incarnation and member.status is not Status.DEAD:
            if news.status is Status.DEAD:
                member.incarnation = news.incarnation
                self._tell(news)
                self._becomes(news.name, member, Status.DEAD)
            else:
                self._suspect(news, member)

    def _suspect(self, news: News, member: _Member) -> None:
        knobs = self.world.knobs
        if member.status is Status.ALIVE:
            member.incarnation = news.incarnation
            member.accusers = frozenset((news.source,))
            self._tell(news)
            self._becomes(news.name, member, Status.SUSPECT)
        elif news.source in member.accusers or len(member.accusers) > knobs.confirmations(len(self.members)):
            return
        else:
            member.accusers |= {news.source}
            self._tell(news)
        due = member.since + knobs.timeout(len(self.members), len(member.accusers) - 1)
        self.later(max(due, self.world.events.now), self._suspicion_ends, news.name, member.incarnation)

    def _suspicion_ends(self, name: str, incarnation: int) -> None:
        member = self.members[name]
        if member.status is not Status.SUSPECT or member.incarnation != incarnation:
            return
        due = member.since + self.world.knobs.timeout(len(self.members), len(member.accusers) - 1)
        if self.world.events.now < due:
            self.later(due, self._suspicion_ends, name, incarnation)
        else:
            self.hear(News(Status.DEAD, name, incarnation, self.name))

    def _becomes(self, name: str, member: _Member, status: Status) -> None:
        member.since = self.world.events.now
        if status is not member.status:
            member.status = status
            self.world.observe(self.name, name, (0, member.incarnation), status)

    def tell_all(self) -> None:
        """Say that we are here: in a new life."""
        self._tell(News(Status.ALIVE, self.name, self.incarnation, self.name))

    def _tell(self, news: News) -> None:
        self._queue[news.name] = (0, news)

    def _take_news(self, room: int) -> Sequence[News]:
        """As much as has room, what was sent least first."""
        if not self._queue:
            return ()
        taken = []
        most = self.world.knobs.transmissions(len(self.members))
        for name, (sent, news) in sorted(self._queue.items(), key=lambda item: item[1][0]):
            size = NEWS[news.status]
            if size <= room:
                room -= size
                taken.append(news)
                if sent + 1 < most:
                    self._queue[name] = (sent + 1, news)
                else:
                    del self._queue[name]
        return taken

    def _gossip(self) -> None:
        knobs, now = self.world.knobs, self.world.events.now
        if self._queue:
            awake = now - GOSSIP_TO_THE_DEAD
            for other in self._others(
                knobs.gossip_nodes, lambda _, known: known.status is not Status.DEAD or known.since > awake
            ):
                news = self._take_news(PACKET)
                if news:
                    self.world.send(self, other, 0, news)
        self.later(now + knobs.gossip_interval, self._gossip)


class SwimWorld:
    """Nodes that know each other from the beginning, and a network.

    Args:
        nodes: how many there are; their names are n1, n2, ...
        link: of all links.
        knobs: the detector's.
        seed: decides everything else.

    Attributes:
        events: virtual time.
        network: all links.
        nodes: those that are up, by name.
        observe: called when a member has become something else in a node's view.
    """

    def __init__(self, nodes: int, link: Link, knobs: Swim, seed: int) -> None:
        self.events = EventQueue()
        self.network = Network(link)
        self.knobs = knobs
        self.seed = seed
        self.nodes: dict[str, _Node] = {}
        self.observe: Callable[[str, str, tuple[int, int], Status], None] = lambda *_: None
        self._sent = [0, 0]
        names = [f"n{number}" for number in range(1, nodes + 1)]
        for name in names:
            self.nodes[name] = _Node(self, name, 1, {other: _Member() for other in names})

    def start(self, name: str) -> None:
        """Start a node again, which knows what another one knows."""
        other = next(iter(self.nodes.values()))
        members = {known: replace(member) for known, member in other.members.items()}
        members[name] = _Member(members[name].incarnation + 1)
        for known, member in members.items():
            self.observe(name, known, (0, member.incarnation), member.status)
        self.nodes[name] = _Node(self, name, members[name].incarnation, members)
        self.nodes[name].tell_all()

    def stop(self, name: str) -> None:
        """Let a process die."""
        del self.nodes[name]

    def stall(self, name: str) -> None:
        """Let a node stand still."""
        self.nodes[name].paused = True

    def resume(self, name: str) -> None:
        """Let it go on, with all that has waited."""
        node = self.nodes[name]
        node.paused = False
        waiting = list(node.waiting)
        node.waiting.clear()
        for callback, args in waiting:
            callback(*args)

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Messages and bytes sent so far."""
        return {"all": (self._sent[0], self._sent[1])}

    def phi(self, name: str) -> Mapping[str, float]:  # noqa: ARG002 - as in other arenas
        """There is none."""
        return {}

    def send(
        self,
        node: _Node,
        target: str,
        size: int,
        news: Sequence[News],
        receive: Callable[..., object] | None = None,
        args: tuple[Any, ...] = (),
    ) -> None:
        """Send a message; `receive` is called at its receiver."""
        size += sum(NEWS[piece.status] for piece in news)
        self._sent[0] += 1
        self._sent[1] += size
        arrival = self.network.send(node.name, target, size, self.events.now, node.rng)
        if arrival is not None:
            self.events.at(arrival, self._arrive, target, news, receive, args)

    def _arrive(
        self, target: str, news: Sequence[News], receive: Callable[..., object] | None, args: tuple[Any, ...]
    ) -> None:
        node = self.nodes.get(target)
        if node is not None:
            node.input(_take, (node, news, receive, args))


def _take(node: _Node, news: Sequence[News], receive: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
    for piece in news:
        node.hear(piece)
    if receive is not None:
        receive(node, *args)
