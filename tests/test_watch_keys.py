"""Watching registers, counters and sets: snapshot and stream, tokens, what is kept, and watchers that are too slow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip_grpc import changes, key_views, sessions, watching
from gossip_grpc import node as nodes
from gossip_grpc.changes import Changes
from gossip_grpc.client import (
    AsyncClient,
    Client,
    Counter,
    CounterEvent,
    CounterEventKind,
    DeadlineError,
    Dot,
    InvalidArgumentError,
    KeyValueEvent,
    KeyValueEventKind,
    ResourceExhaustedError,
    Session,
    SetEvent,
    SetEventKind,
    UnavailableError,
)
from gossip_grpc.client import Origin as ClientOrigin
from gossip_grpc.config import Config
from gossip_grpc.core import elements
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.feed import Update
from gossip_grpc.core.records import Lease, Member, Origin, Record, Value, value_of
from gossip_grpc.errors import LimitError, LocalError, Reason
from gossip_grpc.gen.gossip.v1 import common_pb2, counter_pb2, kv_pb2, set_pb2
from gossip_grpc.key_views import CounterView, KeyValueView, SetView
from gossip_grpc.node import Node
from gossip_grpc.watching import MAX_LAG, Log, Watchers
from tests.samples import A, B, register

DEADLINE = 20.0
T = TypeVar("T")
Response = (
    kv_pb2.KeyValueServiceWatchResponse | counter_pb2.CounterServiceWatchResponse | set_pb2.SetServiceWatchResponse
)
NAMES: dict[type, tuple[Any, str]] = {
    kv_pb2.KeyValueServiceWatchResponse: (kv_pb2.KeyValueEventKind, "KEY_VALUE_EVENT_KIND_"),
    counter_pb2.CounterServiceWatchResponse: (counter_pb2.CounterEventKind, "COUNTER_EVENT_KIND_"),
    set_pb2.SetServiceWatchResponse: (set_pb2.SetEventKind, "SET_EVENT_KIND_"),
}


class Watched:
    """The changes of an engine of node a, without any network."""

    def __init__(self, most: int = 10) -> None:
        self.engine = Engine(A, Member(0, "a:1"), Settings(), random.Random(1), 0.0)
        self.store = self.engine.store
        self.watchers = Watchers(most, life=1)
        self.changes = Changes(self.engine, self.watchers)

    def put(self, key: str, value: Value = "v", **lease: Any) -> None:
        self.engine.put(key, value, 1.0, **lease)

    def merge(self, *records: Record) -> None:
        self.store.merge(records, 1.0)

    def kv(self, prefix: str = "", token: str = "") -> AsyncGenerator[kv_pb2.KeyValueServiceWatchResponse, None]:
        return self.changes.watch(KeyValueView(self.store, prefix), token)

    def counters(self, prefix: str = "", token: str = "") -> AsyncGenerator[Any, None]:
        return self.changes.watch(CounterView(self.store, prefix), token)

    def sets(self, prefix: str = "", token: str = "") -> AsyncGenerator[Any, None]:
        return self.changes.watch(SetView(self.store, prefix), token)


async def take(stream: AsyncGenerator[T, None], count: int) -> list[T]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(stream) for _ in range(count)]


async def until(stream: AsyncGenerator[T, None], last: Callable[[T], bool]) -> list[T]:
    taken = []
    async with asyncio.timeout(DEADLINE):
        async for item in stream:
            taken.append(item)
            if last(item):
                break
    return taken


async def read_into(events: list[T], stream: AsyncGenerator[T, None]) -> None:
    async with asyncio.timeout(DEADLINE):
        async for event in stream:
            events.append(event)  # noqa: PERF401  what came before an error counts


def is_current(event: Any) -> bool:
    return bool(event.kind in (KeyValueEventKind.CURRENT, CounterEventKind.CURRENT, SetEventKind.CURRENT))


def word(response: Response) -> str:
    enum, start = NAMES[type(response)]
    name: str = enum.Name(response.kind)
    return name.removeprefix(start).lower()


def told(responses: list[Any]) -> list[str]:
    """What each response says, its values shown as old>new."""
    lines = []
    for one in responses:
        if isinstance(one, kv_pb2.KeyValueServiceWatchResponse):
            old = one.old_value.text if one.HasField("old_value") else ""
            new = one.entry.value.text if one.HasField("entry") else ""
            lines.append(f"{word(one)} {one.key} {old}>{new}" if one.key else word(one))
        elif isinstance(one, counter_pb2.CounterServiceWatchResponse):
            lines.append(
                f"{word(one)} {one.counter.key} {one.old_value}>{one.counter.value}" if one.counter.key else word(one)
            )
        else:
            lines.append(f"{word(one)} {one.key} {one.element.text}" if one.key else word(one))
    return lines


# What is told


async def test_a_watcher_of_registers_is_told_what_there_is_then_what_happens() -> None:
    watched = Watched()
    watched.put("a1", "x")
    watched.put("b1", "y")
    async with aclosing(watched.kv("a")) as stream:
        first = await take(stream, 2)
        assert told(first) == ["snapshot a1 >x", "current"]
        assert [bool(one.resume_token) for one in first] == [False, True]
        assert first[-1].cause == "these are all entries"
        watched.put("a1", "z")
        watched.put("a1", "z")
        watched.put("b1", "z")
        watched.engine.delete("a1", 2.0)
        watched.put("a2", "n")
        assert told(await take(stream, 4)) == ["put a1 x>z", "put a1 z>z", "deleted a1 z>", "put a2 >n"]


async def test_an_event_names_its_write_by_dot_and_clock_and_the_entry_after_it() -> None:
    watched = Watched()
    watched.put("k", "old")
    async with aclosing(watched.kv()) as stream:
        await take(stream, 2)
        watched.merge(register("k", b"new", B, 7, clock=900))
        [event] = await take(stream, 1)
        dot = common_pb2.Dot(origin=common_pb2.Origin(node_id="b", generation=1), sequence=7)
        assert (event.dot, event.clock, event.entry.dot, event.entry.clock) == (dot, 900, dot, 900)
        assert (event.old_value.text, event.entry.value.data) == ("old", b"new")


async def test_what_merges_without_being_seen_is_no_event() -> None:
    watched = Watched()
    watched.merge(register("k", "new", B, 7, clock=900))
    async with aclosing(watched.kv()) as stream:
        await take(stream, 2)
        watched.merge(register("k", "older", A, 70, clock=5), register("k", None, B, 6, clock=6))
        watched.put("last")
        assert told(await take(stream, 1)) == ["put last >v"]


async def test_values_that_end_are_hidden_or_are_shown_again_say_so() -> None:
    watched = Watched()
    watched.store.wall_offset = 0.0
    async with aclosing(watched.kv()) as stream:
        await take(stream, 1)
        watched.put("t", "v", ttl=5_000)
        watched.put("e", "v", ephemeral=True)
        watched.store.set_down("a", 2.0, down=True)
        watched.store.set_down("a", 3.0, down=False)
        watched.store.expire(10.0)
        events = await take(stream, 5)
    assert told(events) == ["put t >v", "put e >v", "hidden e v>", "shown e >v", "expired t v>"]
    assert events[0].entry.expires_at_unix_milliseconds == 6_000
    assert events[1].entry.ephemeral
    assert {event.dot.sequence for event in events[1:4]} == {events[1].dot.sequence}


async def test_a_value_that_had_ended_before_it_came_is_not_told_as_a_deletion() -> None:
    watched = Watched()
    watched.store.wall_offset = 0.0
    watched.put("t", "v")
    watched.put("e", "v")
    async with aclosing(watched.kv()) as stream:
        await take(stream, 3)
        watched.merge(register("t", None, B, 1, 900), register("e", None, B, 2, 900))
        watched.put("t", "v")
        watched.put("e", "v")
        await take(stream, 4)
        gone = Origin("gone", 1)
        over, abandoned = register("t", "w", B, 3, 990), register("e", "w", gone, 1, 990)
        over.content, abandoned.content = Lease("w", 500, False), Lease("w", 0, True)
        watched.merge(over, abandoned)
        assert told(await take(stream, 2)) == ["expired t v>", "hidden e v>"]


async def test_what_a_full_sync_drops_is_deleted_whatever_end_it_would_have_had() -> None:
    watched = Watched()
    watched.store.wall_offset = 0.0
    lease = register("k", None, B)
    lease.content = Lease("v", 60_000)
    watched.merge(lease)
    async with aclosing(watched.kv()) as stream:
        await take(stream, 2)
        sender = Engine(Origin("c", 1), Member(0, "c:1"), Settings(), random.Random(1), 0.0).store
        sender.coverage.add(B, 1)
        watched.store.complete(sender.delta(watched.store.digest()), received=Coverage())
        assert told(await take(stream, 1)) == ["deleted k v>"]


async def test_a_watcher_of_counters_is_told_values_and_their_changes() -> None:
    watched = Watched()
    watched.engine.add("c1", 5, 1.0)
    watched.engine.add("d1", 5, 1.0)
    async with aclosing(watched.counters("c")) as stream:
        assert told(await take(stream, 2)) == ["snapshot c1 0>5", "current"]
        watched.engine.add("c1", -2, 1.0)
        watched.engine.add("d1", 1, 1.0)
        watched.engine.reset("c1", 1.0)
        watched.engine.add("c2", 2**63 - 1, 1.0)
        events = await take(stream, 3)
    assert told(events) == ["changed c1 5>3", "changed c1 3>0", f"changed c2 0>{2**63 - 1}"]
    assert (events[0].dot.origin.node_id, events[0].clock > 0) == ("a", True)


async def test_a_watcher_of_sets_is_told_elements_as_they_come_and_go() -> None:
    watched = Watched()
    watched.engine.set_add("s1", ["x", "y"], 1.0)
    watched.engine.set_add("r", ["x"], 1.0)
    async with aclosing(watched.sets("s")) as stream:
        assert told(await take(stream, 3)) == ["snapshot s1 x", "snapshot s1 y", "current"]
        watched.engine.set_add("s1", ["x", "z"], 1.0)
        watched.engine.set_remove("s1", ["x"], 1.0)
        assert told(await take(stream, 2)) == ["added s1 z", "removed s1 x"]


async def test_the_three_kinds_have_key_spaces_of_their_own() -> None:
    watched = Watched()
    async with aclosing(watched.kv()) as stream:
        await take(stream, 1)
        watched.engine.add("k", 1, 1.0)
        watched.engine.set_add("k", ["x"], 1.0)
        watched.put("k")
        assert told(await take(stream, 1)) == ["put k >v"]


# Where the snapshot and the stream meet


class Replica:
    """What a watcher makes of what it is told. Each event must fit what it knows: no loss, no repeat."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}
        self.current = False
        self.token = ""

    def learn(self, one: Any) -> None:
        what = word(one)
        if what == "reset":
            self.values, self.current = {}, False
        elif what == "current":
            assert not self.current
            self.current = True
        else:
            self._event(what, one)
        if one.resume_token:
            self.token = one.resume_token
        else:
            assert not self.current

    def _event(self, what: str, one: Any) -> None:
        values = self.values
        if isinstance(one, kv_pb2.KeyValueServiceWatchResponse):
            after = _plain(one.entry.value) if one.HasField("entry") else None
            if what == "snapshot":
                assert one.key not in values
            else:
                assert values.get(one.key) == (_plain(one.old_value) if one.HasField("old_value") else None)
            values[one.key] = after
            if after is None:
                del values[one.key]
        elif isinstance(one, counter_pb2.CounterServiceWatchResponse):
            if what == "snapshot":
                assert one.counter.key not in values
            else:
                assert values.get(one.counter.key, 0) == one.old_value != one.counter.value
            values[one.counter.key] = one.counter.value
        else:
            name = one.key, _plain(one.element)
            assert (name in values) == (what == "removed")
            if what == "removed":
                del values[name]
            else:
                values[name] = True


def _plain(value: common_pb2.Value) -> Value:
    return value.text if value.WhichOneof("kind") == "text" else value.data


def held(watched: Watched, view: type, prefix: str) -> dict[Any, Any]:
    """What a watcher should know by now. A counter may be known as 0, or not at all."""
    store = watched.store
    if view is KeyValueView:
        records = {key: store.register(key) for key in store.keys(prefix)}
        return {key: value_of(record) for key, record in records.items() if record is not None}
    if view is CounterView:
        return {key: value for key in store.counter_keys(prefix) if (value := store.counter(key))}
    return {(key, element): True for key in store.set_keys(prefix) for element in store.elements(key)}


keys = st.sampled_from(["", "a", "aa", "ab", "b", "ba", "ä"]).map(lambda key: f"k{key}")
values = st.sampled_from(["", "v", b"", b"v", "w"])
writes = st.one_of(
    st.tuples(st.just("put"), keys, values),
    st.tuples(st.just("lease"), keys, values),
    st.tuples(st.just("ephemeral"), keys, values),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("add"), keys, st.integers(-2, 2)),
    st.tuples(st.just("reset"), keys),
    st.tuples(st.just("set_add"), keys, st.sampled_from(["x", b"x", "y", "z"])),
    st.tuples(st.just("set_remove"), keys, st.sampled_from(["x", b"x", "y", "z"])),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("expire"), st.integers(1, 3)),
)
steps = st.lists(
    st.one_of(writes, writes, st.tuples(st.just("read"), st.integers(1, 4)), st.just(("tick",)), st.just(("resume",))),
    max_size=60,
)


def do(watched: Watched, what: str, *given: Any) -> None:
    engine: Any = watched.engine
    now = 1.0
    match what:
        case "put":
            engine.put(*given, now)
        case "lease":
            engine.put(*given, now, ttl=1_500)
        case "ephemeral":
            engine.put(*given, now, ephemeral=True)
        case "set_add" | "set_remove":
            getattr(engine, what)(given[0], [given[1]], now)
        case "down":
            watched.store.set_down("a", now, down=given[0])
        case "expire":
            watched.store.expire(float(given[0]))
        case _:
            getattr(engine, what)(*given, now)


@pytest.mark.parametrize("view", [KeyValueView, CounterView, SetView])
@settings(max_examples=150)
@given(before=st.lists(writes, max_size=15), steps=steps, prefix=st.sampled_from(["", "ka", "kaa", "nothing"]))
def test_a_watcher_knows_what_the_node_knows_whatever_is_written_while_it_reads(
    view: Any, before: list[Any], steps: list[Any], prefix: str
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(key_views, "PIECE", 2)
        patched.setattr(watching, "_BATCH", 2)
        patched.setattr(elements, "LARGE", 1)
        patched.setattr(key_views, "SORTED", 1)
        asyncio.run(watch_at_random(view, before, steps, prefix))


async def watch_at_random(view: Any, before: list[Any], steps: list[Any], prefix: str) -> None:
    watched, replica = Watched(), Replica()
    watched.store.wall_offset = 0.0
    history: dict[int, dict[Any, Any]] = {}
    for write in before:
        do(watched, *write)

    def start() -> tuple[AsyncGenerator[Any, None], asyncio.Future[Any]]:
        if not replica.token:
            replica.values = {}
        replica.current = False
        stream = watched.changes.watch(view(watched.store, prefix), replica.token)
        return stream, asyncio.ensure_future(anext(stream))

    stream, waiting = start()

    async def read(count: int) -> bool:
        """Whether there was so much to read."""
        nonlocal waiting
        for _ in range(count):
            for _ in range(40):  # what is there comes within so many steps of the loop
                if waiting.done():
                    break
                await asyncio.sleep(0)
            else:
                return False
            response = waiting.result()
            replica.learn(response)
            if word(response) == "current":
                number = int(replica.token.split("/")[2])
                if number in history:
                    assert known() == history[number]
            waiting = asyncio.ensure_future(anext(stream))
        return True

    def known() -> dict[Any, Any]:
        return {name: value for name, value in replica.values.items() if view is not CounterView or value}

    try:
        await asyncio.sleep(0)
        for step in steps:
            if step[0] == "read":
                await read(step[1])
            elif step[0] == "tick":
                await asyncio.sleep(0)
            elif step[0] == "resume":
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await stream.aclose()
                stream, waiting = start()
                await asyncio.sleep(0)
            else:
                do(watched, *step)
                watched.changes.refresh()
            history[watched.changes.log.number] = held(watched, view, prefix)
        while await read(1):
            pass
        assert replica.current
        assert known() == held(watched, view, prefix)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await stream.aclose()
        watched.changes.close()


def test_what_comes_before_a_large_set_while_that_is_sorted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "LARGE", 1)
    monkeypatch.setattr(key_views, "SORTED", 1)
    watched = Watched()
    watched.engine.set_add("a", ["x"], 1.0)
    watched.engine.set_add("c", ["1", "2", "3"], 1.0)
    view = SetView(watched.store, "")
    pieces = view.pieces()
    assert [told(list(next(pieces))) for _ in range(2)] == [["snapshot a x"], []]
    watched.store.feed(on=True)
    watched.engine.set_add("b", ["y"], 2.0)
    watched.engine.set_add("c", ["4"], 2.0)
    log = Log[Update](most=10)
    log.add([(update, 0) for update in watched.store.take_updates()], 0.0)
    assert told(list(view.events(log.after(0), str))) == ["added b y"]
    assert told([one for piece in pieces for one in piece]) == [f"snapshot c {number}" for number in range(1, 5)]


# Tokens


async def test_one_that_comes_back_with_its_token_gets_just_what_came_after_it() -> None:
    watched = Watched()
    watched.put("k", "1")
    async with aclosing(watched.kv("k")) as stream:
        token = (await take(stream, 2))[-1].resume_token
    watched.put("k", "2")
    watched.put("other", "2")
    watched.engine.add("k", 1, 1.0)
    watched.put("k", "3")
    async with aclosing(watched.kv("k", token)) as stream:
        missed = await take(stream, 3)
        assert told(missed) == ["put k 1>2", "put k 2>3", "current"]
        assert missed[-1].cause == "resumed"
        watched.put("k", "4")
        assert told(await take(stream, 1)) == ["put k 3>4"]
    async with aclosing(watched.kv("k", missed[0].resume_token)) as stream:
        assert told(await take(stream, 3)) == ["put k 2>3", "put k 3>4", "current"]


async def test_a_token_is_good_for_the_call_and_the_prefix_that_it_came_from_only() -> None:
    watched = Watched()
    async with aclosing(watched.kv("k")) as stream:
        token = (await take(stream, 1))[-1].resume_token
    for other in (
        watched.kv("", token),
        watched.kv("k2", token),
        watched.counters("k", token),
        watched.sets("k", token),
    ):
        with pytest.raises(LocalError, match="resume_token is not one that this call has answered") as caught:
            await anext(other)
        assert caught.value.field == "resume_token"


async def test_a_token_of_another_run_leads_to_a_reset_that_says_so() -> None:
    watched = Watched()
    watched.put("k")
    async with aclosing(watched.kv()) as stream:
        node, _, number, check = (await take(stream, 2))[-1].resume_token.split("/")
    for token, why in (
        (f"b/1/{number}/{check}", "the token is of node b, so these are all entries"),
        (f"{node}/2/{number}/{check}", "the token is of another run of a, so these are all entries"),
        (
            f"{node}/1/{int(number) + 1}/{check}",
            "what came after the token is not kept any more, so these are all entries",
        ),
    ):
        async with aclosing(watched.kv("", token)) as stream:
            responses = await take(stream, 3)
        assert told(responses) == ["reset", "snapshot k >v", "current"]
        assert [one.cause for one in responses] == [why, "", why]


@pytest.mark.parametrize("verb", ["counters", "sets"])
async def test_counters_and_sets_say_that_a_token_is_of_no_use(verb: str) -> None:
    watched = Watched()
    async with aclosing(getattr(watched, verb)()) as stream:
        token = (await take(stream, 1))[-1].resume_token
    async with aclosing(getattr(watched, verb)("", token.replace("a/", "b/", 1))) as stream:
        assert told(await take(stream, 2)) == ["reset", "current"]


# What is kept, and for whom


def is_on(watched: Watched) -> bool:
    return watched.changes.on


async def test_a_feed_is_kept_while_somebody_watches_and_some_minutes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    assert not is_on(watched)
    first, second = watched.kv(), watched.sets()
    token = (await take(first, 1))[-1].resume_token
    await take(second, 1)
    await first.aclose()
    assert is_on(watched)
    monkeypatch.setattr(changes, "LINGER", 0.0)
    await second.aclose()
    watched.put("k")
    watched.changes.refresh()
    assert len(watched.changes.log) == 1
    async with asyncio.timeout(DEADLINE):
        while is_on(watched):  # noqa: ASYNC110 - a timer ends it, not an event
            await asyncio.sleep(0)
    assert (len(watched.changes.log), watched.changes.log.size) == (0, 0)
    watched.put("k")
    assert not watched.store.take_updates()
    async with aclosing(watched.kv("", token)) as stream:
        assert told(await take(stream, 3)) == ["reset", "snapshot k >v", "current"]


async def test_a_watcher_that_comes_in_time_keeps_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(changes, "LINGER", 0.01)
    async with aclosing(watched.kv()) as stream:
        token = (await take(stream, 1))[-1].resume_token
    async with aclosing(watched.kv("", token)) as stream:
        await take(stream, 1)
        await asyncio.sleep(0.03)  # longer than LINGER: it is about what does not happen then
        watched.put("k")
        assert told(await take(stream, 1)) == ["put k >v"]


async def test_a_token_from_before_the_feed_was_off_is_of_no_use_even_if_nothing_has_changed_since() -> None:
    watched = Watched()
    async with aclosing(watched.kv()) as stream:
        token = (await take(stream, 1))[-1].resume_token
    watched.changes._stop()
    watched.put("unseen")
    async with aclosing(watched.kv("", token)) as stream:
        assert told(await take(stream, 3)) == ["reset", "snapshot unseen >v", "current"]


async def test_what_is_kept_is_bounded_in_number_and_in_bytes() -> None:
    log = Log[str](most=3, most_bytes=100)
    log.add([("a", 40), ("b", 40)], 0.0)
    assert (len(log), log.size, log.holds(0)) == (2, 80, True)
    log.add([("c", 40)], 0.0)
    assert (len(log), log.size, log.holds(0), log.holds(1)) == (2, 80, False, True)
    log.add([("d", 500)], 0.0)
    assert (len(log), log.size) == (1, 500)
    log.add([(letter, 1) for letter in "efghi"], 0.0)
    assert [entry.item for entry in log.after(6)] == ["g", "h", "i"]
    assert (len(log), log.size) == (3, 3)


async def test_large_values_do_not_make_the_log_grow_beyond_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT_BYTES", 1_000_000)
    watched = Watched()
    stalled = [watched.kv() for _ in range(5)]
    for stream in stalled:
        await take(stream, 1)
    for number in range(300):
        watched.put(f"k{number % 10}", str(number) * 3_000)
        watched.changes.refresh()
    assert watched.changes.log.size <= 1_000_000
    assert len(watched.changes.log) < 100
    for stream in stalled:
        with pytest.raises(LimitError) as caught:
            await take(stream, 1)
        assert caught.value.reason is Reason.SLOW_WATCHER


async def test_a_watcher_takes_little_from_the_log_at_a_time() -> None:
    log = Log[str](most=1_000)
    log.add([("x", 10)] * 500 + [("y", 40_000)] * 10, 0.0)
    assert len(log.after(0)) == 100
    assert len(log.after(500)) == 1


async def test_a_piece_of_the_snapshot_is_small_in_number_and_in_bytes() -> None:
    watched = Watched()
    for number in range(500):
        watched.put(f"a{number:03}")
    for number in range(3):
        watched.put(f"b{number}", "x" * 50_000)
    watched.engine.set_add("s", [f"{number:03}" for number in range(500)], 1.0)
    watched.engine.set_add("t", ["1" * 60_000, "2" * 60_000, "3"], 1.0)
    for number in range(500):
        watched.engine.add(f"a{number:03}", 1, 1.0)

    def sizes(view: Any) -> list[int]:
        return [len(list(piece)) for piece in view.pieces()]

    assert sizes(KeyValueView(watched.store, "a")) == [200, 200, 100]
    assert sizes(KeyValueView(watched.store, "b")) == [2, 1]
    assert sizes(CounterView(watched.store, "")) == [200, 200, 100]
    assert sizes(SetView(watched.store, "")) == [200, 200, 100, 2, 1]


async def test_changes_of_other_keys_are_nothing_that_a_watcher_falls_behind_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "KEPT", 10)
    watched = Watched()
    async with aclosing(watched.kv("a")) as stream:
        await take(stream, 1)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)  # until it waits, which nothing tells
        for number in range(50):
            watched.put("b", str(number))
            watched.changes.refresh()
            await asyncio.sleep(0)
            assert not waiting.done()
        watched.put("a")
        watched.changes.refresh()
        async with asyncio.timeout(DEADLINE):
            assert told([await waiting]) == ["put a >v"]


# Slow and too many


async def test_a_watcher_that_is_too_slow_is_cut_off_with_its_token_and_can_resume() -> None:
    watched = Watched()
    async with aclosing(watched.kv()) as stream:
        await take(stream, 1)
        watched.put("k", "first")
        last = (await take(stream, 1))[-1].resume_token
        for number in range(MAX_LAG + 1):
            watched.put("k", str(number))
        watched.changes.log.add([(update, 0) for update in watched.store.take_updates()], float("-inf"))
        with pytest.raises(LimitError, match="1001 events behind; resume with its token") as caught:
            await anext(stream)
    assert caught.value.reason is Reason.SLOW_WATCHER
    assert caught.value.metadata == {"resume_token": last}
    async with aclosing(watched.kv("", last)) as stream:
        assert told(await take(stream, MAX_LAG + 2))[-2:] == [f"put k {MAX_LAG - 1}>{MAX_LAG}", "current"]


async def test_a_snapshot_that_takes_its_time_is_no_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(key_views, "PIECE", 1)
    watched.put("a")
    watched.put("b")
    async with aclosing(watched.kv()) as stream:
        await take(stream, 1)
        for number in range(MAX_LAG + 1):
            watched.put("a", str(number))
        watched.changes.log.add([(update, 0) for update in watched.store.take_updates()], float("-inf"))
        rest = await take(stream, MAX_LAG + 3)
    assert told(rest)[-2:] == ["snapshot b >v", "current"]


async def test_one_that_loses_the_log_within_the_snapshot_must_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT", 10)
    watched = Watched()
    watched.put("a")
    async with aclosing(watched.kv()) as stream:
        await take(stream, 1)
        for number in range(11):
            watched.put("b", str(number))
        with pytest.raises(LimitError, match="begin anew, and read faster") as caught:
            await anext(stream)
    assert caught.value.metadata == {}


async def test_all_watchers_count_whatever_they_watch() -> None:
    watched = Watched(most=2)
    async with aclosing(watched.kv()) as first, aclosing(watched.sets()) as second:
        await take(first, 1)
        await take(second, 1)
        with pytest.raises(LimitError, match="the node has 2 of max_watchers, 2, already") as caught:
            await anext(watched.counters())
        assert caught.value.reason is Reason.WATCH_LIMIT
    assert watched.watchers.count == 0


# By the API of a node


def config(node_id: str, **more: Any) -> Config:
    return Config(node_id=node_id, peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", leave_timeout=0, **more)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(config("a", max_watchers=5)) as node:
        yield node


async def test_clients_and_embedded_nodes_watch_alike(node: Node) -> None:
    async with AsyncClient(node.client_address) as client:
        await client.kv.put("k", b"old", ttl=60, ephemeral=True)
        await client.counter.add("c", 2)
        await client.set.add("s", "x")
        for verbs in (client, node):
            async with (
                aclosing(verbs.kv.watch("k")) as entries,
                aclosing(verbs.counter.watch("c")) as counters,
                aclosing(verbs.set.watch("s")) as sets,
            ):
                snapshot, _ = await take(entries, 2)
                assert snapshot.kind is KeyValueEventKind.SNAPSHOT
                assert snapshot.entry == await verbs.kv.get("k")
                assert snapshot.entry is not None
                assert snapshot.entry.ephemeral
                assert snapshot.entry.expires_at is not None
                assert (await take(counters, 2))[0].counter == Counter("c", 2)
                assert (await take(sets, 2))[0].element == "x"
                before, session = snapshot.entry, await client.kv.put("k", "new")
                await client.counter.add("c", 1)
                await client.set.remove("s", "x")
                [put], [changed], [removed] = await take(entries, 1), await take(counters, 1), await take(sets, 1)
            assert put == KeyValueEvent(
                KeyValueEventKind.PUT,
                "k",
                await client.kv.get("k"),
                before.value,
                session.dots[0],
                session.clock,
                put.token,
                "",
            )
            assert (changed.kind, changed.old_value, changed.counter) == (CounterEventKind.CHANGED, 2, Counter("c", 3))
            assert (removed.kind, removed.key, removed.element) == (SetEventKind.REMOVED, "s", "x")
            assert isinstance(changed, CounterEvent)
            assert isinstance(removed, SetEvent)
            await client.counter.add("c", -1)
            await client.set.add("s", "x")
            await client.kv.put("k", b"old", ttl=60, ephemeral=True)


async def test_the_blocking_client_watches_and_hangs_up(node: Node) -> None:
    def watch() -> list[str]:
        with Client(node.client_address) as client:
            seen = []
            groups: list[Any] = [client.kv, client.counter, client.set]
            for verbs in groups:
                events = verbs.watch()
                seen.append(str(next(events).kind))
                events.close()
            return seen

    assert await asyncio.to_thread(watch) == ["current"] * 3
    async with asyncio.timeout(DEADLINE):
        while node.watchers.count:  # noqa: ASYNC110 - the node has no event for it
            await asyncio.sleep(0)


async def test_a_token_works_after_reconnecting_and_at_another_node_leads_to_a_reset(node: Node) -> None:
    async with Node(config("b", join=(node.peer_address,))) as other, AsyncClient(node.client_address) as first:
        await other.wait_ready()
        await first.kv.put("k", "1")
        async with aclosing(first.kv.watch("k")) as stream:
            *_, current = await until(stream, is_current)
        await first.kv.put("k", "2")
        async with AsyncClient(node.client_address) as again, aclosing(again.kv.watch("k", current.token)) as stream:
            put, marker = await take(stream, 2)
        assert (put.kind, put.old_value, marker.cause) == (KeyValueEventKind.PUT, "1", "resumed")
        async with AsyncClient(other.client_address) as there:
            async with aclosing(there.kv.watch("k", put.token)) as stream:
                told = await until(stream, is_current)
            assert told[0].kind is KeyValueEventKind.RESET
            assert told[0].cause == told[-1].cause == "the token is of node a, so these are all entries"
            # And what it answers is good there.
            async with aclosing(there.kv.watch("k", told[-1].token)) as stream:
                [marker] = (await until(stream, is_current))[-1:]
            assert marker.cause == "resumed"


async def test_what_a_peer_writes_is_told_at_once(node: Node) -> None:
    async with Node(config("b", join=(node.peer_address,))) as other:
        await other.wait_ready()
        async with AsyncClient(node.client_address) as client, aclosing(client.kv.watch()) as stream:
            await take(stream, 1)
            await other.kv.put("k", "v")
            [event] = await take(stream, 1)
        assert event.dot is not None
        assert (event.key, event.dot.origin.node_id) == ("k", "b")


async def test_errors_reach_watchers_with_their_reason(node: Node) -> None:
    async with AsyncClient(node.client_address) as client:
        for verbs in (client, node):
            for group in (verbs.kv, verbs.counter, verbs.set):
                with pytest.raises(InvalidArgumentError) as wrong:
                    await anext(group.watch("", "x"))
                assert list(wrong.value.fields) == ["resume_token"]
                with pytest.raises(InvalidArgumentError) as long:
                    await anext(group.watch("x" * 513))
                assert list(long.value.fields) == ["prefix"]
        streams: list[Any] = [node.watch(), node.kv.watch(), node.counter.watch(), node.set.watch(), client.kv.watch()]
        for stream in streams:
            await take(stream, 1)
        with pytest.raises(ResourceExhaustedError) as many:
            await anext(client.set.watch())
        assert many.value.reason == "WATCH_LIMIT"
        for stream in streams:
            await stream.aclose()


async def test_a_snapshot_reflects_the_session_or_there_is_none(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    monkeypatch.setattr(sessions, "DEFAULT_PATIENCE", 0.01)
    unknown = Session(1, (Dot(ClientOrigin("x", 1), 1),))
    async with AsyncClient(node.client_address, session=unknown) as client:
        groups: list[Any] = [client.kv, client.counter, client.set]
        for group in groups:
            with pytest.raises(DeadlineError) as caught:
                await anext(group.watch())
            assert caught.value.reason == "SESSION_BEHIND"


async def test_a_node_that_stops_ends_its_watchers_and_does_not_wait_for_them(node: Node) -> None:
    async with AsyncClient(node.client_address) as client, aclosing(client.kv.watch(reconnect=0)) as stream:
        await take(stream, 1)
        stopping = asyncio.create_task(node.stop())
        with pytest.raises(UnavailableError) as caught:
            await take(stream, 1)
        assert caught.value.reason == "STOPPING"
        await stopping
        assert not node.changes.on


async def test_a_client_that_takes_nothing_is_cut_off_and_goes_on_with_its_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "STALLED", 0.5)
    async with Node(config("a")) as node:
        # As small a window as may be: the stream stands still after some events, not after some megabytes.
        options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]
        async with grpc.aio.insecure_channel(node.client_address, options=options) as channel:
            client = AsyncClient(channel=channel)
            stream = client.kv.watch(reconnect=0)
            await take(stream, 1)
            value = "x" * 10_000
            for number in range(2_000):
                node.engine.put("k", f"{number} {value}", node.scheduler.now())
                node.scheduler.pump()
                if number % 100 == 0:
                    await asyncio.sleep(0)
            async with asyncio.timeout(DEADLINE):
                while node.watchers.count:  # noqa: ASYNC110 - the node has no event for it
                    await asyncio.sleep(0.05)
            events: list[KeyValueEvent] = []
            with pytest.raises(
                ResourceExhaustedError, match=r"the caller has taken nothing for 0\.5 s; resume"
            ) as caught:
                await read_into(events, stream)
            assert caught.value.reason == "SLOW_WATCHER"
            token = caught.value.metadata["resume_token"]
            assert token == events[-1].token
            async with aclosing(client.kv.watch("", token)) as again:
                rest = await until(again, is_current)
        assert 1 < len(events) < 1_900
        numbers = [int(str(event.entry.value).split()[0]) for event in [*events, *rest] if event.entry]
        assert numbers == list(range(2_000))
