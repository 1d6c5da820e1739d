"""`gossip-grpc simulate cluster` and `simulate replay`, and the scenarios that come with the package."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gossip_grpc.cli.root import root
from gossip_grpc.cli.simulate_cluster import shipped
from gossip_grpc.sim import faults
from gossip_grpc.sim.check import watched
from gossip_grpc.sim.schedule import format, parse  # noqa: A004 - the counterpart of parse
from gossip_grpc.sim.stats import percentile, report
from gossip_grpc.sim.world import World

HEAVY = ("folded-lives", "late-joiner", "long-partition", "restored-backup", "write-storm")
"""Scenarios that take seconds."""

SMALL = "# Small: two nodes.\ncluster 2\nat 1s n1 put a 1\nat 2s agree 1s\nend 4s\n"
SPLIT = (
    "cluster 2\nat 0s cut n1 | n2\nat 1s n1 put a 1\nat 1s crash n2\nat 2s n2 put b 1\nat 2s restart n2\n"
    "at 3s agree 1s\nend 5s\n"
)


def run(*words: str) -> Result:
    return CliRunner().invoke(root, ["simulate", *words], env={"COLUMNS": "120"})


def loaded(*words: str, code: int = 0) -> Any:
    done = run("cluster", *words, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def small(tmp_path: Path) -> str:
    return written(tmp_path, SMALL)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


# The scenarios


def test_scenarios_are_shipped() -> None:
    wanted = {
        "quiet", "write-storm", "loss-25", "split-and-heal", "rolling-restart", "slow-node", "flapping-link",
        "late-joiner", "swapped-clusters", "half-lost", "one-way-cut", "clock-jumps", "paused-node", "cold-start",
        "long-partition", "folded-lives", "restored-backup",
    }  # fmt: skip
    assert set(shipped()) == wanted


@pytest.mark.parametrize("name", shipped())
def test_a_scenario_has_a_title_and_expectations_and_reads_as_it_is_formatted(name: str) -> None:
    schedule = parse(shipped()[name], name)
    assert ": " in schedule.title or schedule.title.endswith(".")
    assert {"agree", "check"} <= {action.verb for action in schedule.actions}
    assert parse(format(schedule)) == schedule


@pytest.mark.parametrize(
    ("name", "seed"), [(name, seed) for name in shipped() for seed in range(1 if name in HEAVY else 2)]
)
def test_what_a_scenario_expects_comes_about(name: str, seed: int) -> None:
    world = World(parse(shipped()[name], name), seed)
    assert world.run() == []
    assert world.agreed()


def test_a_quiet_cluster_costs_little() -> None:
    figures = loaded("--scenario", "quiet")
    assert figures["traffic"]["fetch"]["requests"] == figures["traffic"]["send"]["requests"] == 0
    assert figures["bytes_per_node_second"] < 1000, "of heartbeats, mostly"


def test_a_late_joiner_gets_100_000_records_in_a_second_or_two() -> None:
    world = World(parse(shipped()["late-joiner"]), 0)
    world.run_until(3.0)
    assert world.hosts["n6"].store.live == 0
    world.run_until(5.0)
    assert world.hosts["n6"].store.live > 100_000


# Figures


def test_the_figures_as_json(small: str) -> None:
    figures = loaded("--scenario", small, "--seed", "3")
    assert (figures["title"], figures["seed"], figures["seconds"]) == ("Small: two nodes.", 3, 4.0)
    assert (figures["nodes"], figures["live"], figures["agreed"]) == (2, 2, True)
    assert figures["writes"] == {"acknowledged": 1, "refused": {}, "agreed": 1, "never_agreed": 0}
    times = figures["time_to_agreement"]
    assert 0.001 <= times["median"] == times["p99"] == times["max"] <= 0.005
    rumors = figures["traffic"]["rumor"]
    assert (rumors["requests"], rumors["answers"]) == (1, 1)
    assert rumors["messages_per_node_second"] == pytest.approx(2 / 8)
    assert rumors["bytes_per_node_second"] == pytest.approx((rumors["request_bytes"] + rumors["answer_bytes"]) / 8)
    assert [second["time"] for second in figures["rounds"]] == [1.0, 2.0, 3.0, 4.0]
    assert sum(second["rounds"] for second in figures["rounds"]) == figures["traffic"]["compare"]["requests"]
    assert figures["failures"] == []


def test_the_figures_as_tables(small: str) -> None:
    done = run("cluster", "--scenario", small)
    assert done.exit_code == 0
    text = re.sub(r" +", " ", done.stdout)
    assert "scenario Small: two nodes." in text
    assert "agreed on 1 writes, 0 never" in text
    assert "KIND CALLS ANSWERS MESSAGES/NODE/S BYTES/NODE/S" in text
    assert "SECOND ROUNDS AGREED FAILED NODES UP UP TO DATE" in text
    assert re.search(r"^1 \d+ \d+ 0 2 100.0 %$", text, re.MULTILINE)
    assert "at the end all nodes agree" in text


def test_long_runs_have_short_tables() -> None:
    done = run("cluster", "--scenario", "quiet", "--duration", "60")
    assert re.search(r"^58 to 60 ", done.stdout, re.MULTILINE)


def test_what_was_expected_and_did_not_come_about_is_an_exit_code(tmp_path: Path) -> None:
    path = written(tmp_path, SPLIT)
    done = run("cluster", "--scenario", path)
    assert done.exit_code == 1
    assert "not met: agreement: none within 1 s: n1 | n2 (at 4.000 s)" in done.stdout
    assert "1 acknowledged, 1 not (1 down)" in done.stdout
    assert "the nodes do not agree" in done.stdout
    figures = loaded("--scenario", path, code=1)
    assert figures["failures"] == ["agreement: none within 1 s: n1 | n2 (at 4.000 s)"]
    assert figures["writes"] == {"acknowledged": 1, "refused": {"down": 1}, "agreed": 1, "never_agreed": 0}


def test_nothing_written_has_no_times(tmp_path: Path) -> None:
    path = written(tmp_path, "cluster 2\nend 2s\n")
    assert loaded("--scenario", path)["time_to_agreement"] == {"median": None, "p99": None, "max": None}
    assert re.search(r"^time to agreement +-$", run("cluster", "--scenario", path).stdout, re.MULTILINE)


def test_nodes_and_duration_go_before_the_scenario(small: str) -> None:
    figures = loaded("--scenario", small, "--nodes", "7", "--duration", "3")
    assert (figures["nodes"], figures["seconds"]) == (7, 3.0)


def test_too_few_nodes_for_a_scenario_are_said_to_be(small: str) -> None:
    done = run("cluster", "--scenario", "split-and-heal", "--nodes", "3")
    assert done.exit_code == 2
    assert "the scenario with --nodes 3" in done.output
    assert "`n4`: there is no such node" in done.output


def test_the_shipped_scenarios_are_listed_with_their_titles() -> None:
    done = run("cluster", "--list")
    assert done.exit_code == 0
    assert re.search(r"^loss-25 +A quarter of all messages is lost", done.stdout, re.MULTILINE)
    assert set(loaded("--list")) == set(shipped())


def test_an_unknown_scenario_is_told_with_those_there_are() -> None:
    done = run("cluster", "--scenario", "nowhere")
    assert done.exit_code == 2
    assert "there is no file nowhere, and no scenario of that name; there are clock-jumps, cold-start" in done.output


def test_a_broken_scenario_is_told_with_line_and_word(tmp_path: Path) -> None:
    done = run("cluster", "--scenario", written(tmp_path, "cluster 3\nnetwork loss=140%\n"))
    assert done.exit_code == 2
    assert done.output.strip() == ("Error: scenario mine.txt, line 2, column 9: `loss=140%`: loss must be 0% to 100%")


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\x00")
    done = run("cluster", "--scenario", str(path))
    assert done.exit_code == 2
    assert "is not a text in UTF-8" in done.output


def test_a_bar_is_shown_on_a_terminal_only(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert run("cluster", "--scenario", small).stderr == ""
    told: list[float] = []
    monkeypatch.setattr(sys, "stderr", Terminal())
    world = World(parse(SMALL), 0)
    watched(world, told.append)
    assert told[-1] == world.now == 4.0
    assert told == sorted(told)


def test_every_invariant_is_checked_at_the_end_though_the_scenario_asks_for_nothing(tmp_path: Path) -> None:
    text = "cluster 2\nat 1s cut n1 | n2\nat 2s n1 put a 1\nat 2s n2 put a 2\nat 3s heal\nend 20s\n"
    path, trace = written(tmp_path, text), str(tmp_path / "a.trace")
    assert loaded("--scenario", path)["failures"] == []
    with faults.planted("tie-by-arrival"):
        failures = loaded("--scenario", path, "--save-trace", trace, code=1)["failures"]
        assert re.search(r"^reflection: n. covers n.*a = .* \(at 20.000 s\)$", "\n".join(failures), re.MULTILINE)
        assert "not met: reflection: " in run("cluster", "--scenario", path).stdout
        assert run("replay", trace).exit_code == 0


def test_what_only_shows_over_time_is_watched(tmp_path: Path) -> None:
    text = "cluster 2\nat 1s cut n1 | n2\nat 2s n1 fill a 5\nat 2s n2 put b 1\nat 3s heal\nend 20s\n"
    path = written(tmp_path, text)
    with faults.planted("clock-goes-back"):
        failures = loaded("--scenario", path, "--seed", "1", code=1)["failures"]
    assert any(failure.startswith("clocks: that of n1 went back from ") for failure in failures)


def test_what_is_not_met_is_listed_in_twenty_lines_at_most(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossip_grpc.sim.check.judge", lambda *_: [f"reflection: {number}" for number in range(1, 26)])
    done = run("cluster", "--scenario", small)
    assert done.exit_code == 1
    assert done.stdout.count("not met: reflection: ") == 20
    assert done.stdout.endswith("not met: ... and 5 more\n")


# Plots


def test_a_plot_is_drawn(small: str, tmp_path: Path) -> None:
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        assert run("cluster", "--scenario", small, "--plot", str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("title", ["All is lost.", "All is lost: nobody knows why.", "All is lost"])
def test_a_plot_has_the_title_of_the_scenario_without_its_full_stop(title: str, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    scenario = written(tmp_path, f"# {title}\ncluster 2\nend 1s\n")
    assert run("cluster", "--scenario", scenario, "--plot", str(path)).exit_code == 0
    assert ">All is lost, seed 0<" in path.read_text()


def test_a_plot_of_nothing_is_empty(tmp_path: Path) -> None:
    path = written(tmp_path, "cluster 2\nend 2s\n")
    assert run("cluster", "--scenario", path, "--plot", str(tmp_path / "a.png")).exit_code == 0


# Traces


def test_a_trace_is_printed_before_the_figures(small: str) -> None:
    done = run("cluster", "--scenario", small, "--trace")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "0.000000",
        "n1",
        "start",
        "n1/1700000000000",
        "at",
        "10.1.0.1:7946,",
        "as",
        "from",
        "disk",
    ]
    assert any("n1 > n2     call" in line and "rumor: a=1" in line for line in lines)


def test_a_trace_as_json_goes_to_a_file_only(small: str) -> None:
    done = run("cluster", "--scenario", small, "--trace", "--json")
    assert done.exit_code == 2
    assert "--save-trace writes the events as JSON" in done.output


def test_a_saved_trace_replays(small: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.trace")
    assert run("cluster", "--scenario", small, "--nodes", "3", "--seed", "9", "--save-trace", path).exit_code == 0
    done = run("replay", path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ events, all as saved\n", done.stdout)
    shown = run("replay", path, "--trace")
    assert shown.stdout.count("\n") == len(Path(path).read_text().splitlines())


def test_a_replay_that_differs_shows_both_lines(small: str, tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    run("cluster", "--scenario", small, "--save-trace", str(path))
    text = path.read_text().replace("rumor: a=1", "rumor: a=2", 1)
    path.write_text(text)
    done = run("replay", str(path))
    assert done.exit_code == 1
    first, saved, replayed = done.stdout.splitlines()
    assert re.fullmatch(rf"{re.escape(str(path))}, line \d+: the replay goes another way", first)
    assert "a=2" in saved
    assert "a=1" in replayed
    path.write_text(text.replace('"version":"', '"version":"0.0.', 1))
    assert "It was saved by version 0.0." in run("replay", str(path)).stdout


def test_a_replay_says_where_a_file_ends_early(small: str, tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    run("cluster", "--scenario", small, "--save-trace", str(path))
    lines = path.read_text().splitlines(keepends=True)
    for part in ("".join(lines[:-1]), "".join(lines)[:-5]):
        path.write_text(part)
        done = run("replay", str(path))
        assert (done.exit_code, done.stdout) == (2, "")
        says = f"Error: {path} is cut off: it ends in line {len(lines)}, and the replay goes on"
        assert done.stderr == f"{says}\n"
        path.write_text(part.replace('"version":"', '"version":"0.0.', 1))
        assert f"{says}; it was saved by version 0.0." in run("replay", str(path)).stderr
    path.write_text("".join([*lines, lines[-1]]))
    assert "replayed: (nothing more happens)" in run("replay", str(path)).stdout


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no trace"),
        (b"\xff\xfe", "is not a text in UTF-8"),
        (b'{"gossip_grpc_trace":1,"version":"1","seed":1,"schedule":"cluster"}\n', "ends where how many nodes"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    path.write_bytes(content)
    done = run("replay", str(path))
    assert done.exit_code == 2
    assert problem in done.output


# Statistics


def test_percentiles() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([], 0.5) is None
    assert percentile([7.0], 0.99) == 7.0


def test_writes_that_never_agree_are_counted_and_not_among_the_times() -> None:
    world = World(parse("cluster 2\nat 1s n1 put a 1\nat 2s cut n1 | n2\nat 3s n1 put b 1\nend 5s"), 0)
    world.run()
    figures = report(world)
    assert figures["writes"]["agreed"] == figures["writes"]["never_agreed"] == 1
    assert figures["time_to_agreement"]["max"] < 0.1
