"""Peer selection: what each selector promises, whatever the dice say."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil, log2
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.selection import (
    Candidate,
    HypercubeSelector,
    RandomSelector,
    RoundRobinSelector,
    SelectorKind,
    ZoneAwareSelector,
    make_selector,
    pick,
    revive,
)


def candidates(names: Sequence[str], zone: str = "") -> tuple[Candidate, ...]:
    return tuple(Candidate(name, zone) for name in sorted(names))


def numbered(count: int) -> tuple[Candidate, ...]:
    return candidates([f"n{i:03}" for i in range(count)])


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        ("random", RandomSelector),
        ("round-robin", RoundRobinSelector),
        ("hypercube", HypercubeSelector),
        ("zone-aware", ZoneAwareSelector),
    ],
)
def test_selectors_go_by_name(kind: str, selector: type) -> None:
    made = make_selector(SelectorKind(kind), node_id="me", zone="z", rng=random.Random(1))
    assert type(made) is selector


@pytest.mark.parametrize("kind", SelectorKind)
@given(count=st.integers(1, 20), seed=st.integers(0, 100))
def test_every_selector_selects_a_candidate_and_the_same_for_the_same_seed(
    kind: SelectorKind, count: int, seed: int
) -> None:
    peers = numbered(count)

    def picks() -> list[Candidate]:
        selector = make_selector(kind, node_id="n005x", zone="", rng=random.Random(seed))
        return [selector.select(peers) for _ in range(10)]

    assert set(picks()) <= set(peers)
    assert picks() == picks()


def test_random_selects_all_about_equally_often() -> None:
    selector, peers = RandomSelector(random.Random(1)), numbered(10)
    counts = Counter(selector.select(peers) for _ in range(10_000))
    assert set(counts) == set(peers)
    assert all(850 < count < 1150 for count in counts.values())


# Round robin


@given(st.integers(1, 20), st.integers(0, 1000))
def test_round_robin_makes_nobody_wait_longer_than_two_passes(count: int, seed: int) -> None:
    selector, peers = RoundRobinSelector(random.Random(seed)), numbered(count)
    picks = [selector.select(peers) for _ in range(10 * count)]
    for start in range(0, 10 * count, count):
        assert set(picks[start : start + count]) == set(peers), "each pass takes everybody once"
    for start in range(8 * count):
        assert set(picks[start : start + 2 * count - 1]) == set(peers)


@given(st.integers(1, 15), st.integers(1, 5), st.integers(0, 30), st.integers(0, 1000))
def test_round_robin_takes_newcomers_within_the_bound_too(old: int, new: int, before: int, seed: int) -> None:
    selector = RoundRobinSelector(random.Random(seed))
    for _ in range(before):
        selector.select(numbered(old))
    peers = numbered(old + new)
    picks = {selector.select(peers) for _ in range(2 * len(peers))}
    assert picks == set(peers)


def test_round_robin_lets_newcomers_in_at_a_random_place_of_the_pass() -> None:
    waits = set()
    for seed in range(50):
        selector = RoundRobinSelector(random.Random(seed))
        selector.select(numbered(5))
        waits.add(next(i for i in range(20) if selector.select(numbered(6)).node_id == "n005"))
    assert waits == set(range(5))


def test_round_robin_forgets_who_left_in_the_middle_of_a_pass() -> None:
    selector = RoundRobinSelector(random.Random(1))
    selector.select(numbered(10))
    assert {selector.select(numbered(2)) for _ in range(4)} == set(numbered(2))


def test_round_robin_knows_a_peer_by_its_name_and_selects_it_as_it_is_now() -> None:
    selector = RoundRobinSelector(random.Random(1))
    peers = candidates(["a", "b", "c"], "old")
    first = selector.select(peers)
    rest = {selector.select(candidates(["a", "b", "c"], "new")) for _ in range(2)}
    assert rest == {Candidate(name, "new") for name in "abc" if name != first.node_id}


def test_round_robin_shuffles_each_pass_anew() -> None:
    selector, peers = RoundRobinSelector(random.Random(1)), numbered(8)
    passes = {tuple(selector.select(peers) for _ in range(8)) for _ in range(5)}
    assert len(passes) == 5


def test_several_newcomers_enter_alike_in_every_process() -> None:
    # Strings hash differently in each process: a choice that goes by the order of a set cannot be replayed.
    script = """
import random
from gossip_grpc.core.selection import Candidate, RoundRobinSelector
selector = RoundRobinSelector(random.Random(1))
selector.select((Candidate("n0"),))
print([selector.select(tuple(Candidate(f"n{i}") for i in range(9))).node_id for _ in range(9)])
"""
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


# Hypercube


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13, 16, 31, 64, 100])
def test_hypercube_pushes_reach_everybody_in_log_n_rounds(count: int) -> None:
    names = [peer.node_id for peer in numbered(count)]
    selectors = {name: HypercubeSelector(name) for name in names}
    for start in (names[0], names[count // 2], names[-1]):
        informed = {start}
        for _ in range(ceil(log2(count))):
            chosen = {name: selectors[name].select(candidates([n for n in names if n != name])) for name in names}
            informed |= {chosen[name].node_id for name in informed}
        assert informed == set(names)


def test_hypercube_goes_on_in_steps_of_powers_of_two_and_round_the_end() -> None:
    selector = HypercubeSelector("n006")
    peers = tuple(peer for peer in numbered(8) if peer.node_id != "n006")
    assert [selector.select(peers).node_id for _ in range(4)] == ["n007", "n000", "n002", "n007"]


# Zones


def test_zone_aware_gives_the_own_zone_its_share_whatever_the_zones_sizes() -> None:
    for near, far in ((2, 50), (50, 2), (5, 5)):
        selector = ZoneAwareSelector(random.Random(1), "here")
        peers = candidates([f"h{i}" for i in range(near)], "here") + candidates([f"t{i}" for i in range(far)], "there")
        picks = Counter(selector.select(peers) for _ in range(10_000))
        share = sum(count for peer, count in picks.items() if peer.zone == "here") / 10_000
        assert share == pytest.approx(ZoneAwareSelector.near_share, abs=0.02)
        assert len(picks) == near + far, "all of both zones are taken"


@pytest.mark.parametrize("zone", ["here", "there"])
def test_zone_aware_takes_what_there_is_where_all_are_near_or_all_far(zone: str) -> None:
    selector = ZoneAwareSelector(random.Random(1), "here")
    peers = candidates(["a", "b"], zone)
    assert {selector.select(peers) for _ in range(50)} == set(peers)


def test_zone_aware_follows_a_peer_that_moves_to_another_zone() -> None:
    selector = ZoneAwareSelector(random.Random(1), "here")
    both = Candidate("a", "here"), Candidate("b", "there")
    assert {selector.select(both) for _ in range(50)} == set(both)
    moved = Candidate("a", "there"), Candidate("b", "here")
    picks = Counter(selector.select(moved).node_id for _ in range(1000))
    assert picks["b"] > picks["a"]


# Picking several


@given(st.integers(1, 40), st.integers(0, 12), st.sets(st.integers(0, 39)), st.integers(0, 100))
def test_picks_are_different_names_none_to_be_avoided_and_as_many_as_there_are(
    total: int, count: int, avoided: set[int], seed: int
) -> None:
    names = [f"n{i}" for i in range(total)]
    avoid = {f"n{i}" for i in avoided}
    picked = pick(names, count, random.Random(seed), avoid=avoid)
    assert len(set(picked)) == len(picked) == min(count, len(set(names) - avoid))
    assert set(picked) <= set(names) - avoid


@pytest.mark.parametrize("avoided", [0, 3, 15])
def test_all_names_are_picked_about_equally_often_whether_they_are_rare_or_not(avoided: int) -> None:
    rng = random.Random(1)
    names = [f"n{i}" for i in range(20)]
    avoid = set(names[:avoided])
    counts = Counter(name for _ in range(10_000) for name in pick(names, 2, rng, avoid=avoid))
    share = 2 / (20 - avoided)
    assert counts.keys() == set(names) - avoid
    assert all(count / 10_000 == pytest.approx(share, abs=0.02) for count in counts.values())


def test_few_of_many_names_are_looked_at() -> None:
    class Names(list[str]):
        looked = 0

        def __getitem__(self, index: Any) -> Any:
            self.looked += 1
            return super().__getitem__(index)

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("all were looked at")

    names = Names(f"n{i}" for i in range(1000))
    assert len(pick(names, 3, random.Random(1), avoid={"n7", "n8"})) == 3
    assert names.looked <= 5


# Reviving


@pytest.mark.parametrize(
    ("dead", "reachable", "probability"), [(0, 5, 0.0), (1, 9, 0.1), (3, 5, 0.5), (4, 3, 1.0), (9, 0, 1.0)]
)
def test_the_more_are_dead_the_likelier_one_is_tried(dead: int, reachable: int, probability: float) -> None:
    rng = random.Random(1)
    names = [f"d{i}" for i in range(dead)]
    picks = Counter(revive(names, reachable, rng) for _ in range(10_000))
    assert 1 - picks[None] / 10_000 == pytest.approx(probability, abs=0.02)
    assert set(picks) - {None} == set(names)
