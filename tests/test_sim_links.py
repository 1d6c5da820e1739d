"""The simulated network, message by message: no engine, no time."""

from __future__ import annotations

import random
from statistics import mean

import pytest

from gossip_grpc.sim.events import EventQueue
from gossip_grpc.sim.links import REORDER_DELAY, Latency, Link, Network

MANY = 4000


def arrivals(link: Link, count: int = MANY, *, size: int = 100, seed: int = 1) -> list[float | None]:
    """When messages sent at 10 s arrive, one after the other, from a to b."""
    network, rng = Network(link), random.Random(seed)
    return [network.send("a", "b", size, 10.0, rng) for _ in range(count)]


def test_a_latency_stays_within_its_range_and_fills_it() -> None:
    times = [time - 10.0 for time in arrivals(Link(Latency(0.002, 0.010))) if time is not None]
    assert len(times) == MANY
    assert 0.002 <= min(times) < 0.0021
    assert 0.0099 < max(times) <= 0.010
    assert mean(times) == pytest.approx(0.006, rel=0.02)


def test_a_latency_of_one_value_is_that_value() -> None:
    assert set(arrivals(Link(Latency(0.25, 0.25)), 10)) == {10.25}


def test_a_tail_adds_its_mean() -> None:
    times = [time - 10.0 for time in arrivals(Link(Latency(0.001, 0.001, 0.020))) if time is not None]
    assert min(times) >= 0.001
    assert mean(times) == pytest.approx(0.021, rel=0.05)


def test_a_share_of_the_messages_is_lost() -> None:
    lost = sum(time is None for time in arrivals(Link(loss=0.25)))
    assert lost / MANY == pytest.approx(0.25, abs=0.03)
    assert all(time is None for time in arrivals(Link(loss=1.0), 100))


def test_a_share_of_the_messages_is_late_and_overtaken() -> None:
    network, rng = Network(Link(Latency(0.001, 0.001), reorder=0.3)), random.Random(1)
    delays = [(network.send("a", "b", 1, 0.0, rng) or 0.0) - 0.001 for _ in range(MANY)]
    late = [delay for delay in delays if delay > 1e-9]
    assert len(late) / MANY == pytest.approx(0.3, abs=0.03)
    assert max(late) <= REORDER_DELAY


def test_a_share_of_the_messages_is_duplicated() -> None:
    network, rng = Network(Link(duplicate=0.1)), random.Random(1)
    again = [network.repeat("a", "b", 1, 0.0, rng) for _ in range(MANY)]
    assert sum(time is not None for time in again) / MANY == pytest.approx(0.1, abs=0.02)
    assert Network(Link()).repeat("a", "b", 1, 0.0, rng) is None


def test_bandwidth_makes_messages_wait_for_those_before_them() -> None:
    link = Link(Latency(0.001, 0.001), bandwidth=1000.0)
    assert arrivals(link, 3, size=500) == pytest.approx([10.501, 11.001, 11.501])


def test_bandwidth_is_of_each_link_and_direction() -> None:
    network, rng = Network(Link(Latency(0.0, 0.0), bandwidth=1000.0)), random.Random(1)
    assert network.send("a", "b", 1000, 0.0, rng) == 1.0
    assert network.send("b", "a", 1000, 0.0, rng) == 1.0
    assert network.send("a", "c", 1000, 0.0, rng) == 1.0
    assert network.sent_at("a", "b", 0.0) == 1.0
    assert network.send("a", "b", 1000, 5.0, rng) == 6.0
    assert network.sent_at("a", "b", 9.0) == 9.0


def test_a_cut_separates_its_groups_and_nobody_else() -> None:
    network = Network(Link())
    network.cut([["a", "b"], ["c"], ["d"]])
    separated = {(here, there) for here in "abcdx" for there in "abcdx" if network.is_cut(here, there)}
    assert separated == {
        ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b"), ("a", "d"), ("d", "a"),
        ("b", "d"), ("d", "b"), ("c", "d"), ("d", "c"),
    }  # fmt: skip
    assert network.send("a", "c", 1, 0.0, random.Random(1)) is None
    assert network.send("a", "x", 1, 0.0, random.Random(1)) is not None


def test_a_one_way_cut_lets_the_other_way_through() -> None:
    network = Network(Link())
    network.cut([["a"], ["b", "c"]], one_way=True)
    assert network.is_cut("a", "b")
    assert network.is_cut("a", "c")
    assert not network.is_cut("b", "a")
    assert not network.is_cut("b", "c")


def test_cuts_add_up_until_they_are_healed() -> None:
    network = Network(Link())
    network.cut([["a"], ["b"]])
    network.cut([["b"], ["c"]])
    assert network.is_cut("a", "b")
    assert network.is_cut("c", "b")
    network.heal()
    assert not network.is_cut("a", "b")
    assert network.send("a", "b", 1, 0.0, random.Random(1)) is not None


def test_a_link_of_its_own_goes_before_that_of_its_node_and_that_before_all() -> None:
    network = Network(Link())
    slow, broken = Link(Latency(1.0, 1.0)), Link(loss=1.0)
    network.set_node("a", slow)
    network.set_link("a", "b", broken)
    rng = random.Random(1)
    assert network.send("a", "b", 1, 0.0, rng) is None
    assert network.send("b", "a", 1, 0.0, rng) == 1.0
    assert network.send("c", "a", 1, 0.0, rng) == 1.0
    assert (network.send("b", "c", 1, 0.0, rng) or 1.0) <= 0.005
    network.heal()
    assert network.link("a", "b") is network.default


def test_equal_seeds_make_equal_networks() -> None:
    link = Link(Latency(0.001, 0.2, 0.1), loss=0.2, reorder=0.3, bandwidth=1e5)
    assert arrivals(link, 200, seed=4) == arrivals(link, 200, seed=4)
    assert arrivals(link, 200, seed=4) != arrivals(link, 200, seed=5)


# Virtual time


def test_calls_are_made_in_order_of_time_and_then_of_asking() -> None:
    events, seen = EventQueue(), list[tuple[str, float]]()
    for name, time in (("c", 2.0), ("a", 1.0), ("b", 1.0), ("d", 9.0)):
        events.at(time, lambda name=name: seen.append((name, events.now)))
    events.run_until(5.0)
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
    assert events.now == 5.0
    assert len(events) == 1


def test_what_is_asked_for_in_the_past_happens_now() -> None:
    events, seen = EventQueue(), list[float]()
    events.at(3.0, lambda: events.at(1.0, lambda: seen.append(events.now)))
    events.run_until(4.0)
    assert seen == [3.0]
    assert events.done == 2
