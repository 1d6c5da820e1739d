"""`gossip-grpc simulate rumor` and `spread`: tables, JSON, plots, and how they fail."""

from __future__ import annotations

import io
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gossip_grpc.cli import simulate, simulate_rumor, simulate_spread
from gossip_grpc.cli.root import root
from gossip_grpc.cli.simulate_series import with_error
from gossip_grpc.sim import rumor, spread, topology
from gossip_grpc.sim.topology import Topology


def run(*words: str) -> Result:
    return CliRunner().invoke(root, ["simulate", *words], env={"COLUMNS": "120"})


def loaded(*words: str) -> Any:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# --- JSON ---


def test_rumor_gives_means_standard_errors_parameters_and_the_law() -> None:
    document = loaded("rumor", "--mode", "push", "--blind", "--coin", "-k", "2", "--nodes", "200", "--runs", "30")
    assert document["parameters"] == {
        "mode": "push", "interest": "blind", "until": "coin", "nodes": 200, "k": 2, "runs": 30, "seed": 0,
    }  # fmt: skip
    for name in ("residue", "traffic", "t_ave", "t_last"):
        assert document[name] > 0
        assert 0 < document["standard_errors"][name] < document[name]
    assert document["law"] == {"formula": "s = e^-k(1-s)", "residue": pytest.approx(0.2032, abs=1e-4)}


def test_spread_gives_rounds_shares_messages_and_theory() -> None:
    document = loaded("spread", "--nodes", "300", "--loss", "0.1", "--fanout", "2", "--runs", "5", "--interval", "0.5")
    assert document["parameters"] | {"nodes": 300, "loss": 0.1, "fanout": 2, "interval": 0.5} == document["parameters"]
    assert document["rounds_least"] <= document["rounds"] <= document["rounds_most"]
    assert document["seconds"] == pytest.approx(document["rounds"] / 2)
    assert document["exchanges_per_node_and_second"] == 4
    assert document["messages_per_node"] == pytest.approx(2 * document["rounds"])
    assert document["informed"][0] == pytest.approx(1 / 300)
    assert document["informed"][-1] == 1
    assert document["informed_theory"][0] == pytest.approx(1 / 300)
    theory = document["theory"]
    assert theory["rounds"] + theory["difference"] == pytest.approx(document["rounds"])
    assert set(document["standard_errors"]) == {"rounds", "messages_per_node", "updates_per_node"}


def test_what_is_not_known_is_null() -> None:
    once = loaded("spread", "--topology", "ring", "--nodes", "20", "--runs", "1")
    assert once["theory"] is once["informed_theory"] is None
    assert set(once["standard_errors"].values()) == {None}
    assert loaded("rumor", "--mode", "pull", "--nodes", "20", "--runs", "2")["law"] is None


def test_several_values_make_an_array_in_the_order_given() -> None:
    documents = loaded("rumor", "-k", "3,1", "--feedback", "--blind", "--nodes", "50", "--runs", "3")
    found = [(item["parameters"]["interest"], item["parameters"]["k"]) for item in documents]
    assert found == [("feedback", 3), ("feedback", 1), ("blind", 3), ("blind", 1)]
    documents = loaded("spread", "--topology", "zones,complete", "--nodes", "40,20", "--runs", "2", "--interval", "1,2")
    assert len(documents) == 8
    assert ["between_zones" in item for item in documents] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("command", ["rumor", "spread"])
def test_the_seed_makes_the_output_identical(command: str) -> None:
    words = (command, "--nodes", "100", "--runs", "4")
    assert run(*words, "--seed", "3").stdout == run(*words, "--seed", "3").stdout
    assert run(*words, "--seed", "3", "--json").stdout != run(*words, "--seed", "4", "--json").stdout


def test_output_json_before_the_command_is_json_too() -> None:
    done = CliRunner().invoke(root, ["--output", "json", "simulate", "rumor", "--nodes", "20", "--runs", "2"])
    assert json.loads(done.stdout)["parameters"]["nodes"] == 20


# --- tables ---


def test_rumor_shows_what_is_common_once_and_what_differs_in_columns() -> None:
    lines = run("rumor", "-k", "1,2", "--nodes", "100", "--runs", "10").stdout.splitlines()
    assert lines[0] == "push, feedback, counter, nodes 100, runs 10, seed 0"
    assert lines[2].split() == ["K", "RESIDUE", "TRAFFIC", "T_AVE", "T_LAST", "LAW", "FORMULA"]
    assert [line.split()[0] for line in lines[3:]] == ["1", "2"]


def test_spread_shows_the_shares_of_a_single_simulation_in_forty_lines_at_most() -> None:
    few = run("spread", "--nodes", "100", "--runs", "2").stdout.splitlines()
    assert few[0].startswith("push-pull, complete, random, nodes 100, loss 0.0, fanout 1")
    assert few[5].split() == ["ROUND", "KNOW", "THEORY"]
    assert few[-1].split()[1:3] == ["100.0000", "%"]
    many = run("spread", "--nodes", "300", "--topology", "ring", "--runs", "2").stdout.splitlines()
    assert len(many) <= 6 + 42
    assert many[-1].split()[1:3] == ["100.0000", "%"]
    assert "KNOW" not in run("spread", "--nodes", "100,200", "--runs", "2").stdout


def test_zones_have_a_column_of_their_own() -> None:
    done = run("spread", "--topology", "zones", "--selector", "random,zone-aware", "--nodes", "100", "--runs", "3")
    assert "BETWEEN ZONES" in done.stdout


def test_a_mean_has_as_many_digits_as_its_error_allows() -> None:
    import numpy as np  # noqa: PLC0415

    assert with_error(np.array([1.0, 2.0, 3.0])) == "2.00 ±0.58"
    assert with_error(np.array([100.0, 300.0])) == "200 ±100"
    assert with_error(np.array([0.1 + 0.2] * 3)) == "0.3"
    assert with_error(np.array([5.0])) == "5"


# --- plots ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("rumor -k 2", "A rumor's course"),
        ("rumor -k 1,2 --mode push,pull", "Residue against traffic"),
        ("spread --strategy push,pull", "share that does not know yet"),
        ("spread --nodes 20,40 --topology ring,complete", "Rounds until all know"),
        ("spread --loss 0,0.2", "share of messages lost"),
        ("spread --fanout 1,2", "partners in each round (fan-out)"),
        ("spread --fanout 1,2 --interval 0.5,1", "Speed against load"),
    ],
)
def test_a_plot_shows_what_was_varied(tmp_path: Path, words: str, says: str) -> None:
    path = tmp_path / "plot.svg"
    small = [] if "--nodes" in words else ["--nodes", "50"]
    done = run(*words.split(), *small, "--runs", "3", "--plot", str(path))
    assert done.exit_code == 0, done.output
    assert says in path.read_text().replace("&apos;", "'")


def test_a_plot_may_be_a_png(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    assert run("spread", "--nodes", "20", "--runs", "2", "--plot", str(path)).exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("file", "says"), [("plot.pdf", "neither .png nor .svg"), ("plot", "neither"), ("gone/plot.svg", "no directory")]
)
def test_a_plot_that_cannot_be_is_refused_before_any_work(file: str, says: str) -> None:
    done = run("spread", "--plot", file)
    assert done.exit_code == 2
    assert says in done.stderr


# --- failures ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("spread --topology ring --selector hypercube", "use it with the topology complete or zones, not ring"),
        ("spread --selector zone-aware", "use it with the topology zones, not complete"),
        ("spread --selector round-robin --nodes 100000", "at most 23,170 nodes"),
        ("spread --nodes 100000000", "2<=x<=10000000"),
        ("spread --nodes 1", "2<=x<=10000000"),
        ("cluster --save-trace gone/a.trace", "Invalid value for '--save-trace': There is no directory 'gone'."),
        ("spread --topology grid --nodes 13", "16 make a square one"),
        ("spread --zones 5", "--zones is for the topology zones: --topology zones"),
        ("spread --zones 4 --topology ring,grid", "--zones is for the topology zones: --topology zones"),
        ("spread --loss 1", "0<=x<=0.99"),
        ("spread --topology star", "'star' is not one of 'complete'"),
        ("spread --nodes 10,x", "'x' is not a valid integer"),
        ("spread --loss nan", "'nan' is not a finite number"),
        ("spread --loss 0.1,NaN", "'NaN' is not a finite number"),
        ("spread --interval nan", "'nan' is not a finite number"),
        ("spread --interval inf", "'inf' is not a finite number"),
        ("cluster --duration nan", "'nan' is not a finite number"),
        ("cluster --duration inf", "'inf' is not a finite number"),
        ("cluster --duration 1e400", "'1e400' is not a finite number"),
        ("cluster --duration 0", "0<x<=1000000000"),
        ("rumor -k 0", "1<=x<=1000"),
        ("rumor --nodes 1", "2<=x<=10000000"),
        ("rumor --mode sideways", "not one of 'push', 'pull', 'push-pull'"),
    ],
)
def test_what_makes_no_sense_ends_with_2_and_says_what_is_allowed(words: str, says: str) -> None:
    done = run(*words.split())
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("words", [["rumor"], ["spread"], ["spread", "--plot", "a.svg"]])
@pytest.mark.parametrize("missing", ["numpy", "matplotlib"])
def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch, words: list[str], missing: str) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == missing else ModuleSpec(name, None)

    if missing == "matplotlib" and "--plot" not in words:
        return
    monkeypatch.setattr(simulate, "find_spec", find)
    done = run(*words)
    assert done.exit_code == 4
    assert done.stderr == f"Error: {missing} is not installed, and this needs it: pip install 'gossip-grpc[sim]'\n"
    assert not done.stdout


@pytest.mark.parametrize(("command", "module"), [("rumor", rumor), ("spread", spread)])
def test_an_interruption_is_quiet(monkeypatch: pytest.MonkeyPatch, command: str, module: Any) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "simulate", interrupted)
    done = run(command)
    assert done.exit_code == 130
    assert "Traceback" not in done.output


# --- progress ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_has_a_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "_PATIENCE", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with simulate.progress(10, "runs") as tell:
            tell(5)
            tell(10)
        assert ("100 %" in stream.getvalue()) is shown


def test_short_work_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(simulate, "_PATIENCE", 1000.0)
    monkeypatch.setattr(sys, "stderr", terminal)
    with simulate.progress(10, "runs") as tell:
        tell(10)
    assert "%" not in terminal.getvalue()


# --- what is said twice, as the command line must not import numpy ---


def test_the_command_line_knows_the_topologies_and_limits() -> None:
    assert set(simulate_spread.TOPOLOGIES) == {str(shape) for shape in Topology}
    assert max(most for most, _ in topology.MAX_NODES.values()) == simulate_spread.MAX_NODES
    assert simulate_rumor.MAX_NODES == rumor.MAX_NODES
