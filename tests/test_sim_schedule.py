"""The scenario language: it reads as it is written, and says what is wrong with a line, and where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim.links import Latency, Link
from gossip_grpc.sim.schedule import (
    Action,
    ClusterSpec,
    Repeat,
    Schedule,
    ScheduleError,
    Start,
    format,  # noqa: A004 - the counterpart of parse
    format_action,
    parse,
)

EVERYTHING = """\
# A title: all there is.
cluster 5 strategy=pull selector=round-robin fanout=2 interval=500ms retention=10s chunk=4KB zones=2 start=cold
cluster B 3 preload=100
network latency=1ms..5ms+2ms loss=10% duplicate=1% reorder=5% bandwidth=1MB

every 100ms from 1s to 50s any put key{i} {i}
every 1s from 1s to 50s n2 add hits -3
at 2s      n1 put a "some text # with a hash"
at 2s      n1 delete a
at 2s      n1 add hits 3
at 2s      n1 reset hits
at 2s      n1 set-add s x "y z"   # two elements
at 2s      n1 set-remove s x
at 2s      n1 fill bulk 1000
at 2s      n1 put session x ttl=3s
at 2s      n1 put service y ttl=1500ms ephemeral
at 2s      n1 put owner "ttl=3s" ephemeral
at 2s      snapshot n2
at 3s      crash n2 disk
at 3s      crash n3
at 5s      restart n2
at 5s      restore n3
at 5s      restore n3 unmarked
at 5s      pause n3
at 7s      resume n3
at 8s      cut n1 n2 | n3 | n4 n5
at 8s      cut n1 > n2 n3
at 12s     heal
at 13s     link n1 n2 latency=100ms loss=50%
at 13s     link n1 > n2 bandwidth=unbounded
at 13s     link n3 loss=1.5%
at 14s     slow n4 20ms
at 15s     skew n1 +30s
at 15s     skew n1 -2m
at 15s     drift n1 1.1
at 16s     join n6 via n1
at 16s     join n7
at 17s     leave n5
at 18s     rot n2 a
at 19s     swap n1 B1
at 20s     agree 5s
at 30s     check
end 1h
"""


def test_everything_is_understood() -> None:
    schedule = parse(EVERYTHING)
    assert schedule.title == "A title: all there is."
    assert schedule.clusters == (
        ClusterSpec(
            5, "n", Strategy.PULL, SelectorKind.ROUND_ROBIN, fanout=2, interval=0.5, retention=10.0, chunk=4096,
            zones=2, start=Start.COLD,
        ),
        ClusterSpec(3, "B", preload=100),
    )  # fmt: skip
    assert schedule.network == Link(Latency(0.001, 0.005, 0.002), 0.1, 0.01, 0.05, float(1 << 20))
    assert schedule.repeats == (
        Repeat(0.1, 50.0, Action(1.0, "put", ("any",), ("key{i}", "{i}"))),
        Repeat(1.0, 50.0, Action(1.0, "add", ("n2",), ("hits", -3))),
    )
    assert schedule.end == 3600.0
    found = {format_action(action): action for action in schedule.actions}
    assert len(found) == len(schedule.actions) == 35
    assert found['n1 put a "some text # with a hash"'].args == ("a", "some text # with a hash")
    assert found['n1 set-add s x "y z"'].args == ("s", "x", "y z")
    assert found["n1 fill bulk 1000"].args == ("bulk", 1000)
    assert found["n1 put session x ttl=3s"].args == ("session", "x", 3.0, False)
    assert found["n1 put service y ttl=1.5s ephemeral"].args == ("service", "y", 1.5, True)
    assert found["n1 put owner ttl=3s ephemeral"].args == ("owner", "ttl=3s", 0.0, True)
    assert found["restore n3"].args == (False,)
    assert found["restore n3 unmarked"].args == (True,)
    assert found["crash n2 disk"].args == (True,)
    assert found["crash n3"].args == (False,)
    assert found["cut n1 n2 | n3 | n4 n5"].args == (False, ("n1", "n2"), ("n3",), ("n4", "n5"))
    assert found["cut n1 > n2 n3"].args == (True, ("n1",), ("n2", "n3"))
    link = found["link n1 n2 latency=100ms loss=50%"]
    assert (link.nodes, link.args) == (("n1", "n2"), (False, (("latency", Latency(0.1, 0.1)), ("loss", 0.5))))
    assert found["link n1 > n2 bandwidth=unbounded"].args == (True, (("bandwidth", None),))
    assert found["link n3 loss=1.5%"].nodes == ("n3",)
    assert found["skew n1 -2m"].args == (-120.0,)
    assert found["drift n1 1.1"].args == (1.1,)
    assert found["join n6 via n1"].args == ("n1",)
    assert found["swap n1 B1"].nodes == ("n1", "B1")
    assert found["agree 5s"].args == (5.0,)


def test_what_was_formatted_reads_as_the_same() -> None:
    schedule = parse(EVERYTHING)
    assert parse(format(schedule)) == schedule
    assert format(parse(format(schedule))) == format(schedule)


def test_what_is_as_usual_is_not_written() -> None:
    assert format(Schedule()) == "cluster 5\nend 60s\n"
    assert parse("cluster 5\n") == Schedule()


def test_windows_line_ends_are_line_ends() -> None:
    assert parse("cluster 3\r\nend 5s\r\n") == Schedule((ClusterSpec(3),), end=5.0)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("foo 3", "column 1: `foo`: a line begins with one of cluster, network, at, every, end"),
        ("network loss=140%", "column 9: `loss=140%`: loss must be 0% to 100%"),
        ("network loss=0.5", "loss must be 0% to 100%"),
        ("network speed=3", "`speed=3`: wanted is one of latency=..., loss=..., duplicate="),
        ("network latency=5ms..1ms", "a latency is 5ms, or 1ms..5ms"),
        ("network latency=fast", "a latency is 5ms, or 1ms..5ms"),
        ("network bandwidth=0", "a size of at least one byte is wanted"),
        ("network loss=1% loss=2%", "loss is given twice"),
        ("cluster 4", "there is a cluster n already; give this one a name: cluster B 4"),
        ("cluster B", "`cluster B` ends where how many nodes there are is wanted"),
        ("cluster B 0", "`0`: a number from 1 to 100000 is wanted"),
        ("cluster B2 3", "`B2`: a cluster's name is of letters"),
        ("cluster any 3", "`any`: a cluster's name is of letters"),
        ("cluster B 3 strategy=shout", "one of push, pull, push-pull is wanted"),
        ("cluster B 3 interval=1ms", "at least 10ms is wanted"),
        ("cluster B 3 start=warm", "one of formed, cold is wanted"),
        ("at 3x heal", "column 4: `3x`: a duration is wanted, such as 5ms, 3s, 2m or 1h"),
        ("at 3s", "`at 3s` ends where what happens is wanted"),
        ("at 3s explode n1", "`explode`: wanted is NODE put|delete|"),
        ("at 3s n1 jump", "`jump`: a client does one of put, delete"),
        ("at 3s n1 get a", "`get`: only a session has something to expect of what it reads"),
        ("at 3s n1 as s1 fill a 3", "`fill`: a session does one thing at a time"),
        ("at 3s n1 as s_1 put a b", "`s_1`: the name of a session is of letters and digits"),
        ("at 3s n1 put a", "ends where a value is wanted"),
        ("at 3s n1 put a b c", "`c`: the line should end before this word"),
        ("at 3s n1 add hits many", "an amount is wanted"),
        ("at 3s n1 fill x 0", "a number from 1 to 1000000 is wanted"),
        ('at 3s n1 put a "open', "a text ends with a quote, as in JSON"),
        ("at 3s crash n9", "column 13: `n9`: there is no such node; there are n1 to n5, and those that join"),
        ("at 3s n9 put a b", "`n9`: there is no such node"),
        ("at 3s crash any", "the name of a node is wanted, such as n1"),
        ("at 3s cut n1 n2", "a cut has two groups at least"),
        ("at 3s cut n1 | n2 > n3", "a cut is GROUP | GROUP"),
        ("at 3s cut n1 > n2 | n3", "a cut is GROUP | GROUP"),
        ("at 3s cut n1 | n1", "each node stands in one group only"),
        ("at 3s link n1 n2", "say what changes: latency=..., loss=..."),
        ("at 3s skew n1 30s", "a jump is wanted, such as +30s or -2m"),
        ("at 3s drift n1 100", "a rate from 0.1 to 10 is wanted"),
        ("at 3s join n4", "there is such a node already"),
        ("at 3s join x7", "the name of a node of one of the clusters above is wanted"),
        ("at 3s agree", "ends where a duration is wanted"),
        ("every 1s from 1s to 5s heal", "only a client's action repeats"),
        ("every 1s until 5s any put a b", "`until`: `from` is wanted here"),
        ("every 0ms from 1s to 5s any put a b", "at least 1ms is wanted"),
        ("every 1s from 5s to 2s any put a b", "column 21: `2s`: this is before 5s, when it begins"),
        ("end 99999999h", "this is too long"),
    ],
)
def test_an_error_names_line_and_word_and_what_is_allowed(line: str, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(f"cluster 5\n{line}\n", "scenario x.txt")
    assert str(caught.value).startswith("scenario x.txt, line 2")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("x" * 100_000, f"`{'x' * 59}…`"),
        ("at 1s crash " + "n" * 61, f"`{'n' * 59}…`"),
        ("at " + "x" * 60, f"`{'x' * 60}`"),
        ("cluster " + "9" * 5000, f"`{'9' * 59}…`"),
        ("at 1s n1 put " + "k" * 100, f"`at 1s n1 put {'k' * 46}…`"),
        ("at 1s \x1b[2J\x07\u202e", r"`\x1b[2J\x07\u202e`"),
        ('at 1s "a\\nb"', r"`a\nb`"),
    ],
)
def test_an_error_quotes_what_people_can_read(line: str, quoted: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(f"cluster 3\n{line}\n")
    assert quoted in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_scenario_needs_a_cluster_and_one_network_and_one_end() -> None:
    with pytest.raises(ScheduleError, match="there is no line `cluster COUNT`"):
        parse("end 5s")
    for line in ("network loss=1%", "end 5s"):
        with pytest.raises(ScheduleError, match=r"line 3.*there is a line `\w+` already"):
            parse(f"cluster 5\n{line}\n{line}")


def test_a_newcomer_joins_once() -> None:
    with pytest.raises(ScheduleError, match=r"line 3.*there is such a node already"):
        parse("cluster 5\nat 1s join n6\nat 2s join n6")


def test_the_first_cluster_can_have_another_size() -> None:
    schedule = parse("cluster 5 interval=2s\ncluster B 3").with_nodes(9)
    assert schedule.clusters == (ClusterSpec(9, interval=2.0), ClusterSpec(3, "B"))
    assert schedule.names() == [*(f"n{number}" for number in range(1, 10)), "B1", "B2", "B3"]


# Any schedule

seconds = st.one_of(
    st.integers(0, 10**6).map(float),
    st.integers(0, 10**6).map(lambda number: number / 1000),
    st.floats(0, 1e6, allow_nan=False).map(lambda number: round(number, 7)),
)
intervals = seconds.map(lambda number: number + 1.0)
shares = st.one_of(st.integers(0, 100).map(lambda number: number / 100), st.floats(0, 1, allow_subnormal=False))
latencies = st.tuples(seconds, seconds, st.one_of(st.just(0.0), st.floats(1e-6, 1e3))).map(
    lambda parts: Latency(min(parts[:2]), max(parts[:2]), parts[2])
)
bandwidths = st.one_of(st.none(), st.integers(1, 1 << 40).map(float))
links = st.builds(Link, latencies, shares, shares, shares, bandwidths)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.sampled_from(["n1", "n2", "n3", "B1", "B2"])


nobody = st.just("")
somebody = st.sampled_from(["", "s1", "as", "2"])


def action(
    verb: str,
    nodes: st.SearchStrategy[tuple[str, ...]],
    args: st.SearchStrategy[Any],
    session: st.SearchStrategy[str] = nobody,
) -> Any:
    return st.builds(Action, seconds, st.just(verb), nodes, args, session)


one = st.tuples(names)
client = st.one_of(
    action("put", st.tuples(st.one_of(names, st.just("any"))), st.tuples(words, words), somebody),
    action("put", one, st.tuples(words, words, intervals, st.booleans())),
    action("put", one, st.tuples(words, words, st.just(0.0), st.just(value=True))),
    action("delete", one, st.tuples(words), somebody),
    action("get", one, st.tuples(words), st.just("s1")),
    action("add", one, st.tuples(words, st.integers(-(2**63), 2**63))),
    action("set-add", one, st.lists(words, min_size=2, max_size=4).map(tuple)),
    action("fill", one, st.tuples(words, st.integers(1, 10**6))),
)
repeats = st.builds(
    lambda every, span, what: Repeat(every, max(span), what._replace(time=min(span))),
    intervals,
    st.tuples(seconds, seconds),
    client,
)
others = st.one_of(
    action("crash", one, st.tuples(st.booleans())),
    action("restart", one, st.just(())),
    action("snapshot", one, st.just(())),
    action("restore", one, st.tuples(st.booleans())),
    action("cut", st.just(()), st.sampled_from([(True, ("n1",), ("n2", "B1")), (False, ("n1",), ("n2",), ("n3",))])),
    action("heal", st.just(()), st.just(())),
    action(
        "link",
        st.sampled_from([("n1", "n2"), ("n3", "n1")]),
        st.tuples(
            st.booleans(), st.tuples(st.tuples(st.just("latency"), latencies), st.tuples(st.just("loss"), shares))
        ),
    ),
    action("link", one, st.tuples(st.just(False), st.tuples(st.tuples(st.just("bandwidth"), bandwidths)))),
    action("slow", one, st.tuples(seconds)),
    action("skew", one, st.tuples(seconds.map(lambda number: -number if number else number))),
    action("drift", one, st.tuples(st.floats(0.1, 10))),
    action("rot", one, st.tuples(words)),
    action("swap", st.tuples(names, names), st.just(())),
    action("agree", st.just(()), st.tuples(seconds)),
)
specs = st.builds(
    ClusterSpec,
    st.integers(3, 1000),
    st.just("n"),
    st.sampled_from(Strategy),
    st.sampled_from(SelectorKind),
    st.integers(0, 1000),
    intervals,
    intervals,
    st.floats(0.1, 100),
    seconds,
    seconds,
    intervals,
    seconds,
    intervals,
    st.integers(1, 100),
    st.integers(1, 1 << 30),
    st.integers(1, 9),
    st.sampled_from(Start),
    st.integers(0, 10**6),
)
schedules = st.builds(
    Schedule,
    specs.map(lambda spec: (spec, ClusterSpec(2, "B"))),
    links,
    st.lists(repeats, max_size=3).map(tuple),
    st.lists(st.one_of(client, others), max_size=6).map(tuple),
    seconds,
    st.text("abc: ,", max_size=9).map(str.strip),
)


@given(schedules)
def test_any_schedule_reads_as_it_was_formatted(schedule: Schedule) -> None:
    assert parse(format(schedule)) == schedule
