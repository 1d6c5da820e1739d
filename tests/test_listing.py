"""Pages of a listing at a real node, while others write: what is there throughout is listed once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from gossip_grpc import server
from gossip_grpc.client import AsyncClient
from gossip_grpc.config import Config
from gossip_grpc.node import Node

KEYS = 3_000


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(Config(node_id="a", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0")) as node:
        yield node


async def write_for_ever(node: Node) -> None:
    """Put and delete keys between those that last, as fast as others let it."""
    rng = random.Random(1)
    while True:
        key = f"{rng.randrange(KEYS):05}{rng.choice('abc')}"
        if not await node.kv.delete(key):
            await node.kv.put(key, "v")
        await node.set.add("s", key)
        await node.set.remove("s", f"{rng.randrange(KEYS):05}{rng.choice('abc')}")
        await asyncio.sleep(0)


@pytest.mark.parametrize("page_size", [7, 1_000, 10_000])
async def test_keys_that_last_are_listed_once_while_others_come_and_go(
    node: Node, page_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LISTED_AT_ONCE", 50)
    lasting = [f"{number:05}" for number in range(KEYS)]
    await node.kv.put_many((key, "v") for key in lasting)
    writing = asyncio.create_task(write_for_ever(node))
    async with AsyncClient(node.client_address) as client:
        listed = [entry.key async for entry in client.kv.list(page_size=page_size)]
    assert not writing.done()
    writing.cancel()
    assert [key for key in listed if len(key) == 5] == lasting
    assert listed == sorted(set(listed))


async def test_elements_that_last_are_listed_once_while_others_come_and_go(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LISTED_AT_ONCE", 50)
    lasting = {f"{number:05}" for number in range(KEYS)}
    for first in range(0, KEYS, 1_000):
        await node.set.add("s", *(f"{number:05}" for number in range(first, first + 1_000)))
    writing = asyncio.create_task(write_for_ever(node))
    async with AsyncClient(node.client_address) as client:
        found = await client.set.get("s")
    assert not writing.done()
    writing.cancel()
    assert {element for element in found if len(element) == 5} == lasting


async def test_others_have_the_loop_while_a_first_listing_sorts_and_reads(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SORTED_AT_ONCE", 100)
    monkeypatch.setattr(server, "LISTED_AT_ONCE", 100)
    await node.kv.put_many((f"{number:05}", "v") for number in range(2_000))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    first = await anext(node.kv.list(page_size=1_000))
    counting.cancel()
    assert first.key == "00000"
    assert turns >= 2_000 // 100 + 1_000 // 100 - 2
