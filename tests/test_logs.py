"""The log: one event, one line, whatever is in it and wherever it comes from."""

import io
import json
import logging
import sys
import timeit
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from types import SimpleNamespace

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossip_grpc import logs
from gossip_grpc.config import LogFormat

ESCAPE = "\x1b"


class Stream(io.StringIO):
    """A stderr that may be a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[str]:
        """What was written since the last call; every line must be ended by a newline."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        assert not text or text.endswith("\n")
        return text[:-1].split("\n") if text else []

    def line(self) -> str:
        [line] = self.lines()
        return line


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def redirect(monkeypatch: pytest.MonkeyPatch, stream: Stream | None) -> None:
    """Gives logs.py a stderr. Not by way of sys.stderr, which pytest sets anew between a fixture and its test."""
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=stream, exc_info=sys.exc_info))


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    redirect(monkeypatch, stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


BOTH: list[LogFormat] = ["json", "console"]


def test_an_event_is_json_with_time_level_and_what_is_bound(stderr: Stream) -> None:
    logs.configure("json", "info")
    log = logs.get_logger(node_id="n1")
    before = datetime.now(UTC)
    log.info("round done", peer="n2", records=3, ratio=0.5, ok=True, error=None)
    line = stderr.line()
    event = json.loads(line)
    assert list(event) == ["timestamp", "level", "event", "node_id", "peer", "records", "ratio", "ok", "error"]
    time = event.pop("timestamp")
    assert time.endswith("Z")
    assert abs((datetime.fromisoformat(time) - before).total_seconds()) < 5
    assert event == {
        "level": "info",
        "event": "round done",
        "node_id": "n1",
        "peer": "n2",
        "records": 3,
        "ratio": 0.5,
        "ok": True,
        "error": None,
    }


def test_an_event_is_text_on_the_console(stderr: Stream) -> None:
    logs.configure("console", "info")
    logs.get_logger(node_id="n1").warning("peer lost", peer="[::1]:7946", why="took too long", text='a "b" \\', n=None)
    timestamp, rest = stderr.line().split(" ", 1)
    assert datetime.fromisoformat(timestamp).tzinfo == UTC
    assert rest == r'warning  peer lost node_id=n1 peer=[::1]:7946 why="took too long" text="a \"b\" \\" n=null'


@pytest.mark.parametrize(("terminal", "is_json"), [(True, False), (False, True)])
def test_auto_is_for_people_on_a_terminal_and_for_machines_elsewhere(
    stderr: Stream, terminal: bool, is_json: bool
) -> None:
    stderr.terminal = terminal
    logs.configure("auto", "info")
    logs.get_logger().info("hello")
    assert stderr.line().startswith("{") == is_json


def test_only_a_terminal_that_wants_colours_gets_them(stderr: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr.terminal = True
    logs.configure("console", "info")
    logs.get_logger().error("bad")
    assert stderr.line().startswith(f"{ESCAPE}[31m")
    logs.get_logger().info("good")
    assert ESCAPE not in stderr.line()
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure("console", "info")
    logs.get_logger().error("bad")
    assert ESCAPE not in stderr.line()
    monkeypatch.delenv("NO_COLOR")
    stderr.terminal = False
    logs.configure("console", "info")
    logs.get_logger().error("bad")
    assert ESCAPE not in stderr.line()


def test_events_below_the_level_are_left_out(stderr: Stream) -> None:
    logs.configure("json", "warning")
    log = logs.get_logger()
    log.debug("no")
    log.info("no")
    logging.getLogger("grpc").info("no")
    log.warning("yes")
    log.error("yes")
    logging.getLogger("grpc").warning("yes")
    assert [json.loads(line)["event"] for line in stderr.lines()] == ["yes"] * 3


def test_an_event_below_the_level_costs_next_to_nothing(stderr: Stream) -> None:
    logs.configure("json", "info")
    log = logs.get_logger(node_id="n1")
    log.info("first")
    count = 10_000
    filtered = min(timeit.repeat(lambda: log.debug("no", peer="n2"), number=count, repeat=5)) / count
    written = min(timeit.repeat(lambda: log.info("yes", peer="n2"), number=1_000, repeat=5)) / 1_000
    assert filtered < written / 10


def test_configuring_again_replaces_and_does_not_add(stderr: Stream) -> None:
    for _ in range(3):
        logs.configure("json", "debug")
    logs.get_logger().info("once")
    logging.getLogger("asyncio").info("once")
    assert len(stderr.lines()) == 2
    logs.configure("console", "error")
    logs.get_logger().warning("no")
    logging.getLogger("asyncio").error("yes")
    assert stderr.line().endswith("error    yes logger=asyncio")


def test_where_nobody_set_up_the_log_events_go_to_the_programs_own(caplog: pytest.LogCaptureFixture) -> None:
    structlog.reset_defaults()
    log = logs.get_logger(node_id="n1")
    with caplog.at_level(logging.INFO):
        log.debug("not this")
        log.info("hello 100% %s", peer="a\nb")
        try:
            raise ValueError("oops")
        except ValueError as error:
            log.error("bad", exc_info=error)
    first, second = caplog.records
    assert first.name == "gossip_grpc"
    assert first.getMessage() == 'hello 100% %s node_id=n1 peer="a\\nb"'
    assert second.exc_info is not None


def test_a_logger_follows_a_stderr_that_is_replaced(stderr: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("json", "info")
    log = logs.get_logger()
    log.info("before")
    other = Stream()
    redirect(monkeypatch, other)
    log.info("after")
    assert len(stderr.lines()) == len(other.lines()) == 1


# The standard library's logging


def test_the_standard_library_logs_in_the_same_form(stderr: Stream) -> None:
    logs.configure("json", "info")
    logging.getLogger("grpc._channel").warning("lost %s after %d s", "n2", 3)
    event = json.loads(stderr.line())
    assert datetime.fromisoformat(event.pop("timestamp")).tzinfo == UTC
    assert event == {"level": "warning", "event": "lost n2 after 3 s", "logger": "grpc._channel"}


def test_arguments_that_do_not_fit_their_text_are_logged_all_the_same(stderr: Stream) -> None:
    logging.getLogger().handlers.clear()  # pytest's own raise what the arguments raise
    logs.configure("json", "info")
    logging.getLogger("asyncio").error("%d peers", "two\n")
    assert json.loads(stderr.line())["event"] == r"%d peers ('two\n',)"


@pytest.mark.parametrize("form", BOTH)
def test_an_exception_of_the_standard_library_is_one_line(stderr: Stream, form: LogFormat) -> None:
    logs.configure(form, "info")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("asyncio").exception("failed")
    line = stderr.line()
    assert "Traceback" in line
    assert r"ValueError: first\nsecond" in line


# What must not break the log


class Mean:
    """Raises when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError("not today")


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"a\x00\xff\n", r"b'a\x00\xff\n'"),
        (bytearray(b"ab"), "b'ab'"),
        (b"x" * 10_000, "b'" + "x" * 498 + "... (503 characters)"),
        ("x" * 10_000, "x" * 500 + "... (10000 characters)"),
        ("\udcff", "\udcff"),
        (2**64 - 1, 2**64 - 1),
        (2**64, "0x10000000000000000"),
        pytest.param(-(10**5000), None, id="many digits"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Colour.RED, "red"),
        (("n1", 7), "('n1', 7)"),
        ({"k": "v\n"}, r"{'k': 'v\n'}"),
        (ValueError("bad\n"), "ValueError: bad\n"),
        (Mean(), "<Mean>"),
        pytest.param([10**5000], "<list>", id="many digits inside"),
        (ValueError(Mean()), "<ValueError>"),
    ],
)
def test_odd_values_become_text_of_bounded_length(stderr: Stream, value: object, shown: object) -> None:
    logs.configure("json", "info")
    logs.get_logger().info("odd", value=value)
    got = json.loads(stderr.line())["value"]
    if shown is None:
        assert isinstance(got, str)
        assert len(got) < 550
    else:
        assert got == shown
    logs.configure("console", "info")
    logs.get_logger().info("odd", value=value)
    assert stderr.line().isprintable()


HOSTILE = 'x\n2026-01-01T00:00:00Z error forged\r\u2028\u202e\x85\x1b[2J\x00" level=error'


@pytest.mark.parametrize("form", BOTH)
def test_peers_cannot_forge_lines_or_steer_the_terminal(stderr: Stream, form: LogFormat) -> None:
    stderr.terminal = True
    logs.configure(form, "info")
    logs.get_logger(node_id=HOSTILE).info(HOSTILE, peer=HOSTILE, **{HOSTILE: HOSTILE}, error=ValueError(HOSTILE))
    assert stderr.line().isprintable()
    logging.getLogger(HOSTILE).warning("%s", HOSTILE)
    assert stderr.line().removeprefix("\x1b[33m").removesuffix("\x1b[0m").isprintable()


def test_no_value_looks_like_another_field_on_the_console(stderr: Stream) -> None:
    logs.configure("console", "info")
    logs.get_logger().info("got level=error", peer="n1 level=error", text='" level=error "', **{"a b": ""})
    assert stderr.line().split(" ", 1)[1] == (
        r'info     "got level=error" peer="n1 level=error" text="\" level=error \"" "a b"=""'
    )


def test_a_field_cannot_take_the_place_of_the_lines_own(stderr: Stream) -> None:
    logs.configure("json", "info")
    logs.get_logger().info("e", timestamp="never")
    event = json.loads(stderr.line())
    assert event["timestamp"] != "never"
    assert event["timestamp_"] == "never"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(),
    st.dictionaries(st.text().filter(lambda name: name not in {"event", "exc_info", "self"}), st.text() | st.binary()),
)
def test_any_event_is_one_printable_line(stderr: Stream, event: str, fields: dict[str, str | bytes]) -> None:
    for form in BOTH:
        logs.configure(form, "info")
        logs.get_logger().info(event, **fields)
        line = stderr.line()
        assert line.isprintable()
        if form == "json":
            assert json.loads(line)["event"] == event


@pytest.mark.parametrize("exc_info", [True, "yes", 1])
def test_an_exception_that_is_being_handled_is_logged_with_its_traceback(stderr: Stream, exc_info: object) -> None:
    logs.configure("json", "info")
    try:
        raise ValueError("bad")
    except ValueError:
        logs.get_logger().error("failed", exc_info=exc_info)
    text = json.loads(stderr.line())["exception"]
    assert text.startswith("Traceback")
    assert text.endswith("ValueError: bad")


def test_an_exception_can_be_handed_over(stderr: Stream) -> None:
    logs.configure("json", "info")
    logs.get_logger().error("failed", exc_info=ValueError("x" * 10_000))
    text = json.loads(stderr.line())["exception"]
    assert text == "..." + "x" * logs.MAX_TRACEBACK


@pytest.mark.parametrize("exc_info", [True, (None, None, None), False, None])
def test_without_an_exception_there_is_no_traceback(stderr: Stream, exc_info: object) -> None:
    logs.configure("json", "info")
    logs.get_logger().error("failed", exc_info=exc_info)
    assert "exception" not in json.loads(stderr.line())


class Broken(Stream):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("kind", ["none", "closed", "broken"])
def test_a_log_that_nobody_can_take_does_not_stop_the_node(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    stream: Stream | None = {"none": None, "closed": Stream(), "broken": Broken()}[kind]
    redirect(monkeypatch, stream)
    logs.configure("auto", "info")
    if stream and kind == "closed":
        stream.close()
    logs.get_logger().info("lost")
    logging.getLogger("grpc").error("lost")
