"""Events with real servers: published at any node, each reaches each subscriber of all nodes once, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip_grpc import changes, event_view, watching
from gossip_grpc import node as nodes
from gossip_grpc.changes import Changes
from gossip_grpc.client import (
    AsyncClient,
    Client,
    Event,
    GossipError,
    InvalidArgumentError,
    ResourceExhaustedError,
    Session,
    SubscriptionEvent,
    SubscriptionEventKind,
    UnavailableError,
)
from gossip_grpc.config import Config
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.records import Member
from gossip_grpc.errors import LimitError, Reason
from gossip_grpc.event_view import EventView
from gossip_grpc.gen.gossip.v1 import event_pb2, event_pb2_grpc
from gossip_grpc.node import Node
from gossip_grpc.peering import Peering
from gossip_grpc.watching import MAX_LAG, Watchers
from tests.samples import A

DEADLINE = 20.0
NEVER = 3600.0


def config(node_id: str, **more: Any) -> Config:
    return Config(node_id=node_id, peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", leave_timeout=0.1, **more)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(config("a", max_watchers=3)) as node:
        yield node


@asynccontextmanager
async def cluster(count: int, **more: Any) -> AsyncIterator[list[Node]]:
    """Nodes that know each other."""
    async with AsyncExitStack() as stack:
        found: list[Node] = []
        for number in range(count):
            join = (found[0].peer_address,) if found else ()
            found.append(await stack.enter_async_context(Node(config(f"n{number}", join=join, **more))))
        await until(lambda: all(len(node.engine.membership.reachable_peers()) == count - 1 for node in found))
        for node in found:
            await node.wait_ready()
        yield found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what a node does sets no event
            await asyncio.sleep(0.01)


async def take(stream: AsyncGenerator[SubscriptionEvent, None], count: int) -> list[SubscriptionEvent]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(stream) for _ in range(count)]


async def read_into(found: list[SubscriptionEvent], stream: AsyncGenerator[SubscriptionEvent, None]) -> None:
    async with asyncio.timeout(DEADLINE):
        async for one in stream:
            found.append(one)  # noqa: PERF401  what came before an error counts


def told(events: Sequence[SubscriptionEvent]) -> list[str]:
    """The topics and payloads of events, and the names of markers."""
    return [f"{one.event.topic} {one.event.payload!s}" if one.event else str(one.kind) for one in events]


def payloads(events: Sequence[SubscriptionEvent]) -> list[str]:
    return [str(one.event.payload) for one in events if one.event]


# By the API of one node


async def test_an_event_reaches_a_subscriber_with_all_that_it_was_published_with(node: Node) -> None:
    async with AsyncClient(node.client_address) as client:
        for verbs in (client, node):
            async with aclosing(verbs.event.subscribe("t")) as stream:
                [marker] = await take(stream, 1)
                assert (marker.kind, marker.event, marker.dot) == (SubscriptionEventKind.CURRENT, None, None)
                assert (marker.clock, marker.cause) == (0, "these are all events from now on")
                session: Session = await client.event.publish("t", b"\0x", "key", request_id=repr(verbs))
                [told] = await take(stream, 1)
            assert told.event is not None
            published_at = told.event.published_at
            dot = session.dots[0]
            assert told.event == Event("t", b"\0x", "key", published_at, dot, session.clock, repr(verbs))
            assert (told.kind, told.dot, told.clock) == (SubscriptionEventKind.EVENT, dot, session.clock)
            assert abs(published_at - (node.scheduler.now() + node.engine.wall_offset)) < DEADLINE


async def test_the_blocking_client_publishes_and_subscribes(node: Node) -> None:
    def tour() -> list[str]:
        with Client(node.client_address) as client:
            client.event.publish("t", "1")
            stream = client.event.subscribe("t", retained=True)
            found = [next(stream), next(stream)]
            stream.close()
            return told(found)

    assert await asyncio.to_thread(tour) == ["t 1", "current"]
    await until(lambda: not node.watchers.count)


async def test_topics_are_taken_whole_or_by_their_beginning(node: Node) -> None:
    async with (
        aclosing(node.event.subscribe("a", "b/*", "b/x")) as some,
        aclosing(node.event.subscribe("*")) as every,
    ):
        await take(some, 1)
        await take(every, 1)
        topics = ["a", "aa", "b", "b/", "b/x", "c", "ä"]
        for topic in topics:
            await node.event.publish(topic, "")
        await node.event.publish("a", "end")
        assert told(await take(some, 4)) == ["a ", "b/ ", "b/x ", "a end"]
        assert told(await take(every, 8)) == [*(f"{topic} " for topic in topics), "a end"]


async def test_alike_events_are_as_many_as_were_published(node: Node) -> None:
    async with aclosing(node.event.subscribe("t")) as stream:
        await take(stream, 1)
        sessions = [await node.event.publish("t", "same") for _ in range(3)]
        events = await take(stream, 3)
    assert [one.dot for one in events] == [session.dots[0] for session in sessions]


async def test_a_late_joiner_gets_what_is_kept_if_it_asks(node: Node) -> None:
    for number in range(3):
        await node.event.publish("t", str(number))
        await node.event.publish("other", str(number))
    assert not node.changes.on, "nobody has subscribed yet"
    async with (
        aclosing(node.event.subscribe("t", retained=True)) as late,
        aclosing(node.event.subscribe("t")) as new,
    ):
        found = await take(late, 4)
        assert told(found) == ["t 0", "t 1", "t 2", "current"]
        assert [bool(one.token) for one in found] == [False] * 3 + [True]
        assert found[-1].cause == "these are all events that this node keeps"
        await take(new, 1)
        await node.event.publish("t", "3")
        assert told(await take(late, 1)) == told(await take(new, 1)) == ["t 3"]


async def test_an_event_is_forgotten_after_its_retention() -> None:
    async with Node(config("a", event_retention=1, gossip_interval=0.05)) as node:
        session = await node.event.publish("t", "x")
        await until(lambda: not node.engine.store.event_count)
        assert node.engine.store.coverage.covers(*_dot(session))
        async with aclosing(node.event.subscribe("t", retained=True)) as stream:
            assert told(await take(stream, 1)) == ["current"]


def _dot(session: Session) -> Any:
    return session.dots[0]


async def test_a_subscription_goes_on_with_its_token(node: Node) -> None:
    async with AsyncClient(node.client_address) as client:
        async with aclosing(client.event.subscribe("t", "u")) as stream:
            await client.event.publish("t", "early")
            first = (await take(stream, 1))[-1]
        for number in range(3):
            await client.event.publish("t", str(number))
            await client.event.publish("v", str(number))
        # The order of the topics does not matter, nor what the subscription began with.
        async with aclosing(client.event.subscribe("u", "t", "t", retained=True, token=first.token)) as stream:
            *events, marker = await take(stream, 4)
            assert told(events) == ["t 0", "t 1", "t 2"]
            assert marker.cause == "resumed"
        async with aclosing(client.event.subscribe("t", "u", token=events[1].token)) as stream:
            assert told(await take(stream, 2)) == ["t 2", "current"]


async def test_a_token_of_other_topics_is_refused(node: Node) -> None:
    async with aclosing(node.event.subscribe("t")) as stream:
        [marker] = await take(stream, 1)
    for topics in (("u",), ("t", "u"), ("t*",)):
        with pytest.raises(InvalidArgumentError) as caught:
            await anext(node.event.subscribe(*topics, token=marker.token))
        assert list(caught.value.fields) == ["resume_token"]


@pytest.mark.parametrize(
    ("topic", "payload", "key", "field"),
    [
        ("", "p", "", "topic"),
        ("t" * 513, "p", "", "topic"),
        ("a*", "p", "", "topic"),
        ("t", "p" * 65_537, "", "payload"),
        ("t", "p", "k" * 513, "ordering_key"),
    ],
)
async def test_what_is_beyond_a_limit_is_not_published(
    node: Node, topic: str, payload: str, key: str, field: str
) -> None:
    async with AsyncClient(node.client_address) as client:
        for verbs in (client, node):
            with pytest.raises(InvalidArgumentError) as caught:
                await verbs.event.publish(topic, payload, key)
            assert list(caught.value.fields) == [field]
    assert node.engine.store.event_count == 0


async def test_what_is_at_its_limits_is_published(node: Node) -> None:
    async with AsyncClient(node.client_address) as client, aclosing(client.event.subscribe("t*")) as stream:
        await take(stream, 1)
        await client.event.publish("t" * 512, "p" * 65_536, "k" * 512)
        await client.event.publish("t", "")
        full, empty = await take(stream, 2)
    assert full.event is not None
    assert (full.event.topic, len(full.event.payload), full.event.ordering_key) == ("t" * 512, 65_536, "k" * 512)
    assert told([empty]) == ["t "]


async def test_the_largest_payload_is_configured_and_status_says_so() -> None:
    async with Node(config("a", max_event_bytes=8)) as node:
        await node.event.publish("t", "p" * 8)
        with pytest.raises(InvalidArgumentError, match="payload has 9 bytes; at most 8 are allowed"):
            await node.event.publish("t", "p" * 9)
        limits = (await node.status()).limits
        assert limits["max_event_bytes"].limit == 8
        used = limits["max_records"].used
        assert used == node.engine.store.live + node.engine.store.tombstones + 1


async def test_events_count_as_records_of_the_node() -> None:
    async with Node(config("a", max_records=2)) as node:
        await node.event.publish("t", "1")
        await node.event.publish("t", "2")
        with pytest.raises(ResourceExhaustedError) as caught:
            await node.event.publish("t", "3")
        assert caught.value.reason == Reason.RECORD_LIMIT


@pytest.mark.parametrize(
    ("topics", "field"),
    [
        ((), "topics"),
        (("t",) * 101, "topics"),
        (("t", ""), "topics[1]"),
        (("t" * 513,), "topics[0]"),
        (("a*b",), "topics[0]"),
        (("**",), "topics[0]"),
    ],
)
async def test_topics_that_are_none_are_refused(node: Node, topics: tuple[str, ...], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await anext(node.event.subscribe(*topics))
    assert list(caught.value.fields) == [field]


async def test_a_hundred_topics_are_taken(node: Node) -> None:
    async with aclosing(node.event.subscribe(*(f"t{number}" for number in range(100)))) as stream:
        await take(stream, 1)


async def test_requests_that_no_client_of_ours_makes_are_refused_or_taken_as_the_schema_says(node: Node) -> None:
    await node.event.publish("t", "x")
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        stub: Any = event_pb2_grpc.EventServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="payload is not set"):
            await stub.Publish(event_pb2.EventServicePublishRequest(topic="t"))
        unknown: Any = 9
        with pytest.raises(grpc.aio.AioRpcError, match="start is 9; give NOW"):
            await stub.Subscribe(event_pb2.EventServiceSubscribeRequest(topics=["t"], start=unknown)).read()
        call = stub.Subscribe(event_pb2.EventServiceSubscribeRequest(topics=["t"]))
        assert (await call.read()).kind == event_pb2.SUBSCRIPTION_EVENT_KIND_CURRENT
        call.cancel()


async def test_a_node_that_is_not_ready_publishes_nothing() -> None:
    async with Node(config("a", join=("127.0.0.1:1",), bootstrap_window=NEVER)) as node:
        with pytest.raises(UnavailableError) as caught:
            await node.event.publish("t", "x")
        assert caught.value.reason == Reason.NOT_READY


async def test_subscribers_count_as_watchers(node: Node) -> None:
    streams: list[Any] = [node.kv.watch(), node.event.subscribe("t"), node.watch()]
    for stream in streams:
        await anext(stream)
    with pytest.raises(ResourceExhaustedError) as caught:
        await anext(node.event.subscribe("t"))
    assert caught.value.reason == Reason.WATCH_LIMIT
    for stream in streams:
        await stream.aclose()


async def test_a_node_that_stops_ends_its_subscriptions(node: Node) -> None:
    async with AsyncClient(node.client_address) as client, aclosing(client.event.subscribe("t", reconnect=0)) as stream:
        await take(stream, 1)
        stopping = asyncio.create_task(node.stop())
        with pytest.raises(UnavailableError) as caught:
            await take(stream, 1)
        assert caught.value.reason == Reason.STOPPING
        await stopping


# Slow subscribers, and where what is kept and what comes meet


class Subscribed:
    """The events of an engine of node a, without any network."""

    def __init__(self) -> None:
        self.engine = Engine(A, Member(0, "a:1"), Settings(), random.Random(1), 0.0)
        self.store = self.engine.store
        self.changes = Changes(self.engine, Watchers(10, life=1))

    def publish(self, payload: str, topic: str = "t", now: float = 1.0) -> None:
        self.engine.publish_event(topic, payload, "", now)

    def subscribe(
        self, *topics: str, retained: bool = True, token: str = ""
    ) -> AsyncGenerator[event_pb2.EventServiceSubscribeResponse, None]:
        view = EventView(self.store, topics or ("t",), retained=retained or bool(token))
        return self.changes.watch(view, token)


async def read(stream: AsyncGenerator[event_pb2.EventServiceSubscribeResponse, None], count: int) -> list[str]:
    async with asyncio.timeout(DEADLINE):
        return [(await anext(stream)).event.payload.text for _ in range(count)]


@settings(max_examples=100)
@given(
    before=st.integers(0, 30),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20),
    piece=st.integers(1, 7),
    piece_bytes=st.sampled_from([1, 500, 1 << 20]),
)
def test_no_event_is_lost_or_told_twice_however_reading_and_publishing_alternate(
    before: int, steps: list[tuple[int, int]], piece: int, piece_bytes: int
) -> None:
    async def run() -> list[str]:
        subscribed = Subscribed()
        published = 0

        def publish(count: int) -> None:
            nonlocal published
            for _ in range(count):
                subscribed.publish(str(published))
                subscribed.publish("another", "u")
                published += 1

        publish(before)
        found: list[str] = []
        async with aclosing(subscribed.subscribe()) as stream:

            async def read_one() -> None:
                response = await anext(stream)
                if response.kind == event_pb2.SUBSCRIPTION_EVENT_KIND_EVENT:
                    found.append(response.event.payload.text)

            for publications, readings in steps:
                publish(publications)
                for _ in range(min(readings, published - len(found))):
                    await read_one()
            while len(found) < published:
                await read_one()
        assert found == [str(number) for number in range(published)]
        return found

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(event_view, "PIECE", piece)
        monkeypatch.setattr(event_view, "PIECE_BYTES", piece_bytes)
        asyncio.run(asyncio.wait_for(run(), DEADLINE))


async def test_a_token_that_is_of_no_use_leads_to_a_reset_and_all_that_is_kept() -> None:
    subscribed = Subscribed()
    async with aclosing(subscribed.subscribe(retained=False)) as stream:
        marker = await anext(stream)
    subscribed.publish("1")
    later = Subscribed()
    later.changes.life = 2
    later.publish("1")
    later.publish("2")
    async with aclosing(later.subscribe(token=marker.resume_token)) as stream:
        reset = await anext(stream)
        assert reset.kind == event_pb2.SUBSCRIPTION_EVENT_KIND_RESET
        later.publish("3")
        assert await read(stream, 3) == ["1", "2", "3"]
        current = await anext(stream)
    assert current.kind == event_pb2.SUBSCRIPTION_EVENT_KIND_CURRENT
    cause = "the token is of another run of a, so these are all events that this node keeps"
    assert reset.cause == current.cause == cause


async def test_a_subscriber_that_is_too_slow_is_cut_off_and_goes_on_with_its_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "PATIENCE", 0.0)
    subscribed = Subscribed()
    found: list[str] = []
    stream = subscribed.subscribe(retained=False)
    await anext(stream)
    for number in range(MAX_LAG + 1):
        subscribed.publish(str(number))
    subscribed.changes.refresh()
    with pytest.raises(LimitError) as caught:
        await anext(stream)
    assert caught.value.reason is Reason.SLOW_WATCHER
    async with aclosing(subscribed.subscribe(token=caught.value.metadata["resume_token"])) as again:
        found += await read(again, MAX_LAG + 1)
    assert found == [str(number) for number in range(MAX_LAG + 1)]


async def test_events_forgotten_while_a_subscriber_reads_what_is_kept_cut_it_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_view, "PIECE", 2)
    subscribed = Subscribed()
    for number in range(6):
        subscribed.publish(str(number), now=float(number))
    stream = subscribed.subscribe()
    assert await read(stream, 2) == ["0", "1"]
    subscribed.store.forget_events(61.0, 60.0)  # what was read
    assert await read(stream, 2) == ["2", "3"]
    subscribed.store.forget_events(64.5, 60.0)
    with pytest.raises(LimitError, match="events were forgotten before this subscriber had read them") as caught:
        await anext(stream)
    assert (caught.value.reason, caught.value.metadata) == (Reason.SLOW_WATCHER, {})


async def test_large_payloads_do_not_make_the_log_grow_beyond_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT_BYTES", 1 << 20)
    subscribed = Subscribed()
    async with aclosing(subscribed.subscribe(retained=False)) as stream:
        await anext(stream)
        for number in range(100):
            subscribed.publish(f"{number}" + "x" * 65_000)
            subscribed.changes.refresh()
        assert subscribed.changes.log.size < 1 << 20
        assert 10 < len(subscribed.changes.log) < 20


async def test_a_client_that_takes_nothing_is_cut_off_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "STALLED", 0.5)
    async with Node(config("a")) as node:
        options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]
        async with grpc.aio.insecure_channel(node.client_address, options=options) as channel:
            client = AsyncClient(channel=channel)
            stream = client.event.subscribe("t", reconnect=0)
            await take(stream, 1)
            filling = "x" * 10_000
            for number in range(1_000):
                await node.event.publish("t", f"{number} {filling}")
            await until(lambda: not node.watchers.count)
            found: list[SubscriptionEvent] = []
            with pytest.raises(ResourceExhaustedError) as caught:
                await read_into(found, stream)
            assert caught.value.reason == Reason.SLOW_WATCHER
            token = caught.value.metadata["resume_token"]
            async with aclosing(client.event.subscribe("t", token=token)) as again:
                found += await take(again, 1_000 - len(found))
        assert [text.split()[0] for text in payloads(found)] == [str(number) for number in range(1_000)]


# Between nodes


@pytest.mark.parametrize("how", ["rumor", "anti-entropy", "both"])
async def test_each_event_is_told_once_to_each_subscriber_of_all_nodes(how: str) -> None:
    fanout = 0 if how == "anti-entropy" else 2
    async with cluster(3, fanout=fanout, gossip_interval=0.05) as found, AsyncExitStack() as stack:
        if how == "rumor":
            for node in found:
                node.engine._next_round = node.engine.vigil._next_beat = node.scheduler.now() + NEVER
            await until(lambda: not any(node.engine._rounds for node in found))
        clients = [await stack.enter_async_context(AsyncClient(node.client_address)) for node in found]
        streams = []
        for client in clients:
            for topics in (("t",), ("*",)):
                stream = await stack.enter_async_context(aclosing(client.event.subscribe(*topics)))
                await take(stream, 1)
                streams.append(stream)
        async with asyncio.TaskGroup() as publishers:
            for number, client in enumerate(clients):
                publishers.create_task(publish(client, number))
        expected = {number: [f"{number} {count}" for count in range(20)] for number in range(3)}
        for stream in streams:
            words = payloads(await take(stream, 60))
            for number in range(3):
                assert [word for word in words if word.startswith(f"{number} ")] == expected[number]
        for client in clients:
            await client.event.publish("t", "last")
        for stream in streams:
            assert payloads(await take(stream, 3)) == ["last"] * 3


async def publish(client: AsyncClient, number: int) -> None:
    for count in range(20):
        await client.event.publish("t", f"{number} {count}")


async def test_two_nodes_that_publish_the_same_at_once_publish_two_events() -> None:
    async with (
        cluster(2, gossip_interval=0.05) as (first, second),
        aclosing(first.event.subscribe("t")) as here,
        aclosing(second.event.subscribe("t")) as there,
    ):
        await take(here, 1)
        await take(there, 1)
        sessions = await asyncio.gather(first.event.publish("t", "same"), second.event.publish("t", "same"))
        dots = {session.dots[0] for session in sessions}
        assert len(dots) == 2
        for stream in (here, there):
            events = await take(stream, 2)
            assert told(events) == ["t same", "t same"]
            assert {one.dot for one in events} == dots


async def test_a_node_that_joins_late_gets_what_is_kept_and_tells_it_once() -> None:
    async with Node(config("a", gossip_interval=0.05)) as first:
        for number in range(5):
            await first.event.publish("t", str(number))
        late = Node(config("b", join=(first.peer_address,), gossip_interval=0.05))
        async with late, aclosing(late.event.subscribe("t", retained=True)) as stream:
            found: list[str] = []
            while len(found) < 5:  # before or after the marker: it may have synced already, or not
                found += payloads(await take(stream, 1))
            await first.event.publish("t", "5")
            while len(found) < 6:
                found += payloads(await take(stream, 1))
            assert found == ["0", "1", "2", "3", "4", "5"]


async def test_a_token_of_another_node_leads_to_a_reset_with_the_same_dots() -> None:
    async with cluster(2, gossip_interval=0.05) as (first, second):
        async with aclosing(first.event.subscribe("t")) as stream:
            await take(stream, 1)
            session = await first.event.publish("t", "1")
            [event] = await take(stream, 1)
        await first.event.publish("t", "2")
        await until(lambda: second.engine.store.event_count == 2)
        async with aclosing(second.event.subscribe("t", token=event.token)) as stream:
            reset, again, new, marker = await take(stream, 4)
        assert (reset.kind, again.dot) == (SubscriptionEventKind.RESET, session.dots[0])
        assert told([again, new]) == ["t 1", "t 2"]
        assert marker.cause == "the token is of node n0, so these are all events that this node keeps"


async def test_a_node_that_was_cut_off_is_told_by_anti_entropy_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(3, gossip_interval=0.05, fanout=2) as (first, second, third):
        async with aclosing(third.event.subscribe("t")) as stream:
            await take(stream, 1)
            with monkeypatch.context() as cut:
                cut_off(third, cut)
                for number in range(10):
                    await first.event.publish("t", f"first {number}")
                    await second.event.publish("t", f"second {number}")
                await until(lambda: first.engine.store.event_count == second.engine.store.event_count == 20)
                assert third.engine.store.event_count == 0
            third.engine._next_round = third.scheduler.now()
            words = payloads(await take(stream, 20))
        for name in ("first", "second"):
            assert [word for word in words if word.startswith(name)] == [f"{name} {number}" for number in range(10)]


def cut_off(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a node refuse whatever peers send, and begin nothing with them."""
    for name in ("push", "pull", "heartbeat"):
        method = getattr(Peering, name)

        def refuse(peering: Peering, *args: Any, method: Callable[..., Any] = method) -> Any:
            if peering is node.scheduler.peering:
                raise LimitError("cut off", reason=Reason.SYNC_LIMIT)
            return method(peering, *args)

        monkeypatch.setattr(Peering, name, refuse)
    node.engine._next_round = node.scheduler.now() + NEVER


async def test_what_comes_after_a_session_waits_for_it() -> None:
    async with cluster(2, gossip_interval=0.05) as (first, second), AsyncClient(first.client_address) as client:
        session = await client.event.publish("t", "1")
        async with AsyncClient(second.client_address, session=session) as other:
            async with aclosing(other.event.subscribe("t", retained=True)) as stream:
                assert told(await take(stream, 2)) == ["t 1", "current"]
            answer = await other.event.publish("t", "2")
            assert answer.clock > session.clock


def test_errors_of_clients_are_those_of_the_package() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(GossipError):
        client.event.publish("t", "x")
