"""`gossip-grpc simulate rumor`: the epidemics of Demers et al., measured as they did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import Command, Settings
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
from gossip_grpc.core.sync import Strategy

if TYPE_CHECKING:
    from gossip_grpc.sim.plots import Panel
    from gossip_grpc.sim.rumor import Outcome

MEASURES = ("residue", "traffic", "t_ave", "t_last")
MAX_NODES = 10_000_000


@dataclass(frozen=True, slots=True)
class _Case:
    """One set of parameters and what came of it."""

    parameters: dict[str, Any]
    outcome: Outcome

    def law(self) -> tuple[str, float] | None:
        """What theory says of the residue, and its formula: push alone has one."""
        from gossip_grpc.sim import theory  # noqa: PLC0415 - light, but of no use to --help

        if self.parameters["mode"] != "push":
            return None
        if self.parameters["interest"] == "blind":
            return "s = e^-k(1-s)", theory.residue_blind(self.parameters["k"])
        if self.parameters["until"] == "coin":
            return "s = e^-(k+1)(1-s)", theory.residue_feedback_coin(self.parameters["k"])
        return "s = e^-m", theory.residue_of_traffic(float(self.outcome.traffic.mean()))

    def as_json(self) -> dict[str, Any]:
        """Means and their standard errors; null where one run tells nothing of them, or theory nothing at all."""
        measured = {name: getattr(self.outcome, name) for name in MEASURES}
        law = self.law()
        return {
            "parameters": self.parameters,
            **{name: float(values.mean()) for name, values in measured.items()},
            "standard_errors": {name: standard_error(values) for name, values in measured.items()},
            "law": law and {"formula": law[0], "residue": law[1]},
        }


@click.command(cls=Command)
@several_choices("--mode", Strategy, "Which way the update goes along a contact.", default="push")
@click.option("--feedback", is_flag=True, help="Only useless contacts end a node's interest.  [default]")
@click.option("--blind", is_flag=True, help="All contacts do.")
@click.option("--counter", is_flag=True, help="The kth does; with feedback, the kth useless one on end.  [default]")
@click.option("--coin", is_flag=True, help="Each does with probability 1/k.")
@several_numbers("-k", 1, 1000, "How patient a node is: see --counter and --coin.", metavar="K", default="1")
@several_numbers("--nodes", 2, MAX_NODES, f"How many nodes, up to {MAX_NODES:,}.", metavar="N", default="1000")
@runs_option(1000)
@seed_option
@plot_option
@json_option
@click.pass_obj
def rumor(
    settings: Settings,
    mode: list[str],
    feedback: bool,
    blind: bool,
    counter: bool,
    coin: bool,
    k: list[int],
    nodes: list[int],
    runs: int,
    seed: int,
    plot: Path | None,
) -> None:
    """Spread a rumor until nobody is interested any more.

    Who learns a rumor spreads it, one contact a cycle, until it loses interest; some never learn it. Printed are, as
    means of all runs: residue, the share that never learns; traffic, updates sent by node; t_ave and t_last, the cycle
    in which a node learns, on average and the last one. The law is what theory says of the residue.

    Several values with commas between them, or both of two flags, make a series. A plot of one simulation shows the
    course of the epidemic, that of a series residue against traffic. JSON is an object, or of a series an array.

    Examples:
      gossip-grpc simulate rumor -k 2
      gossip-grpc simulate rumor --blind --coin -k 1,2,3,4,5
      gossip-grpc simulate rumor --mode push,pull -k 1,2,3 --plot residue.svg
    """
    needs("numpy")
    from gossip_grpc.sim.rumor import Rules, simulate  # noqa: PLC0415 - numpy: not before it is known to be there

    interests = [name for name, given in (("feedback", feedback), ("blind", blind)) if given] or ["feedback"]
    untils = [name for name, given in (("counter", counter), ("coin", coin)) if given] or ["counter"]
    cases: list[_Case] = []
    series = list(product(mode, interests, untils, nodes, k))
    with progress(len(series) * runs, "rumors") as tell:
        for way, interest, until, count, limit in series:
            rules = Rules(Strategy(way), feedback=interest == "feedback", counter=until == "counter", k=limit)
            outcome = simulate(rules, count, runs, seed, after(len(cases) * runs, tell))
            parameters = {"mode": way, "interest": interest, "until": until, "nodes": count, "k": limit}
            cases.append(_Case(parameters | {"runs": runs, "seed": seed}, outcome))
    if plot is not None:
        from gossip_grpc.sim import plots  # noqa: PLC0415

        plots.draw(plot, *(_course(cases[0]) if len(cases) == 1 else _against_traffic(cases)))
    if settings.json:
        documents = [case.as_json() for case in cases]
        show.as_json(documents if len(documents) > 1 else documents[0])
        return
    same, varying = in_common(case.parameters for case in cases)
    click.echo(f"{label(same, list(same))}\n")
    rows = [
        [
            *(str(case.parameters[name]) for name in varying),
            *(with_error(getattr(case.outcome, name)) for name in MEASURES),
            "" if (law := case.law()) is None else f"{law[1]:.3g}",
            "" if law is None else law[0],
        ]
        for case in cases
    ]
    show.table([*varying, *MEASURES, "law", "formula"], rows, right=(*MEASURES, "law", "k", "nodes"))


def _course(case: _Case) -> tuple[str, list[Panel]]:
    """How an epidemic goes."""
    from gossip_grpc.sim.plots import Panel, Series  # noqa: PLC0415

    susceptible, infective = case.outcome.susceptible, case.outcome.infective
    cycles = range(len(susceptible))
    removed = [1 - s - i for s, i in zip(susceptible, infective, strict=True)]
    shares = (
        ("susceptible: do not know", susceptible),
        ("infective: spread it", infective),
        ("removed: lost interest", removed),
    )
    lines = [Series(name, cycles, share, colour=number) for number, (name, share) in enumerate(shares)]
    shown = {name: value for name, value in case.parameters.items() if name not in ("runs", "seed")}
    return f"A rumor's course: {label(shown, list(shown))}", [
        Panel("cycle", "share of nodes", lines, percent=True, y_min=0)
    ]


def _against_traffic(cases: list[_Case]) -> tuple[str, list[Panel]]:
    """What is left for what is spent; k is written beside the points."""
    from gossip_grpc.sim import theory  # noqa: PLC0415
    from gossip_grpc.sim.plots import Panel, Series  # noqa: PLC0415

    same, varying = in_common(case.parameters for case in cases)
    apart = [name for name in varying if name != "k"]
    groups: dict[str, list[_Case]] = {}
    for case in cases:
        groups.setdefault(label(case.parameters, apart), []).append(case)
    lines = [
        Series(
            name,
            [float(case.outcome.traffic.mean()) for case in group],
            [float(case.outcome.residue.mean()) for case in group],
            [standard_error(case.outcome.residue) or 0.0 for case in group],
            [f"k={case.parameters['k']}" for case in group],
            colour=number,
        )
        for number, (name, group) in enumerate(groups.items())
    ]
    if any(case.parameters["mode"] == "push" for case in cases):
        most = max(float(case.outcome.traffic.mean()) for case in cases if case.parameters["mode"] == "push")
        traffic = [most * step / 50 for step in range(51)]
        residue = [theory.residue_of_traffic(m) for m in traffic]
        lines.append(Series("push: s = e^-m", traffic, residue, colour=6, theory=True))
    fixed = [name for name in same if name in ("mode", "interest", "until", "nodes")]
    title = f"Residue against traffic: {label(same, fixed)}"
    return title, [Panel("traffic m (updates sent, by node)", "residue s (never learn)", lines, y_log=True)]
