"""`gossip-grpc simulate`: the group, and what its commands share: their options, the extra `sim`, progress.

Each command is a module of its own, imported when it is asked for; one whose module is missing does not exist.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import click

from gossip_grpc.cli.base import LazyGroup, Settings, fail, output_option

COMMANDS = {
    "rumor": ("gossip_grpc.cli.simulate_rumor:rumor", "Spread a rumor until nobody is interested any more."),
    "spread": ("gossip_grpc.cli.simulate_spread:spread", "Count the rounds until everyone knows."),
    "cluster": ("gossip_grpc.cli.simulate_cluster:cluster", "Run a cluster of real engines in virtual time."),
    "detection": ("gossip_grpc.cli.simulate_detection:detection", "Let nodes crash, and see how soon all know."),
    "check": ("gossip_grpc.cli.simulate_check:check", "Run random clusters with random faults, and check them."),
    "replay": ("gossip_grpc.cli.simulate_replay:replay", "Run a saved trace again."),
}

EXTRA = ("numpy", "matplotlib")
"""What the extra `sim` brings."""

SUFFIXES = (".png", ".svg")
"""What kinds of file a plot can be."""

_PATIENCE = 0.5
"""Seconds of work that need no bar."""

F = TypeVar("F", bound=Callable[..., Any])


class Finite(click.FloatRange):
    """A number from a range; `nan`, which is neither below nor above anything, and `inf` are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Takes a finite number."""
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return super().convert(number, param, ctx)


@click.group(cls=LazyGroup, lazy=COMMANDS)
def simulate() -> None:
    """Watch gossip spread, without a cluster.

    One seed decides everything: the same command with the same --seed prints the same. Only `check` also tells how long
    it took.

    Examples:
      gossip-grpc simulate rumor --mode push -k 2
      gossip-grpc simulate spread --nodes 1000000
    """


def needs(*modules: str) -> None:
    """Ends the command with one clear line if a package of the extra `sim` is not installed."""
    for module in modules:
        if find_spec(module) is None:
            fail(f"{module} is not installed, and this needs it: pip install 'gossip-grpc[sim]'")


def json_option(function: F) -> F:
    """Adds `--json`, the short form of `--output json`; the command asks `Settings.json`."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's signature
        if value:
            ctx.ensure_object(Settings).output = "json"

    flag = click.option(
        "--json", is_flag=True, expose_value=False, callback=remember, help="Print JSON, for programs, not tables."
    )
    return flag(output_option(hidden=True)(function))


def seed_option(function: F) -> F:
    """Adds `--seed`, the parameter `seed`."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="S",
        default=0,
        show_default=True,
        help="Decides everything that is random: the same seed, the same output.",
    )(function)


def in_directory(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:  # noqa: ARG001 - click's signature
    """Refuses a file to write whose directory does not exist, before any work."""
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"There is no directory {str(value.parent)!r}.")
    return value


def plot_option(function: F) -> F:
    """Adds `--plot`, the parameter `plot`: the path of a png or svg file, or None."""

    def check(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and value.suffix.lower() not in SUFFIXES:
            raise click.BadParameter(f"{str(value)!r} ends in neither .png nor .svg, which says what it is to be.")
        in_directory(ctx, parameter, value)
        if value is not None:
            needs(*EXTRA)
        return value

    return click.option(
        "--plot",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=check,
        metavar="FILE",
        help="Draw it too, into FILE.png or FILE.svg.",
    )(function)


@contextmanager
def progress(total: float, label: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr for work that may be long: only on a terminal, and only once it has been long.

    Yields:
        A function that is told how much of `total` is done so far.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - heavy, and of no use to whoever pipes
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn(label), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=total)
    begun = monotonic()

    def tell(done: float) -> None:
        if monotonic() - begun > _PATIENCE:
            bar.start()  # which does nothing if it has been
        bar.update(task, completed=done)

    try:
        yield tell
    finally:
        bar.stop()
