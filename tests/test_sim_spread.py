"""Rounds until everyone knows: the formulae, what can be counted by hand, graphs and selectors."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim import spread, topology
from gossip_grpc.sim.spread import Outcome, Setting, simulate
from gossip_grpc.sim.topology import ImpossibleError, Topology, build, check, is_connected, make_selector

PUSH, PULL, PUSH_PULL = Strategy.PUSH, Strategy.PULL, Strategy.PUSH_PULL
RANDOM, ROUND_ROBIN = SelectorKind.RANDOM, SelectorKind.ROUND_ROBIN
HYPERCUBE, ZONE_AWARE = SelectorKind.HYPERCUBE, SelectorKind.ZONE_AWARE


def error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# --- beside the formulae ---

LOSSLESS = {PUSH: (1.0, 2.3), PULL: (1.0, 1.5), PUSH_PULL: (0.0, 0.15)}
LOSSY = {PUSH: (1.0, 2.3), PULL: (1.2, 2.1), PUSH_PULL: (1.2, 2.1)}
"""Measured minus formula, as an independent simulation found it."""


@pytest.mark.parametrize(("nodes", "runs"), [(10**3, 400), (10**4, 60), (10**5, 10), (10**6, 1)])
@pytest.mark.parametrize("loss", [0.0, 0.25])
@pytest.mark.parametrize("strategy", Strategy)
def test_rounds_are_the_formula_and_a_constant(strategy: Strategy, loss: float, nodes: int, runs: int) -> None:
    setting = Setting(strategy, nodes, loss)
    rounds = simulate(setting, runs, seed=2).rounds
    expected = setting.theory()
    assert expected is not None
    least, most = (LOSSY if loss else LOSSLESS)[strategy]
    # One run says nothing of its own spread, which is about a round.
    doubt = 3 * (error(rounds) if runs > 1 else 1.0)
    assert least - doubt <= rounds.mean() - expected <= most + doubt


def test_a_million_nodes_need_the_rounds_that_an_independent_simulation_found() -> None:
    for strategy, published in ((PUSH, 34.8), (PULL, 25.3), (PUSH_PULL, 16.5)):
        assert simulate(Setting(strategy, 10**6), 1, seed=3).rounds.mean() == pytest.approx(published, abs=3)


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("fanout", [1, 3])
def test_shares_are_those_of_the_mean_field_once_the_luck_of_the_first_rounds_is_over(
    strategy: Strategy, loss: float, fanout: int
) -> None:
    """From about a tenth that know on, each round is as expected from the round before."""
    setting = Setting(strategy, 10**5, loss, fanout)
    shares = simulate(setting, 1, seed=1).informed
    for before, after in pairwise(shares):
        if 0.1 < before < 0.99:
            missed = math.exp(-fanout * (1 - loss) * before) if strategy.sends else 1.0
            missed *= (1 - (1 - loss) * before) ** fanout if strategy.fetches else 1.0
            assert after == pytest.approx(1 - (1 - before) * missed, abs=0.005)


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 1000])
@pytest.mark.parametrize("strategy", Strategy)
def test_the_hypercube_doubles_until_all_know(strategy: Strategy, nodes: int) -> None:
    rounds = simulate(Setting(strategy, nodes, selector=HYPERCUBE), 3, seed=0).rounds
    exact = math.floor(math.log2(nodes)) if strategy is PUSH_PULL else math.ceil(math.log2(nodes))
    assert rounds.tolist() == [exact] * 3
    assert Setting(strategy, nodes, selector=HYPERCUBE).theory() == exact


def test_theory_is_silent_where_it_has_no_formula() -> None:
    assert Setting(topology=Topology.RING).theory() is None
    assert Setting(topology=Topology.RING).expected() is None
    assert Setting(selector=ROUND_ROBIN).theory() is None
    assert Setting(selector=HYPERCUBE, loss=0.1).theory() is None
    assert Setting(topology=Topology.ZONES).theory() is not None


# --- counted by hand ---


@pytest.mark.parametrize(
    ("strategy", "messages", "updates"),
    [(PUSH, 0.5, 0.5), (PULL, 1.0, 0.5), (PUSH_PULL, 1.0, 1.0)],
)
def test_two_nodes_need_one_round(strategy: Strategy, messages: float, updates: float) -> None:
    outcome = simulate(Setting(strategy, 2), 4, seed=0)
    assert outcome.rounds.tolist() == [1.0] * 4
    assert outcome.messages.tolist() == [messages] * 4
    assert outcome.updates.tolist() == [updates] * 4
    assert outcome.informed == [0.5, 1.0]


@pytest.mark.parametrize(("strategy", "fails"), [(PUSH, 0.5), (PULL, 0.5), (PUSH_PULL, 0.25)])
def test_each_exchange_is_lost_once_with_the_given_probability(strategy: Strategy, fails: float) -> None:
    rounds = simulate(Setting(strategy, 2, loss=0.5), 4000, seed=0).rounds
    assert rounds.mean() == pytest.approx(1 / (1 - fails), rel=0.03)


def test_pull_sends_the_update_to_each_node_once_and_push_to_many_in_vain() -> None:
    pull = simulate(Setting(PULL, 500), 10, seed=0)
    assert pull.updates == pytest.approx(np.full(10, 499 / 500))
    assert pull.messages.tolist() == pull.rounds.tolist()
    push = simulate(Setting(PUSH, 500), 10, seed=0)
    assert push.messages.tolist() == push.updates.tolist()
    assert (push.messages < push.rounds).all()


def test_a_ring_in_which_both_neighbours_are_asked_takes_half_its_nodes() -> None:
    assert simulate(Setting(PUSH, 20, fanout=2, topology=Topology.RING), 3, seed=0).rounds.tolist() == [10.0] * 3
    assert simulate(Setting(PULL, 21, fanout=2, topology=Topology.RING), 3, seed=0).rounds.tolist() == [10.0] * 3


def test_a_grid_in_which_all_four_neighbours_are_told_takes_half_its_rows_and_columns() -> None:
    outcome = simulate(Setting(PUSH, 6 * 9, fanout=4, topology=Topology.GRID), 3, seed=0)
    assert outcome.rounds.tolist() == [3 + 4] * 3


def test_in_a_complete_graph_of_full_fan_out_one_round_is_enough() -> None:
    assert simulate(Setting(PUSH, 6, fanout=5), 3, seed=0).rounds.tolist() == [1.0] * 3
    assert simulate(Setting(PULL, 6, fanout=5), 3, seed=0).rounds.tolist() == [1.0] * 3


def test_few_random_links_make_a_large_world_small() -> None:
    rounds = {
        shape: simulate(Setting(nodes=1024, topology=shape), 5, seed=0).rounds.mean()
        for shape in (Topology.RING, Topology.GRID, Topology.SMALL_WORLD, Topology.RANDOM_REGULAR, Topology.COMPLETE)
    }
    assert list(rounds.values()) == sorted(rounds.values(), reverse=True)
    assert rounds[Topology.RING] > 20 * rounds[Topology.SMALL_WORLD]


def test_more_partners_make_fewer_rounds_of_more_messages() -> None:
    one, three = (simulate(Setting(fanout=fanout), 20, seed=0) for fanout in (1, 3))
    assert three.rounds.mean() < one.rounds.mean()
    assert three.messages.mean() > one.messages.mean()


# --- runs ---


def test_the_seed_decides_everything() -> None:
    def outcome(seed: int) -> Outcome:
        return simulate(Setting(PUSH, 200, topology=Topology.SMALL_WORLD, selector=ROUND_ROBIN), 10, seed)

    assert outcome(1).informed == outcome(1).informed
    assert outcome(1).informed != outcome(2).informed


@pytest.mark.parametrize("loss", [0.0, 0.4])
def test_shares_grow_from_one_node_to_all(loss: float) -> None:
    outcome = simulate(Setting(PUSH_PULL, 300, loss), 20, seed=0)
    assert outcome.informed[0] == pytest.approx(1 / 300)
    assert outcome.informed[-1] == 1.0
    assert outcome.informed == sorted(outcome.informed)
    assert len(outcome.informed) == outcome.rounds.max() + 1


def test_work_in_parts_is_like_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More nodes than a batch: one run in parts. Fewer: some runs at a time. Exact where nothing is random."""
    monkeypatch.setattr(spread, "_BATCH", 64)
    whole = simulate(Setting(PUSH, 200, selector=HYPERCUBE), 3, seed=0)
    assert whole.rounds.tolist() == [8.0] * 3
    assert whole.messages == pytest.approx(np.full(3, 199 / 200), abs=56 / 200)
    few = simulate(Setting(PULL, 20, fanout=2, topology=Topology.RING), 7, seed=0)
    assert few.rounds.tolist() == [10.0] * 7
    assert few.updates == pytest.approx(np.full(7, 20 / 20), abs=1 / 20)
    # What was learned in one part of a round is of no use to the next part before the next round.
    assert simulate(Setting(PULL, 201, fanout=2, topology=Topology.RING), 1, seed=0).rounds.tolist() == [100.0]


def test_progress_grows_to_the_number_of_runs() -> None:
    for setting in (Setting(PUSH, 100), Setting(PUSH, 100, topology=Topology.RING)):
        told: list[float] = []
        simulate(setting, 3, 0, told.append)
        assert told == sorted(told)
        assert told[-1] == 3


# --- graphs ---


def links(shape: Topology, nodes: int, runs: int = 1) -> list[list[int]]:
    graph = build(shape, nodes, runs, rng())
    return [graph.ends[graph.start[x] : graph.start[x + 1]].tolist() for x in range(nodes * runs)]


@pytest.mark.parametrize("shape", Topology)
@pytest.mark.parametrize("nodes", [9, 36])
def test_links_go_both_ways_to_other_nodes_of_the_same_run_and_are_single(shape: Topology, nodes: int) -> None:
    found = links(shape, nodes, runs=3)
    for x, ends in enumerate(found):
        assert x not in ends
        assert len(set(ends)) == len(ends)
        assert all(end // nodes == x // nodes and x in found[end] for end in ends)


@pytest.mark.parametrize(("shape", "degree"), [("ring", 2), ("grid", 4), ("random-regular", 4), ("complete", 35)])
def test_every_node_has_as_many_neighbours_as_its_topology_says(shape: str, degree: int) -> None:
    assert {len(ends) for ends in links(Topology(shape), 36, runs=2)} == {degree}


def test_a_small_world_is_a_ring_with_a_tenth_of_its_links_moved() -> None:
    found = links(Topology.SMALL_WORLD, 2000)
    assert sum(map(len, found)) == 4 * 2000
    assert min(map(len, found)) >= 2
    far = sum(min((end - x) % 2000, (x - end) % 2000) > 2 for x, ends in enumerate(found) for end in ends)
    assert far / (4 * 2000) == pytest.approx(0.1, abs=0.02)


def test_random_graphs_are_drawn_anew_for_each_run() -> None:
    for shape in (Topology.RANDOM_REGULAR, Topology.SMALL_WORLD):
        found = links(shape, 40, runs=2)
        assert [set(ends) for ends in found[:40]] != [{end - 40 for end in ends} for ends in found[40:]]


def test_a_graph_in_two_parts_is_not_connected() -> None:
    assert is_connected(4, np.array([0, 1, 2]), np.array([1, 2, 3]))
    assert not is_connected(4, np.array([0, 2]), np.array([1, 3]))


def test_a_graph_that_falls_into_parts_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([(np.array([0, 2]), np.array([1, 3])), (np.array([0, 1, 2]), np.array([1, 2, 3]))])
    monkeypatch.setattr(topology, "_small_world", lambda nodes, rng: next(drawn))
    assert links(Topology.SMALL_WORLD, 4) == [[1], [2, 0], [3, 1], [2]]


# --- selectors ---


@pytest.mark.parametrize("shape", Topology)
@pytest.mark.parametrize("kind", SelectorKind)
def test_partners_are_others_of_the_same_run_that_can_be_reached(kind: SelectorKind, shape: Topology) -> None:
    nodes, runs = 36, 2
    try:
        check(shape, kind, nodes, 1, 4)
    except ImpossibleError:
        return
    selector = make_selector(kind, shape, nodes, runs, 1, 4, rng())
    everyone = np.arange(nodes * runs)
    for number in range(20):
        partners = selector.select(number, everyone)
        assert partners.shape == (nodes * runs, 1)
        assert (partners[:, 0] != everyone).all()
        assert (partners[:, 0] // nodes == everyone // nodes).all()


@pytest.mark.parametrize("shape", [Topology.COMPLETE, Topology.RANDOM_REGULAR])
@pytest.mark.parametrize("kind", [RANDOM, ROUND_ROBIN])
def test_partners_of_one_round_are_distinct_and_uniform(shape: Topology, kind: SelectorKind) -> None:
    selector = make_selector(kind, shape, 9, 1, 2, 4, rng())
    chosen: Counter[int] = Counter()
    for number in range(4000):
        one, other = selector.select(number, np.array([4]))[0].tolist()
        assert one != other
        chosen.update([one, other])
    degree = 8 if shape is Topology.COMPLETE else 4
    assert len(chosen) == degree
    assert all(count == pytest.approx(8000 / degree, rel=0.1) for count in chosen.values())


def test_a_random_selector_reaches_only_neighbours() -> None:
    selector = make_selector(RANDOM, Topology.RING, 10, 2, 1, 4, rng())
    reached = {int(selector.select(number, np.array([10]))[0, 0]) for number in range(50)}
    assert reached == {11, 19}


@pytest.mark.parametrize(("shape", "degree"), [(Topology.COMPLETE, 7), (Topology.RING, 2), (Topology.ZONES, 7)])
def test_round_robin_takes_every_peer_once_in_each_pass_in_an_order_of_its_own(shape: Topology, degree: int) -> None:
    selector = make_selector(ROUND_ROBIN, shape, 8, 30, 1, 2, rng())
    everyone = np.arange(8 * 30)
    passes = [
        np.concatenate([selector.select(start + step, everyone) for step in range(degree)], axis=1)
        for start in (0, degree, 2 * degree)
    ]
    for each in passes:
        assert all(len(set(row)) == degree for row in each.tolist())
    assert (passes[0] != passes[1]).any()
    assert len({tuple(row) for row in (passes[0] - everyone[:, None]).tolist()}) > 1


def test_round_robin_goes_on_for_those_that_nobody_asked_about() -> None:
    selector = make_selector(ROUND_ROBIN, Topology.RING, 8, 1, 1, 2, rng())
    first = selector.select(0, np.arange(8))
    assert (selector.select(0, np.array([3])) == first[[3]]).all()
    second = selector.select(1, np.array([5]))
    assert second[0, 0] != first[5, 0]


def test_zone_aware_stays_in_its_zone_four_times_in_five_and_is_uniform_in_and_out_of_it() -> None:
    selector = make_selector(ZONE_AWARE, Topology.ZONES, 12, 2, 1, 3, rng())
    chosen = Counter(int(selector.select(number, np.array([12 + 5]))[0, 0]) - 12 for number in range(20_000))
    for other, count in chosen.items():
        share = 0.8 / 3 if other in (4, 6, 7) else 0.2 / 8
        assert count / 20_000 == pytest.approx(share, rel=0.15)
    assert len(chosen) == 11


@pytest.mark.parametrize(("selector", "between"), [(RANDOM, 0.75), (ZONE_AWARE, 0.2)])
def test_the_share_of_exchanges_between_zones_is_measured(selector: SelectorKind, between: float) -> None:
    outcome = simulate(Setting(nodes=1000, topology=Topology.ZONES, selector=selector), 10, seed=0)
    assert outcome.between_zones.mean() == pytest.approx(between, abs=0.02)


# --- what is refused ---


def test_every_combination_runs_or_is_refused_with_what_is_allowed() -> None:
    refused = set()
    for shape, kind in product(Topology, SelectorKind):
        try:
            check(shape, kind, 36, 1, 4)
        except ImpossibleError as problem:
            refused.add((shape, kind, "use it with" in str(problem)))
        else:
            assert simulate(Setting(nodes=36, topology=shape, selector=kind), 2, seed=0).informed[-1] == 1
    near = (Topology.RING, Topology.GRID, Topology.RANDOM_REGULAR, Topology.SMALL_WORLD)
    assert refused == {*product(near, [HYPERCUBE, ZONE_AWARE], [True]), (Topology.COMPLETE, ZONE_AWARE, True)}


@pytest.mark.parametrize(
    ("shape", "kind", "nodes", "fanout", "zones", "says"),
    [
        ("complete", RANDOM, 10_000_001, 1, 4, "2 to 10,000,000 nodes"),
        ("ring", RANDOM, 10_001, 1, 4, "3 to 10,000 nodes (it takes about as many rounds as there are nodes)"),
        ("ring", RANDOM, 2, 1, 4, "3 to 10,000 nodes"),
        ("random-regular", RANDOM, 5, 1, 4, "6 to 1,000,000 nodes"),
        ("grid", RANDOM, 997, 1, 4, "1,024 make a square one"),
        ("ring", RANDOM, 10, 3, 4, "fan-out of 1 to 2, not 3"),
        ("small-world", RANDOM, 100, 3, 4, "fan-out of 1 to 2, not 3"),
        ("grid", RANDOM, 100, 5, 4, "fan-out of 1 to 4, not 5"),
        ("complete", RANDOM, 3, 3, 4, "fan-out of 1 to 2, not 3"),
        ("complete", HYPERCUBE, 8, 2, 4, "a fan-out of 1, not 2"),
        ("zones", RANDOM, 10, 1, 6, "2 to 5 zones, not 6"),
        ("complete", ROUND_ROBIN, 100_000, 1, 4, "for 100,000 nodes 40 GB"),
    ],
)
def test_what_makes_no_sense_or_is_too_large_is_refused_with_what_is_allowed(
    shape: str, kind: SelectorKind, nodes: int, fanout: int, zones: int, says: str
) -> None:
    with pytest.raises(ImpossibleError) as refused:
        check(Topology(shape), kind, nodes, fanout, zones)
    assert says in str(refused.value)


def test_the_largest_allowed_are_allowed() -> None:
    for shape, (most, _) in topology.MAX_NODES.items():
        check(shape, RANDOM, most, 1, 4)
    check(Topology.COMPLETE, ROUND_ROBIN, math.isqrt(topology.MEMORY // 4), 1, 4)
