"""Phi: right wherever a double can say it, and finite, clamped and monotone everywhere else."""

from __future__ import annotations

import math
import statistics

import mpmath
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.phi import MAX_PHI, WINDOW, Intervals, phi

seconds = st.floats(0.0, 1e9)
deviations = st.floats(1e-6, 1e6)


def reference(elapsed: float, mean: float, deviation: float) -> mpmath.mpf:
    """Phi with four hundred digits, of the very doubles that are given."""
    with mpmath.workdps(400):
        z = (mpmath.mpf(elapsed) - mpmath.mpf(mean)) / mpmath.mpf(deviation)
        return -mpmath.log10(mpmath.erfc(z / mpmath.sqrt(2)) / 2)


@given(st.floats(-30.0, 36.0), st.floats(0.01, 100.0), st.floats(0.001, 10.0))
def test_phi_is_the_logarithm_of_the_normal_tail(z: float, mean: float, deviation: float) -> None:
    # What is asked for is the tail at z, so z must not lose its digits when it is made from the other two.
    elapsed = mean + z * deviation
    if elapsed < 0 or abs(z) < 1e-3:
        return
    expected = float(reference(elapsed, mean, deviation))
    sensitive = 1e-16 * (abs(elapsed) + abs(mean)) / deviation * (abs(z) + 1) * 100
    assert math.isclose(phi(elapsed, mean, deviation), expected, rel_tol=1e-6 + sensitive)


def test_phi_agrees_with_many_digits_from_the_centre_to_the_end_of_doubles() -> None:
    worst = 0.0
    for step in range(-380, 371):
        z = step / 10
        expected = reference(z, 0.0, 1.0)
        if expected > 2.3e-308:
            worst = max(worst, abs(phi(z, 0.0, 1.0) / float(expected) - 1.0))
    assert worst < 1e-9


@given(seconds, seconds, seconds, deviations)
def test_phi_is_finite_clamped_and_never_falls_as_time_goes_by(
    earlier: float, later: float, mean: float, deviation: float
) -> None:
    earlier, later = sorted((earlier, later))
    assert 0.0 <= phi(earlier, mean, deviation) <= phi(later, mean, deviation) <= MAX_PHI


def test_a_silence_without_end_has_the_greatest_phi() -> None:
    assert phi(1e9, 0.5, 0.1) == MAX_PHI
    assert phi(40.0, 0.0, 1.0) == MAX_PHI


def test_at_the_mean_one_suspicion_in_two_is_wrong() -> None:
    assert math.isclose(phi(2.0, 2.0, 0.1), math.log10(2))


def test_a_new_window_expects_what_is_configured_give_or_take_a_quarter() -> None:
    window = Intervals(0.5)
    assert window.mean == 0.5
    assert math.isclose(window.deviation(0.0), 0.125)


@given(st.lists(st.floats(0.0, 1e9) | st.floats(0.0, 1e-6) | st.just(0.5), max_size=3 * WINDOW))
def test_the_window_keeps_mean_and_deviation_of_the_last_intervals(intervals: list[float]) -> None:
    window = Intervals(0.5)
    kept = [0.375, 0.625]
    for interval in intervals:
        window.add(interval)
        kept = [*kept, interval][-WINDOW:]
    scale = max(kept)
    assert math.isclose(window.mean, statistics.fmean(kept), rel_tol=1e-9, abs_tol=1e-9 * scale)
    assert math.isclose(window.deviation(0.0), statistics.pstdev(kept), rel_tol=1e-6, abs_tol=1e-6 * scale)


def test_the_deviation_has_a_floor() -> None:
    window = Intervals(0.5)
    for _ in range(WINDOW):
        window.add(0.5)
    assert window.deviation(0.1) == 0.1


def test_one_great_gap_is_forgotten_without_a_trace() -> None:
    window = Intervals(0.5)
    for interval in [1e6, *[0.5] * WINDOW]:
        window.add(interval)
    assert window.mean == 0.5
    assert window.deviation(0.0) < 1e-9
