"""The checkers: they pass what is right, find what is planted, and shrink what they found."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from click.testing import CliRunner

from gossip_grpc.cli.root import root
from gossip_grpc.core.records import Kind, Record
from gossip_grpc.sim import check, faults
from gossip_grpc.sim.check import Batch, Outcome, judge, run, run_batch, run_seed, run_seeds
from gossip_grpc.sim.checkers import Truth, causality
from gossip_grpc.sim.disk import Disk
from gossip_grpc.sim.generate import generate
from gossip_grpc.sim.monitor import Monitor
from gossip_grpc.sim.schedule import parse
from gossip_grpc.sim.shrink import shrink
from gossip_grpc.sim.world import World

SCHEDULES = sorted((Path(__file__).parent / "schedules").glob("*.txt"))
"""Schedules that once failed, each by a bug found, or that meet a mistake which random ones meet too rarely."""

BETWEEN = 500
"""Seeds within which each planted fault must be found."""

AROUND = 50
"""Other seeds under which such a schedule is run: any change of the code may deal out other times for one seed."""

RARE = {
    "graves-forgotten": "deletion-superseded-before-it-spread",
    "repair-overtaken": "repair-overtaken-by-a-purge",
    "floor-of-a-folded-life-dropped": "floor-of-a-folded-life",
    "full-sync-drops-counters": "counter-of-a-folded-life",
    "renewal-forgotten": "copy-put-back",
    "recovered-without-ranges": "restart-with-a-hole",
}
"""Faults that random schedules meet less often than that, and the schedule that meets each."""

SOONER = {"foreign-base-taken": 82}
"""Seeds that find faults which it takes many to find; they are tried first, and the others all the same."""


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that run schedules are not measured: the core is covered by its own tests, and it halves their time."""
    for name in list(os.environ):
        if name.startswith("COVERAGE_PROCESS"):
            monkeypatch.delenv(name)


def seed_of(path: Path) -> int:
    """The seed of a schedule in a file, which its first line says."""
    match = re.match(r"# Seed (\d+): ", path.read_text())
    assert match is not None, f"{path.name} does not begin with `# Seed N: what it is about`"
    return int(match[1])


def tell(outcome: Outcome) -> str:
    return f"seed {outcome.seed}: {'; '.join(outcome.violations[:3])}\n{outcome.text}"


def test_random_schedules_keep_every_promise(simulated: range) -> None:
    failures = [failure for batch in run_seeds(simulated) for failure in batch.failures]
    assert not failures, f"{len(failures)} fail, such as {tell(failures[0])}"


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda path: path.stem)
def test_what_failed_once_fails_no_more(path: Path) -> None:
    for seed in {seed_of(path), *range(AROUND)}:
        outcome = run(path.read_text(), seed)
        assert not outcome.failed, tell(outcome)


@pytest.mark.parametrize("plant", RARE)
def test_rare_faults_are_found_by_their_schedules(plant: str) -> None:
    path = next(path for path in SCHEDULES if path.stem == RARE[plant])
    with faults.planted(plant):
        assert any(run(path.read_text(), seed).failed for seed in (seed_of(path), *range(BETWEEN)))


@pytest.mark.parametrize("plant", [name for name in faults.FAULTS if name not in RARE])
def test_every_planted_fault_is_found(plant: str) -> None:
    with faults.planted(plant):
        assert any(run_seed(seed).failed for seed in (SOONER.get(plant, 0), *range(BETWEEN))), "no checker sees it"


def test_at_least_fifteen_faults_are_planted_and_each_is_described() -> None:
    assert len(faults.FAULTS) - len(RARE) >= 15
    assert all(faults.describe(name).endswith(".") for name in faults.FAULTS)


def test_a_planted_fault_is_gone_afterwards() -> None:
    for plant in faults.FAULTS:
        with faults.planted(plant):
            pass
    assert not run_seed(3).failed


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_end_with_the_one_that_started_them_even_if_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from multiprocessing import active_children\n"
        "from gossip_grpc.sim.check import run_seeds\n"
        "if __name__ == '__main__':\n"
        "    batches = run_seeds(range(10**6), jobs=2)\n"
        "    next(batches)\n"
        "    print(*(child.pid for child in active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script = tmp_path / "killed.py"
    script.write_text(program)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    workers = [int(pid) for pid in ended.stdout.split()]
    assert len(workers) == 2, ended.stderr
    deadline = monotonic() + 60
    while any(is_alive(pid) for pid in workers):
        assert monotonic() < deadline, "they work on"
        Event().wait(0.05)


# Schedules


def test_a_seed_makes_one_schedule_and_each_another_one() -> None:
    texts = [generate(seed) for seed in range(50)]
    assert texts == [generate(seed) for seed in range(50)]
    assert len(set(texts)) == 50


def test_random_schedules_hold_every_verb_and_every_fault() -> None:
    verbs = {action.verb for seed in range(300) for action in parse(generate(seed)).actions}
    assert verbs >= {"put", "delete", "add", "reset", "set-add", "set-remove"}
    assert verbs >= {
        "cut",
        "heal",
        "crash",
        "restart",
        "pause",
        "resume",
        "slow",
        "skew",
        "drift",
        "join",
        "link",
        "rot",
        "snapshot",
        "restore",
    }


def test_random_schedules_hold_leases_of_either_sort_and_silences_of_hours() -> None:
    schedules = [parse(generate(seed)) for seed in range(100)]
    leases = {action.args[2:] for schedule in schedules for action in schedule.actions if action.verb == "put"}
    assert {(ttl > 0, ephemeral) for ttl, ephemeral in leases - {()}} == {(True, False), (False, True), (True, True)}
    assert any(schedule.end > 3600 and schedule.clusters[0].retention <= 120 for schedule in schedules)


def test_a_run_is_the_same_each_time() -> None:
    assert [run_seed(seed) for seed in range(5)] == [run_seed(seed) for seed in range(5)]


def test_processes_find_what_one_finds() -> None:
    seeds = range(60)
    one = run_batch(seeds, "tie-by-arrival")
    several = list(run_seeds(seeds, jobs=2, plant="tie-by-arrival"))
    assert sum(batch.seeds for batch in several) == one.seeds == 60
    found = sorted(outcome.seed for batch in several for outcome in batch.failures)
    assert found == [outcome.seed for outcome in one.failures] != []


def test_closing_ends_the_processes_at_once_and_they_never_hear_of_an_interruption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "_BATCH", 1)
    others = set(active_children())
    batches = run_seeds(range(10_000), jobs=2)
    next(batches)
    workers = set(active_children()) - others
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)  # as Ctrl-C does to all processes of a terminal
    assert sum(next(batches).seeds for _ in range(4)) == 4
    assert all(worker.is_alive() for worker in workers)
    batches.close()
    assert not set(active_children()) & workers


# What checkers say


def test_who_loses_to_what_it_had_seen_is_told_whichever_write_in_between_it_wins_over() -> None:
    world = World(parse("cluster 3\nat 1s n1 put a 1\nat 2s n2 put a 2\nat 3s n3 put a 3\nend 4s\n"), 0)
    world.run()
    truth = Truth(world, "n")
    assert list(causality(world, truth)) == []
    first, _, last = truth.writes
    record = first.records[0]
    first.records = (Record(record.kind, record.slot, *record.dot, last.records[0].clock + 1, record.content),)
    assert [problem.partition(" (")[0] for problem in causality(world, truth)] == [
        str(write.records[0].dot) for write in truth.writes[1:]
    ]
    last.records = (first.records[0],)
    assert any("names two writes" in problem for problem in causality(world, truth))


LOST = """
cluster 3
at 1s n1 put a 1
at 2s cut n1 | n2 n3
at 3s agree 2s
at 3s n2 put a 2
end 10s
"""


def test_nodes_that_are_kept_apart_do_not_agree() -> None:
    outcome = run(LOST.replace("at 3s n2 put a 2\n", "").replace("at 3s agree", "at 4s n2 put b 1\nat 4s agree"), 0)
    assert outcome.kinds == {"agreement"}
    assert "n1 | n2 n3" in outcome.violations[0] or "n2 n3 | n1" in outcome.violations[0]


def test_a_record_that_rots_away_is_healed_by_the_backstop() -> None:
    text = "cluster 3\nat 1s n1 put a 1\nat 3s rot n2 a\nat 3001ms agree 20s\nend 30s\n"
    assert not run(text, 0).failed
    with faults.planted("fingerprints-not-compared"):
        assert run(text, 0).kinds == {"agreement", "convergence"} or run(text, 0).failed


def test_a_heal_that_nothing_in_the_schedule_calls_for_is_a_finding() -> None:
    schedule = parse("cluster 3 heartbeat=1h\nat 1s n1 put a 1\nend 20s\n")
    world = World(schedule, 0)
    monitor = Monitor(world)
    world.at(3.0, lambda: world.hosts["n2"].store.forget(Kind.REGISTER, "a"))  # nobody planted that
    world.run()
    assert world.history.heals >= 1
    assert all(problem.startswith("heals: ") for problem in monitor.look())


def test_what_nobody_has_seen_of_a_life_that_is_folded_is_in_doubt_and_everything_else_is_not() -> None:
    text = "cluster 3 retention=4s\nat 1s n1 put a 1\nat 2s cut n1 | n2 n3\nat 3s n1 put b 1\nat 4s crash n1\n"
    world = World(parse(f"{text}at 5s restart n1\nat 6s heal\nend 40s\n"), 0)
    monitor = Monitor(world)
    world.run()
    seen, lost = (write.dots[0] for write in world.history.writes)
    assert all(host.store.coverage.is_folded(seen.origin) for host in world.live())
    assert not world.history.folds.doubts(seen)
    assert world.history.folds.doubts(lost)
    assert judge(world, monitor) == []
    for host in world.live():
        host.store.forget(Kind.REGISTER, "a")  # of that folded life too
    assert {problem.partition(":")[0] for problem in judge(world, monitor)} == {"reflection", "owners"}


def test_a_disk_without_a_node_has_nothing_to_load() -> None:
    with pytest.raises(ValueError, match="the disk is empty"):
        Disk().load(0.0)


def test_a_crash_of_the_core_is_a_finding() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gossip_grpc.core.engine.Engine.put", lambda *arguments, **options: 1 / 0)
        outcome = run("cluster 2\nat 1s n1 put a 1\nend 2s\n", 0)
    assert outcome.violations == ("crash: ZeroDivisionError: division by zero",)


def test_what_is_expected_beyond_the_end_is_not_taken_for_granted() -> None:
    text = "cluster 3\nat 1s cut n1 | n2 n3\nat 2s n1 put a b\nat 8s agree 30s\nat 12s check\nend 10s\n"
    assert run(text, 0).violations == (
        "end: `agree 30s` at 8 s looks at 38 s, and all ends at 10 s",
        "end: `check` at 12 s looks at 12 s, and all ends at 10 s",
    )
    assert not run(text.replace("at 1s cut n1 | n2 n3\n", "").replace("at 12s", "at 9s"), 0).failed


# Shrinking


def test_a_failing_schedule_is_shrunk_to_what_it_takes() -> None:
    with faults.planted("tie-by-arrival"):
        seed = next(seed for seed in range(BETWEEN) if run_seed(seed).failed)
        outcome = run_seed(seed)
        runs: list[tuple[int, int]] = []
        short = shrink(outcome.text, seed, outcome.kinds, lambda done, left: runs.append((done, left)))
        assert run(short, seed).kinds & outcome.kinds
    assert not run(short, seed).failed
    assert sum(" put " in line or " delete " in line for line in short.splitlines()) <= 4
    assert len(short.splitlines()) <= 8
    assert runs[-1] == (len(runs), sum(line.startswith("at ") for line in short.splitlines()))


def test_a_fault_is_not_left_unmended_by_shrinking() -> None:
    text = "cluster 3\nat 1s cut n1 | n2 n3\nat 2s n1 put a 1\nat 3s heal\nat 3s pause n2\nat 4s resume n2\n"
    text += "at 5s slow n3 20ms\nat 6s slow n3 0ms\nat 7s crash n2 disk\nat 8s restart n2\nat 9s agree 20s\nend 30s\n"
    with faults.planted("fingerprint-keeps-the-dead"), pytest.MonkeyPatch.context() as patch:
        # Everything fails, so that all is left out that may be.
        patch.setattr("gossip_grpc.sim.shrink.run", lambda text, seed: Outcome(seed, text, ("agreement: none",)))
        assert shrink(text, 0, {"agreement"}) == "cluster 2\nat 9s agree 20s\nend 30s\n"


def test_what_mends_stays_while_its_fault_does_and_once_is_enough() -> None:
    text = "cluster 2\nat 1s cut n1 | n2\nat 3s heal\nat 9s agree 20s\nend 30s\n"
    healed = text.replace("at 1s", "at 500ms heal\nat 1s").replace("at 3s heal", "at 2s heal\nat 3s heal")

    def fails_while_cut(text: str, seed: int) -> Outcome:
        return Outcome(seed, text, ("agreement: none",) if "cut" in text else ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gossip_grpc.sim.shrink.run", fails_while_cut)
        assert shrink(text, 0, {"agreement"}) == text
        assert shrink(healed, 0, {"agreement"}) == text


# The command


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(root, ["simulate", "check", *arguments])
    return result.exit_code, result.output


def test_the_command_says_that_nothing_is_wrong() -> None:
    code, output = invoke("--seeds", "0..9", "--jobs", "1")
    assert code == 0
    assert output.startswith("10 schedules: ")
    assert output.endswith("Nothing is wrong.\n")


def test_the_command_shows_a_short_schedule_that_fails_and_runs_it_again(tmp_path: Path) -> None:
    code, output = invoke("--seeds", "0..24", "--jobs", "1", "--plant", "tie-by-arrival", "--json")
    document = json.loads(output)
    assert code == 1
    assert document["seeds"] == {"first": 0, "last": 24, "run": 25}
    first = document["failed"][0]
    file = tmp_path / "short.txt"
    file.write_text(document["shortest_failing_schedule"])
    code, output = invoke("--scenario", str(file), "--seed", str(first["seed"]), "--plant", "tie-by-arrival")
    assert code == 1
    assert any(violation.partition(":")[0] in output for violation in first["violations"])
    code, output = invoke("--scenario", str(file), "--seed", str(first["seed"]))
    assert (code, output) == (0, "Nothing is wrong.\n")
    code, output = invoke("--scenario", str(file), "--json")
    assert json.loads(output)["violations"] == []


def test_the_command_tells_people_what_failed() -> None:
    code, output = invoke("--seeds", "5", "--jobs", "1", "--plant", "tie-by-arrival")
    assert code == 1
    assert "1 failed: seed 5\n" in output
    assert "--scenario FILE --seed 5 --plant tie-by-arrival):\n" in output
    assert "\nat " in output
    assert "# Random schedule 5." in invoke("--seeds", "5", "--plant", "tie-by-arrival", "--no-shrink")[1]


def test_an_interruption_tells_how_far_it_came_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run_seed(0)
    found: list[Outcome] = []

    def interrupted(*_: object) -> Generator[Batch, None, None]:
        yield Batch(25, tuple(found), 0.0, 0, 0, 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run_seeds", interrupted)
    assert invoke() == (130, "Interrupted after 25 of 1,000 schedules; nothing was wrong\n")
    found += [replace(outcome, seed=seed, violations=("reflection: x",)) for seed in (7, 9)]
    assert invoke() == (130, "Interrupted after 25 of 1,000 schedules; 2 failed: seed 7, 9\n")


def test_an_interruption_while_shrinking_names_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("gossip_grpc.sim.shrink.shrink", interrupted)
    answer = invoke("--seeds", "5", "--plant", "tie-by-arrival")
    assert answer == (130, "Interrupted while shrinking the schedule of seed 5\n")


def test_help_does_not_promise_the_same_times() -> None:
    help_text = " ".join(invoke("--help")[1].split())
    assert "the same seed, the same findings." in help_text
    assert "the same output" not in help_text


def test_planted_faults_are_listed() -> None:
    code, output = invoke("--plant", "list")
    assert code == 0
    assert "tie-by-arrival" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "x"), "'x' is neither a seed, such as 7, nor seeds from A to B, such as 0..999."),
        (("--seeds", "9..3"), "the first must not be above the last"),
        (("--seeds", "5", "--seed", "7"), "--seed goes with --scenario; --seeds says which schedules are made"),
        (("--seed", "0"), "--seed goes with --scenario"),
        (("--scenario", "quiet", "--seeds", "0..999"), "--seeds makes schedules, and --scenario is one"),
        (("--plant", "nothing"), "there is no planted fault 'nothing'; `--plant list` names them"),
    ],
)
def test_wrong_usage_is_explained(arguments: tuple[str, ...], message: str) -> None:
    code, output = invoke(*arguments)
    assert code == 2
    assert message in output


def test_a_wrong_scenario_is_explained_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.txt"
    file.write_text("cluster 2\nat 1s n1 fly\n")
    code, output = invoke("--scenario", str(file))
    assert code == 2
    assert "line 2" in output
    assert str(file.name) in output


@pytest.mark.parametrize("content", [b"\xff\xfe", b"cluster 2\nat 1s n1 fly\n", b"# No cluster.\n", None])
def test_what_is_no_scenario_is_told_as_by_simulate_cluster(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "wrong.txt"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    code, output = invoke("--scenario", str(file))
    assert code == 2
    assert "wrong.txt" in output
    other = CliRunner().invoke(root, ["simulate", "cluster", "--scenario", str(file)])
    assert (other.exit_code, other.output) == (code, output)


def test_a_scenario_that_is_shipped_is_checked_by_its_name() -> None:
    assert invoke("--scenario", "quiet") == (0, "Nothing is wrong.\n")
    code, output = invoke("--scenario", "nowhere")
    assert code == 2
    assert "there is no file nowhere, and no scenario of that name; there are clock-jumps" in output


def test_a_scenario_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "marked.txt"
    file.write_bytes("\ufeffcluster 2\nend 1s\n".encode())
    assert invoke("--scenario", str(file)) == (0, "Nothing is wrong.\n")
