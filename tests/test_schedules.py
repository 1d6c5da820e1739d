"""Random schedules of 3 to 6 stores: whatever is lost, reordered, cut off, purged or wiped, all end up equal.

`pytest tests/test_schedules.py --schedules 30000 --first-seed 0` runs any number by hand; a failure prints its seed.
"""

from __future__ import annotations

from tests.world import World


def run_schedule(seed: int) -> World:
    world = World(seed, reckless=seed % 5 == 4)
    try:
        world.run(steps=120)
        world.check_end()
    except Exception as error:
        raise AssertionError(f"schedule with seed {seed}: {error}") from error
    return world


def test_any_schedule_ends_in_agreement(schedules: range) -> None:
    for seed in schedules:
        run_schedule(seed)
