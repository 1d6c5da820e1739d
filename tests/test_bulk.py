"""Many keys at once: batches are written whole or not at all, in order, and what was written is known in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from gossip_grpc.client import AsyncClient, Client, InvalidArgumentError, Item, ResourceExhaustedError
from gossip_grpc.client.results import Value
from gossip_grpc.client.upload import BATCH, BATCH_BYTES, BATCHES, Upload
from gossip_grpc.config import Config
from gossip_grpc.errors import KeyNotFoundError, UnavailableError
from gossip_grpc.gen.gossip.v1 import kv_pb2
from gossip_grpc.node import Node

Code = grpc.StatusCode


def config(**changes: Any) -> Config:
    return Config(**{"node_id": "a", "peer_listen": "127.0.0.1:0", "client_listen": "127.0.0.1:0", **changes})


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(config()) as node:
        yield node


@pytest.fixture
async def small() -> AsyncIterator[Node]:
    async with Node(config(max_records=10)) as node:
        yield node


def batch(*keys: str, value: str = "v", **more: Any) -> kv_pb2.KeyValueServicePutManyRequest:
    request = kv_pb2.KeyValueServicePutManyRequest()
    for key in keys:
        request.entries.add(key=key, **more).value.text = value
    return request


async def put_many(node: Node, *requests: Any) -> kv_pb2.KeyValueServicePutManyResponse:
    """Send batches as they are, past the client and its packing."""
    raws = [raw if isinstance(raw, bytes) else raw.SerializeToString() for raw in requests]
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        method: Any = channel.stream_unary(
            "/gossip.v1.KeyValueService/PutMany",
            response_deserializer=kv_pb2.KeyValueServicePutManyResponse.FromString,
        )
        response: kv_pb2.KeyValueServicePutManyResponse = await method(iter(raws), timeout=30)
    return response


async def refusal(node: Node, *requests: Any) -> tuple[grpc.StatusCode, str, str, str]:
    """Status code, reason, field to blame and how many entries were written."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_many(node, *requests)
    info, blamed = ErrorInfo(), BadRequest()
    for detail in rpc_status.from_call(cast("Any", caught.value)).details:
        detail.Unpack(info)
        detail.Unpack(blamed)
    field = blamed.field_violations[0].field if blamed.field_violations else ""
    return caught.value.code(), info.reason, field, info.metadata.get("written", "")


def held(node: Node) -> list[str]:
    return list(node.engine.store.keys())


# The node


async def test_batches_are_written_in_order_and_one_token_stands_for_them_all(node: Node) -> None:
    response = await put_many(node, batch("b", "a"), batch("a", "c", value="later"))
    assert response.written == 4
    assert held(node) == ["a", "b", "c"]
    assert (await node.kv.get("a")).value == "later"
    store = node.engine.store
    assert not response.session.dots
    (complete,) = response.session.complete
    assert (complete.origin.node_id, complete.sequence) == ("a", store.coverage.sequence(store.origin))
    assert response.session.clock == store.clock.time


async def test_no_batch_at_all_writes_nothing(node: Node) -> None:
    response = await put_many(node)
    assert (response.written, len(response.session.complete)) == (0, 0)


async def test_a_batch_may_have_ten_thousand_entries_and_not_one_more(node: Node) -> None:
    keys = [f"k{number}" for number in range(10_000)]
    assert (await put_many(node, batch(*keys))).written == 10_000
    assert await refusal(node, batch(*keys, "more")) == (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "entries", "0")
    assert len(held(node)) == 10_000


async def test_an_empty_batch_is_refused(node: Node) -> None:
    assert await refusal(node, batch("a"), batch()) == (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "entries", "1")
    assert held(node) == ["a"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (batch("c", ""), "entries[1].key"),
        (batch("c", "k" * 513), "entries[1].key"),
        (batch("c", value="v" * ((1 << 20) + 1)), "entries[0].value"),
        (kv_pb2.KeyValueServicePutManyRequest(entries=[kv_pb2.PutManyEntry(key="c")]), "entries[0].value"),
        (batch("c", ttl_milliseconds=315_360_000_001), "entries[0].ttl_milliseconds"),
    ],
)
async def test_a_batch_with_a_bad_entry_is_refused_whole_and_those_before_it_stay(
    node: Node, bad: kv_pb2.KeyValueServicePutManyRequest, field: str
) -> None:
    found = await refusal(node, batch("a", "b"), bad, batch("d"))
    assert found == (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", field, "2")
    assert held(node) == ["a", "b"]


async def test_entries_at_the_limits_are_taken(node: Node) -> None:
    longest = batch("k" * 512, value="v" * (1 << 20), ttl_milliseconds=315_360_000_000)
    assert (await put_many(node, longest)).written == 1


async def test_a_batch_above_four_mebibytes_is_refused_with_a_reason(node: Node) -> None:
    large = batch("a", "b", "c", "d", value="v" * (1 << 20))
    found = await refusal(node, batch("e"), large)
    assert found == (Code.RESOURCE_EXHAUSTED, "MESSAGE_LIMIT", "", "1")
    assert held(node) == ["e"]


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\x0a\x80"])
async def test_what_is_no_message_is_refused_and_what_came_before_it_stays(node: Node, junk: bytes) -> None:
    found = await refusal(node, batch("a").SerializeToString(), junk)
    assert found == (Code.INVALID_ARGUMENT, "MALFORMED", "", "1")
    assert held(node) == ["a"]


async def test_a_batch_that_finds_no_room_for_all_is_refused_whole(small: Node) -> None:
    await put_many(small, batch(*"abcdefgh"))
    assert await refusal(small, batch(*"ijk")) == (Code.RESOURCE_EXHAUSTED, "RECORD_LIMIT", "", "0")
    assert held(small) == list("abcdefgh")
    # What is there already needs no room, and what comes twice needs it once.
    assert (await put_many(small, batch("a", "b", "i", "i", "j"))).written == 5
    assert held(small) == list("abcdefghij")


async def test_a_node_that_is_not_ready_writes_nothing() -> None:
    async with Node(config(join=("127.0.0.1:1",), bootstrap_window=60.0)) as node:
        assert await refusal(node, batch("a")) == (Code.UNAVAILABLE, "NOT_READY", "", "0")


async def test_others_have_the_loop_between_batches_and_while_a_large_one_is_checked(node: Node) -> None:
    turns: list[int] = []

    async def requests() -> AsyncIterator[kv_pb2.KeyValueServicePutManyRequest]:
        for first in range(0, 9_000, 3_000):
            yield batch(*(f"{number}" for number in range(first, first + 3_000)))

    async def other() -> None:
        while True:
            turns.append(node.engine.store.live)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await node._services.kv.PutMany(requests(), None)
    task.cancel()
    assert [turns.count(count) >= 2 for count in (0, 3_000, 6_000)] == [True] * 3


async def test_values_with_an_end_and_values_that_stand_for_the_node(node: Node) -> None:
    await put_many(node, batch("a", ttl_milliseconds=60_000), batch("b", ephemeral=True), batch("c"))
    async with AsyncClient(node.client_address) as client:
        assert [entry.key async for entry in client.kv.list()] == ["a", "b", "c"]
    records = [node.engine.store.register(key) for key in "abc"]
    assert [record is not None and record.is_lease for record in records] == [True, True, False]


# The clients


PAIRS: dict[str, Value] = {f"key/{number:05}": b"v" if number % 2 else "v" for number in range(BATCHES * BATCH + 1500)}


def generated() -> Iterator[tuple[str, Value]]:
    yield from PAIRS.items()


async def generated_async() -> AsyncIterator[tuple[str, Value]]:
    for pair in PAIRS.items():
        yield pair


async def test_a_blocking_client_sends_as_many_as_come(node: Node) -> None:
    def work() -> tuple[int, dict[str, Value]]:
        with Client(node.client_address) as client:
            count = client.kv.put_many(generated()).count
            return count, {entry.key: entry.value for entry in client.kv.list()}

    assert await asyncio.to_thread(work) == (len(PAIRS), PAIRS)


@pytest.mark.parametrize("entries", [PAIRS, generated, generated_async], ids=["mapping", "iterator", "async iterator"])
async def test_an_asyncio_client_takes_all_sorts_of_entries(node: Node, entries: Any) -> None:
    async with AsyncClient(node.client_address) as client:
        written = await client.kv.put_many(entries() if callable(entries) else entries)
    assert written.count == len(PAIRS)
    assert held(node) == list(PAIRS)


async def test_an_embedded_node_has_the_verb_too(node: Node) -> None:
    written = await node.kv.put_many(PAIRS)
    assert (written.count, written.session.clock) == (len(PAIRS), node.engine.store.clock.time)
    assert held(node) == list(PAIRS)
    assert (await node.kv.put_many([])).count == 0


async def test_a_refusal_counts_all_entries_that_were_given_and_says_how_many_are_written(node: Node) -> None:
    entries = [*PAIRS.items(), ("", "v")]
    async with AsyncClient(node.client_address) as client:
        for runner in (client, node):
            with pytest.raises(InvalidArgumentError) as caught:
                await runner.kv.put_many(entries)
            assert str(caught.value) == f"entries[{len(PAIRS)}].key is empty; give 1 to 512 bytes of UTF-8"
            assert list(caught.value.fields) == [f"entries[{len(PAIRS)}].key"]
            assert caught.value.metadata["written"] == str(len(PAIRS) // BATCH * BATCH)


async def test_a_blocking_client_counts_too(small: Node) -> None:
    def work() -> str:
        with Client(small.client_address) as client, pytest.raises(ResourceExhaustedError) as caught:
            client.kv.put_many({f"{number}": "v" for number in range(11)})
        return caught.value.metadata["written"]

    assert await asyncio.to_thread(work) == "0"


async def test_where_nobody_listens_nothing_is_written() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(UnavailableError) as caught:
            await client.kv.put_many({"a": "v"})
    assert caught.value.metadata == {"written": "0"}


async def test_an_error_of_the_callers_own_ends_it(node: Node) -> None:
    def broken() -> Iterator[tuple[str, str]]:
        yield "a", "v"
        raise KeyNotFoundError("mine")

    with pytest.raises(KeyNotFoundError, match="mine"):
        await node.kv.put_many(broken())
    assert held(node) == []


@pytest.mark.parametrize(
    ("entry", "field", "text"),
    [
        ("ab", "entries[1]", "must be a pair of key and value, or an Item, not str"),
        (("a", "b", "c"), "entries[1]", "must be a pair"),
        ((b"a", "b"), "entries[1].key", "must be str, not bytes"),
        (("a", 5), "entries[1].value", "must be str or bytes, not int"),
        (Item("a", "b", ttl=-1), "entries[1].ttl", "must be a number of seconds"),
        (Item("a", "b", ttl=float("nan")), "entries[1].ttl", "must be a number of seconds"),
    ],
)
def test_what_is_no_entry_is_refused_before_it_is_sent(entry: Any, field: str, text: str) -> None:
    upload = Upload()
    upload.add(("first", "v"))
    with pytest.raises(InvalidArgumentError, match=text) as caught:
        upload.add(entry)
    assert list(caught.value.fields) == [field]
    assert caught.value.metadata == {"written": "0"}


def test_a_batch_ends_by_its_bytes_too() -> None:
    upload = Upload()
    half = "v" * (BATCH_BYTES // 2)
    assert [upload.add((f"{number}", half)) for number in range(BATCHES)] == [None] * BATCHES
    call = upload.add(("last", half))
    assert call is not None
    assert [len(request.entries) for request in cast("Any", call.request)] == [1] * BATCHES


async def test_seconds_become_milliseconds() -> None:
    upload = Upload()
    upload.add(Item("a", "v", ttl=0.0001, ephemeral=True))
    call = upload.rest()
    assert call is not None
    (request,) = [request async for request in cast("Any", call.request)]
    (entry,) = request.entries
    assert (entry.ttl_milliseconds, entry.ephemeral) == (1, True)
    assert upload.rest() is None
