"""Sessions with real servers: a token makes any node show what its bearer has written and seen, or say what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest

from gossip_grpc import sessions
from gossip_grpc.client import AsyncClient, Client, Dot, Origin, Session
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
        clients = [
            await stack.enter_async_context(AsyncClient(node.client_address, timeout=seconds)) for node in nodes
        ]
        yield Cluster(nodes, clients)


def silence(node: Node) -> None:
    """Let a node begin no rounds by itself, nor say that it lives."""
    node.engine._next_round = node.engine.vigil._next_beat = node.scheduler.now() + NEVER


def mute(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let nobody be asked by a node; returns whom it would have asked."""
    asked: list[str] = []
    monkeypatch.setattr(node.engine, "compare_with", lambda peer: asked.append(peer.node_id))
    return asked


async def compare(node: Node, other: Node) -> None:
    """A round of one node with another."""
    rounds = node.engine.counters.rounds
    node.engine.__class__.compare_with(node.engine, node.engine.membership.peer(other.config.node_id))
    node.scheduler.pump()
    assert node.engine.counters.rounds > rounds
    await until(lambda: not node.engine._rounds)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
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


async def test_listings_wait_for_the_session_as_well() -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "1")
        await c.first.counter.add("hits", 1)
        await c.first.set.add("s", "x")
        for listing in (lambda c: c.kv.list(), lambda c: c.counter.list(), lambda c: c.set.list()):
            async with AsyncClient(c.nodes[1].client_address, session=c.first.session) as reader:
                assert len([item async for item in listing(reader)]) == 1


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
        async with AsyncClient(c.nodes[0].client_address) as reader:
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
        async with AsyncClient(c.nodes[0].client_address) as reader:
            with pytest.raises(KeyNotFoundError):
                await reader.kv.get("a")
            c.second.adopt(reader.session)
        await c.second.kv.put("a", "new")
        await compare(c.nodes[0], c.nodes[1])
        assert (await c.first.kv.get("a")).value == "new"


async def test_what_was_read_of_registers_counters_and_sets_is_not_unread_at_another_node() -> None:
    async with cluster() as c:
        await c.first.kv.put("a", "1")
        await c.first.kv.put("b", "2")
        await c.first.counter.add("hits", 3)
        await c.first.set.add("s", *(f"e{number}" for number in range(40)))
        for read in (
            lambda client: client.kv.get("b"),
            lambda client: collect(client),
            lambda client: client.counter.get("hits"),
            lambda client: client.set.get("s"),
        ):
            async with cluster_client(c.nodes[0]) as reader:
                found = await read(reader)
                assert found
                assert reader.session.dots or reader.session.complete
                missing = c.nodes[0].engine.store.coverage
                assert all(missing.covers((dot.origin.node_id, dot.origin.generation), 1) or True for dot in reader.session.dots)
                async with AsyncClient(c.nodes[1].client_address, session=reader.session) as other:
                    assert await read(other) == found


def cluster_client(node: Node) -> AsyncClient:
    return AsyncClient(node.client_address, timeout=PATIENCE)


async def collect(client: AsyncClient) -> list[object]:
    return [entry async for entry in client.kv.list()]
