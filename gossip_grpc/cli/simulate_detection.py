"""`gossip-grpc simulate detection`: how soon crashes are found out about, how often wrongly, and at what cost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Command, Settings, fail
from gossip_grpc.cli.simulate import json_option, plot_option, progress, seed_option
from gossip_grpc.cli.simulate_series import after, in_common, label, several_choices, several_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gossip_grpc.sim.detection import Outcome, Setting
    from gossip_grpc.sim.plots import Panel

PHI, SWIM = "phi", "swim"

_HIGHEST = 40.0
"""Phi is drawn up to here: what follows says no more."""

_POINTS = 100
"""Of a curve of a plot."""

_TIMES = ("suspect", "dead", "dead everywhere")
_FIGURES = (*_TIMES, "p99", "max", "false suspicions", "false deaths", "messages", "bytes")

Case = tuple[dict[str, Any], "Outcome"]


def _range(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, float]:
    """Takes two durations, the lesser one first."""
    seconds: click.ParamType[Any] = click.FloatRange(0.01, 3600)
    low, _, high = value.partition("..")
    first, last = (seconds.convert(word, parameter, ctx) for word in (low, high or low))
    if first > last:
        raise click.BadParameter(f"{value!r} is no range: the lesser duration comes first.")
    return first, last


@click.command(cls=Command)
@several_choices("--detector", (PHI, SWIM), "The engine's own, or one in the style of SWIM.", default=PHI)
@several_numbers("--nodes", 3, 10_000, "How many nodes.", metavar="N", default="100")
@several_numbers("--loss", 0, 0.9, "The share of messages that is lost.", whole=False, metavar="P", default="0")
@several_numbers("--phi-threshold", 0.5, 100, "Of phi.", whole=False, metavar="PHI", default="8")
@several_numbers("--acceptable-pause", 0.05, 600, "Of phi.", whole=False, metavar="SECONDS", default="1.5")
@several_numbers("--suspicion-mult", 1, 100, "Of swim.", metavar="M", default="4")
@click.option(
    "--crashes",
    type=click.IntRange(0, 100_000),
    metavar="R",
    default=20,
    show_default=True,
    help="How often somebody crashes, one crash after the other.",
)
@click.option(
    "--at-once", type=click.IntRange(1), metavar="K", default=1, show_default=True, help="So many crash each time."
)
@click.option("--refused", is_flag=True, help="Only the process dies: its host refuses. Otherwise it falls silent.")
@click.option(
    "--latency",
    type=click.FloatRange(0, 10),
    metavar="SECONDS",
    help="How long each message takes.  [default: 0.001 to 0.005]",
)
@click.option(
    "--rest",
    type=click.FloatRange(1, 1e7),
    metavar="SECONDS",
    default=30,
    show_default=True,
    help="How long the nodes are watched at rest, before the first crash.",
)
@click.option(
    "--stall-every",
    type=click.FloatRange(0, 1e6),
    metavar="SECONDS",
    default=0,
    show_default=True,
    help="While they are, a random node stands still so often, on average; 0 for never.",
)
@click.option(
    "--stall",
    callback=_range,
    metavar="FROM..TO",
    default="1..1",
    show_default=True,
    help="For how many seconds it does.",
)
@seed_option
@plot_option
@json_option
@click.pass_obj
def detection(
    settings: Settings,
    detector: list[str],
    nodes: list[int],
    loss: list[float],
    phi_threshold: list[float],
    acceptable_pause: list[float],
    suspicion_mult: list[int],
    crashes: int,
    at_once: int,
    refused: bool,
    latency: float | None,
    rest: float,
    stall_every: float,
    stall: tuple[float, float],
    seed: int,
    plot: Path | None,
) -> None:
    """Let nodes crash, and see how soon all know.

    The world is at rest first: its traffic is counted, and nodes may stall, so that a detector errs. Then random
    nodes crash, one after the other, and start again once everybody knows. Printed are seconds from a crash until a
    node holds the victim for SUSPECT and for DEAD (medians over all nodes), and until the last one does (median, p99,
    max); members that were held for SUSPECT or DEAD though they ran; messages and bytes per node and second at rest.

    Several values with commas between them make a series. A plot of a series shows mistakes against the time of
    detection; a plot of one case phi after the first crash, and who knew when.

    Examples:
      gossip-grpc simulate detection --crashes 200 --loss 0.1
      gossip-grpc simulate detection --nodes 50 --at-once 25 --crashes 1
      gossip-grpc simulate detection --detector phi,swim --plot detection.svg
    """
    if at_once >= min(nodes):
        fail(f"with --at-once {at_once} nobody is left to notice", code=USAGE)
    common = {"crashes": crashes, "at_once": at_once, "refused": refused, "rest": rest, "stall_every": stall_every}
    series = [
        {"detector": PHI, "nodes": count, "loss": lost, "threshold": threshold, "pause": pause, "suspicion_mult": None}
        for count, lost, pause, threshold in product(nodes, loss, acceptable_pause, phi_threshold)
        if PHI in detector
    ] + [
        {"detector": SWIM, "nodes": count, "loss": lost, "threshold": None, "pause": None, "suspicion_mult": mult}
        for count, lost, mult in product(nodes, loss, suspicion_mult)
        if SWIM in detector
    ]
    cases: list[Case] = []
    with progress(len(series), "simulating") as tell:
        for number, case in enumerate(series):
            parameters = case | common | {"latency": latency, "stall": list(stall), "seed": seed}
            cases.append((parameters, _simulate(parameters, after(number, tell))))
    if settings.json:
        documents = [{"parameters": parameters} | outcome.as_json() for parameters, outcome in cases]
        show.as_json(documents if len(documents) > 1 else documents[0])
    else:
        _show(cases)
    if plot is not None:
        from gossip_grpc.sim import plots  # noqa: PLC0415 - only for whoever wants a picture

        plots.draw(plot, *(_course(*cases[0]) if len(cases) == 1 else _mistakes(cases)))


def _simulate(parameters: dict[str, Any], tell: Callable[[float], None]) -> Outcome:
    from gossip_grpc.sim.detection import simulate  # noqa: PLC0415 - not needed for help

    return simulate(_setting(parameters), parameters["seed"], tell)


def _setting(parameters: dict[str, Any]) -> Setting:
    from gossip_grpc.sim.detection import Setting  # noqa: PLC0415 - not needed for help
    from gossip_grpc.sim.links import DEFAULT_LATENCY, Latency  # noqa: PLC0415 - likewise
    from gossip_grpc.sim.swim import Swim  # noqa: PLC0415 - likewise

    names = ("nodes", "crashes", "at_once", "refused", "loss", "rest", "stall_every")
    seconds = parameters["latency"]
    ours = parameters["detector"] == PHI
    return Setting(
        **{name: parameters[name] for name in names},
        **({"threshold": parameters["threshold"], "pause": parameters["pause"]} if ours else {}),
        stalls=(parameters["stall"][0], parameters["stall"][1]),
        latency=DEFAULT_LATENCY if seconds is None else Latency(seconds, seconds),
        swim=None if ours else Swim(suspicion_mult=parameters["suspicion_mult"]),
    )


# --- tables ---


def _show(cases: list[Case]) -> None:
    same, varying = in_common(parameters for parameters, _ in cases)
    names = ("detector", "nodes", "crashes", "loss", "threshold", "pause", "suspicion_mult")
    click.echo(f"{label(same, [name for name in names if same.get(name) is not None])}\n")
    rows = []
    for parameters, outcome in cases:
        figures = outcome.as_json()
        everywhere = figures["dead_everywhere"]
        given = ["" if parameters[name] is None else str(parameters[name]) for name in varying]
        rows.append(
            [
                *given,
                *(_seconds(figures[name.replace(" ", "_")]["median"]) for name in _TIMES),
                _seconds(everywhere["p99"]),
                _seconds(everywhere["max"]),
                str(outcome.false_suspicions),
                str(outcome.false_deaths),
                f"{outcome.messages:.2f}",
                f"{outcome.bytes:.0f}",
            ]
        )
    columns = [*(name.replace("_", " ") for name in varying), *_FIGURES]
    show.table(columns, rows, right=columns)
    for parameters, outcome in cases:
        if outcome.missed:
            click.echo(f"missed: {outcome.missed} of {parameters['crashes']} crashes")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"


# --- pictures ---


def _course(parameters: dict[str, Any], outcome: Outcome) -> tuple[str, list[Panel]]:
    """What the monitors made of the first crash, and how many nodes knew when, of all crashes."""
    from gossip_grpc.sim.plots import Panel, Series  # noqa: PLC0415 - only for whoever wants a picture

    levels = [
        Series(
            f"monitor {number + 1}",
            [since for since, level in course if level <= _HIGHEST],
            [level for _, level in course if level <= _HIGHEST],
            colour=number,
        )
        for number, course in enumerate(outcome.phi.values())
    ]
    if levels and parameters["threshold"] is not None:
        ends = [min(min(series.x) for series in levels), max(max(series.x) for series in levels)]
        levels.append(Series("threshold", ends, [parameters["threshold"]] * 2, colour=6, theory=True))
    shares = [
        Series(name, *_shares(times), colour=number)
        for number, (name, times) in enumerate((("SUSPECT", outcome.suspect), ("DEAD", outcome.dead)))
        if times
    ]
    title = f"After a crash: {parameters['detector']}, {parameters['nodes']:,} nodes, loss {parameters['loss']:g}"
    known = Panel("seconds since the crash", "share of the nodes that say so", shares, percent=True, y_min=0)
    return title, [Panel("seconds since the crash", "phi at its monitors", levels, y_min=0), known]


def _shares(times: Sequence[float]) -> tuple[list[float], list[float]]:
    last = times[-1]
    xs = [last * 1.05 * step / _POINTS for step in range(_POINTS + 1)]
    return xs, [sum(seconds <= x for seconds in times) / len(times) for x in xs]


def _mistakes(cases: list[Case]) -> tuple[str, list[Panel]]:
    """How often a detector errs against how soon it finds out: what counts is to be low, and to the left."""
    from gossip_grpc.sim.plots import Panel, Series  # noqa: PLC0415 - only for whoever wants a picture
    from gossip_grpc.sim.stats import percentile  # noqa: PLC0415 - likewise

    same, _ = in_common(parameters for parameters, _ in cases)
    groups: dict[str, list[Case]] = {}
    for parameters, outcome in cases:
        names = [name for name in ("nodes", "loss") if name not in same]
        if parameters["detector"] == PHI:
            names.append("pause")
        groups.setdefault(label(parameters, ["detector", *names]), []).append((parameters, outcome))

    def panel(what: str, count: Callable[[Outcome], int]) -> Panel:
        lines = []
        for colour, (name, group) in enumerate(groups.items()):
            points = []
            for parameters, outcome in group:
                time = percentile(outcome.everywhere, 0.5)
                if time is not None:
                    rate = outcome.per_node_day(1) * max(count(outcome), 0.5)
                    points.append((time, rate, f"{parameters['threshold'] or parameters['suspicion_mult']:g}"))
            xs, ys, notes = zip(*points, strict=True) if points else ((), (), ())
            lines.append(Series(name, xs, ys, notes=notes, colour=colour))
        return Panel("seconds until all say DEAD, median", f"{what} per node and day", lines, y_log=True)

    title = f"Mistakes against time: {label(same, [name for name in ('nodes', 'loss') if name in same])}"
    return title, [
        panel("false suspicions", lambda outcome: outcome.false_suspicions),
        panel("false deaths", lambda outcome: outcome.false_deaths),
    ]
