"""`request_id` at real nodes: what a caller asks for again, here or elsewhere, counts once and is published once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gossip_grpc.config import Config
from gossip_grpc.gen.gossip.v1 import common_pb2, counter_pb2, counter_pb2_grpc, event_pb2, event_pb2_grpc
from gossip_grpc.node import Node

DEADLINE = 20.0


def config(node_id: str, *seeds: Node, **more: Any) -> Config:
    return Config(
        node_id=node_id,
        peer_listen="127.0.0.1:0",
        client_listen="127.0.0.1:0",
        join=tuple(seed.peer_address for seed in seeds),
        leave_timeout=0.1,
        gossip_interval=0.05,
        **more,
    )


@asynccontextmanager
async def channel(node: Node) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        yield channel


async def add(node: Node, amount: int = 5, request_id: str = "r") -> counter_pb2.CounterServiceAddResponse:
    request = counter_pb2.CounterServiceAddRequest(key="n", amount=amount, request_id=request_id)
    async with channel(node) as to:
        stub: Any = counter_pb2_grpc.CounterServiceStub(to)
        response: counter_pb2.CounterServiceAddResponse = await stub.Add(request, timeout=DEADLINE)
        return response


async def value(node: Node, session: common_pb2.Session | None = None) -> int:
    request = counter_pb2.CounterServiceGetRequest(key="n", session=session)
    async with channel(node) as to:
        stub: Any = counter_pb2_grpc.CounterServiceStub(to)
        return int((await stub.Get(request, timeout=DEADLINE)).counter.value)


async def publish(node: Node, request_id: str, text: str = "hello") -> event_pb2.EventServicePublishResponse:
    payload = common_pb2.Value(text=text)
    request = event_pb2.EventServicePublishRequest(topic="t", payload=payload, request_id=request_id)
    async with channel(node) as to:
        stub: Any = event_pb2_grpc.EventServiceStub(to)
        response: event_pb2.EventServicePublishResponse = await stub.Publish(request, timeout=DEADLINE)
        return response


async def agree(*nodes: Node) -> None:
    async with asyncio.timeout(DEADLINE):
        while len({node.engine.digest_hash() for node in nodes}) > 1:
            await nodes[0].scheduler.progress(1)


async def test_an_addition_that_is_asked_for_again_counts_once_here_and_elsewhere() -> None:
    async with Node(config("a")) as first, Node(config("b", first)) as second:
        await second.wait_ready()
        done = await add(first)
        again = await add(first)
        assert (done.value, done.repeated_request) == (5, False)
        assert (again.value, again.repeated_request) == (5, True)
        assert again.session.dots == done.session.dots
        assert await value(second, done.session) == 5
        elsewhere = await add(second)
        assert (elsewhere.value, elsewhere.repeated_request) == (5, True)
        assert await value(first, elsewhere.session) == 5
        assert (await add(second, request_id="other")).value == 10
        assert (await first.status()).limits["max_receipts"].used == 1


async def test_what_two_nodes_counted_before_they_met_counts_once_at_all_of_them() -> None:
    async with Node(config("a")) as first, Node(config("b")) as second:
        assert not (await add(first)).repeated_request
        assert not (await add(second)).repeated_request
        await add(second, 2, request_id="")
        async with Node(config("c", first, second)) as third:
            await third.wait_ready()
            async with asyncio.timeout(DEADLINE):
                while len(third.engine.store.members()) < 3:
                    await third.scheduler.progress(1)
            await agree(first, second, third)
            assert [await value(node) for node in (first, second, third)] == [7, 7, 7]
            assert [(await add(node)).repeated_request for node in (first, second, third)] == [True] * 3


async def test_a_node_that_is_started_again_with_its_disk_knows_what_it_has_counted(tmp_path: Path) -> None:
    async with Node(config("a", data_dir=str(tmp_path))) as node:
        await add(node)
    async with Node(config("a", data_dir=str(tmp_path))) as node:
        again = await add(node)
        assert (again.value, again.repeated_request) == (5, True)
        assert again.durability == common_pb2.DURABILITY_DISK


async def test_an_id_that_is_too_long_or_was_of_another_amount_is_refused() -> None:
    async with Node(config("a")) as node:
        await add(node, request_id="x" * 128)
        for amount, request_id, words in (
            (5, "x" * 129, "request_id has 129 bytes; at most 128 are allowed"),
            (5, "ä" * 65, "request_id has 130 bytes"),
            (6, "x" * 128, "has added 5 to this counter, not 6"),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
                await add(node, amount, request_id)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await value(node) == 5


async def test_an_event_that_is_published_again_is_told_once_here_and_elsewhere() -> None:
    async with (
        Node(config("a")) as first,
        Node(config("b", first)) as second,
        aclosing(second.event.subscribe("t")) as stream,
    ):
        await second.wait_ready()
        await anext(stream)
        done = await publish(first, "r")
        told = await anext(stream)
        again, elsewhere = await publish(first, "r"), await publish(second, "r")
        assert (done.repeated_request, again.repeated_request, elsewhere.repeated_request) == (False, True, True)
        assert done.session.dots == again.session.dots == elsewhere.session.dots
        assert told.event is not None
        assert told.event.payload == "hello"
        with pytest.raises(grpc.aio.AioRpcError, match="request_id 'r' has published another payload") as caught:
            await publish(second, "r", "other")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        last = await publish(first, "")
        following = await anext(stream)
        assert following.dot is not None
        assert following.dot.sequence == last.session.dots[0].sequence
