"""How failures of simulated nodes are found out about: the figures that are promised, at a size that takes seconds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gossip_grpc.cli.root import root
from gossip_grpc.core.membership import Status
from gossip_grpc.sim.detection import Outcome, Setting, simulate
from gossip_grpc.sim.links import Latency
from gossip_grpc.sim.schedule import ScheduleError, format, parse  # noqa: A004 - the counterpart of parse
from gossip_grpc.sim.stats import percentile
from gossip_grpc.sim.swim import Swim
from gossip_grpc.sim.world import World

SMALL = ("--nodes", "5", "--crashes", "2", "--rest", "2")


def median(values: list[float]) -> float:
    found = percentile(values, 0.5)
    assert found is not None
    return found


def run(*words: str) -> Result:
    return CliRunner().invoke(root, ["simulate", "detection", *words], env={"COLUMNS": "200"})


def loaded(*words: str) -> Any:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# Crashes


@pytest.mark.parametrize(("loss", "usual", "most"), [(0.0, 4.0, 6.0), (0.1, 5.0, 8.0)])
def test_all_know_of_a_crash_in_time(loss: float, usual: float, most: float) -> None:
    outcome = simulate(Setting(nodes=100, crashes=2, loss=loss, rest=1.0), seed=1)
    assert outcome.missed == 0
    assert len(outcome.dead) == 2 * 99
    assert len(outcome.everywhere) == 2
    assert median(outcome.everywhere) <= usual
    assert outcome.everywhere[-1] <= most
    assert (outcome.false_suspicions, outcome.false_deaths) == (0, 0)


def test_suspicion_comes_before_death() -> None:
    outcome = simulate(Setting(nodes=20, crashes=5, loss=0.1, rest=1.0), seed=1)
    assert median(outcome.suspect) < median(outcome.dead)
    assert all(early <= late for early, late in zip(outcome.suspect, outcome.dead, strict=True))


def test_a_host_that_refuses_is_found_out_sooner_than_one_that_is_silent() -> None:
    silent, refusing = (
        simulate(Setting(nodes=20, crashes=5, rest=1.0, refused=refused), seed=1) for refused in (False, True)
    )
    assert refusing.everywhere[-1] < silent.everywhere[0] + 0.5
    assert median(refusing.everywhere) < median(silent.everywhere)


def test_survivors_agree_when_half_of_fifty_are_killed() -> None:
    outcome = simulate(Setting(nodes=50, crashes=1, at_once=25, rest=1.0), seed=1)
    assert outcome.missed == 0
    assert len(outcome.dead) == 25 * 25
    assert outcome.everywhere[-1] <= 15.0
    assert outcome.false_deaths == 0


def test_who_comes_back_is_alive_everywhere_in_time() -> None:
    outcome = simulate(Setting(nodes=20, crashes=5, loss=0.1, rest=1.0), seed=1)
    assert len(outcome.returns) == 5
    assert outcome.returns[-1] <= 3.0


def test_phi_rises_at_the_monitors_of_the_first_victim() -> None:
    outcome = simulate(Setting(nodes=10, crashes=1, rest=1.0), seed=1)
    assert 1 <= len(outcome.phi) <= 3
    for course in outcome.phi.values():
        assert course[0][0] < 0.0 < course[-1][0]
        assert all(level < 1.0 for since, level in course if since < 1.0)
        assert course[-1][1] > 8.0


# Partitions


def test_a_partition_of_ten_heals_in_time() -> None:
    text = "cluster 10\nat 5s cut n1 n2 n3 n4 n5 | n6 n7 n8 n9 n10\nat 60s heal\nend 70s\n"
    world = World(parse(text), 1)
    changed: list[float] = []
    world.after_change.append(lambda _, change: changed.append(world.now) if change.after != change.before else None)
    names = set(world.hosts)
    world.run_until(59.0)
    for host in world.live():
        assert host.engine is not None
        dead = {name for name in names if host.engine.membership.status(name) is Status.DEAD}
        assert len(dead) == 5
    world.run()
    assert 60.0 < max(changed) <= 65.0
    for host in world.live():
        assert host.engine is not None
        assert {host.engine.membership.status(name) for name in names} == {Status.ALIVE}


# Mistakes


def test_stalls_that_are_no_longer_than_the_pause_kill_nobody() -> None:
    setting = Setting(
        nodes=20, crashes=0, loss=0.1, latency=Latency(0.1, 0.1), rest=120.0, stalls=(1.0, 1.0), stall_every=1.0
    )
    outcome = simulate(setting, seed=1)
    assert outcome.node_seconds == pytest.approx(20 * 120.0)
    assert (outcome.false_suspicions, outcome.false_deaths) == (0, 0)


def test_a_node_that_stalls_for_long_counts_as_a_mistake_by_node_and_day() -> None:
    setting = Setting(nodes=10, crashes=0, rest=60.0, stalls=(8.0, 8.0), stall_every=15.0)
    outcome = simulate(setting, seed=1)
    assert 0 < outcome.false_deaths <= outcome.false_suspicions
    assert outcome.per_node_day(outcome.false_deaths) == pytest.approx(86_400 * outcome.false_deaths / 600)
    patient = simulate(Setting(nodes=10, crashes=0, rest=60.0, stalls=(8.0, 8.0), stall_every=15.0, pause=10.0), 1)
    assert patient.false_deaths == 0


def test_a_higher_threshold_takes_longer() -> None:
    low, high = (simulate(Setting(nodes=10, crashes=5, rest=1.0, threshold=phi), seed=1) for phi in (1.0, 16.0))
    assert median(low.everywhere) < median(high.everywhere)


def test_ours_is_sooner_than_swim_in_the_same_world() -> None:
    ours, theirs = (
        simulate(Setting(nodes=20, crashes=3, loss=0.1, rest=60.0, stall_every=2.0, swim=swim), seed=1)
        for swim in (None, Swim())
    )
    assert ours.everywhere[-1] < theirs.everywhere[0]
    assert ours.false_suspicions <= theirs.false_suspicions
    assert ours.false_deaths == theirs.false_deaths == 0


# Load


def test_load_at_rest_is_the_same_whatever_the_number_of_nodes() -> None:
    few, many = (simulate(Setting(nodes=nodes, crashes=0, rest=5.0), seed=1) for nodes in (10, 200))
    assert many.messages == pytest.approx(few.messages, rel=0.2)
    assert many.bytes == pytest.approx(few.bytes, rel=0.2)


def test_without_time_there_is_no_rate() -> None:
    assert Outcome().per_node_day(0) == 0.0


# The command


def test_the_command_gives_times_mistakes_and_traffic() -> None:
    document = loaded(*SMALL, "--loss", "0.1")
    assert document["parameters"]["nodes"] == 5
    assert 0 < document["suspect"]["median"] <= document["dead"]["median"] <= document["dead"]["max"]
    assert document["dead_everywhere"]["max"] == document["dead"]["max"]
    assert document["missed"] == document["false_deaths"] == 0
    assert document["messages_per_node_second"] == pytest.approx(
        sum(kind["messages_per_node_second"] for kind in document["traffic"].values())
    )


def test_a_table_has_a_line_for_each_case_of_a_series() -> None:
    done = run(*SMALL, "--detector", "phi,swim", "--phi-threshold", "2,8")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("nodes 5, crashes 2, loss 0.0\n")
    lines = done.stdout.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["DETECTOR", "phi", "phi", "swim"]
    assert "SUSPICION MULT" in lines[0]
    assert len(loaded(*SMALL, "--detector", "phi,swim")) == 2


def test_without_crashes_there_are_no_times() -> None:
    done = run("--nodes", "5", "--crashes", "0", "--rest", "2", "--latency", "0.01")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].split()[:5] == ["-"] * 5


def test_the_seed_makes_the_output_identical() -> None:
    assert run(*SMALL, "--seed", "3").stdout == run(*SMALL, "--seed", "3").stdout != run(*SMALL, "--seed", "4").stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "phi at its monitors"),
        (("--detector", "swim"), "share of the nodes that say so"),
        (("--detector", "phi,swim", "--stall-every", "1", "--stall", "3..5"), "false deaths per node and day"),
        (("--phi-threshold", "1,8", "--crashes", "0"), "false suspicions per node and day"),
    ],
)
def test_plots(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    done = run(*SMALL, *words, "--plot", str(path))
    assert done.exit_code == 0, done.output
    assert text in path.read_text(encoding="utf-8")


def test_what_makes_no_sense_is_refused() -> None:
    for words, message in (
        (("--nodes", "5", "--at-once", "5"), "nobody is left"),
        (("--stall", "3..1"), "no range"),
        (("--stall", "x"), "not a valid float"),
        (("--nodes", "2"), "2 is not in the range"),
    ):
        done = run(*words)
        assert done.exit_code == 2
        assert message in done.output


def test_crashes_that_somebody_missed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossip_grpc.sim.detection.LIMIT", 1.0)
    assert "missed: 2 of 2 crashes" in run(*SMALL).stdout


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    simulate(Setting(nodes=3, crashes=2, rest=1.0), 1, told.append)
    assert told == [0.5, 1.0]
    told.clear()
    simulate(Setting(nodes=3, crashes=0, rest=120.0), 1, told.append)
    assert told == [0.5, 1.0]
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert run(*SMALL).exit_code == 0


def test_a_scenario_can_set_threshold_and_pause() -> None:
    text = "cluster 3 threshold=4.5 pause=500ms\nend 1s\n"
    schedule = parse(text)
    assert (schedule.clusters[0].threshold, schedule.clusters[0].pause) == (4.5, 0.5)
    assert parse(format(schedule)) == schedule
    host = World(schedule, 1).hosts["n1"]
    assert host.engine is not None
    assert host.engine.vigil.detector.settings.phi_threshold == 4.5
    assert host.engine.vigil.detector.settings.acceptable_pause == 0.5
    for word in ("0", "high", "nan"):
        with pytest.raises(ScheduleError, match="a threshold of phi"):
            parse(f"cluster 3 threshold={word}\nend 1s\n")
