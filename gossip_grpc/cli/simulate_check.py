"""`gossip-grpc simulate check`: random clusters, random faults, all checkers."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Command, Settings, fail, typed
from gossip_grpc.cli.simulate import json_option, progress
from gossip_grpc.cli.simulate_cluster import read

if TYPE_CHECKING:
    from gossip_grpc.sim.check import Outcome

FOUND = 1
"""The exit code when a schedule failed."""

_SHOWN = 10
"""Failing seeds, and violations of one, that are listed."""


class _Seeds(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    name = "A..B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        match = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is neither a seed, such as 7, nor seeds from A to B, such as 0..999.", param, ctx)
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            self.fail(f"{value!r} is no seeds: the first must not be above the last.", param, ctx)
        return range(first, last + 1)


@click.command(cls=Command)
@click.option(
    "--seeds",
    type=_Seeds(),
    default="0..999",
    show_default=True,
    help="Which schedules: a seed makes one. Both ends are run.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="How many processes.  [default: one a core]")
@click.option(
    "--scenario",
    metavar="FILE|NAME",
    help="Run this one schedule instead, with --seed: a file, or the name of one that is shipped.",
)
@click.option("--no-shrink", is_flag=True, help="Show the first schedule that fails as it is.")
@click.option("--plant", metavar="NAME", help="Run with a planted fault, to see it found. `--plant list` names them.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="S",
    default=0,
    show_default=True,
    help="Decides, with --scenario, everything that is random: the same seed, the same findings.",
)
@json_option
@click.pass_obj
def check(
    settings: Settings,
    seeds: range,
    jobs: int | None,
    scenario: str | None,
    no_shrink: bool,
    plant: str | None,
    seed: int,
) -> None:
    """Run random clusters with random faults, and check them.

    Each seed makes a schedule: a small cluster of real engines, what clients do, and what goes wrong (losses, cuts,
    crashes with and without disk, pauses, slow nodes, corruption). At the end all faults are mended and all nodes must
    agree, with nothing lost and nothing back from the dead. The first schedule that fails is shrunk to a short one,
    which can be saved and run again with --scenario.

    Exit code 0 if all is well, 1 if a schedule failed.

    Examples:
      gossip-grpc simulate check
      gossip-grpc simulate check --seeds 0..99999 --jobs 8
      gossip-grpc simulate check --plant tie-by-arrival
    """
    from gossip_grpc.sim import faults  # noqa: PLC0415 - the engine and protobuf; help needs neither

    if plant == "list":
        show.table(("name", "what goes wrong"), [(name, faults.describe(name)) for name in faults.FAULTS])
        return
    if plant is not None and plant not in faults.FAULTS:
        fail(f"there is no planted fault {plant!r}; `--plant list` names them", code=USAGE)
    if scenario is not None and typed("seeds"):
        fail("--seeds makes schedules, and --scenario is one; give one of the two", code=USAGE)
    if scenario is None and typed("seed"):
        fail("--seed goes with --scenario; --seeds says which schedules are made", code=USAGE)
    if scenario is not None:
        _one(settings, scenario, seed, plant)
    else:
        _many(settings, seeds, jobs, plant, shrinking=not no_shrink)


def _one(settings: Settings, scenario: str, seed: int, plant: str | None) -> None:
    from gossip_grpc.sim.check import run, with_plant  # noqa: PLC0415
    from gossip_grpc.sim.schedule import ScheduleError  # noqa: PLC0415

    text = read(scenario)
    try:
        with with_plant(plant):
            outcome = run(text, seed)
    except ScheduleError as error:
        fail(str(error).replace("scenario", f"scenario {Path(scenario).name}", 1), code=USAGE)
    if settings.json:
        show.as_json({"seed": seed, "violations": list(outcome.violations)})
    elif outcome.failed:
        _tell_violations(outcome)
    else:
        click.echo("Nothing is wrong.")
    raise click.exceptions.Exit(FOUND if outcome.failed else 0)


def _many(settings: Settings, seeds: range, jobs: int | None, plant: str | None, *, shrinking: bool) -> None:
    from gossip_grpc.sim.check import run_seeds  # noqa: PLC0415

    start = monotonic()
    done, cpu, virtual, messages, writes = 0, 0.0, 0.0, 0, 0
    failures: list[Outcome] = []
    jobs = jobs or os.cpu_count() or 1
    try:
        with progress(len(seeds), "Checking") as tell, closing(run_seeds(seeds, jobs, plant)) as batches:
            for batch in batches:
                done += batch.seeds
                cpu += batch.cpu_seconds
                virtual += batch.virtual_seconds
                messages += batch.messages
                writes += batch.writes
                failures += batch.failures
                tell(done)
    except KeyboardInterrupt:
        found = f"{len(failures)} failed: seed {_numbers(failures)}" if failures else "nothing was wrong"
        click.echo(f"Interrupted after {done:,} of {len(seeds):,} schedules; {found}", err=True)
        raise
    failures.sort(key=lambda outcome: outcome.seed)
    elapsed = monotonic() - start
    shortest = None
    if failures:
        shortest = _shrunk(failures[0], plant) if shrinking else failures[0].text
    if settings.json:
        document = {
            "seeds": {"first": seeds.start, "last": seeds.stop - 1, "run": done},
            "failed": [{"seed": outcome.seed, "violations": list(outcome.violations)} for outcome in failures],
            "shortest_failing_schedule": shortest,
            "virtual_seconds": round(virtual, 3),
            "messages": messages,
            "writes": writes,
            "seconds": round(elapsed, 3),
            "cpu_seconds": round(cpu, 3),
            "jobs": jobs,
        }
        show.as_json(document)
    else:
        click.echo(
            f"{done:,} schedules: {writes:,} writes, {messages:,} messages, {virtual / 3600:,.1f} h of virtual time "
            f"in {elapsed:,.1f} s ({cpu / max(done, 1) * 1000:.0f} ms of processor each)"
        )
        if shortest is None:
            click.echo("Nothing is wrong.")
        else:
            _tell_failures(failures, shortest, plant)
    raise click.exceptions.Exit(FOUND if failures else 0)


def _shrunk(outcome: Outcome, plant: str | None) -> str:
    from gossip_grpc.sim.check import with_plant  # noqa: PLC0415
    from gossip_grpc.sim.shrink import shrink, timed_lines  # noqa: PLC0415

    lines = timed_lines(outcome.text.splitlines())
    try:
        with progress(lines, "Shrinking") as tell, with_plant(plant):
            return shrink(outcome.text, outcome.seed, outcome.kinds, lambda _, left: tell(lines - left))
    except KeyboardInterrupt:
        click.echo(f"Interrupted while shrinking the schedule of seed {outcome.seed}", err=True)
        raise


def _numbers(failures: list[Outcome]) -> str:
    """The seeds that failed, or the first of them."""
    shown = ", ".join(str(outcome.seed) for outcome in failures[:_SHOWN])
    return shown + (f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else "")


def _tell_failures(failures: list[Outcome], shortest: str, plant: str | None) -> None:
    first = failures[0]
    again = f"simulate check --scenario FILE --seed {first.seed}" + (f" --plant {plant}" if plant else "")
    click.echo(f"{len(failures)} failed: seed {_numbers(failures)}\n")
    click.echo(f"Seed {first.seed}:")
    _tell_violations(first)
    click.echo(f"\nA schedule that fails so (save it, then: {again}):\n")
    click.echo(shortest, nl=False)


def _tell_violations(outcome: Outcome) -> None:
    for violation in outcome.violations[:_SHOWN]:
        click.echo(f"  {violation}")
    if len(outcome.violations) > _SHOWN:
        click.echo(f"  ... and {len(outcome.violations) - _SHOWN} more")
