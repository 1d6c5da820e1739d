"""Rumors: to whom what is new is pushed, when, and what is left to anti-entropy."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from gossip_grpc.core import rumor
from gossip_grpc.core.records import Kind, Origin, Record
from gossip_grpc.core.rings import successors
from gossip_grpc.core.rumor import Rumors
from tests.samples import A, B, register

PEERS = [f"n{i}" for i in range(10)]
SUCCESSOR = successors("me", PEERS)[0]
OTHER = next(peer for peer in PEERS if peer != SUCCESSOR)


def make(fanout: int = 3, interval: float = 0.005, seed: int = 1) -> Rumors:
    return Rumors(node_id="me", fanout=fanout, interval=interval, rng=random.Random(seed))


def some(*numbers: int) -> list[Record]:
    return [register(f"k{number}", "v", A, number) for number in numbers]


def test_the_first_rumor_is_due_at_once() -> None:
    rumors = make()
    assert rumors.deadline() is None
    rumors.add(some(1), None)
    deadline = rumors.deadline()
    assert deadline is not None
    assert deadline <= 0.0
    assert rumors.take(0.0, PEERS)
    assert rumors.deadline() is None


def test_further_rumors_are_gathered_for_an_interval() -> None:
    rumors = make(interval=0.005)
    rumors.add(some(1), None)
    rumors.take(10.0, PEERS)
    rumors.add(some(2), None)
    rumors.add(some(3), None)
    assert rumors.deadline() == 10.005
    assert rumors.take(10.004, PEERS) == {}
    assert all(records == some(2, 3) for records in rumors.take(10.005, PEERS).values())
    assert rumors.take(11.0, PEERS) == {}


def test_a_rumor_goes_to_as_many_peers_as_the_fanout_says_the_rings_successor_among_them() -> None:
    for fanout in (1, 2, 3, 7):
        rumors = make(fanout)
        rumors.add(some(1), None)
        pushes = rumors.take(0.0, PEERS)
        assert len(pushes) == fanout
        assert SUCCESSOR in pushes


def test_with_fewer_peers_than_the_fanout_all_get_it() -> None:
    rumors = make(fanout=20)
    rumors.add(some(1), None)
    assert sorted(rumors.take(0.0, PEERS)) == sorted(PEERS)


def test_all_peers_get_their_turn() -> None:
    rumors = make(fanout=2)
    reached = set()
    for number in range(1, 200):
        rumors.add(some(number), None)
        reached |= set(rumors.take(float(number), PEERS))
    assert reached == set(PEERS)


def test_nothing_goes_back_to_where_it_came_from() -> None:
    rumors = make(fanout=20)
    rumors.add(some(1), SUCCESSOR)
    rumors.add(some(2), OTHER)
    pushes = rumors.take(0.0, PEERS)
    assert pushes[SUCCESSOR] == some(2)
    assert pushes[OTHER] == some(1)
    assert all(records == some(1, 2) for peer, records in pushes.items() if peer not in (SUCCESSOR, OTHER))


@pytest.mark.parametrize("writer", [SUCCESSOR, OTHER])
def test_nothing_goes_to_its_writer_whoever_passed_it_on(writer: str) -> None:
    rumors = make(fanout=20)
    record = Record(Kind.REGISTER, "k", Origin(writer, 1), 1, 1, "v")
    rumors.add([record], "n9")
    assert set(rumors.take(0.0, PEERS)) == set(PEERS) - {writer, "n9"}


def test_what_came_from_the_successor_goes_to_others_in_its_stead() -> None:
    rumors = make(fanout=3)
    rumors.add(some(1), SUCCESSOR)
    pushes = rumors.take(0.0, PEERS)
    assert len(pushes) == 3
    assert SUCCESSOR not in pushes


def test_what_came_from_the_only_peer_goes_nowhere() -> None:
    rumors = make()
    rumors.add(some(1), "n0")
    assert rumors.take(0.0, ["n0"]) == {}
    rumors = make()
    rumors.add(some(1), "n0")
    rumors.add(some(2), "gone")
    assert rumors.take(0.0, ["n0"]) == {"n0": some(2)}


def test_without_peers_nothing_is_kept_and_nothing_is_delayed() -> None:
    rumors = make()
    rumors.add(some(1), None)
    assert rumors.take(0.0, []) == {}
    assert rumors.deadline() is None
    rumors.add(some(2), None)
    assert set(map(tuple_of, rumors.take(0.0, PEERS).values())) == {tuple_of(some(2))}


def tuple_of(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(records)


def test_fanout_0_turns_rumors_off() -> None:
    rumors = make(fanout=0)
    rumors.add(some(1), None)
    assert rumors.deadline() is None
    assert rumors.take(0.0, PEERS) == {}


def test_a_rumor_noted_twice_is_pushed_once() -> None:
    rumors = make(fanout=1)
    rumors.add(some(1, 2), None)
    rumors.add(some(1), None)
    assert rumors.take(0.0, PEERS) == {SUCCESSOR: some(1, 2)}


def test_beyond_what_may_wait_the_oldest_are_left_to_anti_entropy() -> None:
    rumors = make(fanout=1)
    records = [register("k", "v", B, number) for number in range(1, rumor.MAX_PENDING + 6)]
    rumors.add(records, None)
    assert rumors.dropped == 5
    assert rumors.take(0.0, PEERS) == {SUCCESSOR: records[5:]}


def test_following_the_successors_alone_reaches_everybody() -> None:
    names = ["me", *PEERS]
    here, reached = "me", {"me"}
    while len(reached) < len(names):
        rumors = Rumors(node_id=here, fanout=1, interval=0.0, rng=random.Random(1))
        rumors.add(some(1), None)
        (here,) = rumors.take(0.0, [name for name in names if name != here])
        assert here not in reached
        reached.add(here)
