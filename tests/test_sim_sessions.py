"""Clients with sessions in the simulated world: they wait where they must, and what they are told is checked."""

from __future__ import annotations

import pytest

from gossip_grpc.sim import faults
from gossip_grpc.sim.check import run
from gossip_grpc.sim.schedule import parse
from gossip_grpc.sim.trace import Event, Trace
from gossip_grpc.sim.world import World

SLOW = "cluster 3 interval=1h heartbeat=1h fanout=0\nnetwork latency=10ms\n"
MOVES = f"{SLOW}at 1s n1 as s1 put a 1\nat 2s n2 as s1 get a\nat 3s n3 as s1 put a 2\nat 4s n1 as s1 get a\nend 9s\n"


def events(text: str, seed: int = 1) -> list[Event]:
    found: list[Event] = []
    World(parse(text), seed, trace=Trace(found.append)).run()
    return found


def told(text: str) -> list[tuple[float, str, str, str]]:
    return [
        (round(event.time, 2), event.kind, event.source, event.what)
        for event in events(text)
        if event.kind in ("read", "write", "behind")
    ]


def test_a_session_that_moves_sees_its_writes_as_soon_as_the_node_has_compared() -> None:
    (_, *first), (read, *second), (write, *third), (again, *fourth) = told(MOVES)
    assert first == ["write", "n1", "put a 1: acknowledged 2"]
    assert second == ["read", "n2", "s1: a is '1'"]
    assert third == ["write", "n3", "put a 2: acknowledged 2"]
    assert fourth == ["read", "n1", "s1: a is '2'"]
    assert 2 < read < 2.2
    assert 3 < write < 3.2
    assert 4 < again < 4.2


def test_a_session_at_a_node_that_is_cut_off_is_told_what_is_missing() -> None:
    text = f"{SLOW}at 1s n1 as s1 put a 1\nat 1s cut n1 | n2 n3\nat 2s n2 as s1 put a 2\nend 9s\n"
    assert told(text)[1:] == [(5.02, "behind", "n2", "s1: n1/1700000000000:2")]


def test_one_schedule_and_seed_make_one_trace() -> None:
    assert events(MOVES, 7) == events(MOVES, 7)


def test_what_sessions_are_promised_holds_and_is_missed_where_nobody_waits() -> None:
    assert not run(MOVES, 1).failed
    with faults.planted("session-not-waited-for"):
        assert run(MOVES, 1).kinds == {"sessions"}


@pytest.mark.parametrize("action", ["pause n2", "crash n2"])
def test_a_session_that_waits_at_a_node_that_goes_silent_gives_up(action: str) -> None:
    text = f"{SLOW}at 1s n1 as s1 put a 1\nat 1s cut n1 | n2 n3\nat 2s n2 as s1 get a\nat 2500ms {action}\nend 9s\n"
    assert [kind for _, kind, _, _ in told(text)] == ["write", "behind"]
