"""Who can reach whom, and whom of them a node selects: the graphs and selectors of `simulate spread`.

Several runs are simulated side by side: node x of run r has the number r * nodes + x, everywhere. A selector is asked
once a round and must not know who is informed.

| topology | who is whose neighbour |
| --- | --- |
| complete | everybody everybody's |
| zones | the same, and nodes lie in zones of equal size |
| ring | the two beside a node |
| grid | the four beside a node; the edges are joined (a torus), rows times columns as square as can be |
| random-regular | 4, drawn anew for each run (the configuration model, without loops and doubles) |
| small-world | a ring with 2 on each side; a tenth of the links is moved to random places (Watts, Strogatz 1998) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gossip_grpc.core.selection import SelectorKind, ZoneAwareSelector

Indices = NDArray[np.intp]

DEGREE = 4
"""Neighbours in the grid, the random regular graph, and on average in the small world."""

REWIRED = 0.1
"""The share of links that the small world moves."""

MEMORY = 2 << 30
"""Bytes that the lists of a round-robin selector may take."""


class Topology(StrEnum):
    """The graphs by name."""

    COMPLETE = "complete"
    RING = "ring"
    GRID = "grid"
    RANDOM_REGULAR = "random-regular"
    SMALL_WORLD = "small-world"
    ZONES = "zones"

    @property
    def everybody(self) -> bool:
        """Whether a node can reach every other."""
        return self in (Topology.COMPLETE, Topology.ZONES)


MAX_NODES = {
    Topology.COMPLETE: (10_000_000, "a run of 10^7 takes up to a minute"),
    Topology.ZONES: (10_000_000, "a run of 10^7 takes up to a minute"),
    Topology.RING: (10_000, "it takes about as many rounds as there are nodes"),
    Topology.GRID: (1_000_000, "it takes about as many rounds as the grid has rows"),
    Topology.RANDOM_REGULAR: (1_000_000, "the graph is drawn anew for each run"),
    Topology.SMALL_WORLD: (1_000_000, "the graph is drawn anew for each run"),
}
"""The largest of each kind, and why it is."""

MIN_NODES = {
    Topology.COMPLETE: 2,
    Topology.ZONES: 4,
    Topology.RING: 3,
    Topology.GRID: 9,
    Topology.RANDOM_REGULAR: DEGREE + 2,
    Topology.SMALL_WORLD: DEGREE + 2,
}

_FEWEST_NEIGHBOURS = {Topology.RING: 2, Topology.GRID: 4, Topology.RANDOM_REGULAR: DEGREE, Topology.SMALL_WORLD: 2}

MAX_FANOUT = 20
"""Partners a round where everybody can be reached; nothing new is to be seen beyond."""


class ImpossibleError(ValueError):
    """A combination that makes no sense, or is too large; the message says what is allowed."""


def check(topology: Topology, selector: SelectorKind, nodes: int, fanout: int, zones: int) -> None:
    """Says before any work whether a simulation can be.

    Raises:
        ImpossibleError: it can not.
    """
    largest, why = MAX_NODES[topology]
    if not MIN_NODES[topology] <= nodes <= largest:
        raise ImpossibleError(
            f"{topology} can have {MIN_NODES[topology]:,} to {largest:,} nodes ({why}), not {nodes:,}."
        )
    if topology is Topology.GRID and _rows(nodes) < 3:
        raise ImpossibleError(
            f"{nodes:,} nodes make no grid of 3 rows or more; {_near_square(nodes):,} make a square one."
        )
    if topology is Topology.ZONES and not 2 <= zones <= nodes // 2:
        raise ImpossibleError(f"{nodes:,} nodes can lie in 2 to {nodes // 2:,} zones, not {zones:,}.")
    if selector is SelectorKind.HYPERCUBE and not topology.everybody:
        raise ImpossibleError(
            f"hypercube talks to nodes of all distances: use it with the topology complete or zones, not {topology}."
        )
    if selector is SelectorKind.HYPERCUBE and fanout > 1:
        raise ImpossibleError(
            f"hypercube has one partner a round, whose distance doubles: a fan-out of 1, not {fanout}."
        )
    if selector is SelectorKind.ZONE_AWARE and topology is not Topology.ZONES:
        raise ImpossibleError(f"zone-aware needs zones: use it with the topology zones, not {topology}.")
    most = min(nodes - 1, MAX_FANOUT) if topology.everybody else _FEWEST_NEIGHBOURS[topology]
    if fanout > most:
        raise ImpossibleError(f"{nodes:,} nodes in {topology} can have a fan-out of 1 to {most}, not {fanout}.")
    if selector is SelectorKind.ROUND_ROBIN:
        needed = 4 * nodes * ((nodes - 1) if topology.everybody else DEGREE)
        if needed > MEMORY:
            raise ImpossibleError(
                f"round-robin keeps a list of all peers at each node: for {nodes:,} nodes {needed / 1e9:,.0f} GB, "
                f"more than the {MEMORY / 1e9:.1f} GB it may take; use at most {math.isqrt(MEMORY // 4):,} nodes, "
                "or random, which is as quick."
            )


def _near_square(nodes: int) -> int:
    return max(3, round(math.sqrt(nodes))) ** 2


def _rows(nodes: int) -> int:
    """The greatest divisor up to the square root."""
    return next(rows for rows in range(math.isqrt(nodes), 0, -1) if nodes % rows == 0)


# --- graphs ---


@dataclass(slots=True)
class Neighbours:
    """A graph by its lists: the neighbours of x are ends[start[x] : start[x + 1]]."""

    start: Indices
    ends: NDArray[np.int32]

    @staticmethod
    def of_links(nodes: int, one: Indices, other: Indices) -> Neighbours:
        """The graph with links between `one` and `other`, item by item."""
        origin = np.concatenate([one, other])
        order = np.argsort(origin, kind="stable")
        ends = np.concatenate([other, one])[order].astype(np.int32)
        return Neighbours(np.concatenate([[0], np.cumsum(np.bincount(origin, minlength=nodes))]), ends)

    @staticmethod
    def of_everybody(nodes: int, runs: int) -> Neighbours:
        """The complete graph, once for each run."""
        # In place, as this is large: the numbers after x, modulo n.
        ends = np.add.outer(np.arange(nodes, dtype=np.int32), np.arange(1, nodes, dtype=np.int32))
        ends %= nodes
        if runs > 1:
            ends = ends + (np.arange(runs, dtype=np.int32) * nodes)[:, None, None]
        return Neighbours(np.arange(nodes * runs + 1) * (nodes - 1), ends.ravel())


def build(topology: Topology, nodes: int, runs: int, rng: np.random.Generator) -> Neighbours:
    """The graphs of all runs, as one that is in as many parts."""
    if topology.everybody:
        return Neighbours.of_everybody(nodes, runs)
    here = np.arange(nodes)
    links = []
    draw = _random_regular if topology is Topology.RANDOM_REGULAR else _small_world
    for run in range(runs):
        if topology is Topology.RING:
            one, other = here, (here + 1) % nodes
        elif topology is Topology.GRID:
            columns = nodes // _rows(nodes)
            right = here // columns * columns + (here + 1) % columns
            one, other = np.tile(here, 2), np.concatenate([right, (here + columns) % nodes])
        else:
            one, other = _connected(draw, nodes, rng)
        links.append((one + run * nodes, other + run * nodes))
    ones, others = zip(*links, strict=True)
    return Neighbours.of_links(nodes * runs, np.concatenate(ones), np.concatenate(others))


class _Draw(Protocol):
    def __call__(self, nodes: int, rng: np.random.Generator) -> tuple[Indices, Indices]: ...


def _connected(draw: _Draw, nodes: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Draws links; if they leave the graph in parts, again, as no news would cross."""
    while True:
        one, other = draw(nodes, rng)
        if is_connected(nodes, one, other):
            return one, other


def is_connected(nodes: int, one: Indices, other: Indices) -> bool:
    """Whether a flood from the first node reaches all."""
    seen = np.zeros(nodes, bool)
    seen[0] = True
    before, now = 0, 1
    while before < now:
        seen[other[seen[one]]] = True
        seen[one[seen[other]]] = True
        before, now = now, int(np.count_nonzero(seen))
    return now == nodes


def _random_regular(nodes: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Pairs DEGREE ends of each node at random; loops and doubles are mixed with other pairs until none is left."""
    pairs = rng.permutation(np.repeat(np.arange(nodes), DEGREE)).reshape(-1, 2)
    while True:
        bad = np.flatnonzero(_loops(pairs) | _doubles(nodes, pairs))
        if not len(bad):
            return pairs[:, 0], pairs[:, 1]
        mixed = np.union1d(bad, rng.integers(0, len(pairs), len(bad) + 1))
        pairs[mixed] = rng.permutation(pairs[mixed].ravel()).reshape(-1, 2)


def _small_world(nodes: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Each node keeps its end of the links with the two after it, so that it has two neighbours at least."""
    here = np.arange(nodes)
    pairs = np.stack([np.tile(here, 2), np.concatenate([(here + 1) % nodes, (here + 2) % nodes])], axis=1)
    moved = rng.random(len(pairs)) < REWIRED
    moving = np.flatnonzero(moved)
    while len(moving):
        pairs[moving, 1] = rng.integers(0, nodes, len(moving))
        moving = np.flatnonzero(moved & (_loops(pairs) | _doubles(nodes, pairs)))
    return pairs[:, 0], pairs[:, 1]


def _loops(pairs: Indices) -> NDArray[np.bool_]:
    return np.asarray(pairs[:, 0] == pairs[:, 1])


def _doubles(nodes: int, pairs: Indices) -> NDArray[np.bool_]:
    """Which links are there more than once, in either direction."""
    _, which, count = np.unique(pairs.min(axis=1) * nodes + pairs.max(axis=1), return_inverse=True, return_counts=True)
    return np.asarray(count[which] > 1)


# --- selectors ---


class Selector(Protocol):
    """Selects partners."""

    def select(self, number: int, callers: Indices) -> Indices:
        """The partners of each caller in round `number`, from 0: a row for each, `fanout` wide."""
        ...


def make_selector(
    kind: SelectorKind, topology: Topology, nodes: int, runs: int, fanout: int, zones: int, rng: np.random.Generator
) -> Selector:
    """The selector of that name for all nodes of all runs; what `check` refuses is not for it."""
    if kind is SelectorKind.HYPERCUBE:
        return _Hypercube(nodes)
    if kind is SelectorKind.ZONE_AWARE:
        return _ZoneAware(nodes, fanout, zones, rng)
    if kind is SelectorKind.ROUND_ROBIN:
        return _RoundRobin(build(topology, nodes, runs, rng), fanout, rng)
    if topology.everybody:
        return _AnyOther(nodes, fanout, rng)
    return _AnyNeighbour(build(topology, nodes, runs, rng), fanout, rng)


class _AnyOther:
    """Uniformly among all other nodes, the partners of one round distinct."""

    def __init__(self, nodes: int, fanout: int, rng: np.random.Generator) -> None:
        self._nodes, self._fanout, self._rng = nodes, fanout, rng

    def select(self, number: int, callers: Indices) -> Indices:  # noqa: ARG002 - every round is like another
        draws = [self._rng.integers(0, self._nodes - 1 - n, len(callers), dtype=np.uint32) for n in range(self._fanout)]
        here = callers[:, None]
        partners: Indices = _distinct(draws) + here // self._nodes * self._nodes
        partners += partners >= here  # itself is left out
        return partners


class _AnyNeighbour:
    """Uniformly among the neighbours, the partners of one round distinct."""

    def __init__(self, graph: Neighbours, fanout: int, rng: np.random.Generator) -> None:
        self._graph, self._fanout, self._rng = graph, fanout, rng
        self._degree = np.diff(graph.start)

    def select(self, number: int, callers: Indices) -> Indices:  # noqa: ARG002 - every round is like another
        degree = self._degree[callers]
        draws = [(self._rng.random(len(callers)) * (degree - n)).astype(np.uint32) for n in range(self._fanout)]
        partners: Indices = self._graph.ends[self._graph.start[callers][:, None] + _distinct(draws)].astype(np.intp)
        return partners


def _distinct(draws: list[NDArray[np.uint32]]) -> Indices:
    """Makes numbers, the nth of which is below limit - n, distinct ones below limit: each skips those before it."""
    chosen = draws[0].astype(np.intp)[:, None]
    for draw in draws[1:]:
        following = draw.astype(np.intp)
        for before in np.sort(chosen, axis=1).T:
            following += following >= before
        chosen = np.concatenate([chosen, following[:, None]], axis=1)
    return chosen


class _RoundRobin:
    """Through a list of the neighbours that is shuffled anew for each pass; all nodes go on, whether asked for or not.

    The shuffle is that of Fisher and Yates, one step when one is needed.
    """

    def __init__(self, graph: Neighbours, fanout: int, rng: np.random.Generator) -> None:
        self._graph, self._fanout, self._rng = graph, fanout, rng
        self._degree = np.diff(graph.start)
        self._place = np.zeros_like(self._degree)
        self._number = -1
        self._partners = np.empty((len(self._degree), fanout), np.intp)

    def select(self, number: int, callers: Indices) -> Indices:
        if number != self._number:
            self._number = number
            for column in range(self._fanout):
                self._partners[:, column] = self._next()
        return self._partners[callers]

    def _next(self) -> NDArray[np.int32]:
        ends, left = self._graph.ends, self._degree - self._place
        here = self._graph.start[:-1] + self._place
        other = here + (self._rng.random(len(left)) * left).astype(np.intp)
        chosen = ends[other]
        ends[other] = ends[here]
        ends[here] = chosen
        self._place = (self._place + 1) % self._degree
        return np.asarray(chosen)


class _Hypercube:
    """The node 2^(step mod d) ranks further on, d = ceil(log2 n), as the engine's selector."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes

    def select(self, number: int, callers: Indices) -> Indices:
        distance = 1 << (number % (self._nodes - 1).bit_length())
        run_start = callers // self._nodes * self._nodes
        return np.asarray(run_start + (callers - run_start + distance) % self._nodes)[:, None]


class _ZoneAware:
    """The own zone with the engine's share, else another, uniformly within each; partners of one round may coincide."""

    def __init__(self, nodes: int, fanout: int, zones: int, rng: np.random.Generator) -> None:
        self._nodes, self._fanout, self._rng = nodes, fanout, rng
        self._bounds = -(-np.arange(zones + 1) * nodes // zones)
        self._zones = zones

    def select(self, number: int, callers: Indices) -> Indices:  # noqa: ARG002 - every round is like another
        size = (len(callers), self._fanout)
        here = (callers % self._nodes)[:, None]
        zone = zone_of(here, self._nodes, self._zones)
        first, after = self._bounds[zone], self._bounds[zone + 1]
        near = first + (self._rng.random(size) * (after - first - 1)).astype(np.intp)
        near += near >= here
        far = (self._rng.random(size) * (self._nodes - after + first)).astype(np.intp)
        far += np.where(far >= first, after - first, 0)
        is_near = self._rng.random(size) < ZoneAwareSelector.near_share
        return np.where(is_near, near, far) + callers[:, None] // self._nodes * self._nodes


def zone_of(places: Indices, nodes: int, zones: int) -> Indices:
    """In which zone the nodes at these places (0 to nodes - 1) lie: the first ones in the first, and so on."""
    return np.asarray(places * zones // nodes)
