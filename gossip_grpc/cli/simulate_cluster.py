"""`gossip-grpc simulate cluster`: a scenario with real engines in virtual time, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Command, Settings, fail
from gossip_grpc.cli.simulate import Finite, in_directory, json_option, plot_option, progress, seed_option

if TYPE_CHECKING:
    from gossip_grpc.sim.plots import Panel
    from gossip_grpc.sim.schedule import Schedule
    from gossip_grpc.sim.trace import Event
    from gossip_grpc.sim.world import World

UNMET = 1
"""The exit code if an expectation was not met."""

_TRAFFIC = ("calls", "answers", "messages/node/s", "bytes/node/s")
_ROUNDS = ("rounds", "agreed", "failed", "nodes up", "up to date")

_SECONDS = 20
"""Virtual seconds that the table of rounds shows one by one at most; it puts several into a line beyond."""

_FAILURES = 20
"""Expectations not met that are listed at most."""

_CURVE = 60
"""Points of a curve of a plot."""


def shipped() -> dict[str, str]:
    """The scenarios that come with the package, by name."""
    folder = files("gossip_grpc.sim") / "scenarios"
    found = {item.name.removesuffix(".txt"): item.read_text(encoding="utf-8") for item in folder.iterdir()}
    return dict(sorted(found.items()))


def read(name: str) -> str:
    """The text of a scenario: of a file, or of one that comes with the package."""
    known = shipped()
    if name in known:
        return known[name]
    try:
        return Path(name).read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except FileNotFoundError:
        fail(f"there is no file {name}, and no scenario of that name; there are {', '.join(known)}", code=USAGE)
    except UnicodeDecodeError:
        fail(f"{name} is not a text in UTF-8", code=USAGE)
    except OSError as error:
        fail(f"{name}: {(error.strerror or str(error)).lower()}", code=USAGE)


def load(name: str) -> Schedule:
    """A scenario by its name, or that of its file."""
    from gossip_grpc.sim.schedule import ScheduleError, parse  # noqa: PLC0415 - not needed for help

    try:
        return parse(read(name), f"scenario {Path(name).name}")
    except ScheduleError as error:
        fail(str(error), code=USAGE)


@click.command(cls=Command)
@click.option(
    "--scenario",
    metavar="FILE|NAME",
    default="quiet",
    show_default=True,
    help="What happens: a file, or the name of one that is shipped (--list).",
)
@click.option("--list", "listing", is_flag=True, help="List the scenarios that are shipped.")
@click.option("--nodes", type=click.IntRange(1, 100_000), help="Nodes of the first cluster, not as the scenario says.")
@click.option(
    "--duration",
    type=Finite(0, 1e9, min_open=True),
    metavar="S",
    help="Virtual seconds, not as the scenario says.",
)
@seed_option
@click.option("--trace", "traced", is_flag=True, help="Print every event, before the figures.")
@click.option(
    "--save-trace",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=in_directory,
    metavar="FILE",
    help="Write every event to FILE, for `simulate replay`.",
)
@plot_option
@json_option
@click.pass_obj
def cluster(
    settings: Settings,
    scenario: str,
    listing: bool,
    nodes: int | None,
    duration: float | None,
    seed: int,
    traced: bool,
    save_trace: Path | None,
    plot: Path | None,
) -> None:
    """Run a cluster of real engines in virtual time.

    The engines are those of the node, and what they say to each other are the node's bytes; the network, the clocks
    and the clients are simulated. Prints how soon writes were agreed on, and what it cost.

    At the end, and at each `check` of the scenario, every invariant is checked.
    Exit code 0 if all of them hold and everything that the scenario expects came about, 1 if not.

    Examples:
      gossip-grpc simulate cluster --list
      gossip-grpc simulate cluster --scenario split-and-heal --seed 7
      gossip-grpc simulate cluster --scenario loss-25 --nodes 100 --plot a.png
      gossip-grpc simulate cluster --scenario mine.txt --trace | less
    """
    if listing:
        _list(settings)
        return
    schedule = load(scenario)
    if nodes is not None:
        schedule = _sized(schedule, nodes)
    if duration is not None:
        schedule = replace(schedule, end=duration)
    if traced and settings.json:
        fail("--trace is for people; with --json, --save-trace writes the events as JSON", code=USAGE)
    from gossip_grpc.sim.check import watched  # noqa: PLC0415 - not needed for help

    with ExitStack() as stack:
        world = _world(schedule, seed, traced, save_trace, stack)
        tell = stack.enter_context(progress(schedule.end, "simulating"))
        watched(world, tell)
    _show(settings, world)
    if plot is not None:
        from gossip_grpc.sim import plots  # noqa: PLC0415 - only for whoever wants a picture

        plots.draw(
            plot, f"{schedule.title.partition(':')[0].rstrip('.') or scenario}, seed {seed}", list(panels(world))
        )
    if world.failures:
        raise click.exceptions.Exit(UNMET)


def _list(settings: Settings) -> None:
    titles = {name: text.partition("\n")[0].lstrip("# ") for name, text in shipped().items()}
    if settings.json:
        show.as_json(titles)
    else:
        show.pairs(titles)


def _sized(schedule: Schedule, nodes: int) -> Schedule:
    from gossip_grpc.sim.schedule import ScheduleError, format, parse  # noqa: A004, PLC0415 - not needed for help

    sized = schedule.with_nodes(nodes)
    try:
        return parse(format(sized), f"the scenario with --nodes {nodes}")
    except ScheduleError as error:
        fail(str(error), code=USAGE)


def _world(schedule: Schedule, seed: int, traced: bool, save_trace: Path | None, stack: ExitStack) -> World:
    from gossip_grpc.sim.trace import Header, Trace, readable, saved  # noqa: PLC0415 - not needed for help
    from gossip_grpc.sim.world import World  # noqa: PLC0415 - likewise

    sinks: list[Callable[[Event], object]] = []
    if traced:
        sinks.append(lambda event: click.echo(readable(event)))
    if save_trace is not None:
        sinks.append(stack.enter_context(saved(save_trace, Header(schedule, seed))))
    return World(schedule, seed, trace=Trace(*sinks) if sinks else None)


# Figures


def _show(settings: Settings, world: World) -> None:
    from gossip_grpc.sim.stats import report  # noqa: PLC0415 - not needed for help

    figures = report(world)
    if settings.json:
        show.as_json(figures)
        return
    show.pairs(_summary(figures))
    click.echo()
    show.table(("kind", *_TRAFFIC), _traffic(figures), right=_TRAFFIC)
    click.echo()
    show.table(("second", *_ROUNDS), _rounds(figures["rounds"]), right=_ROUNDS)
    failures = figures["failures"]
    for failure in failures[:_FAILURES]:
        click.echo(f"not met: {failure}")
    if len(failures) > _FAILURES:
        click.echo(f"not met: ... and {len(failures) - _FAILURES:,} more")


def _summary(figures: dict[str, Any]) -> dict[str, str]:
    times, writes = figures["time_to_agreement"], figures["writes"]
    refused = sum(writes["refused"].values())
    why = ", ".join(f"{count:,} {outcome.lower()}" for outcome, count in writes["refused"].items())
    title = {"scenario": figures["title"]} if figures["title"] else {}
    return title | {
        "seed": str(figures["seed"]),
        "nodes": f"{figures['nodes']:,}, of which {figures['live']:,} are up after {figures['seconds']:g} s",
        "writes": f"{writes['acknowledged']:,} acknowledged" + (f", {refused:,} not ({why})" if refused else ""),
        "agreed on": f"{writes['agreed']:,} writes, {writes['never_agreed']:,} never",
        "time to agreement": (
            f"median {_milliseconds(times['median'])}, p99 {_milliseconds(times['p99'])}, "
            f"max {_milliseconds(times['max'])}"
            if times["max"] is not None
            else "-"
        ),
        "calls per write": "-" if figures["calls_per_write"] is None else f"{figures['calls_per_write']:.1f}",
        "largest message": f"{figures['largest_message']:,} bytes",
        "lost": f"{figures['lost_messages']:,} messages",
        "at the end": "all nodes agree" if figures["agreed"] else "the nodes do not agree",
    }


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _traffic(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for kind, count in figures["traffic"].items():
        rates = (count["messages_per_node_second"], count["bytes_per_node_second"])
        yield kind, f"{count['requests']:,}", f"{count['answers']:,}", *(f"{rate:,.2f}" for rate in rates)
    totals = figures["traffic"].values()
    calls, answers = (sum(count[name] for count in totals) for name in ("requests", "answers"))
    rates = (figures["messages_per_node_second"], figures["bytes_per_node_second"])
    yield "all", f"{calls:,}", f"{answers:,}", *(f"{rate:,.2f}" for rate in rates)


def _rounds(samples: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    step = -(-len(samples) // _SECONDS) or 1
    for start in range(0, len(samples), step):
        part = samples[start : start + step]
        last = part[-1]
        sums = (sum(sample[name] for sample in part) for name in ("rounds", "agreed", "failed"))
        second = f"{part[0]['time']:g}" if len(part) == 1 else f"{part[0]['time']:g} to {last['time']:g}"
        yield second, *(f"{count:,}" for count in sums), f"{last['live']:,}", f"{100 * last['informed']:.1f} %"


def panels(world: World) -> Iterator[Panel]:
    """Pictures: how writes reached the nodes, and what kind of traffic there was."""
    from gossip_grpc.sim.plots import Panel, Series  # noqa: PLC0415 - only for whoever wants a picture
    from gossip_grpc.sim.stats import KINDS, informed, percentile  # noqa: PLC0415 - likewise

    spreads = [spread for spread in world.stats.spreads if spread.delays]
    curves = Panel("milliseconds after the write", "share of the nodes that have it", x_log=True, percent=True, y_min=0)
    if spreads:
        first = max(min(spread.delays[0] for spread in spreads), 1e-4)
        last = max(*(spread.delays[-1] for spread in spreads), 2 * first)
        delays = [first * (last / first) ** (step / _CURVE) for step in range(_CURVE + 1)]
        shares = [informed(spreads, delay) for delay in delays]
        for colour, (label, share) in enumerate((("median", 0.5), ("slowest tenth", 0.1), ("fastest tenth", 0.9))):
            values = [percentile(values, share) or 0.0 for values in shares]
            curves.series.append(Series(label, [1000 * delay for delay in delays], values, colour=colour))
    yield curves
    traffic = Panel("virtual second", "bytes a node sends in a second")
    for colour, kind in enumerate(KINDS):
        samples = world.stats.samples
        sent = [sample.bytes[colour] for sample in samples]
        traffic.series.append(Series(kind, [sample.time for sample in samples], sent, colour=colour))
    yield traffic
