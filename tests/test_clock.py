"""The Lamport clock orders writes and refuses poison."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.clock import MAX_CLOCK, MAX_LEAD, LamportClock
from gossip_grpc.errors import Reason, RemoteError


def test_first_tick_is_one_and_each_is_later_than_the_one_before() -> None:
    clock = LamportClock()
    assert [clock.tick() for _ in range(3)] == [1, 2, 3]


@given(st.lists(st.one_of(st.none(), st.integers(1, 1000))))
def test_a_tick_is_later_than_all_that_was_witnessed_or_ticked(steps: list[int | None]) -> None:
    clock = LamportClock()
    latest = 0
    for step in steps:
        if step is None:
            assert clock.tick() > latest
            latest = clock.time
        else:
            clock.witness(step)
            latest = max(latest, step)
    assert clock.time == latest


def test_witnessing_the_past_changes_nothing() -> None:
    clock = LamportClock(10)
    clock.witness(3)
    assert clock.time == 10


@pytest.mark.parametrize("synced", [True, False])
def test_clock_above_2_to_the_62_is_always_poison(synced: bool) -> None:
    clock = LamportClock(MAX_CLOCK)
    clock.check(MAX_CLOCK, synced=synced)
    with pytest.raises(RemoteError, match=r"above 2\^62; the message was refused whole") as caught:
        clock.check(MAX_CLOCK + 1, synced=synced)
    assert caught.value.reason is Reason.CLOCK_POISON


def test_once_synced_a_clock_too_far_ahead_is_poison() -> None:
    clock = LamportClock(5)
    clock.check(5 + MAX_LEAD, synced=True)
    with pytest.raises(RemoteError, match=r"more than 2\^32 ahead of ours \(5\)") as caught:
        clock.check(6 + MAX_LEAD, synced=True)
    assert caught.value.reason is Reason.CLOCK_POISON


def test_a_node_that_never_synced_cannot_judge_how_far_is_too_far() -> None:
    LamportClock(5).check(MAX_CLOCK, synced=False)


def test_checking_advances_nothing() -> None:
    clock = LamportClock(5)
    clock.check(1000, synced=True)
    assert clock.time == 5
