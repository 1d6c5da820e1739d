"""Rumors: to whom what is new is pushed, when, and what is left to anti-entropy."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from gossip_grpc.core import rumor
from gossip_grpc.core.records import Kind, Origin, Record
from gossip_grpc.core.rings import Ring
from gossip_grpc.core.rumor import MAX_OPEN, Rumors
from tests.samples import A, B, register

PEERS = [f"n{i}" for i in range(10)]
RING = Ring("me", PEERS)
SUCCESSOR = RING.names[0]
NOBODY: frozenset[str] = frozenset()
OTHER = next(peer for peer in PEERS if peer != SUCCESSOR)


def make(fanout: int = 3, interval: float = 0.005, seed: int = 1) -> Rumors:
    return Rumors(fanout=fanout, interval=interval, rng=random.Random(seed))


def some(*numbers: int) -> list[Record]:
    return [register(f"k{number}", "v", A, number) for number in numbers]


def test_the_first_rumor_is_due_at_once() -> None:
    rumors = make()
    assert rumors.deadline() is None
    rumors.add(some(1), None)
    deadline = rumors.deadline()
    assert deadline is not None
    assert deadline <= 0.0
    assert rumors.take(0.0, RING, NOBODY)
    assert rumors.deadline() is None


def test_further_rumors_are_gathered_for_an_interval() -> None:
    rumors = make(interval=0.005)
    rumors.add(some(1), None)
    rumors.take(10.0, RING, NOBODY)
    rumors.add(some(2), None)
    rumors.add(some(3), None)
    assert rumors.deadline() == 10.005
    assert rumors.take(10.004, RING, NOBODY) == {}
    assert all(records == some(2, 3) for records in rumors.take(10.005, RING, NOBODY).values())
    assert rumors.take(11.0, RING, NOBODY) == {}


def test_a_rumor_goes_to_as_many_peers_as_the_fanout_says_the_rings_successor_among_them() -> None:
    for fanout in (1, 2, 3, 7):
        rumors = make(fanout)
        rumors.add(some(1), None)
        pushes = rumors.take(0.0, RING, NOBODY)
        assert len(pushes) == fanout
        assert SUCCESSOR in pushes


def test_with_fewer_peers_than_the_fanout_all_get_it() -> None:
    rumors = make(fanout=20)
    rumors.add(some(1), None)
    assert sorted(rumors.take(0.0, RING, NOBODY)) == sorted(PEERS)


def test_all_peers_get_their_turn() -> None:
    rumors = make(fanout=2)
    reached = set()
    for number in range(1, 200):
        rumors.add(some(number), None)
        reached |= set(rumors.take(float(number), RING, NOBODY))
    assert reached == set(PEERS)


def test_nothing_goes_back_to_where_it_came_from() -> None:
    rumors = make(fanout=20)
    rumors.add(some(1), SUCCESSOR)
    rumors.add(some(2), OTHER)
    pushes = rumors.take(0.0, RING, NOBODY)
    assert pushes[SUCCESSOR] == some(2)
    assert pushes[OTHER] == some(1)
    assert all(records == some(1, 2) for peer, records in pushes.items() if peer not in (SUCCESSOR, OTHER))


@pytest.mark.parametrize("writer", [SUCCESSOR, OTHER])
def test_nothing_goes_to_its_writer_whoever_passed_it_on(writer: str) -> None:
    rumors = make(fanout=20)
    record = Record(Kind.REGISTER, "k", Origin(writer, 1), 1, 1, "v")
    rumors.add([record], "n9")
    assert set(rumors.take(0.0, RING, NOBODY)) == set(PEERS) - {writer, "n9"}


def test_what_came_from_the_successor_goes_to_others_in_its_stead() -> None:
    rumors = make(fanout=3)
    rumors.add(some(1), SUCCESSOR)
    pushes = rumors.take(0.0, RING, NOBODY)
    assert len(pushes) == 3
    assert SUCCESSOR not in pushes


def test_what_came_from_the_only_peer_goes_nowhere() -> None:
    rumors = make()
    rumors.add(some(1), "n0")
    assert rumors.take(0.0, Ring("me", ["n0"]), NOBODY) == {}
    rumors = make()
    rumors.add(some(1), "n0")
    rumors.add(some(2), "gone")
    assert rumors.take(0.0, Ring("me", ["n0"]), NOBODY) == {"n0": some(2)}


def test_without_peers_nothing_is_kept_and_nothing_is_delayed() -> None:
    rumors = make()
    rumors.add(some(1), None)
    assert rumors.take(0.0, Ring("me", []), NOBODY) == {}
    assert rumors.deadline() is None
    rumors.add(some(2), None)
    assert set(map(tuple_of, rumors.take(0.0, RING, NOBODY).values())) == {tuple_of(some(2))}


def tuple_of(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(records)


def test_fanout_0_turns_rumors_off() -> None:
    rumors = make(fanout=0)
    rumors.add(some(1), None)
    assert rumors.deadline() is None
    assert rumors.take(0.0, RING, NOBODY) == {}


def test_a_rumor_noted_twice_is_pushed_once() -> None:
    rumors = make(fanout=1)
    rumors.add(some(1, 2), None)
    rumors.add(some(1), None)
    assert rumors.take(0.0, RING, NOBODY) == {SUCCESSOR: some(1, 2)}


def test_beyond_what_may_wait_the_oldest_are_left_to_anti_entropy() -> None:
    rumors = make(fanout=1)
    records = [register("k", "v", B, number) for number in range(1, rumor.MAX_PENDING + 6)]
    rumors.add(records, None)
    assert rumors.dropped == 5
    assert rumors.take(0.0, RING, NOBODY) == {SUCCESSOR: records[5:]}


# Who cannot listen


@pytest.mark.parametrize("fanout", [1, 3, 20])
def test_rumors_go_past_the_unreachable_and_the_ring_goes_on_behind_them(fanout: int) -> None:
    for seed in range(20):
        rumors = make(fanout, seed=seed)
        rumors.add(some(1), None)
        reached = rumors.take(0.0, RING, set(RING.names[:4]))
        assert RING.names[4] in reached
        assert reached.keys() <= set(RING.names[4:])
        assert len(reached) == min(fanout, 6)


def test_where_nobody_is_reachable_nothing_is_kept_and_nothing_is_delayed() -> None:
    rumors = make()
    rumors.add(some(1), None)
    assert rumors.take(0.0, RING, set(PEERS)) == {}
    assert rumors.deadline() is None
    rumors.add(some(2), None)
    assert rumors.take(0.0, RING, NOBODY)


def test_a_peer_that_owes_too_many_answers_is_passed_over_until_it_has_given_one() -> None:
    rumors = make(fanout=1)
    other = RING.names[1]

    def target(number: int) -> str:
        rumors.add(some(number), None)
        (peer,) = rumors.take(float(number), RING, NOBODY)
        return peer

    for number in range(MAX_OPEN):
        assert target(number + 1) == SUCCESSOR
        rumors.begun(SUCCESSOR)
    assert target(101) == other
    rumors.begun(SUCCESSOR)  # a redirected push asks nobody
    rumors.ended(SUCCESSOR)
    assert target(102) == other
    rumors.ended(SUCCESSOR)
    assert target(103) == SUCCESSOR


def test_what_a_peer_could_not_be_given_goes_to_the_next_on_the_ring_that_listens() -> None:
    rumors = make()
    first, second, third, fourth, *_ = RING.names
    assert rumors.after(first, RING, NOBODY) == second
    assert rumors.after(first, RING, {second, third}) == fourth
    for _ in range(MAX_OPEN):
        rumors.begun(second)
    assert rumors.after(first, RING, {third}) == fourth
    assert rumors.after(RING.names[-1], RING, NOBODY) is None, "and never round it"
    assert rumors.after(first, Ring("me", PEERS[:0]), NOBODY) is None


def test_following_the_successors_alone_reaches_everybody() -> None:
    names = ["me", *PEERS]
    here, reached = "me", {"me"}
    while len(reached) < len(names):
        rumors = Rumors(fanout=1, interval=0.0, rng=random.Random(1))
        rumors.add(some(1), None)
        (here,) = rumors.take(0.0, Ring(here, [name for name in names if name != here]), NOBODY)
        assert here not in reached
        reached.add(here)
