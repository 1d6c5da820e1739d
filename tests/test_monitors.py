"""Monitors: who monitors whom follows from who stands on the rings, alike at every node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.monitors import FIRST_RING, RINGS, Monitors
from gossip_grpc.core.rings import position

names = st.integers(0, 40).map("n{}".format)
groups = st.sets(names, max_size=20)
some = st.sets(names, min_size=1, max_size=20)


def of(members: set[str] | list[str]) -> Monitors:
    monitors = Monitors()
    for member in members:
        monitors.add(member)
    return monitors


@given(some)
def test_every_node_computes_the_same_monitors_in_whatever_order_it_learned_of_them(members: set[str]) -> None:
    here, there = of(sorted(members)), of(sorted(members, reverse=True))
    for member in members:
        assert here.of(member) == there.of(member)
        assert here.monitored_by(member) == there.monitored_by(member)


@given(some)
def test_who_is_monitored_is_the_inverse_of_who_monitors(members: set[str]) -> None:
    monitors = of(members)
    for member in members:
        assert set(monitors.monitored_by(member)) == {other for other in members if member in monitors.of(other)}


@given(some)
def test_a_member_has_one_to_three_monitors_and_is_never_its_own(members: set[str]) -> None:
    monitors = of(members)
    for member in members:
        found = monitors.of(member)
        assert len(found) == len(set(found)) <= RINGS
        assert member not in found
        assert bool(found) == (len(members) > 1)


@given(groups, names)
def test_the_monitors_of_one_that_stands_on_no_ring_are_those_that_would_follow_it(
    members: set[str], other: str
) -> None:
    assert of(members - {other}).of(other) == of(members | {other}).of(other)


@given(st.lists(st.tuples(st.booleans(), names), max_size=60))
def test_coming_and_going_leaves_what_would_be_built_anew(history: list[tuple[bool, str]]) -> None:
    monitors, members = Monitors(), set[str]()
    for comes, name in history:
        if comes:
            monitors.add(name)
            members.add(name)
        else:
            monitors.remove(name)
            members.discard(name)
    anew = of(members)
    assert monitors._in_order() == anew._in_order()
    assert all((name in monitors) == (name in members) for name in map("n{}".format, range(41)))


def test_a_monitor_is_the_successor_on_a_ring() -> None:
    members = [f"n{number}" for number in range(30)]
    monitors = of(members)
    ring = sorted(members, key=lambda name: (position(name, FIRST_RING), name))
    following = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    assert all(monitors.of(name)[0] == following[name] for name in members)


def test_the_rings_are_orders_of_their_own() -> None:
    monitors = of([f"n{number}" for number in range(30)])
    assert len({tuple(name for _, name in ring) for ring in monitors._in_order()}) == RINGS


def test_nobody_monitors_among_nobody() -> None:
    assert Monitors().of("a") == []
    assert Monitors().monitored_by("a") == []
