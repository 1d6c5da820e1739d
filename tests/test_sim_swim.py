"""The detector in the style of SWIM: its formulae, and what is published of memberlist."""

from __future__ import annotations

from math import log

import pytest

from gossip_grpc.core.membership import Status
from gossip_grpc.sim.detection import Outcome, Setting, simulate
from gossip_grpc.sim.links import Latency, Link
from gossip_grpc.sim.swim import Swim, SwimWorld

Told = list[tuple[float, str, str, int, Status]]


def crashes(nodes: int, count: int, loss: float = 0.0) -> Outcome:
    return simulate(Setting(nodes=nodes, crashes=count, loss=loss, rest=20.0, swim=Swim()), seed=1)


def watched(nodes: int, link: Link | None = None) -> tuple[SwimWorld, Told]:
    """A world, and what its nodes tell: when, who, of whom, the incarnation, and what."""
    world = SwimWorld(nodes, link or Link(), Swim(), seed=1)
    told: Told = []
    world.observe = lambda observer, name, life, status: told.append(
        (world.events.now, observer, name, life[1], status)
    )
    return world, told


# Formulae


@pytest.mark.parametrize(("nodes", "least"), [(3, 4.0), (10, 4.0), (100, 8.0), (1000, 12.0)])
def test_a_suspicion_lasts_longer_the_more_nodes_there_are(nodes: int, least: float) -> None:
    assert Swim().suspicion(nodes) == pytest.approx((least, 6 * least))


def test_a_suspicion_shrinks_with_each_confirmation_to_the_least() -> None:
    knobs = Swim()
    assert knobs.confirmations(100) == 2
    assert knobs.timeout(100, 0) == pytest.approx(48.0)
    assert knobs.timeout(100, 1) == pytest.approx(48.0 - 40.0 * log(2) / log(3))
    assert knobs.timeout(100, 2) == pytest.approx(8.0)
    assert knobs.timeout(100, 9) == 8.0


def test_where_nobody_can_confirm_a_suspicion_it_lasts_the_least() -> None:
    assert Swim().confirmations(3) == 0
    assert Swim().timeout(3, 0) == 4.0
    assert Swim(suspicion_mult=2).timeout(100, 0) == 4.0


@pytest.mark.parametrize(("nodes", "times"), [(3, 4), (9, 4), (10, 8), (100, 12), (1000, 16)])
def test_news_is_sent_more_often_the_more_nodes_there_are(nodes: int, times: int) -> None:
    assert Swim().transmissions(nodes) == times


# As published


def test_a_crash_among_100_takes_about_eleven_seconds_at_most() -> None:
    outcome = crashes(100, 3)
    assert outcome.missed == 0
    assert outcome.everywhere[0] > 9.0
    assert 9.0 < outcome.everywhere[len(outcome.everywhere) // 2] < 11.0
    assert outcome.everywhere[-1] < 12.0


def test_a_crash_among_three_takes_five_to_seven_seconds() -> None:
    outcome = crashes(3, 20)
    assert outcome.missed == 0
    assert outcome.everywhere[0] >= 5.0
    assert outcome.everywhere[-1] < 7.1


def test_nobody_is_suspected_while_all_is_well() -> None:
    outcome = crashes(20, 5)
    assert (outcome.false_suspicions, outcome.false_deaths) == (0, 0)


def test_at_rest_each_node_sends_a_ping_and_an_answer_a_second_whatever_their_number() -> None:
    for nodes in (10, 100):
        outcome = crashes(nodes, 0)
        assert outcome.messages == pytest.approx(2.0, rel=0.05)
        assert outcome.bytes == pytest.approx(100.0, rel=0.05)


# Behaviour


def test_who_stands_still_is_suspected_and_refutes_when_it_goes_on() -> None:
    world, told = watched(10)
    world.events.run_until(5.0)
    world.stall("n3")
    world.events.run_until(8.0)
    assert {(name, status) for _, _, name, _, status in told} == {("n3", Status.SUSPECT)}
    world.resume("n3")
    world.events.run_until(10.0)
    assert {observer for _, observer, name, life, status in told if (name, status) == ("n3", Status.ALIVE) and life > 1}
    assert Status.DEAD not in {status for *_, status in told}
    assert {node.members["n3"].status for node in world.nodes.values()} == {Status.ALIVE}


def test_helpers_reach_a_node_to_which_one_link_is_broken() -> None:
    world, told = watched(10)
    world.network.cut([["n1"], ["n2"]])
    world.events.run_until(60.0)
    assert told == []


def test_a_node_whose_probes_all_fail_waits_longer() -> None:
    world, _ = watched(10)
    world.network.cut([["n1"], [f"n{number}" for number in range(2, 11)]])
    world.events.run_until(6.0)
    assert world.nodes["n1"].unwell > 0
    assert world.nodes["n2"].unwell == 0
    world.network.heal()
    world.events.run_until(60.0)
    assert {member.status for node in world.nodes.values() for member in node.members.values()} == {Status.ALIVE}
    assert world.nodes["n1"].unwell == 0


def test_a_node_that_starts_again_is_alive_everywhere_at_once() -> None:
    world, _ = watched(10)
    world.stop("n3")
    world.events.run_until(20.0)
    assert {node.members["n3"].status for node in world.nodes.values()} == {Status.DEAD}
    world.start("n3")
    world.events.run_until(23.0)
    assert {node.members["n3"].status for node in world.nodes.values()} == {Status.ALIVE}


def test_a_node_that_is_alone_goes_on() -> None:
    world, _ = watched(3)
    world.stop("n1")
    world.stop("n2")
    world.events.run_until(20.0)
    assert [world.nodes["n3"].members[name].status for name in ("n1", "n2")] == [Status.DEAD] * 2
    world.events.run_until(25.0)


def test_a_packet_holds_no_more_news_than_it_has_room_for() -> None:
    world, _ = watched(60, Link(Latency(0.001, 0.001)))
    for number in range(1, 51):
        world.stop(f"n{number}")
    world.events.run_until(400.0)
    messages, size = world.traffic()["all"]
    assert size / messages <= 1400
    assert {world.nodes["n60"].members[f"n{number}"].status for number in range(1, 51)} == {Status.DEAD}


def test_the_seed_decides_everything() -> None:
    assert crashes(10, 3, loss=0.2).dead == crashes(10, 3, loss=0.2).dead
