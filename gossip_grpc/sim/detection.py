"""How soon a detector of failures finds out about crashes, how often it is wrong, and what it costs.

One world serves many crashes: once everybody knows of one, its victims start again. First the world is left at rest:
its traffic is counted then, and nodes may stall for a while, which is when a detector errs. No node stalls while
crashes are timed: what a node that stands still does not know yet says nothing about the detector.

Two detectors are measured alike, each in an `Arena`: that of the engine (`EngineArena`), and one in the style of SWIM
(see swim.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gossip_grpc.core.membership import Change, Status
from gossip_grpc.core.store import member_of
from gossip_grpc.sim.events import EventQueue
from gossip_grpc.sim.host import Host
from gossip_grpc.sim.links import DEFAULT_LATENCY, Latency, Link, Network
from gossip_grpc.sim.schedule import Action, ClusterSpec, Schedule
from gossip_grpc.sim.stats import KINDS, percentile
from gossip_grpc.sim.swim import Swim, SwimWorld
from gossip_grpc.sim.world import World

SETTLE = 10.0
"""Seconds before anything is counted: detectors learn what is usual."""

LIMIT = 120.0
"""Seconds after which a crash, or a return, that somebody has not noticed is given up."""

STEP = 0.05
"""Seconds between two looks at whether all know."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One simulation.

    Attributes:
        nodes: how many there are.
        crashes: how often somebody crashes, one crash after the other.
        at_once: how many nodes crash each time.
        refused: whether only the process dies: its host refuses connections. Otherwise the host falls silent.
        loss: share of the messages that never arrive.
        latency: how long they take.
        rest: seconds before the first crash.
        stalls: seconds for which a random node stands still while the world is at rest, from a range.
        stall_every: seconds from one stall to the next, on average; 0 for none.
        threshold: `phi_threshold`.
        pause: `acceptable_pause`.
        swim: the other detector's knobs, to measure that one.
    """

    nodes: int = 100
    crashes: int = 20
    at_once: int = 1
    refused: bool = False
    loss: float = 0.0
    latency: Latency = DEFAULT_LATENCY
    rest: float = 30.0
    stalls: tuple[float, float] = (1.0, 1.0)
    stall_every: float = 0.0
    threshold: float = 8.0
    pause: float = 1.5
    swim: Swim | None = None

    @property
    def link(self) -> Link:
        """Each of the links."""
        return Link(self.latency, self.loss)


@dataclass(slots=True)
class Outcome:
    """What was found.

    Attributes:
        suspect: seconds from a crash until a live node held the victim for SUSPECT, or for DEAD at once; of every
            crash at every live node, in order.
        dead: likewise, until it held it for DEAD.
        everywhere: seconds from a crash until the last live node held all its victims for DEAD, in order.
        missed: crashes that somebody had not noticed after `LIMIT` seconds.
        returns: seconds from the start of the victims until the last live node held them for ALIVE, in order.
        false_suspicions: lives and incarnations of running nodes that somebody held for SUSPECT or DEAD.
        false_deaths: those that somebody held for DEAD.
        node_seconds: for which nodes were up, all together, while mistakes were counted.
        traffic: messages and bytes per node and second at rest, by kind.
        phi: what the monitors of the first victim made of it, as pairs of seconds since the crash and phi.
    """

    suspect: list[float] = field(default_factory=list)
    dead: list[float] = field(default_factory=list)
    everywhere: list[float] = field(default_factory=list)
    missed: int = 0
    returns: list[float] = field(default_factory=list)
    false_suspicions: int = 0
    false_deaths: int = 0
    node_seconds: float = 0.0
    traffic: dict[str, tuple[float, float]] = field(default_factory=dict)
    phi: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def messages(self) -> float:
        """Messages per node and second at rest."""
        return sum(messages for messages, _ in self.traffic.values())

    @property
    def bytes(self) -> float:
        """Bytes per node and second at rest."""
        return sum(size for _, size in self.traffic.values())

    def per_node_day(self, mistakes: int) -> float:
        """How many mistakes are made about one node in a day."""
        return 86_400 * mistakes / self.node_seconds if self.node_seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """All figures; times in seconds."""
        return {
            "suspect": _times(self.suspect),
            "dead": _times(self.dead),
            "dead_everywhere": _times(self.everywhere),
            "missed": self.missed,
            "alive_again_everywhere": _times(self.returns),
            "false_suspicions": self.false_suspicions,
            "false_deaths": self.false_deaths,
            "node_hours": self.node_seconds / 3600,
            "messages_per_node_second": self.messages,
            "bytes_per_node_second": self.bytes,
            "traffic": {
                kind: {"messages_per_node_second": messages, "bytes_per_node_second": size}
                for kind, (messages, size) in self.traffic.items()
            },
        }


def _times(values: Sequence[float]) -> dict[str, float | None]:
    return {"median": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": values[-1] if values else None}


Observe = Callable[[str, str, tuple[int, int], Status], None]
"""Told of the observer, the member, its life and incarnation, and what it has become in the observer's view."""


class Arena(Protocol):
    """A world with a detector in it.

    Attributes:
        events: virtual time.
        network: all links.
        observe: called when a member has become something else in a node's view.
    """

    events: EventQueue
    network: Network
    observe: Observe

    def start(self, name: str) -> None:
        """Start a node again, empty."""

    def stop(self, name: str) -> None:
        """Let a process die."""

    def stall(self, name: str) -> None:
        """Let a node stand still."""

    def resume(self, name: str) -> None:
        """Let it go on."""

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Messages and bytes sent so far, by kind."""

    def phi(self, name: str) -> Mapping[str, float]:
        """The phi of a member at each of its monitors."""


class EngineArena:
    """The engine's own."""

    def __init__(self, setting: Setting, seed: int) -> None:
        spec = ClusterSpec(setting.nodes, threshold=setting.threshold, pause=setting.pause)
        self._world = World(Schedule((spec,), setting.link), seed)
        self.events = self._world.events
        self.network = self._world.network
        self.observe: Observe = lambda *_: None
        self._world.after_change.append(self._changed)

    def start(self, name: str) -> None:
        """Start a node again, empty."""
        self._apply("restart", name)

    def stop(self, name: str) -> None:
        """Let a process die."""
        self._apply("crash", name, False)

    def stall(self, name: str) -> None:
        """Let a node stand still."""
        self._apply("pause", name)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._apply("resume", name)

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Messages and bytes sent so far, by kind."""
        counts = zip(KINDS, self._world.stats.requests, self._world.stats.answers, strict=True)
        return {kind: (calls + answers, sent + back) for kind, (calls, sent), (answers, back) in counts}

    def phi(self, name: str) -> Mapping[str, float]:
        """The phi of a member at each of its monitors."""
        now = self.events.now
        levels = {
            host.name: host.engine.vigil.phi(name, host.clock(now))
            for host in self._world.live()
            if host.engine is not None
        }
        return {monitor: level for monitor, level in levels.items() if level is not None}

    def _apply(self, verb: str, name: str, *args: object) -> None:
        self._world.apply(Action(self.events.now, verb, (name,), args))

    def _changed(self, host: Host, change: Change) -> None:
        standing = host.engine.membership.standing(change.node_id) if host.engine is not None else None
        if standing is None or change.after in (None, change.before):
            return
        origin = standing.record.origin
        if origin == self._world.hosts[change.node_id].store.origin:  # that a former life is over is no mistake
            life = (origin.generation, member_of(standing.record).incarnation)
            self.observe(host.name, change.node_id, life, change.after)


def simulate(setting: Setting, seed: int, tell: Callable[[float], None] = lambda _: None) -> Outcome:
    """Run it; `tell` hears from time to time which share is done."""
    return _Trial(setting, seed, tell).run()


class _Trial:
    """One simulation while it runs."""

    def __init__(self, setting: Setting, seed: int, tell: Callable[[float], None]) -> None:
        self._setting, self._tell = setting, tell
        self._rng = random.Random(f"{seed}/detection")
        self._arena: Arena
        if setting.swim is None:
            self._arena = EngineArena(setting, seed)
        else:
            self._arena = SwimWorld(setting.nodes, setting.link, setting.swim, seed)
        self._events = self._arena.events
        self._names = [f"n{number}" for number in range(1, setting.nodes + 1)]
        self._down: set[str] = set()
        self._stalled: set[str] = set()
        self._views: dict[tuple[str, str], Status] = {}
        self._wrong: dict[Status, set[tuple[str, tuple[int, int]]]] = {Status.SUSPECT: set(), Status.DEAD: set()}
        self._crashed_at = 0.0
        self._times: dict[Status, dict[tuple[str, str], float]] = {Status.SUSPECT: {}, Status.DEAD: {}}
        self._outcome = Outcome()
        self._arena.observe = self._observe

    def run(self) -> Outcome:
        """All of it."""
        setting, outcome = self._setting, self._outcome
        self._wait(SETTLE)
        begun = self._events.now
        self._wrong[Status.SUSPECT].clear()
        self._wrong[Status.DEAD].clear()
        self._rest()
        if setting.crashes:
            self._wait(SETTLE)
            for number in range(setting.crashes):
                self._crash(first=number == 0)
                self._tell((number + 1) / setting.crashes)
        outcome.node_seconds += setting.nodes * (self._events.now - begun)
        outcome.false_suspicions = len(self._wrong[Status.SUSPECT])
        outcome.false_deaths = len(self._wrong[Status.DEAD])
        for times in (outcome.suspect, outcome.dead, outcome.everywhere, outcome.returns):
            times.sort()
        return outcome

    def _wait(self, seconds: float) -> None:
        self._events.run_until(self._events.now + seconds)

    def _rest(self) -> None:
        setting, begun = self._setting, self._events.now
        end = begun + setting.rest
        if setting.stall_every:
            self._stall_next(end)
        before = self._arena.traffic()
        steps = max(int(setting.rest / 60), 1)
        for step in range(1, steps + 1):
            self._events.run_until(begun + setting.rest * step / steps)
            if not setting.crashes:
                self._tell(step / steps)
        share = setting.nodes * setting.rest
        self._outcome.traffic = {
            kind: ((messages - before[kind][0]) / share, (size - before[kind][1]) / share)
            for kind, (messages, size) in self._arena.traffic().items()
            if share
        }

    # Stalls

    def _stall_next(self, end: float) -> None:
        due = self._events.now + self._rng.expovariate(1 / self._setting.stall_every)
        if due < end:
            self._events.at(due, self._stall, end)

    def _stall(self, end: float) -> None:
        name = self._rng.choice(self._names)
        if name not in self._stalled:
            self._stalled.add(name)
            self._arena.stall(name)
            until = min(self._events.now + self._rng.uniform(*self._setting.stalls), end)
            self._events.at(until, self._resume, name)
        self._stall_next(end)

    def _resume(self, name: str) -> None:
        self._stalled.discard(name)
        self._arena.resume(name)

    # Crashes

    def _crash(self, *, first: bool) -> None:
        setting, arena, outcome = self._setting, self._arena, self._outcome
        victims = self._rng.sample(self._names, setting.at_once)
        self._crashed_at = self._events.now + self._rng.uniform(1, 2)
        while self._events.now < self._crashed_at:
            if first:
                self._note_phi(victims[0])
            self._wait(min(STEP, self._crashed_at - self._events.now))
        self._down = set(victims)
        live = [name for name in self._names if name not in self._down]
        for victim in victims:
            if not setting.refused:
                arena.network.cut([[victim], [name for name in self._names if name != victim]])
            arena.stop(victim)
        for times in self._times.values():
            times.clear()
        pairs = [(observer, victim) for observer in live for victim in victims]
        if not self._until(Status.DEAD, pairs, victims[0] if first else None):
            outcome.missed += 1
        for status, found in ((Status.SUSPECT, outcome.suspect), (Status.DEAD, outcome.dead)):
            found += [seconds for pair in pairs if (seconds := self._times[status].get(pair)) is not None]
        last = [self._times[Status.DEAD].get(pair) for pair in pairs]
        outcome.everywhere += [max(seconds for seconds in last if seconds is not None)] if all(last) else []
        outcome.node_seconds -= len(victims) * (self._events.now - self._crashed_at)
        self._down = set()
        arena.network.heal()
        begun = self._events.now
        for victim in victims:
            arena.start(victim)
        if self._until(Status.ALIVE, pairs):
            outcome.returns.append(self._events.now - begun)
        self._wait(SETTLE)

    def _until(self, status: Status, pairs: list[tuple[str, str]], noted: str | None = None) -> bool:
        """Wait until all these observers hold these members for this."""
        end = self._events.now + LIMIT
        while self._events.now < end:
            if all(self._views.get(pair, Status.ALIVE) is status for pair in pairs):
                return True
            if noted is not None:
                self._note_phi(noted)
            self._wait(STEP)
        return False

    def _note_phi(self, name: str) -> None:
        since = self._events.now - self._crashed_at
        for monitor, level in self._arena.phi(name).items():
            self._outcome.phi.setdefault(monitor, []).append((since, level))

    def _observe(self, observer: str, member: str, life: tuple[int, int], status: Status) -> None:
        self._views[observer, member] = status
        if status not in self._times:
            return
        if member not in self._down:
            self._wrong[Status.SUSPECT].add((member, life))
            if status is Status.DEAD:
                self._wrong[Status.DEAD].add((member, life))
            return
        since = self._events.now - self._crashed_at
        self._times[Status.SUSPECT].setdefault((observer, member), since)
        if status is Status.DEAD:
            self._times[Status.DEAD].setdefault((observer, member), since)
