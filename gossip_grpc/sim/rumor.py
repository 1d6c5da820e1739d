"""Rumor mongering, as Demers et al. (1987) define it: a node spreads a rumor until it has lost interest in it.

**One rule for all three modes.** Time goes in cycles. In each cycle a node contacts one partner, chosen uniformly
among the others. Along a contact the update goes from caller to partner (push: only nodes with interest call), from
partner to caller (pull: all nodes call, as they have other updates to ask for), or both ways (push-pull), whenever the
side that sends has interest in the rumor; whoever is sent the update is a *recipient* of that node in that cycle.

A cycle in which a node had recipients is *useful* for it if one of them was susceptible at the start of the cycle, even
if another node told the same one in the same cycle. At its end the node may lose interest:

| | after which cycles | so |
| --- | --- | --- |
| feedback | with recipients, all of them useless | it must learn what they knew |
| blind | with recipients | |
| counter | when it has counted k such; with feedback a useful cycle sets the counter back to 0 | k consecutive ones |
| coin | each time with probability 1/k | |

A cycle without recipients (pull alone has them) changes nothing. Nodes that learn take part from the next cycle on.

**Measures**, of one run: the residue s is the share of nodes that never learn; the traffic m is the number of updates
sent, useful or not, by n; t_ave is the cycle in which a node learns, on average over those that do, without the
source; t_last is the cycle in which the last one learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gossip_grpc.core.sync import Strategy

MAX_NODES = 10_000_000
"""64 bytes a node are 640 MB, and a run of so many takes ten seconds."""

_BATCH = 1 << 20
"""Nodes of several runs that are simulated at once: enough to be quick, few enough to stay in a cache."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rules:
    """How nodes spread a rumor, and when they lose interest.

    Attributes:
        mode: which way the update goes along a contact.
        feedback: whether only useless cycles count.
        counter: whether interest ends after k of them; else each ends it with probability 1/k.
        k: at least 1.
    """

    mode: Strategy = Strategy.PUSH
    feedback: bool = True
    counter: bool = True
    k: int = 1


@dataclass(slots=True)
class Outcome:
    """What came of some runs; the arrays have one item a run.

    Attributes:
        residue: s.
        traffic: m.
        t_ave: cycles.
        t_last: cycles.
        susceptible: share of nodes that do not know after each cycle, from cycle 0, mean of the runs.
        infective: share of nodes that know and have interest, likewise.
    """

    residue: Floats
    traffic: Floats
    t_ave: Floats
    t_last: Floats
    susceptible: list[float] = field(default_factory=list)
    infective: list[float] = field(default_factory=list)


def simulate(rules: Rules, nodes: int, runs: int, seed: int, tell: Callable[[float], None] = lambda _: None) -> Outcome:
    """Runs the epidemic from one source each time, until nobody has interest.

    Args:
        rules: how nodes spread the rumor.
        nodes: 2 to MAX_NODES.
        runs: how often.
        seed: decides everything.
        tell: is told how many runs are done, and parts of them.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, min(runs, _BATCH // nodes))
    outcome = Outcome(np.empty(runs), np.empty(runs), np.empty(runs), np.empty(runs))
    susceptible: list[float] = []
    infective: list[float] = []
    for first in range(0, runs, at_once):
        some = slice(first, min(first + at_once, runs))
        epidemic = _Epidemic(rules, nodes, some.stop - some.start, rng)
        counts = [epidemic.counts()]
        while counts[-1][1]:
            epidemic.cycle()
            counts.append(epidemic.counts())
            tell(some.start + (1 - counts[-1][0] / epidemic.known.size) * (some.stop - some.start))
        outcome.residue[some], outcome.traffic[some], outcome.t_ave[some], outcome.t_last[some] = epidemic.measures()
        _add(susceptible, [count[0] for count in counts])
        _add(infective, [count[1] for count in counts])
        tell(some.stop)
    outcome.susceptible = [total / (nodes * runs) for total in susceptible]
    outcome.infective = [total / (nodes * runs) for total in infective]
    return outcome


def _add(totals: list[float], counts: list[int]) -> None:
    """Adds up what has been counted after each cycle; what is over stays as it was at its end."""
    longest = max(len(totals), len(counts))
    totals += [totals[-1] if totals else 0] * (longest - len(totals))
    for cycle in range(longest):
        totals[cycle] += counts[min(cycle, len(counts) - 1)]


class _Epidemic:
    """Several runs side by side: node x of run r has the number r * nodes + x."""

    def __init__(self, rules: Rules, nodes: int, runs: int, rng: np.random.Generator) -> None:
        self._rules, self._nodes, self._runs, self._rng = rules, nodes, runs, rng
        self.known = np.zeros(nodes * runs, bool)
        self._interested = np.zeros(nodes * runs, bool)
        self._counter = np.zeros(nodes * runs, np.uint16)
        self._learned = np.zeros(nodes * runs, np.uint32)
        self._sent = np.zeros(runs, np.int64)
        self._cycle = 0
        # All nodes are alike, so that the first may be the source.
        self.known[::nodes] = self._interested[::nodes] = True

    def counts(self) -> tuple[int, int]:
        """How many nodes are susceptible, and infective, in all runs together."""
        return self.known.size - int(np.count_nonzero(self.known)), int(np.count_nonzero(self._interested))

    def cycle(self) -> None:
        """One cycle of all runs."""
        self._cycle += 1
        infective = np.flatnonzero(self._interested)
        senders, recipients = self._sendings(infective)
        self._sent += np.bincount(senders // self._nodes, minlength=self._runs)
        # All of this cycle's contacts are judged before any of them counts.
        useful = ~self.known[recipients]
        news = recipients[useful]
        self._lose_interest(infective, senders, senders[useful])
        self.known[news] = self._interested[news] = True
        self._learned[news] = self._cycle

    def _sendings(self, infective: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Who sends the update to whom in this cycle."""
        mode = self._rules.mode
        callers = infective
        if mode.fetches:
            going_on = np.zeros(self._runs, bool)
            going_on[infective // self._nodes] = True
            callers = np.flatnonzero(np.repeat(going_on, self._nodes))
        partners = self._partners(callers)
        senders, recipients = [], []
        if mode.sends:
            pushes = self._interested[callers]
            senders.append(callers[pushes])
            recipients.append(partners[pushes])
        if mode.fetches:
            answers = self._interested[partners]
            senders.append(partners[answers])
            recipients.append(callers[answers])
        return np.concatenate(senders), np.concatenate(recipients)

    def _partners(self, callers: NDArray[np.intp]) -> NDArray[np.intp]:
        """One other node of the same run for each, uniformly."""
        run_start = callers // self._nodes * self._nodes
        partners = run_start + self._rng.integers(0, self._nodes - 1, len(callers), dtype=np.uint32)
        partners += partners >= callers  # itself is left out
        return partners

    def _lose_interest(
        self, infective: NDArray[np.intp], senders: NDArray[np.intp], useful_senders: NDArray[np.intp]
    ) -> None:
        """At the end of a cycle, before those who have learned in it take part."""
        rules = self._rules
        counts = np.zeros(self.known.size, bool)
        counts[senders] = True
        if rules.feedback:
            counts[useful_senders] = False
            self._counter[useful_senders] = 0
        counting = infective[counts[infective]]
        if rules.counter:
            self._counter[counting] += 1
            stopping = counting[self._counter[counting] >= rules.k]
        else:
            stopping = counting[self._rng.random(len(counting)) < 1 / rules.k]
        self._interested[stopping] = False

    def measures(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Residue, traffic, t_ave and t_last of each run."""
        learned = self._learned.reshape(self._runs, self._nodes)
        reached = np.count_nonzero(learned, axis=1)
        return (
            1 - (reached + 1) / self._nodes,
            self._sent / self._nodes,
            # The first contact of a source is useful in every mode, so that no run reaches nobody.
            learned.sum(axis=1) / reached,
            learned.max(axis=1).astype(np.float64),
        )
