"""The epidemics of Demers et al.: their tables, their laws, and what the definitions say of two nodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim import rumor, theory
from gossip_grpc.sim.rumor import Outcome, Rules, simulate

PUSH, PULL, PUSH_PULL = Strategy.PUSH, Strategy.PULL, Strategy.PUSH_PULL

TABLE_1 = {1: (0.18, 1.7, 16.8), 2: (0.037, 3.3, 16.9), 3: (0.011, 4.5, 17.4), 4: (0.0036, 5.6, 17.5),
           5: (0.0012, 6.7, 17.7)}  # fmt: skip
TABLE_2 = {1: (0.96, 0.04, 38), 2: (0.20, 1.6, 33), 3: (0.060, 2.8, 32), 4: (0.021, 3.9, 32), 5: (0.008, 4.9, 32)}
TABLE_3 = {1: (3.1e-2, 2.7, 17.63, 9.97), 2: (5.8e-4, 4.5, 15.39, 10.07), 3: (4.0e-6, 6.1, 14.00, 10.08)}


def error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def agrees(values: NDArray[np.float64], published: float) -> bool:
    """Within 5 %, or what chance allows."""
    return abs(float(values.mean()) - published) <= max(0.05 * published, 3 * error(values))


def run(mode: Strategy, *, feedback: bool, counter: bool, k: int, nodes: int = 1000, runs: int = 1000) -> Outcome:
    return simulate(Rules(mode, feedback=feedback, counter=counter, k=k), nodes, runs, seed=k)


# --- the paper's tables ---


@pytest.mark.parametrize("k", TABLE_1)
def test_push_with_feedback_and_counter_gives_table_1(k: int) -> None:
    outcome = run(PUSH, feedback=True, counter=True, k=k)
    s, m, t_last = TABLE_1[k]
    assert agrees(outcome.residue, s)
    assert agrees(outcome.traffic, m)
    assert agrees(outcome.t_last, t_last)


@pytest.mark.parametrize("k", TABLE_2)
def test_blind_push_with_a_coin_gives_table_2(k: int) -> None:
    outcome = run(PUSH, feedback=False, counter=False, k=k, runs=5000 if k == 1 else 1000)
    s, m, t_last = TABLE_2[k]
    # For 4 and 5 the paper's residues are 6 and 15 % above its own law, s = e^-m, which holds here; see docs/theory.md.
    assert agrees(outcome.residue, s if k < 4 else theory.residue_blind(k))
    assert agrees(outcome.traffic, m)
    assert agrees(outcome.t_last, t_last)


@pytest.mark.parametrize("k", TABLE_3)
def test_pull_with_feedback_and_counter_gives_table_3(k: int) -> None:
    outcome = run(PULL, feedback=True, counter=True, k=k)
    s, m, t_last, t_ave = TABLE_3[k]
    assert agrees(outcome.residue, s)
    assert agrees(outcome.traffic, m)
    assert agrees(outcome.t_last, t_last)
    assert agrees(outcome.t_ave, t_ave)


# --- the laws ---


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("counter", [True, False])
def test_whatever_ends_interest_push_leaves_e_to_the_minus_traffic(feedback: bool, counter: bool) -> None:
    for k in (2, 3, 4):
        outcome = run(PUSH, feedback=feedback, counter=counter, k=k, nodes=5000, runs=100)
        assert outcome.residue.mean() == pytest.approx(theory.residue_of_traffic(outcome.traffic.mean()), rel=0.05)


@pytest.mark.parametrize(("fanout", "published"), [(3, 0.0595), (4, 0.0198), (6, 0.0025), (8, 0.00034)])
def test_infect_and_die_leaves_what_its_law_says(fanout: int, published: float) -> None:
    outcome = run(PUSH, feedback=False, counter=True, k=fanout, nodes=20_000, runs=50)
    assert agrees(outcome.residue, published)
    assert agrees(outcome.residue, theory.residue_blind(fanout))


def test_a_blind_node_sends_k_messages_on_average_with_a_coin_and_exactly_with_a_counter() -> None:
    coin = run(PUSH, feedback=False, counter=False, k=3, runs=500)
    assert coin.traffic.mean() == pytest.approx(3 * (1 - coin.residue.mean()), rel=0.01)
    counter = run(PUSH, feedback=False, counter=True, k=3, runs=20)
    assert counter.traffic == pytest.approx(3 * (1 - counter.residue))


def test_in_cycles_feedback_and_coin_leave_somewhat_less_than_the_law_for_contacts_one_after_another() -> None:
    for k in (1, 2, 3):
        residue = run(PUSH, feedback=True, counter=False, k=k, runs=300).residue.mean()
        assert 0.8 < residue / theory.residue_feedback_coin(k) < 0.9


def test_for_k_of_1_counter_and_coin_are_one_thing() -> None:
    counter = run(PUSH, feedback=True, counter=True, k=1, runs=50)
    coin = run(PUSH, feedback=True, counter=False, k=1, runs=50)
    assert agrees(coin.traffic, float(counter.traffic.mean()))


def test_pull_leaves_less_than_push_for_less_traffic() -> None:
    push = run(PUSH, feedback=True, counter=True, k=3, runs=100)
    pull = run(PULL, feedback=True, counter=True, k=2, runs=100)
    assert pull.traffic.mean() < push.traffic.mean()
    assert pull.residue.mean() < push.residue.mean() / 5


def test_push_pull_is_the_quickest() -> None:
    last = {mode: run(mode, feedback=True, counter=True, k=1, runs=50).t_last.mean() for mode in Strategy}
    assert last[PUSH_PULL] < 0.65 * min(last[PUSH], last[PULL])


def test_a_lone_messenger_meets_whom_it_knows_as_birthdays_meet() -> None:
    """Blind, k = 1: always one node that knows and is interested, until its partner knows already."""
    reached, expected = 1.0, 0.0
    for known in range(1, 1000):
        reached *= 1 - (known - 1) / 999
        expected += reached
    outcome = run(PUSH, feedback=False, counter=True, k=1, runs=5000)
    assert expected == pytest.approx(39.28, abs=0.01)
    assert abs(outcome.t_last.mean() - expected) < 3 * error(outcome.t_last)


# --- two nodes, counted by hand ---


@pytest.mark.parametrize(
    ("mode", "feedback", "k", "traffic"),
    [
        (PUSH, True, 1, 1.5),  # told; then each tells the other, in vain
        (PUSH, True, 2, 2.5),  # and once more
        (PUSH, False, 1, 1.0),  # one message each
        (PULL, True, 1, 1.5),  # asked; then each asks the other, in vain
        (PUSH_PULL, True, 1, 3.0),  # both ways of both contacts: 2, and then 4
        (PUSH_PULL, False, 1, 2.0),  # the source stops after 2; then the other tells it, and is asked: 2 more
    ],
)
def test_two_nodes(mode: Strategy, feedback: bool, k: int, traffic: float) -> None:
    outcome = run(mode, feedback=feedback, counter=True, k=k, nodes=2, runs=5)
    assert outcome.traffic.tolist() == [traffic] * 5
    assert outcome.residue.tolist() == [0.0] * 5
    assert outcome.t_last.tolist() == outcome.t_ave.tolist() == [1.0] * 5


# --- runs ---


def test_the_seed_decides_everything() -> None:
    one, same = (simulate(Rules(k=2), 300, 20, seed=7) for _ in range(2))
    assert one.traffic.tolist() == same.traffic.tolist()
    assert one.susceptible == same.susceptible
    assert simulate(Rules(k=2), 300, 20, seed=8).traffic.tolist() != one.traffic.tolist()


def test_the_course_goes_from_one_infective_node_to_none_and_to_the_residue() -> None:
    outcome = simulate(Rules(k=2), 500, 30, seed=1)
    assert outcome.susceptible[0] == 1 - 1 / 500
    assert outcome.infective[0] == 1 / 500
    assert outcome.infective[-1] == 0
    assert outcome.susceptible[-1] == pytest.approx(outcome.residue.mean())
    assert all(before >= after for before, after in zip(outcome.susceptible, outcome.susceptible[1:], strict=False))


def test_runs_in_several_batches_are_like_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = simulate(Rules(k=1), 500, 100, seed=1)
    monkeypatch.setattr(rumor, "_BATCH", 1500)
    told: list[float] = []
    batches = simulate(Rules(k=1), 500, 100, seed=1, tell=told.append)
    assert abs(batches.residue.mean() - at_once.residue.mean()) < 4 * error(at_once.residue)
    assert batches.susceptible[-1] == pytest.approx(batches.residue.mean())
    assert batches.infective[-1] == 0
    assert told == sorted(told)
    assert told[-1] == 100


def test_progress_ends_with_the_number_of_runs() -> None:
    told: list[float] = []
    simulate(Rules(), 100, 3, seed=0, tell=told.append)
    assert told[-1] == 3
    assert min(told) >= 0
