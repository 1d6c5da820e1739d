"""Sessions with real servers: a token makes any node show what its bearer has seen, or name what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from gossip_grpc import sessions
from gossip_grpc.client import AsyncClient, Client, Dot, Entry, Origin, Session
from gossip_grpc.client.calls import Call
from gossip_grpc.config import Config
from gossip_grpc.core.clock import MAX_CLOCK
from gossip_grpc.core.sessions import MAX_LENT
from gossip_grpc.errors import (
    DeadlineError,
    InvalidArgumentError,
    KeyNotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from gossip_grpc.gen.gossip.v1 import common_pb2, counter_pb2, kv_pb2, kv_pb2_grpc, set_pb2
from gossip_grpc.node import Node
from gossip_grpc.tokens import EXACT

PATIENCE = 20.0
"""Seconds after which something that should come about has not."""

NEVER = 3600.0


@dataclass
class Cluster:
    """Nodes that tell each other nothing by themselves: no rumors, and no rounds but those that sessions ask for."""

    nodes: list[Node]
    clients: list[AsyncClient]

    def __post_init__(self) -> None:
        self.first, self.second, *_ = self.clients

    def client(self, number: int, **options: Any) -> AsyncClient:
        """Another client of a node."""
        return AsyncClient(self.nodes[number].client_address, timeout=PATIENCE, **options)


@asynccontextmanager
async def cluster(count: int = 2, seconds: float = PATIENCE) -> AsyncIterator[Cluster]:
    """Nodes that know each other, and a client of each that waits for so many seconds."""
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for number in range(count):
            config = Config(
                node_id=f"n{number}",
                peer_listen="127.0.0.1:0",
                client_listen="127.0.0.1:0",
                join=(nodes[0].peer_address,) if nodes else (),
                fanout=0,
                gossip_interval=0.05,
                leave_timeout=0.1,
            )
            nodes.append(await stack.enter_async_context(Node(config)))
        await until(lambda: len({node.engine.digest_hash() for node in nodes}) == 1)
        await until(lambda: all(len(node.engine.membership.reachable_peers()) == count - 1 for node in nodes))
        for node in nodes:
            silence(node)
        await until(lambda: not any(node.engine._rounds for node in nodes))
        clients = [await stack.enter_async_context(AsyncClient(node.client_address, timeout=seconds)) for node in nodes]
        yield Cluster(nodes, clients)


def silence(node: Node) -> None:
    """Let a node begin no rounds by itself, nor say that it lives."""
    node.engine._next_round = node.engine.vigil._next_beat = node.scheduler.now() + NEVER


def mute(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let nobody be asked by a node; returns whom it would have asked."""
    asked: list[str] = []
    monkeypatch.setattr(node.engine, "compare_with", lambda peer, fetch: asked.append(peer.node_id))
    return asked


def begin_reading(c: Cluster) -> asyncio.Task[Entry]:
    """Let the second node's client read `a`, and go on."""

    async def read() -> Entry:
        return await c.second.kv.get("a")

    return asyncio.create_task(read())


async def compare(node: Node, other: Node) -> None:
    """A round of one node with another."""
    rounds = node.engine.counters.rounds
    node.engine.__class__.compare_with(node.engine, node.engine.membership.peer(other.config.node_id))
    node.scheduler.pump()
    assert node.engine.counters.rounds > rounds
    await until(lambda: not node.engine._rounds)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what a node does sets no event
            await asyncio.sleep(0.005)


# What a session promises


async def test_a_write_is_read_at_once_at_another_node() -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "1")
        with pytest.raises(KeyNotFoundError):
            await c.second.kv.get("a")  # it is not there yet, indeed
        c.second.adopt(c.first.session)
        assert (await c.second.kv.get("a")).value == "1"


async def test_what_was_counted_added_removed_deleted_and_reset_is_so_at_another_node() -> None:
    async with cluster() as c:
        await c.first.counter.add("hits", 3)
        await c.first.set.add("s", "x", "y")
        c.second.adopt(c.first.session)
        assert await c.second.counter.get("hits") == 3
        assert await c.second.set.get("s") == {"x", "y"}
        await c.first.counter.reset("hits")
        await c.first.set.remove("s", "x")
        await c.first.kv.put("gone", "1")
        await c.first.kv.delete("gone")
        c.second.adopt(c.first.session)
        assert await c.second.counter.get("hits") == 0
        assert await c.second.set.get("s") == {"y"}
        assert [entry async for entry in c.second.kv.list()] == []


@pytest.mark.parametrize("group", ["kv", "counter", "set"])
async def test_listings_wait_for_the_session_as_well(group: str) -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "1")
        await c.first.counter.add("hits", 1)
        await c.first.set.add("s", "x")
        c.second.adopt(c.first.session)
        assert len([item async for item in getattr(c.second, group).list()]) == 1


async def test_a_write_at_a_node_whose_clock_is_slow_wins_over_what_its_session_has_written() -> None:
    async with cluster() as c:
        for number in range(50):
            await c.first.kv.put("a", f"old {number}")
        assert c.nodes[1].engine.store.clock.time < c.nodes[0].engine.store.clock.time
        c.second.adopt(c.first.session)
        await c.second.kv.put("a", "new")
        c.first.adopt(c.second.session)
        assert (await c.first.kv.get("a")).value == (await c.second.kv.get("a")).value == "new"


async def test_a_write_wins_over_what_its_session_has_only_read() -> None:
    async with cluster() as c:
        for number in range(50):
            await c.first.kv.put("a", f"old {number}")
        async with c.client(0) as reader:
            await reader.kv.get("a")
            c.second.adopt(reader.session)
        await c.second.kv.put("a", "new")
        await compare(c.nodes[0], c.nodes[1])
        assert (await c.first.kv.get("a")).value == "new"


async def test_a_write_wins_over_a_deletion_that_its_session_has_read() -> None:
    async with cluster() as c:
        for _ in range(50):
            await c.first.kv.put("a", "old")
        await c.first.kv.delete("a")
        async with c.client(0) as reader:
            with pytest.raises(KeyNotFoundError):
                await reader.kv.get("a")
            c.second.adopt(reader.session)
        await c.second.kv.put("a", "new")
        await compare(c.nodes[0], c.nodes[1])
        assert (await c.first.kv.get("a")).value == "new"


async def test_a_write_passes_the_clock_of_a_session_that_names_no_writes() -> None:
    async with cluster() as c:
        clock = c.nodes[1].engine.store.clock.time + 100
        c.second.adopt(Session(clock))
        assert (await c.second.kv.put("a", "1")).clock == clock + 1


async def test_many_writes_wait_for_a_session_and_are_waited_for_as_one() -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "old")
        c.second.adopt(c.first.session)
        await c.second.kv.put_many({"a": "new", "b": "1", "c": "2"})
        c.first.adopt(c.second.session)
        assert [entry.value async for entry in c.first.kv.list()] == ["new", "1", "2"]
        assert len(c.second.session.dots) <= 1


async def listed(client: AsyncClient) -> list[str]:
    return [entry.key async for entry in client.kv.list("many/")]


READS: list[Callable[[AsyncClient], Awaitable[object]]] = [
    lambda client: client.kv.get("a"),
    listed,
    lambda client: client.counter.get("hits"),
    lambda client: client.set.get("s"),
    lambda client: client.set.get("large"),
]


@pytest.mark.parametrize("read", READS, ids=["register", "registers", "counter", "set", "large set"])
async def test_what_was_read_is_not_unread_at_another_node(read: Callable[[AsyncClient], Awaitable[object]]) -> None:
    async with cluster() as c:
        for number in range(20):
            await c.first.kv.put(f"many/{number}", "1")
        await c.first.kv.put("a", "1")
        await c.first.counter.add("hits", 3)
        await c.first.set.add("s", "x")
        await c.first.set.add("large", *(f"e{number}" for number in range(40)))
        async with c.client(0) as reader:
            found = await read(reader)
            async with c.client(1, session=reader.session) as other:
                assert await read(other) == found


async def test_a_write_that_came_by_itself_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster() as c:
        asked = mute(c.nodes[1], monkeypatch)
        await c.first.kv.put("a", "1")
        c.second.adopt(c.first.session)
        reading = begin_reading(c)
        await until(lambda: bool(asked))
        assert not reading.done()
        await compare(c.nodes[0], c.nodes[1])
        assert (await reading).value == "1"
        assert c.nodes[1].sessions.waiting == 0
        assert c.nodes[1].scheduler.on_input is None


async def test_of_a_writer_that_cannot_be_reached_others_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(3) as c:
        await c.first.kv.put("a", "1")
        await compare(c.nodes[2], c.nodes[0])
        membership = c.nodes[1].engine.membership
        membership.failed(membership.peer("n0"))
        membership.failed(membership.peer("n0"))
        asked = mute(c.nodes[1], monkeypatch)
        c.second.adopt(c.first.session)
        reading = begin_reading(c)
        await until(lambda: bool(asked))
        monkeypatch.undo()
        assert (await reading).value == "1"
        assert set(asked) == {"n2"}


# What it does not wait for


async def test_a_client_of_one_node_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster() as c:
        monkeypatch.setattr(c.nodes[0].sessions, "_wait", None)  # it would fail
        for number in range(30):
            await c.first.kv.put(f"a{number}", "1")
            await c.first.counter.add("hits", 1)
            assert (await c.first.kv.get(f"a{number}")).value == "1"
        assert len(c.first.session.dots) <= EXACT


async def test_a_client_without_sessions_takes_what_a_node_has() -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "1")
        async with c.client(1, session=c.first.session, sessions=False) as careless:
            with pytest.raises(KeyNotFoundError):
                await careless.kv.get("a")


# What is missing is named, in time


@pytest.mark.parametrize("verb", ["read", "write"])
async def test_at_the_deadline_what_is_missing_is_named_and_nothing_is_done(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(seconds=1.0) as c:
        mute(c.nodes[1], monkeypatch)
        token = await c.first.kv.put("a", "1")
        c.second.adopt(token)
        with pytest.raises(DeadlineError) as caught:
            await (c.second.kv.get("a") if verb == "read" else c.second.kv.put("a", "2"))
        assert caught.value.reason == "SESSION_BEHIND"
        assert caught.value.metadata == {"missing": str(token.dots[0]), "missing_count": "1"}
        assert str(token.dots[0]) in str(caught.value)
        assert list(c.nodes[1].engine.store.keys()) == []
        assert c.nodes[1].sessions.waiting == 0


async def test_of_many_that_are_missing_some_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(seconds=0.5) as c:
        lost = Origin("x" * 128, 2**64 - 1)
        dots = tuple(Dot(lost, number) for number in range(2, 2000, 2))
        with pytest.raises(DeadlineError) as caught:
            await ask(c, Session(1, dots, (Dot(lost, 1),)))
        assert caught.value.metadata["missing_count"] == "1000"
        assert caught.value.metadata["missing"].split(",") == [str(dot) for dot in dots[: sessions.MAX_NAMES]]
        assert str(caught.value).count("x/") == 3  # as many of the long names as fit
        assert "and 997 more yet, which the session has written or seen; nothing was done" in str(caught.value)


async def test_writes_up_to_one_are_waited_for_without_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(seconds=1.0) as c:
        mute(c.nodes[1], monkeypatch)
        await c.first.kv.put("a", "1")
        record = c.nodes[0].engine.put("a", "2", 0.0)
        c.nodes[1].engine.store.merge([record], 0.0)  # as a rumor that overtook the other
        await ask(c, Session(0, (Dot(Origin(*record.origin), record.sequence),)))
        with pytest.raises(DeadlineError) as caught:
            await ask(c, Session(0, (), (Dot(Origin(*record.origin), record.sequence),)))
        assert caught.value.metadata["missing"] == f"{record.origin}:1-{record.sequence}"
        await compare(c.nodes[0], c.nodes[1])
        await ask(c, Session(0, (), (Dot(Origin(*record.origin), record.sequence),)))


async def test_a_call_without_a_deadline_waits_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "DEFAULT_PATIENCE", 0.05)
    async with cluster() as c, grpc.aio.insecure_channel(c.nodes[1].client_address) as channel:
        stub: Any = kv_pb2_grpc.KeyValueServiceStub(channel)
        request = kv_pb2.KeyValueServiceGetRequest(key="a", session=lost_session())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Get(request)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "n9/7:3" in str(caught.value.details())


def lost_session() -> common_pb2.Session:
    """That of a write which nobody has made."""
    dot = common_pb2.Dot(origin=common_pb2.Origin(node_id="n9", generation=7), sequence=3)
    return common_pb2.Session(clock=1, dots=[dot])


async def ask(c: Cluster, session: Session) -> None:
    """Read at the second node with a session, whatever there is to read."""
    c.second.session = session
    await c.second.counter.get("hits")


# Many, cancelled, and at the end


async def test_a_call_that_is_cancelled_waits_no_longer() -> None:
    async with cluster() as c:
        c.second.adopt(Session.from_message(lost_session()))
        reading = begin_reading(c)
        await until(lambda: c.nodes[1].sessions.waiting == 1)
        reading.cancel()
        await until(lambda: c.nodes[1].sessions.waiting == 0)
        assert c.nodes[1].scheduler.on_input is None


async def test_only_so_many_wait_at_a_time_and_what_need_not_wait_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_WAITING", 2)
    async with cluster() as c:
        lost = Session.from_message(lost_session())
        c.second.adopt(lost)
        reading = [begin_reading(c) for _ in range(2)]
        await until(lambda: c.nodes[1].sessions.waiting == 2)
        with pytest.raises(ResourceExhaustedError) as caught:
            await c.second.kv.get("a")
        assert caught.value.reason == "SESSION_LIMIT"
        async with c.client(1) as other:
            await other.kv.put("b", "1")
        for task in reading:
            task.cancel()


async def test_many_that_wait_are_all_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster() as c:
        mute(c.nodes[1], monkeypatch)
        monkeypatch.setattr(sessions, "LOOK_SECONDS", 1e-3)  # so that looks are put off
        await c.first.kv.put("a", "1")
        c.second.adopt(c.first.session)
        reading = [begin_reading(c) for _ in range(100)]
        await until(lambda: c.nodes[1].sessions.waiting == 100)
        await c.nodes[1].kv.put("other", "1")  # brings a look that finds nothing
        await compare(c.nodes[0], c.nodes[1])
        assert {entry.value for entry in await asyncio.gather(*reading)} == {"1"}


async def test_those_that_wait_are_told_when_the_node_stops() -> None:
    async with cluster() as c:
        c.second.adopt(Session.from_message(lost_session()))
        reading = begin_reading(c)
        await until(lambda: c.nodes[1].sessions.waiting == 1)
        await c.nodes[1].stop()
        with pytest.raises(UnavailableError) as caught:
            await reading
        assert caught.value.reason == "STOPPING"


# Hostile tokens

NAMED = common_pb2.Origin(node_id="n0", generation=1)


@pytest.mark.parametrize(
    ("session", "field"),
    [
        (common_pb2.Session(clock=MAX_CLOCK + 1), "session.clock"),
        (common_pb2.Session(clock=MAX_CLOCK), "session.clock"),
        (common_pb2.Session(dots=[common_pb2.Dot(origin=NAMED)]), "session.dots[0].sequence"),
        (common_pb2.Session(complete=[common_pb2.Dot(origin=NAMED)]), "session.complete[0].sequence"),
        (common_pb2.Session(dots=[common_pb2.Dot(sequence=1)]), "session.dots[0].origin.node_id"),
        (common_pb2.Session(dots=[common_pb2.Dot(origin=NAMED, sequence=1)] * 1001), "session.dots"),
        (common_pb2.Session(complete=[common_pb2.Dot(origin=NAMED, sequence=1)] * 1001), "session.complete"),
    ],
)
async def test_what_is_no_token_is_refused_and_changes_nothing(session: common_pb2.Session, field: str) -> None:
    async with cluster() as c:
        clock = c.nodes[1].engine.store.clock.time
        request = counter_pb2.CounterServiceGetRequest(key="hits", session=session)
        with pytest.raises(InvalidArgumentError) as caught:
            await c.second.run(Call(lambda stubs: stubs.counter.Get, request, str))
        assert list(caught.value.fields) == [field]
        assert c.nodes[1].engine.store.clock.time == clock


async def test_as_many_dots_as_are_allowed_are_taken() -> None:
    async with cluster() as c:
        token = await c.second.kv.put("a", "1")
        origin = token.dots[0].origin
        message = common_pb2.Dot(
            origin=common_pb2.Origin(node_id=origin.node_id, generation=origin.generation), sequence=1
        )
        session = common_pb2.Session(dots=[message] * 1000, complete=[message] * 1000)
        request = counter_pb2.CounterServiceGetRequest(key="hits", session=session)
        async with c.client(1) as other:
            await other.run(Call(lambda stubs: stubs.counter.Get, request, str))


async def test_tokens_alone_never_lift_a_clock_out_of_what_peers_take() -> None:
    async with cluster() as c:
        clock = c.nodes[1].engine.store.clock
        start = clock.time
        await ask(c, Session(start + MAX_LENT // 3))
        await ask(c, Session(start + MAX_LENT))
        with pytest.raises(InvalidArgumentError) as caught:
            await ask(c, Session(start + MAX_LENT + 1))
        assert caught.value.reason == "CLOCK_POISON"
        assert clock.time == start + MAX_LENT
        c.second.session = Session()
        await c.second.kv.put("a", "1")
        await compare(c.nodes[1], c.nodes[0])
        assert (await c.first.kv.get("a")).value == "1"
        assert c.nodes[0].engine.counters.refused == c.nodes[1].engine.counters.refused == 0


# Handing on


async def test_a_session_travels_as_text_from_one_client_to_another() -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "1")
        text = str(c.first.session)
        assert text.replace("-", "").replace("_", "").isalnum()

        def read() -> str | bytes:
            with Client(c.nodes[1].client_address, session=Session.parse(text), timeout=PATIENCE) as other:
                return other.kv.get("a").value

        assert await asyncio.to_thread(read) == "1"


async def test_threads_of_one_client_share_its_session() -> None:
    async with cluster() as c:
        with Client(c.nodes[0].client_address, timeout=PATIENCE) as client:
            await asyncio.gather(*(asyncio.to_thread(client.counter.add, "hits", 1) for _ in range(50)))
            c.second.adopt(client.session)
        assert await c.second.counter.get("hits") == 50


async def test_a_session_can_begin_anew_when_its_writes_are_lost() -> None:
    async with cluster(seconds=0.3) as c:
        c.second.session = Session.from_message(lost_session())
        with pytest.raises(DeadlineError):
            await c.second.counter.get("hits")
        c.second.session = Session()
        assert await c.second.counter.get("hits") == 0


async def test_an_embedded_node_reaches_what_a_session_has_written_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster() as c:
        token = await c.nodes[0].kv.put("a", "1")
        await c.nodes[1].reach(token)
        assert (await c.nodes[1].kv.get("a")).value == "1"
        with pytest.raises(DeadlineError) as caught:
            await c.nodes[1].reach(Session.from_message(lost_session()), patience=0.05)
        assert caught.value.metadata["missing"] == "n9/7:3"
        monkeypatch.setattr(sessions, "DEFAULT_PATIENCE", 0.05)
        request = set_pb2.SetServiceGetRequest(key="s", session=lost_session())
        with pytest.raises(DeadlineError):
            await c.nodes[1].run(Call(lambda stubs: stubs.set.Get, request, str))
