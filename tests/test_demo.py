"""`gossip-grpc demo`: its parser, its verdict (which must bite), its views, and runs with real processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gossip_grpc.client import Origin
from gossip_grpc.demo import checks, services
from gossip_grpc.demo.agreement import Agreement, State, leading
from gossip_grpc.demo.board import Board, Progress, Step, duration
from gossip_grpc.demo.checks import Expected, Sighting
from gossip_grpc.demo.services import Service, Services

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
