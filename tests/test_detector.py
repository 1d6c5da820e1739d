"""The detector: direct evidence in, suspicions out, and nothing learned from an outage."""

from __future__ import annotations

import math

import pytest

from gossip_grpc.core.detector import Detector, DetectorSettings, Phase
from gossip_grpc.core.phi import MAX_PHI
from gossip_grpc.core.records import Origin
from tests.samples import B, C

B2 = Origin("b", 2)
BEAT = 0.5


def watching(*origins: Origin, settings: DetectorSettings | None = None) -> Detector:
    detector = Detector(settings or DetectorSettings())
    detector.assign({origin.node_id: origin for origin in origins or (B,)}, 0.0)
    return detector


def beat(now: float) -> tuple[int, int]:
    """The incarnation and number of a heartbeat sent at a time."""
    return 1, int(now * 1000)


def beating(detector: Detector, until: float, *, since: float = 0.0) -> float:
    """Let b's heartbeats come; returns when the last one came."""
    now = since
    while now + BEAT <= until:
        now += BEAT
        detector.heard(B, now, beat(now))
    return now


def learned(detector: Detector) -> tuple[float, float]:
    intervals = detector.watches["b"].intervals
    return intervals.mean, intervals.deviation(0.0)


def test_only_the_members_assigned_are_watched_each_in_the_life_assigned() -> None:
    detector = watching(B, C)
    assert set(detector.watches) == {"b", "c"}
    kept = detector.watches["b"]
    detector.assign({"b": B}, 9.0)
    assert detector.watches == {"b": kept}
    detector.assign({"b": B2}, 9.0)
    assert detector.watches["b"].origin == B2
    assert detector.watches["b"].heard == 9.0


def test_who_watches_nobody_waits_for_nothing() -> None:
    detector = Detector(DetectorSettings())
    assert detector.deadline() == math.inf
    assert detector.due(1e9) == []


def test_a_member_that_is_heard_is_never_suspected() -> None:
    detector = watching()
    for number in range(1, 100):
        assert detector.due(number * BEAT) == []
        detector.heard(B, number * BEAT, beat(number * BEAT))
    assert detector.phi("b", 50.0) < 0.1


def test_a_member_is_pinged_when_its_phi_crosses_the_threshold_once() -> None:
    detector = watching()
    last = beating(detector, 60.0)
    due = detector.deadline()
    assert detector.phi("b", due - 0.001) < 8.0 <= detector.phi("b", due + 0.001)
    # Mean, pause and 5.6 floored deviations: phi = 8 is the tail of 5.61 sigma.
    assert due - last == pytest.approx(BEAT + 1.5 + 5.61 * 0.1, abs=0.05)
    assert detector.due(due - 0.001) == []
    assert detector.due(due) == ["b"]
    assert detector.watches["b"].phase is Phase.PINGING
    assert detector.due(due + 10.0) == []
    assert detector.deadline() == math.inf, "or the driver would spin"


@pytest.mark.parametrize("threshold", [1.0, 4.0, 8.0, 16.0, 100.0])
def test_the_deadline_is_where_phi_crosses_whatever_the_threshold(threshold: float) -> None:
    detector = watching(settings=DetectorSettings(phi_threshold=threshold))
    due = detector.deadline()
    assert detector.phi("b", due - 1e-6) < threshold <= detector.phi("b", due + 1e-6)


def test_one_that_never_beat_is_suspected_too() -> None:
    detector = watching()
    assert 2.0 < detector.deadline() < 3.0
    assert detector.due(3.0) == ["b"]


def test_another_life_and_a_member_not_watched_are_no_sign_of_life() -> None:
    detector = watching()
    detector.heard(B2, 2.0, beat(2.0))
    detector.heard(C, 2.0, beat(2.0))
    assert detector.watches["b"].heard == 0.0


@pytest.mark.parametrize("heartbeat", [(1, 5), None], ids=["a heartbeat", "an answer"])
def test_a_sign_of_life_ends_the_questions_and_tells_of_an_accusation_to_withdraw(
    heartbeat: tuple[int, int] | None,
) -> None:
    detector = watching()
    for phase in (Phase.LISTENING, Phase.PINGING, Phase.ASKING):
        detector.watches["b"].phase = phase
        assert not detector.heard(B, 3.0, heartbeat)
        detector.watches["b"].last = (0, 0)
        assert detector.watches["b"].phase is Phase.LISTENING
    detector.watches["b"].phase = Phase.ACCUSING
    assert detector.heard(B, 3.0, heartbeat)
    assert detector.deadline() > 5.0


def test_late_heartbeats_are_learned() -> None:
    detector = watching()
    beating(detector, 20.0)
    before = learned(detector)
    detector.heard(B, 21.5, beat(21.5))
    assert learned(detector) > before


def test_a_thirty_second_pause_and_then_a_burst_does_not_poison_the_window() -> None:
    """Trap 13."""
    detector = watching()
    last = beating(detector, 60.0)
    before = learned(detector)
    for name in detector.due(last + 5.0):
        detector.watches[name].phase = Phase.ACCUSING
    for late in range(60):
        detector.heard(B, last + 30.0 + late / 1000, beat(last + 30.0 + late / 1000))
    assert learned(detector) == before
    beating(detector, last + 60.0, since=last + 30.5)
    assert learned(detector)[0] == pytest.approx(BEAT, rel=0.1)
    assert detector.watches["b"].beats == 60 / BEAT + 60 + 59


def test_a_gap_that_probes_bridged_is_no_sample() -> None:
    detector = watching()
    last = beating(detector, 60.0)
    before = learned(detector)
    for second in range(3, 31, 3):  # heartbeats are lost, but it answers when it is asked
        assert detector.due(last + second) == ["b"]
        detector.heard(B, last + second)
    detector.heard(B, last + 30.5, beat(last + 30.5))
    assert learned(detector) == before


def test_a_word_in_between_does_not_change_what_is_learned_of_heartbeats() -> None:
    detector = watching()
    last = beating(detector, 20.0)
    before = learned(detector)
    detector.heard(B, last + 0.1)
    detector.heard(B, last + 1.0, beat(last + 1.0))
    assert learned(detector)[0] > before[0]


def test_who_has_stood_still_itself_hears_everybody_anew_and_learns_nothing_of_the_gap() -> None:
    detector = watching(B, C)
    beating(detector, 60.0)
    before = learned(detector)
    detector.due(70.0)
    detector.watches["c"].phase = Phase.ACCUSING
    detector.awake(130.0)
    assert detector.watches["b"].phase is Phase.LISTENING
    assert detector.watches["c"].phase is Phase.ACCUSING, "what has been said must be withdrawn"
    assert detector.due(131.5) == []
    detector.heard(B, 131.5, beat(131.5))
    assert learned(detector) == before


def test_phi_is_finite_for_a_silence_of_any_length() -> None:
    """Trap 12: for the formula alone see test_phi.py."""
    detector = watching()
    levels = [detector.phi("b", 10.0**power) for power in range(10)]
    assert levels == sorted(levels)
    assert levels[-1] == MAX_PHI


@pytest.mark.parametrize(
    "replayed", [(1, 2000), (1, 1500), (0, 9000)], ids=["the last", "an older one", "a former life"]
)
def test_a_heartbeat_that_somebody_recorded_is_no_sign_of_life(replayed: tuple[int, int]) -> None:
    """Trap 10."""
    detector = watching()
    detector.heard(B, 1.5, (1, 1500))
    detector.heard(B, 2.0, (1, 2000))
    assert detector.due(9.0) == ["b"]
    detector.watches["b"].phase = Phase.ACCUSING
    assert not detector.heard(B, 10.0, replayed)
    assert (detector.watches["b"].heard, detector.watches["b"].phase) == (2.0, Phase.ACCUSING)
    assert detector.heard(B, 11.0, (2, 1)), "a later incarnation counts anew"


def test_a_burst_proves_life() -> None:
    detector = watching()
    detector.heard(B, 1.0, beat(1.0))
    detector.heard(B, 1.01, beat(1.01))
    assert (detector.watches["b"].heard, detector.watches["b"].beats) == (1.01, 2)
