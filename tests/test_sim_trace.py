"""Traces: what is saved replays, what differs is found, and people can read it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gossip_grpc import __version__
from gossip_grpc.core.records import Accusation, Kind, Member, Origin, Record
from gossip_grpc.sim.schedule import ScheduleError, parse
from gossip_grpc.sim.stats import HEARTBEAT, RUMOR
from gossip_grpc.sim.trace import (
    Comparison,
    CutOffError,
    Difference,
    Event,
    Header,
    Trace,
    TraceError,
    describe_record,
    described,
    read_header,
    readable,
    saved,
)
from gossip_grpc.sim.world import World

SCENARIO = """\
# Small: two nodes and a cut.
cluster 2 interval=500ms timeout=1s
network latency=10ms
at 1s n1 put a "some text"
at 2s cut n1 | n2
at 3s n2 set-add s x
at 4s n2 add hits 3
at 5s heal
at 6s agree 3s
end 10s
"""


def trace_of(text: str, seed: int = 1) -> list[Event]:
    events: list[Event] = []
    World(parse(text), seed, trace=Trace(events.append)).run()
    return events


def save(path: Path, text: str = SCENARIO, seed: int = 1) -> Path:
    schedule = parse(text)
    with saved(path, Header(schedule, seed)) as sink:
        World(schedule, seed, trace=Trace(sink)).run()
    return path


def replay(path: Path) -> int:
    with path.open("rb") as file:
        header = read_header(file.readline().decode(), path.name)
        comparison = Comparison(file)
        World(header.schedule, header.seed, trace=Trace(comparison)).run()
        comparison.finish()
    return comparison.events


def change(path: Path, number: int, edit: Callable[[str], str]) -> None:
    """Change one line of a file, counted from 1."""
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = edit(lines[number - 1])
    path.write_text("".join(lines))


def test_a_saved_trace_replays(tmp_path: Path) -> None:
    path = save(tmp_path / "a.trace")
    assert replay(path) == len(trace_of(SCENARIO))


def test_a_saved_trace_is_json_lines_with_all_that_makes_the_world_again(tmp_path: Path) -> None:
    header, *events = map(json.loads, save(tmp_path / "a.trace", seed=5).read_text().splitlines())
    assert header == {
        "gossip_grpc_trace": 1,
        "version": __version__,
        "seed": 5,
        "schedule": header["schedule"],
    }
    assert parse(header["schedule"]) == parse(SCENARIO)
    messages = [event for event in events if event["kind"] == "call"]
    assert set(messages[0]) == {"time", "kind", "from", "to", "what", "bytes", "digest"}
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_the_first_event_that_differs_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.trace")
    number = 1 + next(i for i, line in enumerate(path.read_text().splitlines()) if '"bytes":' in line)
    change(path, number, lambda line: line.replace('"bytes":', '"bytes":1'))
    with pytest.raises(Difference) as caught:
        replay(path)
    assert caught.value.line == number
    assert caught.value.saved != caught.value.replayed
    assert json.loads(caught.value.saved)["time"] == json.loads(caught.value.replayed)["time"]


def test_a_trace_that_ends_early_or_late_differs(tmp_path: Path) -> None:
    path = save(tmp_path / "a.trace")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(CutOffError) as early:
        replay(path)
    assert early.value.line == len(lines)
    path.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(Difference) as late:
        replay(path)
    assert (late.value.line, late.value.replayed) == (len(lines) + 1, "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "x.trace is no trace: its first line is not the header"),
        ("not JSON", "is no trace"),
        ("[1]", "is no trace"),
        ('{"a": 1}', "is no trace"),
        ("[" * 200_000, "is no trace"),
        ("1" * 6_000, "is no trace"),
        ('{"gossip_grpc_trace":1,"versi', "x.trace is cut off: it ends in its first line"),
        ('{"gossip_grpc_trace": 9}', "x.trace has form 9; this version reads form 1"),
        ('{"gossip_grpc_trace": 1, "seed": 3}', "the header lacks its schedule, its seed or its version"),
    ],
)
def test_a_file_that_is_no_trace_is_said_to_be_none(line: str, problem: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_header(line, "x.trace")
    assert problem in str(caught.value)


def test_a_trace_that_is_cut_anywhere_is_said_to_be_cut_off(tmp_path: Path) -> None:
    path = save(tmp_path / "a.trace", SCENARIO.replace("some text", "\u00e4\u00f6\u00fc" * 20))
    content = path.read_bytes()
    begin = content.index("\u00e4".encode(), content.index(b"\n"))
    for end in (len(content) // 2, begin + 1, begin + 2, len(content) - 2):
        path.write_bytes(content[:end])
        with pytest.raises(CutOffError) as caught:
            replay(path)
        assert caught.value.line == content[:end].count(b"\n") + 1
    path.write_bytes(content[:-1])  # nothing is lacking but the end of the last line
    replay(path)


def test_a_trace_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    path.write_text("older")

    def interrupted() -> None:
        with saved(path, Header(parse(SCENARIO), 1)) as sink:
            sink(Event(1.0, "write"))
            assert path.read_text() == "older"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.trace", "older")]
    save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.trace"]
    assert path.read_text().startswith('{"gossip_grpc_trace":1,')


def test_a_trace_may_go_to_a_device() -> None:
    save(Path("/dev/null"))
    assert not Path("/dev/null").is_file()


def test_a_header_with_a_broken_schedule_names_its_line() -> None:
    line = json.dumps({"gossip_grpc_trace": 1, "version": "1", "seed": 1, "schedule": "cluster 3\nfoo"})
    with pytest.raises(ScheduleError, match=r"x.trace, the schedule in its header, line 2"):
        read_header(line, "x.trace")


def test_a_trace_tells_what_happened_in_order() -> None:
    told = [(event.kind, event.source, event.target) for event in trace_of(SCENARIO)]
    starts = [event for event in told if event[0] != "member"]
    assert starts[:2] == [("start", "n1", ""), ("start", "n2", "")]
    kinds = {kind for kind, _, _ in told}
    assert kinds == {"start", "write", "action", "call", "call lost", "answer", "failed", "notice", "agreed", "member"}
    put = next(index for index, event in enumerate(told) if event[0] == "write")
    assert told[put + 1 : put + 3] == [("call", "n1", "n2"), ("answer", "n2", "n1")]


def test_people_read_it_in_columns() -> None:
    lines = [re.sub(r"..\d B", "  9 B", readable(event)) for event in trace_of(SCENARIO)]
    assert "    1.000000      n1          write                    put a some text: acknowledged 2" in lines
    assert "    1.000000      n1 > n2     call                9 B  rumor: a=some text (10.000 ms)" in lines
    assert "    1.010000      n1 < n2     answer              9 B  rumor: 1 new (10.000 ms)" in lines
    assert "    2.000000                  action                   cut n1 | n2" in lines
    assert "    3.000000      n2 > n1     call lost           9 B  rumor: s+x" in lines
    assert "    4.000000      n2          failed                   rumor: nobody answered in time" not in lines
    assert any(" n2   n1     failed " in line and line.endswith("rumor: nobody answered in time") for line in lines)


def test_control_characters_stay_what_they_are_named() -> None:
    assert readable(Event(1.0, "write", "n1", what="put a x\ny\x1b[0m")).endswith(r"put a x\ny\x1b[0m")


def accusation(**said: bool) -> Record:
    return Record(Kind.ACCUSATION, ("n1", "n2"), Origin("n2", 1), 1, 1, Accusation(1, 1, 0.0, **said))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record(Kind.REGISTER, "a", Origin("n1", 1), 1, 1, "text"), "a=text"),
        (Record(Kind.REGISTER, "a", Origin("n1", 1), 1, 1, "a text that is too long"), "a=a text that is …"),
        (Record(Kind.REGISTER, "a", Origin("n1", 1), 1, 1, b"\x01\xff"), "a=01ff"),
        (Record(Kind.REGISTER, "a", Origin("n1", 1), 1, 1, None), "a deleted"),
        (Record(Kind.COUNTER_SHARE, ("c", Origin("n1", 1)), Origin("n1", 1), 1, 1, (3, 1)), "c@n1 +3-1"),
        (Record(Kind.COUNTER_RESET, ("c", Origin("n1", 1)), Origin("n2", 1), 1, 1, (3, 1)), "c@n1 reset to +3-1"),
        (Record(Kind.SET_ELEMENT, ("s", "x", Origin("n1", 1)), Origin("n1", 1), 1, 1, (1, False)), "s+x"),
        (Record(Kind.SET_ELEMENT, ("s", "x", Origin("n1", 1)), Origin("n2", 1), 1, 1, (1, True)), "s-x"),
        (Record(Kind.MEMBER, "n1", Origin("n1", 1), 1, 1, Member(1, "n1:1", left=True)), "member n1 left"),
        (accusation(), "n1 accused by n2"),
        (accusation(withdrawn=True), "n1 is heard again by n2"),
        (accusation(forget=True), "n1 is to be forgotten by n2"),
    ],
)
def test_a_record_is_told_in_a_word(record: Record, words: str) -> None:
    assert describe_record(record) == words


def test_messages_of_every_kind_are_told_in_words() -> None:
    text = (
        "cluster 3 chunk=64B retention=2s\ncluster big 8\nat 1s n1 fill k 9\nat 2s n1 delete k1\nat 3s cut n3 | n1 n2\n"
        "at 4s n1 fill later 5\nat 9s heal\nat 12s rot n2 k5\nat 13s join n4 via n1\nat 30s big1 put a 1\n"
        "at 30s link big1 loss=100%\nat 31s big1 put b 1\nat 40s heal\nend 60s"
    )
    told = "\n".join(event.what for event in trace_of(text))
    for words in (
        "compare: hash ",
        "compare: agreed",
        "compare: digest n1:",
        "digest of 8 origins",
        "fetch: what is lacking, by digest ",
        "fetch: everything, by digest ",
        "repair",
        "complete",
        "send: transfer 1 chunk 0, ",
        "heartbeat: incarnation 1, hash ",
        "probe: are you n3",
        "probe: reach n3",
        "probe: not reached",
        "n3 ALIVE > SUSPECT: accused by ",
        "n3 SUSPECT > DEAD: accused by ",
        "n3 DEAD > ALIVE: it refuted what was said of it",
        "fingerprints differ at equal coverage",
    ):
        assert words in told, words


def test_what_is_no_message_is_told_as_that() -> None:
    assert described(b"\xff\xff", RUMOR, push=True, request=True).startswith("unreadable: ")
    assert described(b"\xff\xff", HEARTBEAT, push=False, request=True).startswith("unreadable: ")


def test_a_comparison_reads_line_by_line() -> None:
    event = Event(1.0, "write", "n1", what="x")
    comparison = Comparison(io.BytesIO(f"{event.line()}\n".encode()))
    comparison(event)
    comparison.finish()
    assert comparison.events == 1
