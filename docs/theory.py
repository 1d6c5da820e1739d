"""Makes what docs/theory.md and docs/failure-detection.md show: plots and outputs by the commands above them, tables.

python docs/theory.py            writes them anew (some minutes)
python docs/theory.py --check    makes them aside, compares, and fails if something is not what it should be

A plot is compared by the name of its data, which it carries: other versions of matplotlib draw the same data with other
bytes. A console block that holds nothing but its command gets no output.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim import rumor, spread

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / f"docs/{name}.md" for name in ("theory", "failure-detection")]

_BLOCK = re.compile(r"```console\n\$ (gossip-grpc simulate .*)\n((?:.*\n)*?)```\n")
_TABLE = re.compile(r"(<!-- table: (.*) -->\n)(?:.*\n)*?(<!-- end -->\n)")
_DATA = re.compile(r"data ([0-9a-f]{16})")

PAPER: dict[str, dict[int, tuple[float, float, float | None, float]]] = {
    # k: s, m, t_ave (where it can be reproduced), t_last
    "1": {
        1: (0.18, 1.7, None, 16.8),
        2: (0.037, 3.3, None, 16.9),
        3: (0.011, 4.5, None, 17.4),
        4: (0.0036, 5.6, None, 17.5),
        5: (0.0012, 6.7, None, 17.7),
    },
    "2": {
        1: (0.96, 0.04, None, 38.0),
        2: (0.20, 1.6, None, 33.0),
        3: (0.060, 2.8, None, 32.0),
        4: (0.021, 3.9, None, 32.0),
        5: (0.008, 4.9, None, 32.0),
    },
    "3": {
        1: (3.1e-2, 2.7, 9.97, 17.63),
        2: (5.8e-4, 4.5, 10.07, 15.39),
        3: (4.0e-6, 6.1, 10.08, 14.00),
    },
}
"""What Demers et al. publish for n = 1000: push, feedback, counter; push, blind, coin; pull, feedback, counter."""

RULES: dict[str, Callable[[int], rumor.Rules]] = {
    "1": lambda k: rumor.Rules(Strategy.PUSH, feedback=True, counter=True, k=k),
    "2": lambda k: rumor.Rules(Strategy.PUSH, feedback=False, counter=False, k=k),
    "3": lambda k: rumor.Rules(Strategy.PULL, feedback=True, counter=True, k=k),
}


def commands(page: str) -> list[str]:
    """The commands of the page's console blocks."""
    return [match[1] for match in _BLOCK.finditer(page)]


def data_of(plot: Path) -> str:
    """The name of the data that a plot carries."""
    found = _DATA.search(plot.read_text(encoding="utf-8"))
    return found[1] if found else ""


def run(command: str, plots: Path) -> str:
    """Runs a command, its plot going into a directory, and returns what it prints."""
    words = [str(plots / Path(word).name) if word.endswith(".svg") else word for word in shlex.split(command)]
    done = subprocess.run(
        [sys.executable, "-m", "gossip_grpc", *words[1:]], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


def make(page: str, plots: Path) -> str:
    """Makes all plots, and returns the page with its outputs and tables made anew."""

    def block(match: re.Match[str]) -> str:
        printed = run(match[1], plots)
        return f"```console\n$ {match[1]}\n{printed if match[2] else ''}```\n"

    def table(match: re.Match[str]) -> str:
        name = match[2]
        lines = _differences() if name == "rounds" else _paper(name)
        return match[1] + "".join(f"{line}\n" for line in lines) + match[3]

    return _TABLE.sub(table, _BLOCK.sub(block, page))


def _paper(name: str) -> list[str]:
    with_average = name == "3"
    measures = ["s", "m", *(["t_ave"] if with_average else []), "t_last"]
    lines = [
        f"| k | {' | '.join(f'{measure} | paper' for measure in measures)} |",
        f"| --- | {' | '.join('--- | ---' for _ in measures)} |",
    ]
    for k, (s, m, t_ave, t_last) in PAPER[name].items():
        outcome = rumor.simulate(RULES[name](k), 1000, 10_000, seed=k)
        cells = [_figure(outcome.residue), f"{s:.2g}", _figure(outcome.traffic), f"{m:g}"]
        if with_average:
            cells += [_figure(outcome.t_ave), f"{t_ave}"]
        lines.append(f"| {k} | {' | '.join([*cells, _figure(outcome.t_last), f'{t_last:g}'])} |")
    return lines


def _differences() -> list[str]:
    lines = [
        "| nodes | loss | push | pull | push-pull | runs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for nodes, runs in ((1000, 2000), (10_000, 500), (100_000, 100), (1_000_000, 20)):
        for loss in (0.0, 0.1, 0.25, 0.5):
            cells = []
            for strategy in Strategy:
                setting = spread.Setting(strategy, nodes, loss)
                rounds = spread.simulate(setting, runs, seed=0).rounds
                theory = setting.theory()
                assert theory is not None  # noqa: S101 - there is one for the complete graph
                cells.append(f"{rounds.mean():.1f} ({rounds.mean() - theory:+.2f} ±{_error(rounds):.2f})")
            lines.append(f"| {nodes:,} | {loss:.0%} | {' | '.join(cells)} | {runs} |")
    return lines


def _error(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _figure(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """A mean with three digits, and its standard error with one."""
    return f"{values.mean():#.3g} ±{_error(values):.1g}"


def main() -> int:
    """Writes, or compares."""
    wrong: list[str] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        plots = page.parent / "images" / page.stem
        if sys.argv[1:] == ["--check"]:
            wrong += _differing(page, text, plots)
        else:
            plots.mkdir(parents=True, exist_ok=True)
            page.write_text(make(text, plots), encoding="utf-8")
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


def _differing(page: Path, text: str, plots: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        aside = Path(directory)
        same = make(text, aside) == text
        made = {plot.name: data_of(plot) for plot in aside.glob("*.svg")}
    there = {plot.name: data_of(plot) for plot in plots.glob("*.svg")}
    wrong = [] if same else [f"{page.name}: an output or a table is not what its command prints"]
    wrong += [f"{name}: not what its command draws" for name in made.keys() & there.keys() if made[name] != there[name]]
    return wrong + [f"{name}: only in one of page and directory" for name in made.keys() ^ there.keys()]


if __name__ == "__main__":
    sys.exit(main())
