"""Rings: every node computes the same order, each ring another one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.rings import Ring, position

NAMES = [f"n{i}" for i in range(20)]


def others(name: str) -> list[str]:
    return [other for other in NAMES if other != name]


def successors(name: str, names: list[str], ring: int = 0) -> tuple[str, ...]:
    return Ring(name, names, ring).names


def test_following_the_first_successors_visits_every_node_once() -> None:
    for ring in range(3):
        visited, here = [], NAMES[0]
        for _ in NAMES:
            visited.append(here)
            here = successors(here, others(here), ring)[0]
        assert sorted(visited) == sorted(NAMES)
        assert here == NAMES[0]


def test_every_node_sees_the_same_circle_from_where_it_stands() -> None:
    circle = [NAMES[0], *successors(NAMES[0], others(NAMES[0]))]
    for name in NAMES:
        at = circle.index(name)
        assert list(successors(name, others(name))) == circle[at + 1 :] + circle[:at]


@given(st.permutations(NAMES[1:]))
def test_the_order_in_which_members_are_given_does_not_matter(shuffled: list[str]) -> None:
    assert successors(NAMES[0], shuffled) == successors(NAMES[0], NAMES[1:])


def test_rings_differ() -> None:
    assert len({successors(NAMES[0], NAMES[1:], ring) for ring in range(5)}) == 5


def test_positions_are_the_same_on_every_machine() -> None:
    assert f"{position('n0'):016x}" == "dedd986ed91cf0e9"
    assert f"{position('n0', 3):016x}" == "194571f938ba715d"


def test_a_node_that_leaves_moves_nobody_else() -> None:
    before = successors(NAMES[0], NAMES[1:])
    assert list(successors(NAMES[0], NAMES[2:])) == [name for name in before if name != NAMES[1]]


@given(st.sampled_from(NAMES[1:]), st.sampled_from([0, 3]))
def test_behind_a_node_come_those_that_follow_it_whether_it_is_still_there_or_not(name: str, ring: int) -> None:
    whole = Ring(NAMES[0], NAMES[1:], ring)
    rest = whole.names[whole.names.index(name) + 1 :]
    assert whole.behind(name) == rest
    assert Ring(NAMES[0], [other for other in NAMES[1:] if other != name], ring).behind(name) == rest
