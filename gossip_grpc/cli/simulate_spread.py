"""`gossip-grpc simulate spread`: how many rounds an update takes to reach everybody, beside what theory says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Command, Settings, fail, typed
from gossip_grpc.cli.simulate import json_option, needs, plot_option, progress, seed_option
from gossip_grpc.cli.simulate_series import (
    after,
    in_common,
    label,
    runs_option,
    several_choices,
    several_numbers,
    standard_error,
    with_error,
)
from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy

if TYPE_CHECKING:
    from gossip_grpc.sim.plots import Panel, Series
    from gossip_grpc.sim.spread import Outcome, Setting

TOPOLOGIES = ("complete", "ring", "grid", "random-regular", "small-world", "zones")
MAX_NODES = 10_000_000
_LINES = 40
"""Rounds that a table of shares shows at most."""

_AXES = {"nodes": "nodes", "loss": "share of messages lost", "fanout": "partners in each round (fan-out)"}
"""What a series of simulations can be drawn along."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One set of parameters and what came of it."""

    parameters: dict[str, Any]
    setting: Setting
    outcome: Outcome

    @property
    def rounds(self) -> float:
        return float(self.outcome.rounds.mean())

    @property
    def seconds(self) -> float:
        """How long the rounds take."""
        return self.rounds * float(self.parameters["interval"])

    @property
    def load(self) -> float:
        """Exchanges that a node begins in a second when it begins one with each partner every round."""
        return float(self.parameters["fanout"]) / float(self.parameters["interval"])

    def measured(self) -> dict[str, Any]:
        """What has a mean and a standard error."""
        outcome = self.outcome
        values = {
            "rounds": outcome.rounds,
            "messages_per_node": outcome.messages,
            "updates_per_node": outcome.updates,
        }
        return values | ({"between_zones": outcome.between_zones} if self.parameters["topology"] == "zones" else {})

    def as_json(self) -> dict[str, Any]:
        """Means and their standard errors; null where one run tells nothing of them, or theory nothing at all."""
        measured, theory = self.measured(), self.setting.theory()
        return {
            "parameters": self.parameters,
            **{name: float(values.mean()) for name, values in measured.items()},
            "standard_errors": {name: standard_error(values) for name, values in measured.items()},
            "rounds_least": int(self.outcome.rounds.min()),
            "rounds_most": int(self.outcome.rounds.max()),
            "seconds": self.seconds,
            "exchanges_per_node_and_second": self.load,
            "theory": None if theory is None else {"rounds": theory, "difference": self.rounds - theory},
            "informed": self.outcome.informed,
            "informed_theory": self.setting.expected(),
        }


@click.command(cls=Command)
@several_choices("--strategy", Strategy, "Which way news goes in an exchange.", default="push-pull")
@several_numbers("--nodes", 2, MAX_NODES, f"How many nodes, up to {MAX_NODES:,}.", metavar="N", default="1000")
@several_numbers("--loss", 0, 0.99, "The share of news that is lost on its way.", whole=False, metavar="P", default="0")
@several_numbers(
    "--fanout", 1, 100, "With how many partners a node makes an exchange in a round.", metavar="F", default="1"
)
@several_choices("--topology", TOPOLOGIES, "Who can reach whom.", default="complete")
@several_choices("--selector", SelectorKind, "How a node selects its partners.", default="random")
@click.option(
    "--zones", type=click.IntRange(2), default=4, show_default=True, metavar="Z", help="Zones of that topology."
)
@several_numbers("--interval", 0.001, 3600, "Seconds from round to round.", whole=False, metavar="SECONDS", default="1")
@runs_option(20)
@seed_option
@plot_option
@json_option
@click.pass_obj
def spread(
    settings: Settings,
    strategy: list[str],
    nodes: list[int],
    loss: list[float],
    fanout: list[int],
    topology: list[str],
    selector: list[str],
    zones: int,
    interval: list[float],
    runs: int,
    seed: int,
    plot: Path | None,
) -> None:
    """Count the rounds until everyone knows.

    One node knows something; in each round every node makes an exchange with --fanout others: push tells, pull asks,
    push-pull does both. Printed are, as means of all runs: rounds until all know; messages, the exchanges begun by
    node until then; updates, how often the update itself was sent by node; and what theory says of the rounds, where
    it says something.

    Topologies: everybody reaches everybody (complete, zones), two neighbours (ring), four (grid, a torus;
    random-regular) or about four (small-world). hypercube needs complete or zones, zone-aware needs zones.

    Several values with commas between them make a series. A plot of a series along --nodes, --loss, --fanout or
    --interval shows rounds, or seconds; any other shows the share that knows, round by round. JSON is an object, or
    of a series an array.

    Examples:
      gossip-grpc simulate spread --nodes 1000000 --runs 1
      gossip-grpc simulate spread --strategy push,pull,push-pull --loss 0.25
      gossip-grpc simulate spread --topology zones --selector random,zone-aware
      gossip-grpc simulate spread --nodes 100,1000,10000 --plot rounds.svg
    """
    if typed("zones") and "zones" not in topology:
        fail("--zones is for the topology zones: --topology zones", code=USAGE)
    needs("numpy")
    series = list(product(strategy, loss, fanout, topology, selector, nodes))
    cases = _simulate(series, zones, interval, runs, seed)
    if plot is not None:
        from gossip_grpc.sim import plots  # noqa: PLC0415 - only for whoever wants a picture

        plots.draw(plot, *_picture(cases))
    if settings.json:
        documents = [case.as_json() for case in cases]
        show.as_json(documents if len(documents) > 1 else documents[0])
    else:
        _show(cases)


def _simulate(
    series: list[tuple[str, float, int, str, str, int]], zones: int, intervals: list[float], runs: int, seed: int
) -> list[_Case]:
    from gossip_grpc.sim.spread import Setting, simulate  # noqa: PLC0415 - numpy: not before it is known to be there
    from gossip_grpc.sim.topology import ImpossibleError, Topology, check  # noqa: PLC0415

    for _, _, width, shape, kind, count in series:
        try:
            check(Topology(shape), SelectorKind(kind), count, width, zones)
        except ImpossibleError as error:
            fail(str(error), code=USAGE)
    cases = []
    with progress(len(series) * runs, "runs") as tell:
        for number, (way, lost, width, shape, kind, count) in enumerate(series):
            setting = Setting(Strategy(way), count, lost, width, Topology(shape), SelectorKind(kind), zones)
            outcome = simulate(setting, runs, seed, after(number * runs, tell))
            parameters: dict[str, Any] = {
                "strategy": way,
                "topology": shape,
                "selector": kind,
                "nodes": count,
                "loss": lost,
                "fanout": width,
                **({"zones": zones} if shape == "zones" else {"zones": None}),
            }
            cases += [
                _Case(parameters | {"interval": seconds, "runs": runs, "seed": seed}, setting, outcome)
                for seconds in intervals
            ]
    return cases


# --- tables ---


def _show(cases: list[_Case]) -> None:
    same, varying = in_common(case.parameters for case in cases)
    names = [name for name in same if same[name] is not None]
    click.echo(f"{label(same, names)}\n")
    varying = [name for name in varying if name != "zones"]
    columns = [*varying, "rounds", "theory", "messages", "updates", "seconds"]
    if any(case.parameters["topology"] == "zones" for case in cases):
        columns.append("between zones")
    rows = []
    for case in cases:
        theory = case.setting.theory()
        cells = {
            **{name: str(case.parameters[name]) for name in varying},
            "rounds": with_error(case.outcome.rounds),
            "theory": "" if theory is None else f"{theory:.2f}",
            "messages": with_error(case.outcome.messages),
            "updates": with_error(case.outcome.updates),
            "seconds": f"{case.seconds:.4g}",
            "between zones": f"{case.outcome.between_zones.mean():.1%}"
            if case.parameters["topology"] == "zones"
            else "",
        }
        rows.append([cells[name] for name in columns])
    words = ("strategy", "topology", "selector")
    show.table(columns, rows, right=[name for name in columns if name not in words])
    if len(cases) == 1:
        click.echo()
        _show_shares(cases[0])


def _show_shares(case: _Case) -> None:
    """The share that knows, round by round, or every so many."""
    informed, expected = case.outcome.informed, case.setting.expected()
    step = -(-len(informed) // _LINES)
    rows = [
        [
            str(number),
            f"{100 * share:.4f} %",
            "" if expected is None else f"{100 * expected[min(number, len(expected) - 1)]:.4f} %",
        ]
        for number, share in enumerate(informed)
        if number % step == 0 or number == len(informed) - 1
    ]
    show.table(["round", "know", "theory"], rows, right=("round", "know", "theory"))


# --- pictures ---


def _picture(cases: list[_Case]) -> tuple[str, list[Panel]]:
    same, varying = in_common(case.parameters for case in cases)
    fixed = [name for name in same if name in ("strategy", "topology", "selector", "nodes", "fanout")]
    if same.get("loss"):
        fixed.append("loss")
    about = label(same, fixed)
    varying = [name for name in varying if name != "zones"]
    if "interval" in varying:
        return f"Speed against load: {about}", _against_load(_groups(cases, varying, "interval"))
    for along, axis in _AXES.items():
        if along in varying:
            return f"Rounds until all know: {about}", _along(_groups(cases, varying, along), along, axis)
    return f"Who knows: {about}", _course(_groups(cases, varying, ""))


def _groups(cases: list[_Case], varying: list[str], along: str) -> dict[str, list[_Case]]:
    """The cases that differ only in what they are drawn along, by what else tells them apart."""
    groups: dict[str, list[_Case]] = {}
    for case in cases:
        groups.setdefault(label(case.parameters, [name for name in varying if name != along]), []).append(case)
    return groups


def _along(groups: dict[str, list[_Case]], along: str, axis: str) -> list[Panel]:
    from gossip_grpc.sim.plots import Panel  # noqa: PLC0415

    most = max(case.rounds for group in groups.values() for case in group)
    least = min(case.rounds for group in groups.values() for case in group)
    lines: list[Series] = []
    for number, (name, group) in enumerate(groups.items()):
        errors = [standard_error(case.outcome.rounds) or 0.0 for case in group]
        lines += _with_theory(
            name, group, lambda case: case.parameters[along], lambda rounds, _: rounds, errors, number
        )
    wide = most > 20 * least
    panel = Panel(axis, "rounds until all know", lines, x_log=along == "nodes", y_log=wide, y_min=None if wide else 0)
    return [panel]


def _against_load(groups: dict[str, list[_Case]]) -> list[Panel]:
    from gossip_grpc.sim.plots import Panel  # noqa: PLC0415

    lines: list[Series] = []
    for number, (name, group) in enumerate(groups.items()):
        lines += _with_theory(
            name, group, lambda case: case.load, lambda rounds, case: rounds * case.parameters["interval"], [], number
        )
    return [Panel("exchanges by node and second", "seconds until all know", lines, x_log=True, y_log=True)]


def _with_theory(
    name: str,
    group: list[_Case],
    place: Callable[[_Case], float],
    value: Callable[[float, _Case], float],
    errors: Iterable[float],
    colour: int,
) -> list[Series]:
    from gossip_grpc.sim.plots import Series  # noqa: PLC0415

    measured = Series(
        name,
        [place(case) for case in group],
        [value(case.rounds, case) for case in group],
        list(errors),
        colour=colour,
    )
    known = [(case, rounds) for case in group if (rounds := case.setting.theory()) is not None]
    if not known:
        return [measured]
    x, y = [place(case) for case, _ in known], [value(rounds, case) for case, rounds in known]
    return [measured, Series("theory", x, y, colour=colour, theory=True)]


def _course(groups: dict[str, list[_Case]]) -> list[Panel]:
    """Who knows, and on a logarithmic scale who does not: the beginning and the end-game."""
    from gossip_grpc.sim.plots import Panel, Series  # noqa: PLC0415

    know: list[Series] = []
    know_not: list[Series] = []
    for number, (name, (case,)) in enumerate(groups.items()):
        informed, expected = case.outcome.informed, case.setting.expected()
        know.append(Series(name, range(len(informed)), informed, colour=number))
        know_not.append(Series(name, range(len(informed)), [1 - share for share in informed], colour=number))
        if expected is not None:
            rounds = range(len(expected))
            know.append(Series("theory", rounds, expected, colour=number, theory=True))
            know_not.append(Series("theory", rounds, [1 - share for share in expected], colour=number, theory=True))
    return [
        Panel("round", "share that knows", know, percent=True, y_min=0),
        Panel("round", "share that does not know yet", know_not, y_log=True),
    ]
