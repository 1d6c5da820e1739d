"""Each limit of a node, at the limit and one above it; what is used of them; and a node that is full goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gossip_grpc.client import AsyncClient, LimitUse
from gossip_grpc.config import Config
from gossip_grpc.core.limits import Limits
from gossip_grpc.errors import GossipError, InvalidArgumentError, Reason, ResourceExhaustedError
from gossip_grpc.node import Node
from tests.processes import DEADLINE


def config(**changes: Any) -> Config:
    return Config(**{"node_id": "a", "peer_listen": "127.0.0.1:0", "client_listen": "127.0.0.1:0", **changes})


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    """Of a node of limits of its own, so that it is the configuration that counts."""
    limits: dict[str, Any] = {
        "max_key_bytes": 16,
        "max_value_bytes": 2048,
        "max_element_bytes": 32,
        "max_tags_bytes": 20,
        "max_records": 5,
        "max_watchers": 2,
    }
    async with Node(config(**limits)) as node, AsyncClient(node.client_address) as client:
        yield client


Attempt = Callable[[AsyncClient, int], Awaitable[object]]

SIZES: dict[str, tuple[Attempt, int, str]] = {
    "key of put": (lambda client, size: client.kv.put("k" * size, "v"), 16, "key"),
    "key of get": (lambda client, size: client.kv.delete("k" * size), 16, "key"),
    "key of a counter": (lambda client, size: client.counter.add("k" * size, 1), 16, "key"),
    "key of a set": (lambda client, size: client.set.add("k" * size, "e"), 16, "key"),
    "key of a batch": (lambda client, size: client.kv.put_many({"k" * size: "v"}), 16, "entries[0].key"),
    "value": (lambda client, size: client.kv.put("k", "v" * size), 2048, "value"),
    "value of a batch": (lambda client, size: client.kv.put_many({"k": "v" * size}), 2048, "entries[0].value"),
    "element": (lambda client, size: client.set.add("k", b"e" * size), 32, "elements[0]"),
    "tags": (lambda client, size: client.set_tags({"t": "v" * (size - 1)}), 20, "tags"),
}


@pytest.mark.parametrize("name", SIZES)
async def test_a_size_at_the_limit_is_taken_and_one_above_is_refused_by_its_field(
    client: AsyncClient, name: str
) -> None:
    attempt, limit, field = SIZES[name]
    await attempt(client, limit)
    with pytest.raises(InvalidArgumentError, match=rf"at most {limit} are allowed") as caught:
        await attempt(client, limit + 1)
    assert list(caught.value.fields) == [field]


WRITES: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "put": lambda client: client.kv.put("new", "v"),
    "put_many": lambda client: client.kv.put_many({"k0": "v", "new": "v"}),
    "add": lambda client: client.counter.add("new", 1),
    "set add": lambda client: client.set.add("new", "e"),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_full_node_refuses_new_records_and_takes_reads_overwrites_and_deletions(
    client: AsyncClient, write: str
) -> None:
    for number in range(4):
        await client.kv.put(f"k{number}", "v")
    await client.counter.add("c", 1)
    with pytest.raises(ResourceExhaustedError, match="holds 5 records, and max_records is 5") as caught:
        await WRITES[write](client)
    assert caught.value.reason == Reason.RECORD_LIMIT
    assert await client.counter.add("c", 1) == 2
    await client.kv.put("k0", "other")
    assert (await client.kv.get("k0")).value == "other"
    assert await client.kv.delete("k1")
    assert [entry.key async for entry in client.kv.list()] == ["k0", "k2", "k3"]
    status = await client.status()
    assert (status.records, status.tombstones) == (4, 1)
    assert status.limits["max_records"] == LimitUse(5, 5)


async def test_one_watcher_more_than_allowed_is_refused_and_status_counts_them(client: AsyncClient) -> None:
    first, second, third = client.watch(), client.watch(), client.watch()
    await anext(first)
    assert (await client.status()).limits["max_watchers"] == LimitUse(1, 2)
    await anext(second)
    with pytest.raises(ResourceExhaustedError) as caught:
        await anext(third)
    assert caught.value.reason == Reason.WATCH_LIMIT
    await first.aclose()
    await second.aclose()


async def test_status_names_every_limit_and_what_is_used_of_it(client: AsyncClient) -> None:
    await client.kv.put("k", "v")
    await client.set_tags({"colour": "red"})
    limits = (await client.status()).limits
    assert set(limits) == set(Limits.__slots__)
    assert limits["max_records"] == LimitUse(1, 5)
    assert limits["max_tags_bytes"] == LimitUse(9, 20)
    assert limits["max_inbound_syncs"] == LimitUse(0, 16)
    assert limits["max_key_bytes"] == LimitUse(None, 16)


async def test_gossip_goes_on_at_a_full_node_and_nothing_is_lost() -> None:
    async with Node(config(node_id="a", max_records=10, gossip_interval=0.1)) as full:
        await full.kv.put_many({f"a{number}": "v" for number in range(10)})
        join = (full.peer_address,)
        async with Node(config(node_id="b", join=join, gossip_interval=0.1)) as roomy:
            await roomy.wait_ready()
            await roomy.kv.put_many({f"b{number}": "v" for number in range(30)})
            await roomy.kv.put("a0", "other")
            await until(lambda: full.engine.store.live == 40)
            with pytest.raises(ResourceExhaustedError):
                await full.kv.put("more", "v")
            assert (await full.status()).limits["max_records"].used == 40
            for number in range(5):
                await full.kv.delete(f"b{number}")
            await until(lambda: roomy.engine.digest()[1] == full.engine.digest()[1])
            assert roomy.engine.store.live == 35
            assert (await full.kv.get("a0")).value == "other"
            with pytest.raises(GossipError):
                await roomy.kv.get("b4")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  nodes in this process, but their engines tell nobody
            await asyncio.sleep(0.01)
