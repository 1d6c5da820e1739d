"""The command line: what it asks, how it shows answers, and how it fails. The node it asks is a fake."""

# ruff: noqa: S106 - page tokens are no secrets

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
from google.protobuf.message import Message

from gossip_grpc import __version__
from gossip_grpc.cli import main
from gossip_grpc.cli.base import LazyGroup
from gossip_grpc.cli.root import COMMANDS, root
from gossip_grpc.config import Config
from gossip_grpc.gen.gossip.v1 import cluster_pb2, common_pb2, counter_pb2, event_pb2, kv_pb2, set_pb2
from tests.fake_node import FakeNode, Fault, serving

DEADLINE = 20.0
ORIGIN = common_pb2.Origin(node_id="a", generation=7)
TOKEN = common_pb2.Session(clock=9, dots=[common_pb2.Dot(origin=ORIGIN, sequence=3)])
TOKEN_TEXT = "CAkSCQoFCgFhEAcQAw"  # noqa: S105 - no secret
TOKEN_JSON = {"clock": 9, "dots": [{"origin": "a/7", "sequence": 3}], "session": TOKEN_TEXT}


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Done]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    for name in [name for name in os.environ if name.startswith("GOSSIP_")]:
        monkeypatch.delenv(name)
    # As users run it: the buffer of stdout is part of what happens when a write fails.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with serving() as node:
        monkeypatch.setenv("GOSSIP_ADDRESS", node.address)
        yield node


@pytest.fixture
def cli(node: FakeNode, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    def run(*args: str, stdin: bytes = b"", terminal: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["gossip-grpc", *args])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        if terminal:
            monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
            monkeypatch.setenv("COLUMNS", str(terminal))
            monkeypatch.setenv("TERM", "xterm")
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsysbinary.readouterr()
        shown = out.decode(errors="replace")
        return Done(int(done.value.code or 0), click.unstyle(shown) if terminal else shown, err.decode(), out)

    return run


def entry(key: str, value: str | bytes) -> kv_pb2.Entry:
    proto = common_pb2.Value(text=value) if isinstance(value, str) else common_pb2.Value(data=value)
    return kv_pb2.Entry(key=key, value=proto, dot=TOKEN.dots[0], clock=9)


def holding(*entries: kv_pb2.Entry) -> dict[type[Message], Any]:
    """The answers of a node that holds these entries."""
    found = {entry.key: entry for entry in entries}

    def get(request: kv_pb2.KeyValueServiceGetRequest) -> Message | Fault:
        if request.key in found:
            return kv_pb2.KeyValueServiceGetResponse(entry=found[request.key])
        return Fault(grpc.StatusCode.NOT_FOUND, f"there is no value for {request.key!r}", "KEY_NOT_FOUND")

    return {
        kv_pb2.KeyValueServiceGetRequest: get,
        kv_pb2.KeyValueServiceListRequest: kv_pb2.KeyValueServiceListResponse(entries=entries),
        kv_pb2.KeyValueServicePutRequest: kv_pb2.KeyValueServicePutResponse(session=TOKEN),
    }


# --- kv ---


def test_get_prints_text_and_a_newline(node: FakeNode, cli: Cli) -> None:
    node.answers = holding(entry("k", "grüße"))
    assert cli("kv", "get", "k") == Done(0, "grüße\n", "", "grüße\n".encode())


def test_get_prints_bytes_as_they_are(node: FakeNode, cli: Cli) -> None:
    node.answers = holding(entry("k", b"\x00\xff\n"))
    assert cli("kv", "get", "k").raw == b"\x00\xff\n"


@pytest.mark.parametrize(
    ("value", "shown"), [("text\n", "text\n"), (b"\x00\xff", {"base64": "AP8="})], ids=["text", "bytes"]
)
def test_get_as_json_tells_the_write_and_bytes_from_text(
    node: FakeNode, cli: Cli, value: str | bytes, shown: object
) -> None:
    node.answers = holding(entry("k", value))
    write = {"clock": 9, "dot": {"origin": "a/7", "sequence": 3}}
    expected = {"key": "k", "value": shown, **write, "expires_at": None, "ephemeral": False}
    assert cli("kv", "get", "k", "--output", "json").json == expected


def test_a_missing_key_is_exit_code_1_and_one_line(node: FakeNode, cli: Cli) -> None:
    node.answers = holding()
    assert cli("kv", "get", "k") == Done(1, "", "Error: there is no value for 'k'\n", b"")


@pytest.mark.parametrize(
    ("args", "stdin", "value"),
    [
        (["hello"], b"", common_pb2.Value(text="hello")),
        ([""], b"", common_pb2.Value(text="")),
        (["-5"], b"", common_pb2.Value(text="-5")),
        (["--", "--output"], b"", common_pb2.Value(text="--output")),
        (["-"], "grüße\n".encode(), common_pb2.Value(text="grüße\n")),
        (["--file", "-"], b"\x00\xff", common_pb2.Value(data=b"\x00\xff")),
    ],
)
def test_put_takes_its_value_from_where_it_is_told(
    node: FakeNode, cli: Cli, args: list[str], stdin: bytes, value: common_pb2.Value
) -> None:
    node.answers = holding()
    assert cli("kv", "put", "k", *args, stdin=stdin) == Done(0, "", "", b"")
    assert node.requests == [kv_pb2.KeyValueServicePutRequest(key="k", value=value)]


def test_put_writes_a_file_as_bytes_and_tells_its_token_in_json(node: FakeNode, cli: Cli, tmp_path: Path) -> None:
    node.answers = holding()
    (tmp_path / "text").write_bytes(b"text")
    done = cli("kv", "put", "k", "--file", str(tmp_path / "text"), "--output", "json")
    assert done.json == {"key": "k", **TOKEN_JSON}
    assert node.requests[0].value == common_pb2.Value(data=b"text")


@pytest.mark.parametrize(
    ("args", "stdin", "line"),
    [
        ([], b"", "Error Give either VALUE or --file PATH."),
        (["v", "--file", "-"], b"", "Error Give either VALUE or --file PATH."),
        (["-"], b"\xff", "Error Standard input is not UTF-8; write it as bytes with `--file -`."),
        (["--flie", "x"], b"", "Error No such option --flie"),
        (["-5", "--flie"], b"", "Error No such option --flie"),
        (["v", "--timeout"], b"", "Error Option --timeout requires an argument."),
    ],
)
def test_put_refuses_what_it_cannot_have_meant(
    node: FakeNode, cli: Cli, args: list[str], stdin: bytes, line: str
) -> None:
    done = cli("kv", "put", "k", *args, stdin=stdin)
    assert done.code == 2
    assert line in done.err.splitlines()[-1].replace(":", "").replace("'", "")  # click's versions differ in these
    assert not node.requests


def test_delete_says_whether_there_was_something(node: FakeNode, cli: Cli) -> None:
    response = kv_pb2.KeyValueServiceDeleteResponse
    node.answers[kv_pb2.KeyValueServiceDeleteRequest] = response(session=TOKEN, found=True)
    assert cli("kv", "delete", "k").out == "deleted\n"
    assert cli("kv", "delete", "k", "--output", "json").json == {"key": "k", "found": True, **TOKEN_JSON}
    node.answers[kv_pb2.KeyValueServiceDeleteRequest] = response(session=common_pb2.Session(clock=9))
    assert cli("kv", "delete", "k") == Done(0, "nothing to delete\n", "", b"nothing to delete\n")


def test_a_session_is_sent_and_goes_on_in_what_is_printed(node: FakeNode, cli: Cli) -> None:
    answer = common_pb2.Session(clock=12, dots=[common_pb2.Dot(origin=ORIGIN, sequence=8)])
    node.answers[kv_pb2.KeyValueServicePutRequest] = kv_pb2.KeyValueServicePutResponse(session=answer)
    said = cli("kv", "put", "k", "v", "--session", TOKEN_TEXT, "--output", "json").json
    assert node.requests[-1].session == TOKEN
    cli("kv", "put", "k", "v", "--session", said["session"])
    assert node.requests[-1].session == common_pb2.Session(clock=12, dots=[*TOKEN.dots, *answer.dots])


@pytest.mark.parametrize("command", ["kv get k", "kv delete k", "kv list", "counter get c", "set list"])
def test_every_command_about_data_takes_a_session(node: FakeNode, cli: Cli, command: str) -> None:
    cli(*command.split(), "--session", TOKEN_TEXT)
    assert node.requests[-1].session == TOKEN


def test_what_is_no_session_is_wrong_usage(node: FakeNode, cli: Cli) -> None:
    done = cli("kv", "get", "k", "--session", "?")
    assert done.code == 2
    assert "is not the text of a session" in done.err
    assert not node.requests


# --- tables ---

HOSTILE = [
    entry("a\nb", "\x1b[31mred"),
    entry("[red]c[/red]", b"\x00"),
    entry("long", "words " * 50),
]


def test_a_list_into_a_pipe_is_whole_plain_and_a_line_a_row(node: FakeNode, cli: Cli) -> None:
    node.answers = holding(*HOSTILE)
    assert cli("kv", "list").out.splitlines() == [
        "KEY           ENDS  VALUE",
        "a\\nb          -     \\x1b[31mred",
        "[red]c[/red]  -     base64:AA==",
        f"long          -     {'words ' * 50}".rstrip(),
    ]


def test_a_list_on_a_terminal_fits_its_width(node: FakeNode, cli: Cli) -> None:
    node.answers = holding(*HOSTILE)
    lines = [line.rstrip() for line in cli("kv", "list", terminal=40).out.splitlines()]
    assert set(lines.pop(1)) == {"─"}
    assert [line.split()[:2] for line in lines] == [
        ["key", "value"],
        ["a\\nb", "\\x1b[31mred"],
        ["[red]c[/red]", "base64:AA=="],
        ["long", "words"],
    ]
    assert 38 <= len(lines[-1]) <= 40
    assert lines[-1].endswith("…")


def test_an_empty_list_says_so_on_a_terminal(node: FakeNode, cli: Cli) -> None:
    node.answers = holding()
    assert cli("kv", "list", terminal=40).out == "(none)\n"
    assert cli("kv", "list", "--output", "json").json == []


def test_an_empty_list_in_a_pipe_is_only_its_header(node: FakeNode, cli: Cli) -> None:
    node.answers = holding()
    assert cli("kv", "list").out == "KEY  ENDS  VALUE\n"


def test_lists_take_a_prefix_and_are_arrays_in_json(node: FakeNode, cli: Cli) -> None:
    node.answers = holding(entry("p1", "1"), entry("p2", b"2"))
    listed = cli("kv", "list", "p", "--output", "json")
    assert [(item["key"], item["value"]) for item in listed.json] == [("p1", "1"), ("p2", {"base64": "Mg=="})]
    assert listed.json[0] == {
        "key": "p1",
        "value": "1",
        "clock": 9,
        "dot": {"origin": "a/7", "sequence": 3},
        "expires_at": None,
        "ephemeral": False,
    }
    assert node.requests == [kv_pb2.KeyValueServiceListRequest(prefix="p")]


def test_a_list_says_when_and_with_what_values_end(node: FakeNode, cli: Cli) -> None:
    ends, goes = entry("ends", "v"), entry("goes", "v")
    ends.expires_at_unix_milliseconds, goes.ephemeral = 1_767_225_600_500, True
    both = kv_pb2.Entry()
    both.CopyFrom(ends)
    both.key, both.ephemeral = "both", True
    node.answers = holding(ends, goes, both)
    at = f"{datetime.fromtimestamp(1_767_225_600.5).astimezone():%Y-%m-%d %H:%M:%S}"
    assert [line.split("  ")[1:2] for line in cli("kv", "list").out.splitlines()[1:3]] == [[at], ["ephemeral"]]
    assert cli("kv", "list").out.splitlines()[3].startswith(f"both  {at} ephemeral  v")
    assert cli("kv", "list", "--output", "json").json[2]["expires_at"] == 1_767_225_600.5


@pytest.mark.parametrize(
    ("given", "milliseconds"),
    [("30s", 30_000), ("1.5", 1_500), ("250ms", 250), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000)],
)
def test_put_gives_a_value_an_end(node: FakeNode, cli: Cli, given: str, milliseconds: int) -> None:
    node.answers[kv_pb2.KeyValueServicePutRequest] = kv_pb2.KeyValueServicePutResponse(session=TOKEN)
    assert cli("kv", "put", "k", "v", "--ttl", given, "--ephemeral").code == 0
    [request] = node.requests
    assert (request.ttl_milliseconds, request.ephemeral) == (milliseconds, True)


@pytest.mark.parametrize("given", ["0s", "5x", "-5", "s", "1e3", "1 m"])
def test_put_takes_no_other_times(node: FakeNode, cli: Cli, given: str) -> None:
    refused = cli("kv", "put", "k", "v", "--ttl", given)
    assert (refused.code, node.requests) == (2, [])
    assert "is not a time such as 30s, 5m, 12h or 7d" in refused.err


# --- watches ---

STOPS = Fault(grpc.StatusCode.UNAVAILABLE, "the node stops; watch another one", "STOPPING")
DOT = TOKEN.dots[0]


def lines_of(done: Done) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in done.out.splitlines()]


def text(value: str) -> common_pb2.Value:
    return common_pb2.Value(text=value)


ENTRIES: list[Message | Fault] = [
    kv_pb2.KeyValueServiceWatchResponse(kind=kv_pb2.KEY_VALUE_EVENT_KIND_RESET, cause="the token is of node b"),
    kv_pb2.KeyValueServiceWatchResponse(
        kind=kv_pb2.KEY_VALUE_EVENT_KIND_SNAPSHOT, key="k", entry=entry("k", "old"), dot=DOT, clock=9
    ),
    kv_pb2.KeyValueServiceWatchResponse(kind=kv_pb2.KEY_VALUE_EVENT_KIND_CURRENT, cause="all", resume_token="a/1/1/x"),
    kv_pb2.KeyValueServiceWatchResponse(
        kind=kv_pb2.KEY_VALUE_EVENT_KIND_PUT,
        key="k",
        entry=entry("k", b"\0"),
        old_value=text("o\nd"),
        dot=DOT,
        clock=9,
        resume_token="a/1/2/x",
    ),
    kv_pb2.KeyValueServiceWatchResponse(
        kind=kv_pb2.KEY_VALUE_EVENT_KIND_EXPIRED, key="k", old_value=text("v"), dot=DOT, clock=9, resume_token="a/1/3/x"
    ),
    STOPS,
]


def test_a_watch_of_entries_shows_old_and_new_value_and_the_write(node: FakeNode, cli: Cli) -> None:
    node.answers[kv_pb2.KeyValueServiceWatchRequest] = ENTRIES
    watched = cli("kv", "watch", "k", "--resume", "b/1/1/x")
    assert lines_of(watched) == [
        "reset     the token is of node b",
        'snapshot  k: "old"  (a/7, clock 9)',
        "current   all",
        'put       k: "o\\nd" -> base64:AA==  (a/7, clock 9)',
        'expired   k: "v"  (a/7, clock 9)',
    ]
    assert node.requests == [kv_pb2.KeyValueServiceWatchRequest(prefix="k", resume_token="b/1/1/x")]
    end = "Error: the node stops; watch another one (to go on from there: --resume a/1/3/x)\n"
    assert (watched.code, watched.err) == (3, end)


def test_a_watch_of_entries_in_json_is_an_object_a_line(node: FakeNode, cli: Cli) -> None:
    node.answers[kv_pb2.KeyValueServiceWatchRequest] = ENTRIES
    _, snapshot, current, put, expired = map(json.loads, cli("kv", "watch", "--output", "json").out.splitlines())
    assert (snapshot["entry"]["value"], snapshot["token"]) == ("old", "")
    assert (current["key"], current["entry"], current["cause"], current["dot"]) == ("", None, "all", None)
    assert put == {
        "kind": "put",
        "key": "k",
        "entry": {
            "key": "k",
            "value": {"base64": "AA=="},
            "clock": 9,
            "dot": {"origin": "a/7", "sequence": 3},
            "expires_at": None,
            "ephemeral": False,
        },
        "old_value": "o\nd",
        "clock": 9,
        "dot": {"origin": "a/7", "sequence": 3},
        "cause": "",
        "token": "a/1/2/x",
    }
    assert (expired["kind"], expired["entry"], expired["old_value"]) == ("expired", None, "v")


def test_a_watch_that_fails_at_once_has_no_token_to_go_on_with(node: FakeNode, cli: Cli) -> None:
    node.answers[kv_pb2.KeyValueServiceWatchRequest] = [STOPS]
    assert cli("kv", "watch").err == "Error: the node stops; watch another one\n"


def test_a_long_value_in_a_watch_is_cut_off_on_a_terminal_only(node: FakeNode, cli: Cli) -> None:
    put = kv_pb2.KeyValueServiceWatchResponse(
        kind=kv_pb2.KEY_VALUE_EVENT_KIND_PUT, key="k", entry=entry("k", "x" * 100), dot=DOT, clock=9
    )
    node.answers[kv_pb2.KeyValueServiceWatchRequest] = [put, STOPS]
    assert f'k: "{"x" * 100}"' in cli("kv", "watch").out
    assert f'k: "{"x" * 58}…' in cli("kv", "watch", terminal=100).out


def test_a_watch_of_counters_shows_their_values(node: FakeNode, cli: Cli) -> None:
    def counter(value: int) -> counter_pb2.Counter:
        return counter_pb2.Counter(key="c", value=value)

    event = counter_pb2.CounterServiceWatchResponse
    node.answers[counter_pb2.CounterServiceWatchRequest] = [
        event(kind=counter_pb2.COUNTER_EVENT_KIND_SNAPSHOT, counter=counter(5)),
        event(kind=counter_pb2.COUNTER_EVENT_KIND_CURRENT, cause="all"),
        event(kind=counter_pb2.COUNTER_EVENT_KIND_CHANGED, counter=counter(3), old_value=5, dot=DOT, clock=9),
        STOPS,
    ]
    assert lines_of(cli("counter", "watch", "c")) == [
        "snapshot  c: 5",
        "current   all",
        "changed   c: 5 -> 3  (a/7, clock 9)",
    ]
    snapshot, current, changed = map(json.loads, cli("counter", "watch", "--output", "json").out.splitlines())
    assert (snapshot["value"], snapshot["old_value"], current["value"]) == (5, None, None)
    assert (changed["key"], changed["value"], changed["old_value"]) == ("c", 3, 5)


def test_a_watch_of_sets_shows_their_elements(node: FakeNode, cli: Cli) -> None:
    event = set_pb2.SetServiceWatchResponse
    node.answers[set_pb2.SetServiceWatchRequest] = [
        event(kind=set_pb2.SET_EVENT_KIND_CURRENT, cause="all"),
        event(kind=set_pb2.SET_EVENT_KIND_ADDED, key="s", element=text("x"), dot=DOT, clock=9),
        event(kind=set_pb2.SET_EVENT_KIND_REMOVED, key="s", element=common_pb2.Value(data=b"\0"), dot=DOT, clock=9),
        STOPS,
    ]
    assert lines_of(cli("set", "watch", "s")) == [
        "current   all",
        'added     s: "x"  (a/7, clock 9)',
        "removed   s: base64:AA==  (a/7, clock 9)",
    ]
    current, added, _ = map(json.loads, cli("set", "watch", "--output", "json").out.splitlines())
    assert (current["element"], added["key"], added["element"]) == (None, "s", "x")


def test_an_event_is_published_from_an_argument_or_a_file(node: FakeNode, cli: Cli, tmp_path: Path) -> None:
    node.answers[event_pb2.EventServicePublishRequest] = event_pb2.EventServicePublishResponse(session=TOKEN)
    (tmp_path / "content").write_bytes(b"\0")
    assert cli("event", "publish", "t", "hello").out == ""
    done = cli("event", "publish", "t", "--file", str(tmp_path / "content"), "--ordering-key", "k", "--output", "json")
    assert json.loads(done.out)["topic"] == "t"
    assert cli("event", "publish", "t", "x", "--request-id", "deploy-7").code == 0
    assert cli("event", "publish", "t").code == 2
    first, second, third = node.requests
    assert (first.topic, first.payload, first.ordering_key) == ("t", text("hello"), "")
    assert (second.topic, second.payload, second.ordering_key) == ("t", common_pb2.Value(data=b"\0"), "k")
    assert third.request_id == "deploy-7"
    for empty in (("event", "publish", "t", "x", "--request-id", ""), ("kv", "watch", "--resume", "")):
        refused = cli(*empty)
        assert refused.code == 2
        assert "it is empty; leave the option out, or give it its text" in refused.err
    assert len({first.request_id, second.request_id, ""}) == 3


def test_a_subscription_shows_events_until_the_node_ends_it(node: FakeNode, cli: Cli) -> None:
    told, published = event_pb2.EventServiceSubscribeResponse, event_pb2.Event
    event = event_pb2.SUBSCRIPTION_EVENT_KIND_EVENT
    one = published(dot=DOT, topic="a/1", payload=text("x"), clock=9, published_at_unix_milliseconds=1_500)
    later = common_pb2.Dot(origin=ORIGIN, sequence=4)
    two = published(dot=later, topic="b", payload=common_pb2.Value(data=b"\0"), ordering_key="k", clock=10)
    node.answers[event_pb2.EventServiceSubscribeRequest] = [
        told(kind=event, event=one),
        told(kind=event_pb2.SUBSCRIPTION_EVENT_KIND_CURRENT, cause="all", resume_token="a/1/1/x"),
        told(kind=event, event=two, resume_token="a/1/2/x"),
        STOPS,
    ]
    done = cli("event", "subscribe", "a/*", "b", "--retained", "--resume", "a/1/0/x")
    assert lines_of(done) == [
        'event     a/1: "x"  (a/7, clock 9)',
        "current   all",
        "event     b [k]: base64:AA==  (a/7, clock 10)",
    ]
    assert done.err == "Error: the node stops; watch another one (to go on from there: --resume a/1/2/x)\n"
    start = event_pb2.SUBSCRIPTION_START_RETAINED
    request = event_pb2.EventServiceSubscribeRequest(topics=["a/*", "b"], start=start, resume_token="a/1/0/x")
    assert node.requests == [request]
    first, marker, _ = map(json.loads, cli("event", "subscribe", "*", "--output", "json").out.splitlines())
    assert (first["topic"], first["payload"], first["ordering_key"], first["published_at"]) == ("a/1", "x", "", 1.5)
    assert (first["clock"], marker["topic"], marker["token"]) == (9, None, "a/1/1/x")


def test_a_list_flows_page_by_page(node: FakeNode, cli: Cli) -> None:
    def page(request: kv_pb2.KeyValueServiceListRequest) -> Message | Fault:
        if request.page_token:
            return Fault(grpc.StatusCode.UNAVAILABLE, "the node is stopping; ask another", "STOPPING")
        entries = [entry(f"k{number}", "v") for number in range(1001)]
        return kv_pb2.KeyValueServiceListResponse(entries=entries, next_page_token="t")

    node.answers[kv_pb2.KeyValueServiceListRequest] = page
    done = cli("kv", "list")
    assert (done.code, done.err) == (3, "Error: the node is stopping; ask another\n")
    assert len(done.out.splitlines()) == 1002


# --- counters and sets ---


def test_counters_print_their_value_alone(node: FakeNode, cli: Cli) -> None:
    node.answers = {
        counter_pb2.CounterServiceGetRequest: counter_pb2.CounterServiceGetResponse(
            counter=counter_pb2.Counter(key="c", value=-4)
        ),
        counter_pb2.CounterServiceAddRequest: counter_pb2.CounterServiceAddResponse(value=5, session=TOKEN),
        counter_pb2.CounterServiceResetRequest: counter_pb2.CounterServiceResetResponse(session=TOKEN),
        counter_pb2.CounterServiceListRequest: counter_pb2.CounterServiceListResponse(
            counters=[counter_pb2.Counter(key="c", value=5), counter_pb2.Counter(key="d", value=-12)]
        ),
    }
    assert cli("counter", "get", "c").out == "-4\n"
    assert cli("counter", "get", "c", "--output", "json").json == {"key": "c", "value": -4}
    assert cli("counter", "add", "c").out == "5\n"
    assert cli("counter", "add", "c", "-5").out == "5\n"
    assert cli("counter", "add", "c", "--output", "json", "-5").json == {
        "key": "c",
        "value": 5,
        "session": TOKEN_TEXT,
    }
    assert [request.amount for request in node.requests[2:]] == [1, -5, -5]
    assert cli("counter", "reset", "c").out == ""
    assert cli("counter", "reset", "c", "--output", "json").json == {"key": "c", **TOKEN_JSON}
    assert cli("counter", "list").out == "KEY  VALUE\nc        5\nd      -12\n"
    assert cli("counter", "list", terminal=80).out.splitlines()[2:] == ["c        5", "d      -12"]
    assert cli("counter", "list", "--output", "json").json == [{"key": "c", "value": 5}, {"key": "d", "value": -12}]


def test_an_overflow_is_wrong_usage(node: FakeNode, cli: Cli) -> None:
    fault = Fault(grpc.StatusCode.OUT_OF_RANGE, "amount is too much; add less", "COUNTER_OVERFLOW")
    node.answers[counter_pb2.CounterServiceAddRequest] = fault
    assert cli("counter", "add", "c", "1") == Done(2, "", "Error: amount is too much; add less\n", b"")


def test_sets_print_counts_and_elements_a_line_each(node: FakeNode, cli: Cli) -> None:
    elements = [common_pb2.Value(text="b"), common_pb2.Value(text="a\n"), common_pb2.Value(data=b"\xff")]
    node.answers = {
        set_pb2.SetServiceGetRequest: set_pb2.SetServiceGetResponse(elements=elements, size=3),
        set_pb2.SetServiceAddRequest: set_pb2.SetServiceAddResponse(added=2, session=TOKEN),
        set_pb2.SetServiceRemoveRequest: set_pb2.SetServiceRemoveResponse(removed=1, session=TOKEN),
        set_pb2.SetServiceListRequest: set_pb2.SetServiceListResponse(sets=[set_pb2.SetSummary(key="s", size=3)]),
    }
    assert cli("set", "get", "s").out == "a\\n\nb\nbase64:/w==\n"
    listed = cli("set", "get", "s", "--output", "json").json
    assert listed == {"key": "s", "elements": ["a\n", "b", {"base64": "/w=="}]}
    assert cli("set", "add", "s", "x", "-1").out == "2\n"
    assert node.requests[-1].elements == [common_pb2.Value(text="x"), common_pb2.Value(text="-1")]
    assert cli("set", "add", "s", "x", "--output", "json").json == {"key": "s", "added": 2, "session": TOKEN_TEXT}
    assert cli("set", "remove", "s", "x").out == "1\n"
    assert cli("set", "remove", "s", "x", "--output", "json").json == {"key": "s", "removed": 1, "session": TOKEN_TEXT}
    assert cli("set", "list").out == "KEY  SIZE\ns       3\n"
    assert cli("set", "list", "--output", "json").json == [{"key": "s", "size": 3}]


# --- the cluster ---

MEMBERS = [
    cluster_pb2.Member(
        node_id="a",
        generation=7,
        incarnation=2,
        peer_address="10.0.0.1:7946",
        client_address="10.0.0.1:7947",
        zone="east",
        tags={"role": "db", "disk": "ssd"},
        version="0.1.0",
        status=cluster_pb2.MEMBER_STATUS_ALIVE,
        reachable=True,
        phi=0.25,
        status_age_seconds=3725.5,
        cause="it is heard",
    ),
    cluster_pb2.Member(node_id="b", status=cluster_pb2.MEMBER_STATUS_ALIVE),
    cluster_pb2.Member(node_id="c", status=cluster_pb2.MEMBER_STATUS_LEFT),
]


def test_members_are_listed_with_what_they_are_to_the_node(node: FakeNode, cli: Cli) -> None:
    response = cluster_pb2.ClusterServiceListMembersResponse(members=MEMBERS)
    node.answers[cluster_pb2.ClusterServiceListMembersRequest] = response
    assert cli("members").out.splitlines() == [
        "NODE  ADDRESS        ZONE  STATUS       PHI  SINCE      TAGS              VERSION",
        "a     10.0.0.1:7946  east  alive        0.2  1 h 2 min  disk=ssd,role=db  0.1.0",
        "b     -              -     unreachable    -  0.0 s      -                 -",
        "c     -              -     left           -  0.0 s      -                 -",
    ]
    first, second, _ = cli("members", "--output", "json").json
    assert first == {
        "node_id": "a",
        "generation": 7,
        "incarnation": 2,
        "peer_address": "10.0.0.1:7946",
        "client_address": "10.0.0.1:7947",
        "zone": "east",
        "tags": {"role": "db", "disk": "ssd"},
        "version": "0.1.0",
        "status": "alive",
        "reachable": True,
        "phi": 0.25,
        "status_age_seconds": 3725.5,
        "cause": "it is heard",
    }
    assert (second["status"], second["reachable"], second["phi"]) == ("alive", False, None)


def test_members_are_asked_for_by_status_zone_and_tags(node: FakeNode, cli: Cli) -> None:
    request = cluster_pb2.ClusterServiceListMembersRequest
    node.answers[request] = cluster_pb2.ClusterServiceListMembersResponse()
    cli("members", "--status", "dead", "--status", "suspect", "--zone", "east", "--tag", "a=b=c", "--tag", "d=")
    assert node.requests == [
        request(
            statuses=[cluster_pb2.MEMBER_STATUS_DEAD, cluster_pb2.MEMBER_STATUS_SUSPECT],
            zone="east",
            tags={"a": "b=c", "d": ""},
        )
    ]
    assert cli("members", "--tag", "role").code == 2
    assert cli("members", "--tag", "=x").err.endswith("'=x' is not of the form NAME=VALUE\n")
    assert cli("members", "--status", "gone").code == 2


def test_on_a_terminal_columns_that_nobody_fills_are_left_out(node: FakeNode, cli: Cli) -> None:
    response = cluster_pb2.ClusterServiceListMembersResponse(members=MEMBERS[1:])
    node.answers[cluster_pb2.ClusterServiceListMembersRequest] = response
    assert cli("members", terminal=80).out.splitlines()[0].split() == ["node", "status", "since"]


def explanation(own_client_address: str) -> Message:
    """Member c explained by node a; its other monitor b, as far as b says so, is reached at the address."""
    return cluster_pb2.ClusterServiceExplainMemberResponse(
        member=cluster_pb2.Member(
            node_id="c",
            generation=7,
            incarnation=2,
            peer_address="10.0.0.3:7946",
            status=cluster_pb2.MEMBER_STATUS_SUSPECT,
            status_age_seconds=4,
            cause="accused by node-a",
        ),
        monitors=[
            cluster_pb2.Monitor(
                node_id="node-a",
                view=cluster_pb2.MonitorView(
                    phi=12.34,
                    mean_seconds=0.5,
                    deviation_seconds=0.1,
                    heartbeat_age_seconds=4.25,
                    phase=cluster_pb2.MONITOR_PHASE_ACCUSING,
                ),
            ),
            cluster_pb2.Monitor(node_id="b", client_address=own_client_address),
        ],
        accusations=[
            cluster_pb2.MemberAccusation(
                accuser="node-a", made_at_unix_milliseconds=0, age_seconds=4, phi=8.04, incarnation=2
            )
        ],
        accusers_needed=2,
        verdict="2 members must accuse it",
    )


def test_explain_says_in_words_why_a_member_is_what_it_is(
    node: FakeNode, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        nobody = f"127.0.0.1:{holder.getsockname()[1]}"
    node.answers[cluster_pb2.ClusterServiceExplainMemberRequest] = explanation(nobody)
    assert cli("members", "explain", "c").out.splitlines() == [
        "c is suspect, for 4.0 s: accused by node-a",
        "generation 7, incarnation 2, at 10.0.0.3:7946",
        "monitored by:",
        "  node-a  accusing it: phi 12.3, last heartbeat 4.2 s ago (one each 0.50 s, deviation 0.10 s)",
        f"  b       did not say what it hears; ask it: --address {nobody}",
        "accused by:",
        "  node-a  since 1970-01-01 00:00:00, 4.0 s ago, at phi 8.0",
        "to be declared dead: 2 members must accuse it",
    ]
    assert node.requests == [cluster_pb2.ClusterServiceExplainMemberRequest(node_id="c")]


def test_explain_asks_the_other_monitors_what_they_hear(node: FakeNode, cli: Cli) -> None:
    with serving() as other:
        heard = cluster_pb2.Monitor(node_id="b", view=cluster_pb2.MonitorView(phi=3, phase=1))  # type: ignore[arg-type]
        answer = cluster_pb2.ClusterServiceExplainMemberResponse(
            monitors=[cluster_pb2.Monitor(node_id="node-a"), heard]
        )
        other.answers[cluster_pb2.ClusterServiceExplainMemberRequest] = answer
        node.answers[cluster_pb2.ClusterServiceExplainMemberRequest] = explanation(other.address)
        found = cli("members", "explain", "c", "--output", "json").json
        words = cli("members", "explain", "c").out
    assert [monitor["view"]["phi"] for monitor in found["monitors"]] == [12.34, 3.0]
    assert found["accusations"][0]["accuser"] == "node-a"
    assert "  b       listening: phi 3.0, no heartbeat yet (one each 0.00 s, deviation 0.00 s)\n" in words


def test_explaining_a_member_that_nobody_monitors_or_accuses_says_so(node: FakeNode, cli: Cli) -> None:
    response = cluster_pb2.ClusterServiceExplainMemberResponse(member=MEMBERS[2], verdict="it has left")
    node.answers[cluster_pb2.ClusterServiceExplainMemberRequest] = response
    lines = cli("members", "explain", "c").out.splitlines()
    assert lines[2:] == ["monitored by nobody", "accused by nobody", "it has left"]
    fault = Fault(grpc.StatusCode.NOT_FOUND, "this node knows no member 'z'", "MEMBER_NOT_FOUND")
    node.answers[cluster_pb2.ClusterServiceExplainMemberRequest] = fault
    missing = cli("members", "explain", "z")
    assert (missing.code, missing.err) == (1, "Error: this node knows no member 'z'\n")


HAPPENED: list[Message | Fault] = [
    cluster_pb2.ClusterServiceWatchMembersResponse(
        kind=cluster_pb2.MEMBER_EVENT_KIND_SNAPSHOT, member=MEMBERS[2], cause="it says that it leaves"
    ),
    cluster_pb2.ClusterServiceWatchMembersResponse(
        kind=cluster_pb2.MEMBER_EVENT_KIND_CURRENT, cause="these are all members", resume_token="a/7/1"
    ),
    cluster_pb2.ClusterServiceWatchMembersResponse(
        kind=cluster_pb2.MEMBER_EVENT_KIND_DEAD, member=MEMBERS[1], cause="accused by a, c", resume_token="a/7/2"
    ),
    Fault(grpc.StatusCode.UNAVAILABLE, "the node stops; watch another one", "STOPPING"),
]


def test_a_watch_is_a_line_an_event_until_the_node_stops(node: FakeNode, cli: Cli) -> None:
    node.answers[cluster_pb2.ClusterServiceWatchMembersRequest] = HAPPENED
    watched = cli("members", "--watch")
    assert [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in watched.out.splitlines()] == [
        "left      c: it says that it leaves",
        "current   these are all members",
        "dead      b: accused by a, c",
    ]
    assert (watched.code, watched.err) == (3, "Error: the node stops; watch another one\n")


def test_a_watch_in_json_is_an_object_a_line_with_the_token_to_resume(node: FakeNode, cli: Cli) -> None:
    node.answers[cluster_pb2.ClusterServiceWatchMembersRequest] = HAPPENED
    lines = cli("members", "--watch", "--resume", "a/7/0", "--output", "json").out.splitlines()
    snapshot, current, dead = map(json.loads, lines)
    assert (snapshot["kind"], snapshot["member"]["status"], snapshot["token"]) == ("snapshot", "left", "")
    assert (current["kind"], current["member"], current["token"]) == ("current", None, "a/7/1")
    assert (dead["kind"], dead["member"]["node_id"], dead["token"]) == ("dead", "b", "a/7/2")
    assert node.requests == [cluster_pb2.ClusterServiceWatchMembersRequest(resume_token="a/7/0")]


def test_a_watch_is_of_all_members(node: FakeNode, cli: Cli) -> None:
    assert cli("members", "--watch", "--zone", "east").code == 2
    assert cli("members", "--resume", "a/7/0").err.endswith("Error: --resume needs --watch\n")
    assert not node.requests


def test_tags_of_the_node_are_replaced_or_cleared(node: FakeNode, cli: Cli) -> None:
    request = cluster_pb2.ClusterServiceSetTagsRequest
    node.answers[request] = cluster_pb2.ClusterServiceSetTagsResponse()
    assert cli("members", "tags", "role=db", "disk=").out == "the node's tags are disk=,role=db now\n"
    assert cli("members", "tags", "--clear").out == "the node has no tags now\n"
    assert cli("members", "tags", "a=b", "--output", "json").json == {"tags": {"a": "b"}}
    assert node.requests == [request(tags={"role": "db", "disk": ""}), request(), request(tags={"a": "b"})]
    for wrong in ([], ["role"], ["a=b", "--clear"]):
        assert cli("members", "tags", *wrong).code == 2
    assert len(node.requests) == 3


def test_a_member_is_forgotten_and_pinged(node: FakeNode, cli: Cli) -> None:
    node.answers[cluster_pb2.ClusterServiceForgetMemberRequest] = cluster_pb2.ClusterServiceForgetMemberResponse()
    pong = cluster_pb2.ClusterServicePingResponse(round_trip_milliseconds=1.25)
    node.answers[cluster_pb2.ClusterServicePingRequest] = pong
    assert cli("members", "forget", "c").out == "c is forgotten\n"
    assert cli("members", "forget", "c", "--output", "json").json == {"node_id": "c", "forgotten": True}
    assert cli("members", "ping", "c").out == "1.2 ms\n"
    assert cli("members", "ping", "c", "--output", "json").json["round_trip_milliseconds"] == 1.25
    assert {request.node_id for request in node.requests} == {"c"}


STATUS = cluster_pb2.ClusterServiceGetStatusResponse(
    node_id="a",
    generation=7,
    cluster="default",
    ready=True,
    clock=12,
    fingerprint="00ff00ff00ff00ff",
    records=1234,
    tombstones=1,
    coverage=[
        cluster_pb2.OriginCoverage(origin=ORIGIN, sequence=5),
        cluster_pb2.OriginCoverage(
            origin=common_pb2.Origin(node_id="b", generation=1),
            sequence=2,
            above=[common_pb2.SequenceRange(first=4, last=4), common_pb2.SequenceRange(first=6, last=9)],
        ),
    ],
    uptime_seconds=3725.5,
    version="0.1.0",
    strategy="push-pull",
    selector="random",
    peer_address="10.0.0.1:7946",
    client_address="10.0.0.1:7947",
    members=2,
    gossip=cluster_pb2.GossipCounters(rounds=10, rounds_agreed=8, rounds_failed=1, records_merged=1),
    last_round_age_seconds=0.25,
    last_round_peer="b",
)


def test_status_tells_people_what_matters(node: FakeNode, cli: Cli) -> None:
    node.answers[cluster_pb2.ClusterServiceGetStatusRequest] = STATUS
    lines = cli("status").out.splitlines()
    assert lines[:13] == [
        "node            a, generation 7",
        "cluster         default, 2 members",
        "ready           yes",
        "version         0.1.0",
        "uptime          1 h 2 min",
        "peer address    10.0.0.1:7946",
        "client address  10.0.0.1:7947",
        "fingerprint     00ff00ff00ff00ff",
        "records         1,234, and 1 tombstone",
        "clock           12",
        "storage         memory only",
        "gossip          push-pull, random",
        "last round      0.2 s ago, with b",
    ]
    assert "rounds          10, 8 agreed at once, 1 failed" in lines
    assert lines[-3:] == [
        "COVERED ORIGIN  UP TO  AND",
        "a/7                 5  -",
        "b/1                 2  4, 6-9",
    ]


def test_status_as_json_has_all_of_the_response(node: FakeNode, cli: Cli) -> None:
    node.answers[cluster_pb2.ClusterServiceGetStatusRequest] = STATUS
    status = cli("status", "--output", "json").json
    assert status["coverage"] == {"a/7": 5, "b/1": 2}
    assert status["coverage_above"] == {"b/1": [[4, 4], [6, 9]]}
    assert status["gossip"]["rounds_agreed"] == 8
    assert {name: status[name] for name in ("node_id", "generation", "cluster", "ready", "clock", "fingerprint")} == {
        "node_id": "a",
        "generation": 7,
        "cluster": "default",
        "ready": True,
        "clock": 12,
        "fingerprint": "00ff00ff00ff00ff",
    }
    assert set(status) == {*STATUS.DESCRIPTOR.fields_by_name, "coverage_above"}


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.94, "59.9 s"), (60, "1 min 0 s"), (86399, "23 h 59 min"), (90000, "1 d 1 h")]
)
def test_durations_are_told_in_two_units(node: FakeNode, cli: Cli, seconds: float, words: str) -> None:
    response = cluster_pb2.ClusterServiceGetStatusResponse(uptime_seconds=seconds)
    node.answers[cluster_pb2.ClusterServiceGetStatusRequest] = response
    lines = cli("status").out.splitlines()
    assert f"uptime          {words}" in lines
    assert "ready           no, it has not synced with its cluster yet and takes no writes" in lines
    assert "last round      none yet" in lines


def test_leave_tells_how_many_know(node: FakeNode, cli: Cli) -> None:
    node.answers[cluster_pb2.ClusterServiceLeaveRequest] = cluster_pb2.ClusterServiceLeaveResponse(peers=2)
    assert cli("leave").out == "the node has left its cluster and stops; it has told 2 peers\n"
    assert cli("leave", "--output", "json").json == {"peers": 2}


# --- failures ---


CODE = grpc.StatusCode
FAULTS = [
    (Fault(CODE.INVALID_ARGUMENT, "key is empty", "INVALID_ARGUMENT", {"key": "empty"}), 2, "key is empty"),
    (Fault(CODE.UNAVAILABLE, "not ready;\n retry shortly", "NOT_READY"), 3, "not ready; retry shortly"),
    (Fault(CODE.RESOURCE_EXHAUSTED, "too many; delete some", "RECORD_LIMIT"), 4, "too many; delete some"),
    (Fault(CODE.INTERNAL, "internal error; look into the log", "INTERNAL"), 4, "internal error; look into the log"),
]


@pytest.mark.parametrize(("fault", "code", "line"), FAULTS)
def test_what_the_node_says_is_one_line_and_an_exit_code(
    node: FakeNode, cli: Cli, fault: Fault, code: int, line: str
) -> None:
    node.answers[kv_pb2.KeyValueServiceGetRequest] = fault
    assert cli("kv", "get", "k") == Done(code, "", f"Error: {line}\n", b"")


def test_a_node_that_does_not_run_is_exit_code_3_and_advice(cli: Cli) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    assert cli("status", "--address", address) == Done(
        3,
        "",
        f"Error: cannot reach {address}: connection refused; is the node running? start one with `gossip-grpc node`, "
        "or name another with --address\n",
        b"",
    )


def test_a_node_that_does_not_answer_is_exit_code_3_and_advice(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = cli("status", "--address", address, "--timeout", "0.1")
    assert done.code == 3
    assert done.err == (
        f"Error: {address} did not answer within 0.1 s; if it was a write, it may or may not have taken effect; "
        "check the address, or allow more time (--address, --timeout)\n"
    )


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--address", "foo"], "address must be HOST:PORT such as 127.0.0.1:7947, not 'foo'"),
        (["--timeout", "0"], "timeout must be a number of seconds above 0, not 0.0"),
    ],
)
def test_wrong_options_are_wrong_usage(node: FakeNode, cli: Cli, args: list[str], line: str) -> None:
    assert cli("kv", "get", "k", *args) == Done(2, "", f"Error: {line}\n", b"")
    assert not node.requests


def test_a_key_that_is_no_utf_8_is_wrong_usage(node: FakeNode, cli: Cli) -> None:
    done = cli("kv", "get", os.fsdecode(b"\xff"))
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert not node.requests


# --- options before and after the command ---


@pytest.mark.parametrize(
    "args",
    [
        ["kv", "get", "k", "--address", "NODE", "--output", "json"],
        ["kv", "get", "--output=json", "--address=NODE", "k"],
        ["kv", "--address", "NODE", "get", "k", "--output", "json"],
        ["--address", "NODE", "--output", "json", "kv", "get", "k"],
        ["--address", "127.0.0.1:1", "--output", "table", "kv", "get", "k", "--address", "NODE", "--output", "json"],
    ],
)
def test_options_stand_before_or_after_the_command_and_go_before_the_environment(
    node: FakeNode, cli: Cli, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    node.answers = holding(entry("k", "v"))
    monkeypatch.setenv("GOSSIP_ADDRESS", "127.0.0.1:1")
    assert cli(*(arg.replace("NODE", node.address) for arg in args)).json["value"] == "v"


@pytest.mark.parametrize("given", [["--address", "{dead},{live}"], ["--address", "{dead}", "--address", "{live}"], []])
def test_of_several_addresses_the_first_that_answers_is_asked(
    node: FakeNode, cli: Cli, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    node.answers[counter_pb2.CounterServiceAddRequest] = counter_pb2.CounterServiceAddResponse(value=7)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{probe.getsockname()[1]}"
    if not given:
        monkeypatch.setenv("GOSSIP_ADDRESS", f"{dead}, {node.address}")
    done = cli("counter", "add", "c", *(word.format(dead=dead, live=node.address) for word in given))
    assert (done.code, done.out) == (0, "7\n")


def test_with_several_addresses_a_watch_outlives_its_node(node: FakeNode, cli: Cli) -> None:
    told = kv_pb2.KeyValueServiceWatchResponse
    current = kv_pb2.KEY_VALUE_EVENT_KIND_CURRENT
    first = told(kind=current, cause="first", resume_token="t")
    scripts: Iterator[list[Message | Fault]] = iter([[first, STOPS], [told(kind=current, cause="resumed")]])
    node.answers[kv_pb2.KeyValueServiceWatchRequest] = lambda _: next(scripts)
    done = cli("kv", "watch", "--address", f"{node.address},127.0.0.1:1")
    assert (done.code, lines_of(done)) == (0, ["current   first", "current   resumed"])


def test_what_is_about_one_node_refuses_several_addresses(node: FakeNode, cli: Cli) -> None:
    done = cli("leave", "--address", f"{node.address},127.0.0.1:1")
    assert (done.code, node.requests) == (2, [])
    assert done.err.startswith("Error: address must be that of the node which this call is about")


def test_without_any_address_the_local_node_is_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOSSIP_ADDRESS")
    asked: list[dict[str, Any]] = []

    def client(**chosen: Any) -> None:
        asked.append(chosen)
        raise KeyboardInterrupt

    monkeypatch.setattr("gossip_grpc.client.Client", client)
    assert cli("status").code == 130
    assert asked == [{}]


# --- help, version, completion ---


def test_the_list_of_commands_says_what_each_says_itself(cli: Cli) -> None:
    listed = cli("--help").out
    with click.Context(root) as context:
        names = root.list_commands(context)
        for name in names:
            command = root.get_command(context, name)
            assert command is not None
            assert command.get_short_help_str(limit=100) == COMMANDS[name][1]
            assert f"  {name} " in listed
    assert {"node", "kv", "counter", "set", "members", "status", "leave", "config", "completion"} <= set(names)


def test_every_command_shows_examples_or_commands_as_they_are_typed() -> None:
    def walk(command: click.Command, context: click.Context) -> Iterator[click.Context]:
        yield context
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from walk(below, click.Context(below, parent=context, info_name=name))

    for context in walk(root, click.Context(root, info_name="gossip-grpc")):
        text = context.get_help()
        lines = [line for line in text.splitlines() if line.strip().startswith(("gossip-grpc ", "bash: "))]
        assert lines or "Commands:" in text, text
        assert all(len(line) <= 80 for line in text.splitlines() if "completion" not in line), text


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert cli("--version").out == f"gossip-grpc {__version__}\n"


def test_a_command_whose_module_is_missing_does_not_exist() -> None:
    group = LazyGroup("g", lazy={"gone": ("gossip_grpc.cli.gone:gone", "Not there."), "kv": COMMANDS["kv"]})
    with click.Context(group) as context:
        assert group.list_commands(context) == ["kv"]
        assert group.get_command(context, "gone") is None
        assert "gone" not in group.get_help(context)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.code == 0
    assert f"_GOSSIP_GRPC_COMPLETE={shell}_complete" in done.out


@pytest.mark.parametrize(
    ("words", "found"),
    [("gossip-grpc kv g", {"get"}), ("gossip-grpc kv get k --out", {"--output"}), ("gossip-grpc co", {"counter",
     "config", "completion"})],
)  # fmt: skip
def test_the_script_completes_commands_and_options(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: str, found: set[str]
) -> None:
    monkeypatch.setenv("_GOSSIP_GRPC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert {line.partition(",")[2] for line in cli().out.splitlines()} == found


# --- node and config ---


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that nodes are run with, instead of running them; they end with 7."""
    started: list[Config] = []
    fake = types.ModuleType("gossip_grpc.node")

    def run(config: Config) -> int:
        started.append(config)
        return 7

    fake.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gossip_grpc.node", fake)
    return started


def test_a_node_runs_with_its_flags_and_ends_with_its_exit_code(
    cli: Cli, started: list[Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "node.toml").write_text('cluster = "from-file"\nzone = "from-file"\nnode_id = "from-file"\n')
    monkeypatch.setenv("GOSSIP_ZONE", "from-environment")
    monkeypatch.setenv("GOSSIP_NODE_ID", "from-environment")
    flags = "--node-id n --peer-listen 127.0.0.1:1 --client-listen 127.0.0.1:2 --advertise h:3 --join a:1 --join b:2"
    more = "--strategy pull --selector zone-aware --tag k=v --tag l=w --fanout 0 --gossip-interval 0.5"
    logs = f"--log-format json --log-level debug --config {tmp_path / 'node.toml'}"

    assert cli("node", *flags.split(), *more.split(), *logs.split()).code == 7

    (config,) = started
    assert (config.node_id, config.zone, config.cluster) == ("n", "from-environment", "from-file")
    assert (config.peer_listen, config.client_listen, config.advertise) == ("127.0.0.1:1", "127.0.0.1:2", "h:3")
    assert (config.join, config.tags) == (("a:1", "b:2"), {"k": "v", "l": "w"})
    assert (config.strategy, config.selector) == ("pull", "zone-aware")
    assert (config.fanout, config.gossip_interval) == (0, 0.5)
    assert (config.log_format, config.log_level) == ("json", "debug")


@pytest.mark.parametrize("command", [["node"], ["config", "check"], ["config", "print"]])
def test_a_wrong_configuration_is_a_line_for_each_problem_and_exit_code_2(
    cli: Cli, started: list[Config], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("GOSSIP_FANOUT", "many")
    done = cli(*command, "--join", "nowhere", "--gossip-interval", "-1")
    assert (done.code, done.out, started) == (2, "", [])
    lines = done.err.splitlines()
    assert len(lines) == 3
    assert {line.partition(" (")[0] for line in lines} == {"Error: fanout", "Error: join", "Error: gossip_interval"}


def test_config_check_says_ok(cli: Cli) -> None:
    assert cli("config", "check", "--fanout", "2").out == "OK\n"
    assert cli("config", "check", "--output", "json").json == {"ok": True}


def test_config_print_tells_each_value_and_its_source(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSIP_ZONE", "east")
    flags = ["--fanout", "2", "--tag", "k=v", "--join", "a:1", "--join", "b:2"]
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in cli("config", "print", *flags).out.splitlines()}
    assert rows["SETTING"] == ["VALUE", "SOURCE"]
    assert rows["fanout"] == ["2", "flag --fanout"]
    assert rows["zone"] == ["east", "environment GOSSIP_ZONE"]
    assert rows["tags"] == ["k=v", "flag --tag"]
    assert rows["join"] == ["a:1,b:2", "flag --join"]
    assert rows["advertise"] == ["-", "default"]
    assert rows["strategy"] == ["push-pull", "default"]

    printed = cli("config", "print", *flags, "--output", "json").json
    assert printed["tags"] == {"value": {"k": "v"}, "source": "flag --tag"}
    assert printed["join"] == {"value": ["a:1", "b:2"], "source": "flag --join"}
    assert printed["strategy"] == {"value": "push-pull", "source": "default"}
    assert set(rows) - {"SETTING"} == set(printed)


# --- real processes ---


def start(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gossip_grpc", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ), **options)


def test_an_interrupt_ends_a_command_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start("status", "--timeout", "60", "--address", f"127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(DEADLINE)
        with silent.accept()[0]:  # open, and nobody speaks: so it waits for an answer now
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_goes_away_ends_a_list_quietly(node: FakeNode) -> None:
    entries = [entry(f"k{number}", "v" * 100) for number in range(1000)]

    def page(request: kv_pb2.KeyValueServiceListRequest) -> Message:
        return kv_pb2.KeyValueServiceListResponse(entries=entries, next_page_token="more")  # for ever

    node.answers[kv_pb2.KeyValueServiceListRequest] = page
    process = start("kv", "list")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().split() == [b"KEY", b"ENDS", b"VALUE"]
    process.stdout.close()
    assert process.wait(timeout=DEADLINE) == 141
    with process.stderr:
        assert process.stderr.read() == b""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_ends_the_print_of_a_large_value_quietly(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    node.answers = holding(entry("k", b"x" * 1_000_000))
    process = start("kv", "get", "k")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1) == b"x"
    process.stdout.close()
    assert process.wait(timeout=DEADLINE) == 141
    with process.stderr:
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("args", [["kv", "get", "k"], ["kv", "get", "large"], ["kv", "list"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line(node: FakeNode, args: list[str]) -> None:
    node.answers = holding(entry("k", "v"), entry("large", b"x" * 1_000_000))
    command = [sys.executable, "-m", "gossip_grpc", *args]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, check=False, stdout=full, stderr=subprocess.PIPE, env=dict(os.environ), timeout=DEADLINE
        )
    assert (done.returncode, done.stderr) == (4, b"Error: output: no space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    "args", ["simulate spread --nodes 9 --runs 2", "simulate spread --nodes 9 --json", "--version"]
)
def test_a_closed_output_is_one_line_and_closed_errors_are_none(args: str) -> None:
    def run(closed: str) -> tuple[int, bytes, bytes]:
        command = f"exec {shlex.quote(sys.executable)} -m gossip_grpc {args} {closed}"
        done = subprocess.run(
            ["/bin/sh", "-c", command], check=False, capture_output=True, env=dict(os.environ), timeout=DEADLINE
        )
        return done.returncode, done.stdout, done.stderr

    assert run(">&-") == run("<&- >&-") == (4, b"", b"Error: output: bad file descriptor\n")
    code, printed, _ = run("2>&-")
    assert code == 0
    assert printed == run("")[1] != b""
    assert run(">&- 2>&-")[0] == 4


def test_a_character_that_the_terminal_lacks_is_escaped(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.answers = holding(entry("ü", "日"))
    monkeypatch.setenv("PYTHONIOENCODING", "iso-8859-1")
    out, err = start("kv", "list").communicate(timeout=DEADLINE)
    assert (out.splitlines()[1].split(), err) == ([b"\xfc", b"-", b"\\u65e5"], b"")


@pytest.mark.parametrize("args", [["--help"], ["kv", "--help"], ["node", "--help"]], ids=" ".join)
def test_help_waits_for_neither_grpc_nor_rich(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from gossip_grpc.cli.root import root\n"
        f"root.main({args!r}, standalone_mode=False)\n"
        "print(*({'grpc', 'rich'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=DEADLINE)
    assert done.stderr.split() == []
