"""`gossip-grpc demo`: its parser, its verdict (which must bite), its views, and runs with real processes."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import pty
import random
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from gossip_grpc.cli import demo, demo_suggestions
from gossip_grpc.cli.demo_live import LiveView
from gossip_grpc.client import Entry, GossipCounters, KeyNotFoundError, Origin, Status
from gossip_grpc.client.results import Dot, Session
from gossip_grpc.config import Config
from gossip_grpc.demo import checks, nodes, services, story
from gossip_grpc.demo.agreement import Agreement, State, leading
from gossip_grpc.demo.board import Board, Life, Progress, Row, Step, duration
from gossip_grpc.demo.checks import Expected, Sighting
from gossip_grpc.demo.nodes import NodeProcessError, NodeProcesses
from gossip_grpc.demo.services import Service, Services
from gossip_grpc.demo.story import Api, Story
from gossip_grpc.errors import UnavailableError
from gossip_grpc.node import Node

DEADLINE = 60.0

# --- the parser ---


def parsed(text: str | bytes) -> Services:
    return services.parse(text if isinstance(text, bytes) else text.encode(), "a test")


def test_a_line_has_a_name_a_port_a_protocol_and_aliases() -> None:
    found = parsed("http\t\t80/tcp\t\twww  www-http\t# WorldWideWeb HTTP\n")
    assert found.items == (Service("http", 80, "tcp", frozenset({"www", "www-http"})),)
    assert (found.odd, found.repeated) == (0, 0)
    assert found.items[0].key == "services/http/tcp"
    assert found.items[0].alias_key == "aliases/http/tcp"


def test_comments_and_empty_lines_are_no_services_and_not_odd() -> None:
    found = parsed("# all\n\n   \n\t# of it\r\nssh 22/tcp # and the rest\r\n  dns 53/udp\n")
    assert [service.name for service in found.items] == ["ssh", "dns"]
    assert found.odd == 0


def test_one_name_has_a_port_for_each_protocol_and_the_first_of_repeated_lines_counts() -> None:
    found = parsed("dns 53/udp\ndns 53/tcp\ndns 54/udp other\n")
    assert [(service.key, service.port) for service in found.items] == [
        ("services/dns/udp", 53),
        ("services/dns/tcp", 53),
    ]
    assert found.repeated == 1
    assert not found.items[0].aliases


def test_a_name_may_hold_a_slash() -> None:
    assert parsed("914c/g 211/tcp 914c-g\n").items[0].key == "services/914c/g/tcp"


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    assert parsed(b"\xef\xbb\xbfssh 22/tcp\n").items[0].name == "ssh"


@pytest.mark.parametrize(
    "line",
    [
        b"lonely",
        b"noport /tcp",
        b"noprotocol 80",
        b"noprotocol 80/",
        b"words eighty/tcp",
        b"range 80-90/tcp",
        b"high 65536/tcp",
        b"higher 999999/tcp",
        b"negative -1/tcp",
        b"80/tcp",
        b"latin\xe4 80/tcp",
        b"bell\x07 80/tcp",
        "arabic ٨٠/tcp".encode(),
        b"x" * 600 + b" 80/tcp",
    ],
)
def test_an_odd_line_is_skipped_and_counted(line: bytes) -> None:
    found = parsed(b"before 1/tcp\n" + line + b"\nafter 65535/udp\n")
    assert [service.name for service in found.items] == ["before", "after"]
    assert found.odd == 1


def test_the_bundled_list_has_no_odd_line() -> None:
    found = services.bundled()
    assert len(found.items) > 50
    assert (found.odd, found.repeated) == (0, 0)
    assert any(service.aliases for service in found.items)


@pytest.mark.parametrize("content", [None, b"# nothing\n"], ids=["missing", "empty"])
def test_a_machine_without_services_takes_the_bundled_list(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(services, "DEFAULT_FILE", file)
    assert services.load(None) == services.bundled()


def test_the_machines_own_services_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, given = tmp_path / "own", tmp_path / "given"
    own.write_text("own 1/tcp\n")
    given.write_text("given 2/tcp\n")
    monkeypatch.setattr(services, "DEFAULT_FILE", own)
    assert (services.load(None).items[0].name, services.load(None).source) == ("own", str(own))
    assert services.load(given).items[0].name == "given"


# --- agreement ---

ORIGIN = Origin("n1", 1)


def state(fingerprint: str = "aa", sequence: int = 1, members: int = 2) -> State:
    return State(fingerprint, frozenset({(ORIGIN, sequence)}), frozenset(), members)


def test_a_node_agrees_since_it_was_first_seen_in_the_state_of_all() -> None:
    agreement = Agreement(["n1", "n2"], members=2)
    assert not agreement.observe({"n1": state(sequence=5), "n2": state(sequence=3)}, 0.1)
    assert not agreement.observe({"n1": state(sequence=5), "n2": state(sequence=4)}, 0.2)
    assert agreement.observe({"n1": state(sequence=5), "n2": state(sequence=5)}, 0.3)
    assert agreement.times() == {"n1": 0.1, "n2": 0.3}


def test_a_node_that_left_the_common_state_agrees_since_it_came_back() -> None:
    agreement = Agreement(["n1", "n2"], members=2)
    for at, fingerprint in ((0.1, "aa"), (0.2, "bb")):
        assert not agreement.observe({"n1": state(fingerprint), "n2": state("cc")}, at)
    assert agreement.observe({"n1": state("aa"), "n2": state("aa")}, 0.3)
    assert agreement.times() == {"n1": 0.3, "n2": 0.3}


@pytest.mark.parametrize(
    ("states", "problem"),
    [
        ({"n1": state(), "n2": state()}, "n3 does not answer"),
        ({"n1": state(), "n2": state(), "n3": state("bb")}, "n3 has fingerprint bb, n1 has aa"),
        (
            {"n1": state(), "n2": state(), "n3": state(sequence=2)},
            "n3 and n1 have equal fingerprints, but do not cover",
        ),
        ({"n1": state(), "n2": state(), "n3": state(members=1)}, "n3 knows 1 members, not 2"),
        ({}, "n1 does not answer"),
    ],
)
def test_who_does_not_agree_is_named(states: dict[str, State], problem: str) -> None:
    agreement = Agreement(["n1", "n2", "n3"], members=2)
    assert not agreement.observe(states, 0.0)
    assert any(line.startswith(problem) for line in agreement.problems())


def test_most_is_more_than_half_of_several() -> None:
    assert leading([state("aa"), state("aa"), state("bb")]) == state("aa")
    assert leading([state("aa"), state("aa"), state("bb"), state("cc")]) is None
    assert leading([state("aa")]) is None
    assert leading([]) is None


# --- the verdict ---


def expectation() -> Expected:
    expected = Expected(sets={"aliases/http/tcp": frozenset({"www"})}, counter=1000)
    for key, value in (("services/http/tcp", "80"), ("services/ssh/tcp", "22"), ("services/gone/tcp", "1")):
        expected.put(key, value)
    expected.delete("services/gone/tcp")
    return expected


def sighting(**changes: Any) -> Sighting:
    right = Sighting(
        "n2",
        {"services/http/tcp": "80", "services/ssh/tcp": "22"},
        {"aliases/http/tcp": frozenset({"www"})},
        counter=1000,
    )
    return dataclasses.replace(right, **changes)


def test_a_node_that_holds_what_it_should_has_no_problem() -> None:
    assert checks.problems(expectation(), [sighting(), sighting(node="n3")]) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"values": {"services/http/tcp": "80"}}, "n2: services/ssh/tcp is missing, it should be '22'"),
        (
            {"values": {"services/http/tcp": "81", "services/ssh/tcp": "22"}},
            "n2: services/http/tcp is '81', it should be '80'",
        ),
        (
            {"values": {"services/http/tcp": b"80", "services/ssh/tcp": "22"}},
            "n2: services/http/tcp is b'80', it should be '80'",
        ),
        ({"counter": 999}, "n2: the counter is 999, it should be 1,000"),
        ({"answered": frozenset({"services/gone/tcp"})}, "n2: services/gone/tcp was deleted and is readable again"),
        (
            {"values": {"services/http/tcp": "80", "services/ssh/tcp": "22", "services/gone/tcp": "1"}},
            "n2: services/gone/tcp was deleted and is readable again",
        ),
        (
            {"values": {"services/http/tcp": "80", "services/ssh/tcp": "22", "stray": "1"}},
            "n2: stray is there, and nobody wrote it",
        ),
        ({"sets": {}}, "n2: aliases/http/tcp holds nothing, it should hold 'www'"),
        (
            {"sets": {"aliases/http/tcp": frozenset({"www"}), "back": frozenset({"a"})}},
            "n2: back holds 'a', it should hold nothing",
        ),
    ],
)
def test_whatever_a_node_holds_wrong_is_one_problem(changes: dict[str, Any], problem: str) -> None:
    assert checks.problems(expectation(), [sighting(node="n1"), sighting(**changes)]) == [problem]


def test_a_key_that_is_written_again_after_its_deletion_is_expected() -> None:
    expected = expectation()
    expected.put("services/gone/tcp", "2")
    assert checks.problems(expected, [sighting(values={**expected.values})]) == []


def test_many_problems_of_a_kind_are_counted() -> None:
    expected = Expected(values={f"key/{number:02}": "x" for number in range(20)})
    lines = checks.problems(expected, [Sighting("n1", {}, {}, 0)])
    assert len(lines) == checks.MAX_LINES + 1
    assert lines[-1] == "n1: and 15 more like this"


def test_a_board_is_without_problems_only_if_every_step_was_done() -> None:
    board = Board({}, [Step("start", "Start", Progress.DONE), Step("count", "Count"), Step("kill", "Kill")])
    assert board.problems() == ["not reached: count, kill"]
    board.steps[1].progress = board.steps[2].progress = Progress.DONE
    assert board.problems() == []
    board.steps[1].problems = ["n1: wrong", "n2: wrong"]
    assert board.problems() == ["count: n1: wrong", "count: n2: wrong"]
    assert board.steps[1].outcome == "n1: wrong (and 1 more)"
    assert board.verdict() == "Not everything agreed."


def test_durations_are_short() -> None:
    assert [duration(seconds) for seconds in (0.0004, 0.0123, 0.9994, 0.9996, 12.34)] == [
        "0 ms",
        "12 ms",
        "999 ms",
        "1.0 s",
        "12.3 s",
    ]


# --- the story, told by nodes in this process: real ones, and some that lie ---

Lie = Callable[[Node], object]


class NodesHere:
    """A cluster of embedded nodes; `lies` makes a client that lies out of a node."""

    def __init__(self, lies: dict[str, Lie] | None = None) -> None:
        self.names = ("n1", "n2", "n3")
        self.nodes: dict[str, Node] = {}
        self.dead: dict[str, int] = {}
        self.lies = lies or {}

    async def start(self, node: str) -> str:
        config = Config(
            node_id=node,
            cluster="demo-test",
            peer_listen="127.0.0.1:0",
            client_listen="127.0.0.1:0",
            join=tuple(other.peer_address for other in self.nodes.values()),
            gossip_interval=0.2,
            leave_timeout=0,
        )
        self.nodes[node] = Node(config)
        await self.nodes[node].start()
        return self.nodes[node].client_address

    async def kill(self, node: str) -> None:
        await crash(self.nodes.pop(node))

    def client(self, node: str) -> Api:
        real = self.nodes[node]
        return cast("Api", self.lies[node](real) if node in self.lies else real)

    def exit_code(self, node: str) -> int | None:
        return self.dead.get(node)


async def crash(node: Node) -> None:
    """Stop without a word to anybody."""
    await node.scheduler.stop()
    await asyncio.gather(*(server.stop(None) for server in node._servers))


@asynccontextmanager
async def told(monkeypatch: pytest.MonkeyPatch, cluster: NodesHere) -> AsyncIterator[Story]:
    """The story of a small world, to be run."""
    monkeypatch.setattr(story, "ADDITIONS", 60)
    monkeypatch.setattr(story, "MORE_ADDITIONS", 5)
    small = Services(services.bundled().items[:30], "a test")

    async def tell(step: Step) -> None:
        assert step.progress in (Progress.DONE, Progress.FAILED)

    try:
        yield Story(cluster, small, random.Random(1), tell)
    finally:
        await asyncio.gather(*(crash(node) for node in cluster.nodes.values()))


async def test_the_story_of_real_nodes_has_no_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(monkeypatch, NodesHere()) as tale:
        await tale.run()
    board = tale.board
    assert board.problems() == []
    assert {step.progress for step in board.steps} == {Progress.DONE}
    assert tale.expected.counter == board.counter == 60 + 2 * 5
    assert len(tale.expected.deleted) == 3 + 3
    assert board.tally.kills == 1
    assert board.tally.writes >= 30 + 60 + 10
    assert board.tally.messages > 0
    assert [step.name for step in board.timed()] == ["start", "register", "count", "delete", "kill", "rejoin"]
    assert all(set(step.agreed) == {"n1", "n2", "n3"} for step in board.timed() if step.name != "kill")


def lying(node: Node, **changes: object) -> object:
    """A client of the node, but for some verbs, such as `kv_get`."""
    groups: dict[str, Any] = {}
    for group in ("kv", "counter", "set"):
        real = getattr(node, group)
        verbs = {
            verb: getattr(real, verb)
            for verb in ("get", "put", "delete", "add", "remove", "list")
            if hasattr(real, verb)
        }
        groups[group] = SimpleNamespace(**verbs)
    result = SimpleNamespace(**groups, status=node.status)
    for name, verb in changes.items():
        group, _, method = name.partition("_")
        setattr(getattr(result, group) if method else result, method or group, verb)
    return result


def forgets(node: Node) -> object:
    async def get(key: str) -> Entry:
        if key == "services/http/tcp":
            raise KeyNotFoundError("no")
        return await node.kv.get(key)

    return lying(node, kv_get=get)


def garbles(node: Node) -> object:
    async def get(key: str) -> Entry:
        return dataclasses.replace(await node.kv.get(key), value="0")

    return lying(node, kv_get=get)


def takes_no_write(node: Node) -> object:
    async def put(key: str, value: str) -> Session:
        return Session(1, ())

    return lying(node, kv_put=put)


def loses_aliases(node: Node) -> object:
    async def get(key: str) -> set[str]:
        return set()

    return lying(node, set_get=get)


def miscounts(node: Node) -> object:
    async def get(key: str) -> int:
        return await node.counter.get(key) - 1

    return lying(node, counter_get=get)


def keeps_the_deleted(node: Node) -> object:
    async def get(key: str) -> Entry:
        try:
            return await node.kv.get(key)
        except KeyNotFoundError:
            return Entry(key, "back", Dot(ORIGIN, 1), 1)

    return lying(node, kv_get=get)


def deletes_nothing(node: Node) -> object:
    async def delete(key: str) -> None:
        return None

    return lying(node, kv_delete=delete)


def diverges(node: Node) -> object:
    async def status() -> Status:
        return dataclasses.replace(await node.status(), fingerprint="0123456789abcdef")

    return lying(node, status=status)


@pytest.mark.parametrize(
    ("lie", "step", "problem"),
    [
        (forgets, "read back", "services/http/tcp is missing"),
        (garbles, "read back", "is '0', it should be"),
        (takes_no_write, "read back", "is missing"),
        (loses_aliases, "read back", "holds nothing, it should hold"),
        (miscounts, "count", "n2: the counter is 59, it should be 60"),
        (keeps_the_deleted, "delete", "was deleted and is readable again"),
        (deletes_nothing, "delete", "was deleted and is readable again"),
        (diverges, "start", "no agreement within 0.5 s: n2 has fingerprint 0123456789abcdef"),
    ],
)
async def test_a_node_that_is_wrong_fails_the_story(
    lie: Lie, step: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "AGREE_TIMEOUT", 0.5 if lie is diverges else DEADLINE)
    async with told(monkeypatch, NodesHere({"n2": lie})) as tale:
        await tale.run()
    failed = next(each for each in tale.board.steps if each.name == step)
    assert failed.progress is Progress.FAILED
    assert any(problem in line for line in failed.problems), failed.problems
    assert tale.board.verdict() == "Not everything agreed."


async def test_each_service_is_read_on_another_node_than_it_was_written_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told_only_to_itself: dict[str, str] = {}

    def echoes(node: Node) -> object:
        async def put(key: str, value: str) -> Session:
            told_only_to_itself[key] = value
            return Session(1, ())

        async def get(key: str) -> Entry:
            if key in told_only_to_itself:
                return Entry(key, told_only_to_itself[key], Dot(ORIGIN, 1), 1)
            return await node.kv.get(key)

        return lying(node, kv_put=put, kv_get=get)

    async with told(monkeypatch, NodesHere({"n2": echoes})) as tale:
        await tale.run()
    found = [line for line in tale.board.problems() if line.startswith("read back")]
    assert len(found) == 10
    assert not any("n2:" in line for line in found)


async def test_what_comes_back_with_a_node_fails_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = NodesHere()
    async with told(monkeypatch, cluster) as tale:
        rejoin = tale._start_node

        async def resurrecting(step: Step, node: str, life: Life = Life.UP) -> None:
            await rejoin(step, node, life)
            if step.name == "rejoin":
                other = next(name for name in cluster.names if name != node)
                await cluster.nodes[other].kv.put(min(tale.expected.deleted), "1")

        monkeypatch.setattr(tale, "_start_node", resurrecting)
        await tale.run()
    assert [line.partition(": ")[0] for line in tale.board.problems()] == ["rejoin"] * 3
    assert all("was deleted and is readable again" in line for line in tale.board.problems())


async def test_a_node_that_resets_its_connections_a_moment_before_it_ends_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = NodesHere()

    def dies(node: Node) -> object:
        async def put(key: str, value: object) -> Dot:
            asyncio.get_running_loop().call_later(0.05, cluster.dead.update, {"n2": -9})
            raise UnavailableError("Connection reset by peer")

        return lying(node, kv_put=put)

    cluster.lies = {"n2": dies}
    async with told(monkeypatch, cluster) as tale:
        await tale.run()
    assert tale.board.problems()[:2] == [
        "register: Connection reset by peer",
        "register: n2 ended by itself, with exit code -9",
    ]


async def test_a_node_that_ends_by_itself_ends_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = NodesHere({"n3": diverges})
    cluster.dead = {"n3": -9}
    async with told(monkeypatch, cluster) as tale:
        await tale.run()
        tale.board.rows["n1"].life = tale.board.rows["n2"].life = Life.ENDED
        await asyncio.wait_for(tale.watch(), DEADLINE)  # nobody is left to be watched
    assert tale.board.problems()[0] == "start: n3 ended by itself, with exit code -9"
    assert tale.board.problems()[1].startswith("not reached: register, read back")
    assert tale.board.rows["n3"].life is Life.ENDED


async def test_a_node_that_refuses_a_write_ends_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(node: Node) -> object:
        async def add(key: str, amount: int) -> int:
            raise KeyNotFoundError("refused by a test")

        return lying(node, counter_add=add)

    async with told(monkeypatch, NodesHere({"n2": refuses})) as tale:
        await tale.run()
    assert tale.board.problems() == ["count: refused by a test", "not reached: delete, kill, rejoin"]


# --- the view of a terminal ---


def status_of(node: str, fingerprint: str = "0123456789abcdef") -> Status:
    return Status(
        node_id=node,
        generation=1,
        cluster="demo-test",
        ready=True,
        clock=1,
        fingerprint=fingerprint,
        records=1234,
        tombstones=0,
        coverage={ORIGIN: 1},
        coverage_above={},
        uptime_seconds=1.0,
        version="1",
        strategy="push-pull",
        selector="random",
        peer_address="127.0.0.1:1",
        client_address="127.0.0.1:2",
        members=3,
        gossip=GossipCounters(**{field.name: 1 for field in dataclasses.fields(GossipCounters)}),
        last_round_age_seconds=None if node == "n1" else 0.4,
        last_round_peer="n1",
    )


def board_of(count: int) -> Board:
    rows = {
        f"n{number}": Row(f"n{number}", Life.UP, "127.0.0.1:2", status_of(f"n{number}"))
        for number in range(1, count + 1)
    }
    steps = [
        Step("start", "Start", Progress.DONE, detail="each knows all", seconds=1.5),
        Step("register", "Register", Progress.FAILED, seconds=0.2, problems=["n1: services/http/tcp is missing"]),
        Step("count", "Count", Progress.RUNNING, done=612, total=1000, agreed={"n2": 0.012}),
        Step("delete", "Delete 31 services"),
    ]
    return Board(rows, steps)


async def frames(board: Board, width: int = 110, height: int = 40, *, steps: bool = True) -> str:
    """What a terminal was sent, without its escape codes."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False)
    view = LiveView("the headline", console)
    async with view.showing(board, steps=steps):
        await asyncio.sleep(0)
    view.summarize(board)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", cast("io.StringIO", console.file).getvalue())


async def test_a_frame_shows_steps_with_ticks_and_nodes_with_their_state() -> None:
    board = board_of(3)
    board.rows["n3"].life, board.rows["n3"].status = Life.KILLED, None
    shown = await frames(board)
    assert re.search(r"✓ +Start +each knows all +1\.5 s", shown)
    assert re.search(r"✗ +Register +n1: services/http/tcp is missing +200 ms", shown)
    assert re.search(r"Count +━\S*━ 612 of 1,000", shown)
    assert re.search(r"· +Delete 31 services", shown)
    assert re.search(r"n1 +● up +127\.0\.0\.1:2 +1,234 +0123456789abcdef +0 +none yet +yes", shown)
    assert re.search(r"n2 +● up .* 0\.4 s, n1 +12 ms", shown)
    assert re.search(r"n3 +● killed +127\.0\.0\.1:2 +-", shown)
    assert "✗ Not everything agreed." in shown


async def test_a_node_that_differs_from_most_is_not_shown_as_agreed() -> None:
    board = board_of(3)
    board.rows["n2"].status = status_of("n2", "f" * 16)
    shown = await frames(board, steps=False)
    assert "the headline" not in shown
    assert re.search(r"n2 .* f{16} .* \.\.\.", shown)
    assert re.search(r"n3 .* yes", shown)


@pytest.mark.parametrize("width", [80, 100, 132])
async def test_no_line_is_wider_than_the_terminal_and_none_is_cut(width: int) -> None:
    board = board_of(3)
    board.rows["n1"].life = Life.CATCHING_UP
    board.steps[2].detail = "waiting until the nodes agree"
    lines = (await frames(board, width)).splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.rstrip().endswith("agreed") and line.startswith("node") for line in lines)
    assert any("● catching up" in line and line.rstrip().endswith("yes") for line in lines)


async def test_nodes_that_do_not_fit_are_counted_while_it_runs_and_shown_at_the_end() -> None:
    shown = await frames(board_of(20), height=20)
    first, _, rest = shown.partition("more")
    assert "n8" in first
    assert "n9" not in first
    assert "n20" in rest


async def test_the_end_of_a_step_is_held_for_a_moment() -> None:
    start = time.monotonic()
    await LiveView("x", Console(file=io.StringIO())).tell(Step("start", "Start"))
    assert time.monotonic() - start > 0.2


# --- processes ---


async def test_a_node_that_does_not_start_is_told_with_the_end_of_its_log() -> None:
    async with NodeProcesses(3) as cluster:
        cluster.cluster = "not a name"
        with pytest.raises(NodeProcessError, match=r"n1 ended with exit code 2; the end of its log:\n  .*cluster"):
            await cluster.start("n1")
    assert not cluster.logs.exists()


async def test_a_node_that_does_not_listen_in_time_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "START_TIMEOUT", 0.02)
    async with NodeProcesses(3) as cluster:
        with pytest.raises(NodeProcessError, match="n1 did not listen within"):
            await cluster.start("n1")


async def test_the_second_signal_kills_the_nodes_at_once() -> None:
    killed = []
    interruption = demo._Interruption(cast("NodeProcesses", SimpleNamespace(kill_all=lambda: killed.append(True))))
    interruption.held = asyncio.Event()
    interruption.take(signal.SIGINT)
    assert (interruption.held.is_set(), interruption.number, killed) == (True, None, [])
    interruption.take(signal.SIGINT)
    assert killed == [True]


def test_suggestions_name_the_program_as_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cast("NodeProcesses", SimpleNamespace(cluster="demo-1", peer_address=lambda node: f"{node}:1"))

    def suggested(argument: str, *found: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [argument])
        monkeypatch.setattr("shutil.which", lambda name: name if name in found else None)
        return demo_suggestions.suggestions(cluster, {"n1": "127.0.0.1:1"}, Expected(values={"a b": "1"}))

    assert "  gossip-grpc members --address 127.0.0.1:1" in suggested("x", "gossip-grpc", "grpcurl")
    assert "  bin/gossip-grpc kv get 'a b' --address 127.0.0.1:1" in suggested("bin/gossip-grpc")
    assert any(line.endswith("-m gossip_grpc status --address 127.0.0.1:1") for line in suggested("__main__.py"))
    assert any("https://github.com/fullstorydev/grpcurl" in line for line in suggested("x"))
    assert not any("https:" in line for line in suggested("x", "grpcurl"))
    assert demo_suggestions.suggestions(cluster, {}, Expected()) == ["No node answers."]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts demos as a foreground shell does, with temporary files in tmp_path and a setting meant for others."""
    processes: list[subprocess.Popen[str]] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: str, prefix: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        processes.append(
            subprocess.Popen(
                [sys.executable, *prefix, "-m", "gossip_grpc", "demo", *arguments],
                env={**os.environ, "TMPDIR": str(tmp_path), "GOSSIP_FANOUT": "wrong", "TERM": "xterm-256color"},
                **options,
            )
        )
        return processes[-1]

    yield start
    signal.signal(signal.SIGINT, before)
    for process in processes:
        process.terminate()  # not SIGKILL, after which its nodes would stay
        process.wait(DEADLINE)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def nodes_of(cluster: str) -> dict[str, int]:
    """The node processes of a demo that run: node -> process id."""
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in listing.splitlines() if f"--cluster {cluster} " in line and "gossip_grpc" in line]
    return {words[words.index("--node-id") + 1]: int(words[0]) for words in rows}


def cluster_in(text: str) -> str:
    found = re.search(r"demo-[0-9a-f]{6}", text)
    assert found, text
    return found[0]


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The output up to the line that holds the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"no {text!r} in {lines} {process.communicate()}")


def test_a_run_without_a_terminal_prints_plain_lines_and_leaves_nothing_behind(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started("--nodes", "3", "--seed", "7")
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, ""), output
    assert "\x1b" not in output
    assert "\r" not in output
    lines = output.splitlines()
    assert re.fullmatch(r"gossip-grpc demo: 3 nodes \(demo-\w{6}\), [\d,]+ services of .*, seed 7", lines[0])
    assert [line.split()[0] for line in lines[1:8]] == ["ok"] * 7
    assert re.search(r"ok +Add 3 x 333 at once: 999 on each node \(.*\); agreed after: n1 .*, n2 .*, n3 ", output)
    assert re.search(
        r"NODE +STATUS +RECORDS +FINGERPRINT +COUNTER +START +REGISTER +COUNT +DELETE +KILL +REJOIN", output
    )
    rows = [line.split() for line in lines if re.match(r"n[123] ", line)]
    assert len(rows) == 3
    assert len({tuple(row[1:5]) for row in rows}) == 1
    assert rows[0][4] == "1,099"
    assert lines[-1] == "All 3 nodes agree, and hold what they should."
    assert nodes_of(cluster_in(output)) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_ends_every_node(
    number: signal.Signals, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started("--nodes", "3")
    cluster = cluster_in(read_until(process, "ok      Register"))
    running = nodes_of(cluster)
    assert set(running) == {"n1", "n2", "n3"}
    assert all(os.getsid(pid) == pid for pid in running.values()), "Ctrl-C would reach the nodes too"
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + number
    assert errors == f"{number.name}: stopped; no node is left behind\n"
    assert nodes_of(cluster) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_the_nodes_start_ends_them_too(started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started("--nodes", "3")
    cluster = cluster_in(read_until(process, "gossip-grpc demo"))
    end = time.monotonic() + DEADLINE
    while "n2" not in nodes_of(cluster):
        assert time.monotonic() < end
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # impatient: kills them at once
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGINT
    assert nodes_of(cluster) == {}


def test_a_node_that_somebody_kills_fails_the_demo_and_keeps_the_logs(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started("--nodes", "3")
    output = read_until(process, "ok      Start")
    os.kill(nodes_of(cluster_in(output))["n2"], signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "n2 ended by itself, with exit code -9" in output
    assert "FAILED" in output
    assert "Not everything agreed." in output
    logs = next(tmp_path.iterdir())
    assert f"The logs of the nodes are kept in {logs}" in output
    assert '"node started"' in (logs / "n2.log").read_text()


def test_keep_holds_the_cluster_and_what_it_suggests_works(started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started("--nodes", "3", "--keep")
    output = read_until(process, "gossip.v1.PeerService/Pull")
    cluster = cluster_in(output)
    commands = [line.strip() for line in output.splitlines() if line.startswith("  ")]

    def run(words: str) -> str:
        command = next(line for line in commands if words in line)
        return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout  # noqa: S602

    assert "n3" in run(" members --address")
    assert run("kv put greeting hello") == ""
    assert run("counter list") == "KEY             VALUE\ndemo/additions   1099\n"
    assert run("leave --address")
    end = time.monotonic() + DEADLINE
    while set(nodes_of(cluster)) != {"n1", "n2"}:
        assert time.monotonic() < end
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")
    assert nodes_of(cluster) == {}


def test_what_is_suggested_of_grpcurl_works(started: Callable[..., subprocess.Popen[str]], grpcurl: str) -> None:
    process = started("--nodes", "3", "--keep")
    output = read_until(process, "gossip.v1.PeerService/Pull")
    commands = [line.strip() for line in output.splitlines() if line.startswith("  grpcurl")]
    outputs = [subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout for line in commands]  # noqa: S602
    listed, got, status, pulled = outputs
    assert "gossip.v1.KeyValueService" in listed
    # Which key is suggested depends on what this machine knows and on what was deleted.
    key = re.findall(r'"key": "(.*)"', got)[0]
    assert '"text": "' in got
    assert '"fingerprint"' in status
    assert f'"{key}"' in pulled
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes standard input the controlling terminal, then becomes the program."""


def in_terminal(started: Callable[..., subprocess.Popen[str]], *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A demo on a terminal of its own of 110 columns, and the terminal's other end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (35, 110))
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = started(*arguments, prefix=("-c", _ON_TERMINAL), start_new_session=True, **streams)
    os.close(theirs)
    return process, ours


def read_terminal(terminal: int, text: str = "") -> str:
    """What the terminal was sent: up to the text, or all of it."""
    shown = b""
    while not text or text.encode() not in shown:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            assert not text, shown
            break
        shown += part
    return shown.decode(errors="replace")


def test_a_run_on_a_terminal_is_drawn(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    few = tmp_path / "few" / "services"
    few.write_text("http 80/tcp www\nodd\nssh 22/tcp\n")
    process, terminal = in_terminal(started, "--nodes", "3", "--services", str(few))
    shown = read_terminal(terminal)
    os.close(terminal)
    assert process.wait(DEADLINE) == 0
    assert "\x1b[" in shown
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).split())
    assert "2 services of" in text
    assert "(1 odd line skipped)" in text
    assert "✓ All 3 nodes agree, and hold what they should." in shown


def test_the_end_of_the_terminal_is_the_end_of_the_nodes(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process, terminal = in_terminal(started, "--nodes", "3")
    cluster = cluster_in(read_terminal(terminal, "each knows all"))
    assert set(nodes_of(cluster)) == {"n1", "n2", "n3"}
    os.close(terminal)
    assert process.wait(DEADLINE) == 128 + signal.SIGHUP
    assert nodes_of(cluster) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_nodes(started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started("--nodes", "3")
    assert process.stdout is not None
    cluster = cluster_in(process.stdout.readline())
    process.stdout.close()
    assert process.wait(DEADLINE) == 128 + signal.SIGPIPE
    assert nodes_of(cluster) == {}


def test_a_file_without_services_is_refused(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "none").write_text("# nothing\n")
    process = started("--services", str(tmp_path / "none"))
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (1, "")
    assert errors.startswith(f"Error: {tmp_path / 'none'}: there is no service in it")


def test_help_needs_neither_grpc_nor_rich() -> None:
    code = (
        "import sys; from gossip_grpc.cli.root import root; root.main(['demo', '--help'], standalone_mode=False);"
        "sys.exit(any(name in sys.modules for name in ('grpc', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
