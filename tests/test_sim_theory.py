"""The formulae, the pictures, and docs/theory.md, which shows what its commands make."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim import plots, theory
from gossip_grpc.sim.plots import Panel, Series

ROOT = Path(__file__).parent.parent
PUSH, PULL, PUSH_PULL = Strategy.PUSH, Strategy.PULL, Strategy.PUSH_PULL


# --- formulae ---


@pytest.mark.parametrize(("strategy", "rounds"), [(PUSH, 33.75), (PULL, 23.72), (PUSH_PULL, 16.36)])
def test_rounds_of_a_million_nodes_without_loss(strategy: Strategy, rounds: float) -> None:
    assert theory.rounds(strategy, 10**6) == pytest.approx(rounds, abs=0.01)


def test_rounds_with_loss_are_written_out() -> None:
    n, p = 1000, 0.75
    ln = math.log
    assert theory.rounds_lossy(PUSH, n, 0.25) == pytest.approx(ln(n) / ln(1 + p) + ln(n) / p)
    assert theory.rounds_lossy(PULL, n, 0.25) == pytest.approx(ln(n) / ln(1 + p) + ln(n) / -ln(1 - p))
    assert theory.rounds_lossy(PUSH_PULL, n, 0.25) == pytest.approx(ln(n) / ln(1 + 2 * p) + ln(n) / (p - ln(1 - p)))


def test_of_the_lossless_and_the_lossy_formula_the_greater_one_holds() -> None:
    for strategy in Strategy:
        for loss in (0.001, 0.1, 0.5):
            both = theory.rounds_lossless(strategy, 1000), theory.rounds_lossy(strategy, 1000, loss)
            assert theory.rounds(strategy, 1000, loss) == max(both)
    assert theory.rounds(PUSH_PULL, 1000, 0.001) == theory.rounds_lossless(PUSH_PULL, 1000)


def test_more_partners_and_less_loss_make_fewer_rounds() -> None:
    for strategy in Strategy:
        by_fanout = [theory.rounds(strategy, 1000, 0.1, fanout) for fanout in range(1, 9)]
        assert by_fanout == sorted(by_fanout, reverse=True)
        by_loss = [theory.rounds(strategy, 1000, loss / 10) for loss in range(10)]
        assert by_loss == sorted(by_loss)


@pytest.mark.parametrize(("fanout", "residue"), [(3, 0.0595), (4, 0.0198), (6, 0.0025), (8, 0.00034)])
def test_infect_and_die(fanout: int, residue: float) -> None:
    assert theory.residue_blind(fanout) == pytest.approx(residue, rel=0.02)


@pytest.mark.parametrize("k", range(1, 12))
def test_residues_are_roots_of_their_laws(k: int) -> None:
    s = theory.residue_feedback_coin(k)
    assert 0 < s < 1
    assert s == pytest.approx(math.exp(-(k + 1) * (1 - s)), rel=1e-9)


def test_who_infects_one_other_on_average_infects_nobody_to_speak_of() -> None:
    assert theory.residue_blind(1) == 1.0


@pytest.mark.parametrize("strategy", Strategy)
def test_the_mean_field_takes_about_as_many_rounds_as_the_formula(strategy: Strategy) -> None:
    for nodes in (2, 10, 1000, 10**6):
        shares = theory.informed(strategy, nodes)
        assert shares[0] == 1 / nodes
        assert shares == sorted(shares)
        assert (1 - shares[-1]) * nodes < 0.5
        assert abs(len(shares) - 1 - theory.rounds(strategy, nodes)) < 3


# --- pictures ---

PANEL = Panel("x", "y", [Series("one", [1, 10, 100], [0.5, 0.25, 0.0], [0.1, 0.1, 0.0], ["a", "b", "c"]),
                         Series("formula", [1, 100], [0.5, 0.1], theory=True),
                         Series("formula", [1, 100], [0.6, 0.2], colour=1, theory=True)],
              x_log=True, y_log=True)  # fmt: skip


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_data_makes_the_same_file(tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        plots.draw(tmp_path / f"{name}.{kind}", "title", [PANEL, Panel("x", "y", [], percent=True)])
    one, two = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG" if kind == "png" else b"<?xml")


def test_a_plot_says_what_is_drawn_each_formula_once_and_carries_the_name_of_its_data(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    plots.draw(path, "the title", [PANEL])
    text = path.read_text()
    for word in ("the title", "one"):
        assert text.count(f">{word}<") == 1
    assert text.count(">formula<") == 1
    assert f"data {plots.digest('the title', [PANEL])}" in text
    assert "dc:date" not in text


def test_the_name_of_the_data_changes_with_the_data_and_not_with_its_last_digits() -> None:
    def name(y: float) -> str:
        return plots.digest("", [Panel("x", "y", [Series("", [1], [y])])])

    assert name(0.5) != name(0.51)
    assert name(0.1 + 0.2) == name(0.3)


def test_a_plot_without_a_positive_value_on_a_logarithmic_axis_is_empty_and_no_failure(tmp_path: Path) -> None:
    plots.draw(tmp_path / "a.svg", "", [Panel("x", "y", [Series("none", [1, 2], [0.0, 0.0])], y_log=True)])
    assert (tmp_path / "a.svg").exists()


# --- docs/theory.md ---


def load() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("theory_page", ROOT / "docs/theory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = load()
TEXT = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
SHOWN = set(re.findall(r"\(images/theory/(.*?)\)", TEXT))


def test_every_plot_is_shown_and_is_made_by_a_command_on_the_page() -> None:
    made = {word.rpartition("/")[2] for command in PAGE.commands(TEXT) for word in command.split() if ".svg" in word}
    there = {path.name for path in (ROOT / "docs/images/theory").iterdir()}
    assert made == there == SHOWN
    assert len(made) >= 10


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_plot_of_the_page_is_small_and_has_no_date(name: str) -> None:
    path = ROOT / "docs/images/theory" / name
    assert path.stat().st_size < 100_000
    assert "dc:date" not in path.read_text()
    assert PAGE.data_of(path)


@pytest.mark.parametrize("name", ["zones.svg", "course.svg", "interval.svg"])
def test_a_plot_and_an_output_of_the_page_are_what_their_command_makes(name: str, tmp_path: Path) -> None:
    """Those that take no time; `make theory ARGS=--check` compares all."""
    (block,) = (match for match in PAGE._BLOCK.finditer(TEXT) if name in match[1])
    printed = PAGE.run(block[1], tmp_path)
    assert PAGE.data_of(tmp_path / name) == PAGE.data_of(ROOT / "docs/images/theory" / name)
    assert block[2] in ("", printed)


def test_what_a_cluster_ten_times_as_large_takes_is_what_the_table_shows() -> None:
    rows = {
        cells[0]: cells[2:5]
        for cells in (line.strip("| ").split(" | ") for line in TEXT.splitlines())
        if cells[1:2] == ["0%"]
    }
    small, large = ([float(cell.split()[0]) for cell in rows[nodes]] for nodes in ("1,000", "1,000,000"))
    push, pull, both = (f"{(after - before) / 3:.1f}" for before, after in zip(small, large, strict=True))
    says = f"push takes {push} rounds more for each factor of ten, pull {pull} and push-pull {both}."
    assert says in " ".join(TEXT.split())


@pytest.mark.parametrize("name", ["rounds", "1", "2", "3"])
def test_a_table_of_the_page_names_a_command_that_makes_a_line_of_it(name: str) -> None:
    before, _, after = TEXT.partition(f"<!-- table: {name} -->\n")
    command = re.findall(r"`(gossip-grpc simulate [^`]*)`", before)[-1]
    assert len(before) - before.rindex(command) < 500
    if name == "rounds":
        return  # which takes seconds
    done = subprocess.run(
        [sys.executable, "-m", *command.replace("-", "_", 1).split()], capture_output=True, text=True, check=True
    )
    residue = float(done.stdout.split("RESIDUE")[1].split("\n")[1].split()[0])
    line = after.splitlines()[2].split(" | ")
    assert float(line[1].split()[0]) == pytest.approx(residue, rel=0.005)


def test_outputs_and_tables_of_the_page_are_filled_in() -> None:
    assert "```console\n$ gossip-grpc simulate rumor" in TEXT
    assert "\n...\n" not in TEXT
    assert "-->\n<!-- end" not in TEXT


# --- docs/failure-detection.md ---


def test_every_plot_of_failure_detection_is_small_and_is_made_by_a_command_on_its_page() -> None:
    text = (ROOT / "docs/failure-detection.md").read_text(encoding="utf-8")
    made = {word.rpartition("/")[2] for command in PAGE.commands(text) for word in command.split() if ".svg" in word}
    there = {path.name: path for path in (ROOT / "docs/images/failure-detection").iterdir()}
    assert made == there.keys() == set(re.findall(r"\(images/failure-detection/(.*?)\)", text))
    assert all(path.stat().st_size < 100_000 and PAGE.data_of(path) for path in there.values())


# --- light for those who do without ---


def test_neither_help_nor_the_formulae_need_numpy() -> None:
    program = """
import sys
sys.modules["numpy"] = sys.modules["matplotlib"] = None
import gossip_grpc.sim.theory, gossip_grpc.sim.plots
from gossip_grpc.cli.root import root
for words in (["simulate", "--help"], ["simulate", "rumor", "--help"], ["simulate", "spread", "--help"]):
    root(words, standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


def test_a_digest_takes_ranges_and_tuples() -> None:
    panel = Panel("x", "y", [Series("", range(2), (0.0, 1.0))])
    assert json.dumps(plots.digest("", [panel]))
