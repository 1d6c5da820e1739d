"""How many rounds one update takes to reach everybody: anti-entropy without the engine, for up to 10^7 nodes.

**Definitions.** Rounds are synchronous: who knows is judged at the start of a round. One node knows at first. In each
round every node selects `fanout` partners and makes one exchange with each: push tells the partner, pull asks it,
push-pull does both. The news goes one way in any exchange, and with probability `loss` it is lost on it.

Counted until everybody knows: *messages*, the exchanges that nodes begin (with push, of those alone that know: the
others have nothing to send; with pull and push-pull, of all); *updates*, how often the update itself was sent, lost or
not (push sends it unasked; with pull and push-pull the digests show who lacks it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim import theory
from gossip_grpc.sim.topology import Indices, Topology, make_selector, zone_of

_BATCH = 1 << 20
"""Nodes that are simulated at once, of several runs or of one: enough to be quick, few enough to stay in a cache."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated.

    Attributes:
        strategy: which way news goes in an exchange.
        nodes: how many there are.
        loss: the share of news that is lost on its way, below 1.
        fanout: partners a node and round.
        topology: who can reach whom.
        selector: how partners are selected.
        zones: in how many zones nodes lie, if the topology is zones.
    """

    strategy: Strategy = Strategy.PUSH_PULL
    nodes: int = 1000
    loss: float = 0.0
    fanout: int = 1
    topology: Topology = Topology.COMPLETE
    selector: SelectorKind = SelectorKind.RANDOM
    zones: int = 4

    def theory(self) -> float | None:
        """The rounds that theory.py has a formula for, or None."""
        if self.selector is SelectorKind.HYPERCUBE:
            return None if self.loss else theory.hypercube_rounds(self.strategy, self.nodes)
        if self._is_classic():
            return theory.rounds(self.strategy, self.nodes, self.loss, self.fanout)
        return None

    def expected(self) -> list[float] | None:
        """The share that knows after each round by the mean-field recursion, or None where it says nothing."""
        if self._is_classic():
            return theory.informed(self.strategy, self.nodes, self.loss, self.fanout)
        return None

    def _is_classic(self) -> bool:
        return self.topology.everybody and self.selector is SelectorKind.RANDOM


@dataclass(slots=True)
class Outcome:
    """What came of some runs; the arrays have one item a run.

    Attributes:
        rounds: until everybody knew.
        messages: exchanges, by n.
        updates: how often the update was sent, by n.
        between_zones: the share of exchanges between zones; 0 if there are none.
        informed: the share of nodes that knew after each round, from round 0, mean of the runs.
    """

    rounds: Floats
    messages: Floats
    updates: Floats
    between_zones: Floats
    informed: list[float] = field(default_factory=list)


def simulate(setting: Setting, runs: int, seed: int, tell: Callable[[float], None] = lambda _: None) -> Outcome:
    """Spreads one update from one node each time, until all know.

    Args:
        setting: one that `topology.check` has nothing against.
        runs: how often.
        seed: decides everything.
        tell: is told how many runs are done, and parts of them.
    """
    rng = np.random.default_rng(seed)
    # Lists of all peers are as large as so many nodes.
    with_lists = setting.selector is SelectorKind.ROUND_ROBIN and setting.topology.everybody
    at_once = max(1, min(runs, _BATCH // (setting.nodes * (setting.nodes if with_lists else 1))))
    outcome = Outcome(np.empty(runs), np.empty(runs), np.empty(runs), np.empty(runs))
    shares: list[Floats] = []
    for first in range(0, runs, at_once):
        some = slice(first, min(first + at_once, runs))
        count = some.stop - some.start
        spreading = _Spreading(setting, count, rng)
        while not spreading.done:
            spreading.round()
            tell(first + spreading.progress() * count)
        outcome.rounds[some] = spreading.rounds
        outcome.messages[some] = spreading.messages / setting.nodes
        outcome.updates[some] = spreading.updates / setting.nodes
        outcome.between_zones[some] = spreading.between_zones / spreading.drawn
        shares += spreading.shares()
        tell(some.stop)
    longest = max(map(len, shares))
    whole = np.ones((runs, longest))
    for row, share in zip(whole, shares, strict=True):
        row[: len(share)] = share
    outcome.informed = whole.mean(axis=0).tolist()
    return outcome


class _Spreading:
    """Several runs side by side: node x of run r has the number r * nodes + x.

    Attributes:
        done: whether everybody knows in every run.
        rounds: how many each run has taken.
        messages: exchanges of each run.
        updates: how often each run has sent the update.
        drawn: exchanges of each run whose partners were drawn: all that can matter.
        between_zones: those of them between zones.
    """

    def __init__(self, setting: Setting, runs: int, rng: np.random.Generator) -> None:
        self._setting, self._runs, self._rng = setting, runs, rng
        nodes = setting.nodes
        self._selector = make_selector(
            setting.selector, setting.topology, nodes, runs, setting.fanout, setting.zones, rng
        )
        self._knows = np.zeros(nodes * runs, bool)
        self._knows[np.arange(runs) * nodes + rng.integers(0, nodes, runs)] = True
        self._counts = [np.ones(runs, np.int64)]
        self._estimate = setting.theory()
        self.done = False
        self.rounds = np.zeros(runs, np.int64)
        self.messages, self.updates, self.drawn, self.between_zones = (np.zeros(runs, np.int64) for _ in range(4))

    def progress(self) -> float:
        """How far it has come, from 0 to 1: by rounds where theory knows how many there will be, else by nodes."""
        if self._estimate is None:
            return float(self._counts[-1].mean()) / self._setting.nodes
        return min(1.0, (len(self._counts) - 1) / self._estimate)

    def shares(self) -> list[Floats]:
        """The share that knew after each round, from round 0, of each run."""
        counts = np.stack(self._counts, axis=1) / self._setting.nodes
        return [row[: rounds + 1] for row, rounds in zip(counts, self.rounds, strict=True)]

    def round(self) -> None:
        """One round of all runs that are not done yet."""
        setting = self._setting
        before = self._knows.copy()
        going_on = self._counts[-1] < setting.nodes
        blind = setting.strategy is Strategy.PUSH
        self.rounds += going_on
        calls = setting.fanout * (self._counts[-1] if blind else setting.nodes) * going_on
        self.messages += calls
        if blind:
            self.updates += calls
        for start in range(0, len(before), _BATCH):
            part = before[start : start + _BATCH]
            self._exchange(before, self._callers(part) + start, going_on)
        self._counts.append(np.count_nonzero(self._knows.reshape(self._runs, -1), axis=1))
        self.done = bool((self._counts[-1] == setting.nodes).all())

    def _callers(self, knows: NDArray[np.bool_]) -> Indices:
        """Those whose exchanges can matter."""
        if self._setting.strategy is Strategy.PUSH_PULL:
            return np.arange(len(knows))
        return np.flatnonzero(knows if self._setting.strategy is Strategy.PUSH else ~knows)

    def _exchange(self, before: NDArray[np.bool_], callers: Indices, going_on: NDArray[np.bool_]) -> None:
        setting = self._setting
        if not going_on.all():
            callers = callers[going_on[callers // setting.nodes]]
        partners = self._selector.select(len(self._counts) - 1, callers).ravel()
        callers = np.repeat(callers, setting.fanout)
        self._count(self.drawn, callers)
        if setting.topology is Topology.ZONES:
            zone, other = (zone_of(x % setting.nodes, setting.nodes, setting.zones) for x in (callers, partners))
            self._count(self.between_zones, callers[zone != other])
        # Where one of the two knows, news may go; the strategy has already decided who calls.
        news = np.flatnonzero(before[callers] != before[partners])
        if setting.strategy is not Strategy.PUSH:
            self._count(self.updates, callers[news])
        if setting.loss:
            news = news[self._rng.random(len(news)) >= setting.loss]
        self._knows[callers[news]] = True
        self._knows[partners[news]] = True

    def _count(self, totals: NDArray[np.int64], who: Indices) -> None:
        totals += np.bincount(who // self._setting.nodes, minlength=self._runs) if self._runs > 1 else len(who)
