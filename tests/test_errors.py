"""Each reason for which a call fails, brought about at a running node, and what its caller is told over gRPC.

What gRPC refuses by itself is here too, and the table in docs/errors.md.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from gossip_grpc import sessions
from gossip_grpc.client import AsyncClient, GossipError
from gossip_grpc.config import Config
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.membership import Change, Status
from gossip_grpc.core.records import Origin
from gossip_grpc.edge import MESSAGE_BYTES, RETRY_SECONDS, STATUS
from gossip_grpc.errors import Reason
from gossip_grpc.gen.gossip.v1 import cluster_pb2, common_pb2, counter_pb2, kv_pb2, peer_pb2
from gossip_grpc.member_events import KEPT
from gossip_grpc.node import Node
from gossip_grpc.storage import writer
from gossip_grpc.wire import PROTOCOL
from tests.processes import DEADLINE
from tests.samples import member
from tests.test_node import free_port

ERRORS = Path(__file__).parent.parent / "docs" / "errors.md"

GET = "gossip.v1.KeyValueService/Get"
PUT = "gossip.v1.KeyValueService/Put"
PUT_MANY = "gossip.v1.KeyValueService/PutMany"
PUSH = "gossip.v1.PeerService/Push"
WATCH = "gossip.v1.ClusterService/WatchMembers"

SOMETHING = common_pb2.Value(text="x")
EVIL = [common_pb2.Origin(node_id="evil", generation=1)]


def put(**fields: Any) -> kv_pb2.KeyValueServicePutRequest:
    return kv_pb2.KeyValueServicePutRequest(**{"key": "k", "value": SOMETHING, **fields})


def push(
    *, sender: str = "evil", cluster: str = "default", protocol: int = PROTOCOL, **fields: Any
) -> peer_pb2.PushRequest:
    who = peer_pb2.Sender(cluster=cluster, protocol=protocol, node_id=sender, generation=1, address="127.0.0.1:1")
    return peer_pb2.PushRequest(sender=who, **fields)


@dataclass
class Told:
    """What a failed call tells its caller."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: Any = None
    fields: Sequence[str] = ()
    retry: int | None = None


@dataclass
class Bench:
    """A node, and what is at hand to make it fail."""

    node: Node
    monkeypatch: pytest.MonkeyPatch

    async def fail(self, method: str, *requests: Message | bytes, timeout: float = DEADLINE) -> Told:  # noqa: ASYNC109  the call's deadline
        """Make a call of any kind, at the listener that has its service, and read on until it fails."""
        address = self.node.peer_address if "PeerService" in method else self.node.client_address
        return await fail(address, method, *requests, timeout=timeout)


async def fail(address: str, method: str, *requests: Message | bytes, timeout: float = DEADLINE) -> Told:  # noqa: ASYNC109  as above
    raws = [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
    options = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        method_of: Any = channel.stream_stream(f"/{method}")  # its types want serializers
        call = method_of(iter(raws), timeout=timeout)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
    return told_by(caught.value)


def told_by(error: grpc.aio.AioRpcError) -> Told:
    told = Told(error.code(), error.details() or "")
    status = rpc_status.from_call(cast("grpc.Call", error))
    if status is None:
        return told
    info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        assert detail.Unpack(info) or detail.Unpack(request) or detail.Unpack(retry), detail
        if detail.Is(RetryInfo.DESCRIPTOR):
            told.retry = retry.retry_delay.ToSeconds()
    told.reason, told.domain, told.metadata = info.reason, info.domain, dict(info.metadata)
    told.fields = [violation.field for violation in request.field_violations]
    assert all(violation.description == told.message for violation in request.field_violations)
    return told


@dataclass
class Provocation:
    """How a reason comes about; and the field that is to blame, and the metadata that come with it."""

    bring_about: Callable[[Bench], Awaitable[Told]]
    field: str
    metadata: dict[str, Any]
    settings: dict[str, Any]


PROVOCATIONS: dict[Reason, Provocation] = {}


def provokes(
    reason: Reason, field: str = "", metadata: dict[str, Any] | None = None, **settings: Any
) -> Callable[[Callable[[Bench], Awaitable[Told]]], None]:
    def register(bring_about: Callable[[Bench], Awaitable[Told]]) -> None:
        PROVOCATIONS[reason] = Provocation(bring_about, field, metadata or {}, settings)

    return register


@asynccontextmanager
async def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **settings: Any) -> AsyncIterator[Bench]:
    if settings.pop("disk", False):
        settings["data_dir"] = str(tmp_path / "data")
    fixed = {"node_id": "a", "peer_listen": "127.0.0.1:0", "client_listen": "127.0.0.1:0", "leave_timeout": 0}
    async with Node(Config(**{**fixed, "gossip_interval": 3600, **settings})) as node:
        if "join" not in settings:
            await node.wait_ready()
        yield Bench(node, monkeypatch)


@pytest.mark.parametrize("reason", Reason)
async def test_a_caller_is_told_why(reason: Reason, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    provocation = PROVOCATIONS[reason]
    async with bench(monkeypatch, tmp_path, **provocation.settings) as made:
        told = await provocation.bring_about(made)
    assert (told.reason, told.domain) == (reason, "gossip-grpc")
    assert told.code is STATUS[reason]
    assert told.fields == ([provocation.field] if provocation.field else [])
    assert provocation.field in told.message
    assert told.retry == RETRY_SECONDS.get(reason)
    assert told.metadata == provocation.metadata


# What clients do


@provokes(Reason.INVALID_ARGUMENT, field="key")
async def _(bench: Bench) -> Told:
    return await bench.fail(PUT, put(key=""))


@provokes(Reason.KEY_NOT_FOUND)
async def _(bench: Bench) -> Told:
    return await bench.fail(GET, kv_pb2.KeyValueServiceGetRequest(key="nothing"))


@provokes(Reason.MALFORMED)
async def _(bench: Bench) -> Told:
    return await bench.fail(PUT, b"\xff\xff\xff\xff")


@provokes(Reason.NOT_IMPLEMENTED)
async def _(bench: Bench) -> Told:
    return await bench.fail("gossip.v1.KeyValueService/Rename", b"")


@provokes(Reason.MESSAGE_LIMIT)
async def _(bench: Bench) -> Told:
    told = await bench.fail(PUT, put(value=common_pb2.Value(data=b"x" * 12_000_000)))
    assert "has 12,000,013 bytes; at most 8,388,608 are taken: max_value_bytes is 1,048,576" in told.message
    return told


@provokes(Reason.COUNTER_OVERFLOW, field="amount")
async def _(bench: Bench) -> Told:
    await bench.node.counter.add("c", 1)
    return await bench.fail(
        "gossip.v1.CounterService/Add", counter_pb2.CounterServiceAddRequest(key="c", amount=2**63 - 1)
    )


@provokes(Reason.RECORD_LIMIT, max_records=1)
async def _(bench: Bench) -> Told:
    await bench.node.kv.put("one", "v")
    return await bench.fail(PUT, put(key="two"))


@provokes(Reason.NO_DISK, field="durability")
async def _(bench: Bench) -> Told:
    return await bench.fail(PUT, put(durability=common_pb2.DURABILITY_DISK))


@provokes(Reason.MEMBER_NOT_FOUND)
async def _(bench: Bench) -> Told:
    return await bench.fail(
        "gossip.v1.ClusterService/ExplainMember", cluster_pb2.ClusterServiceExplainMemberRequest(node_id="nobody")
    )


@provokes(Reason.MEMBER_ALIVE)
async def _(bench: Bench) -> Told:
    return await bench.fail(
        "gossip.v1.ClusterService/ForgetMember", cluster_pb2.ClusterServiceForgetMemberRequest(node_id="a")
    )


@provokes(Reason.MEMBER_UNREACHABLE)
async def _(bench: Bench) -> Told:
    node, gone = bench.node, Origin("gone", 1)
    node.engine.on_push(gone, f"127.0.0.1:{free_port()}", [member(gone)], None, node.scheduler.now())
    node.scheduler.pump()
    return await bench.fail("gossip.v1.ClusterService/Ping", cluster_pb2.ClusterServicePingRequest(node_id="gone"))


# Sessions

ELSEWHERE = common_pb2.Session(clock=5, dots=[common_pb2.Dot(origin=EVIL[0], sequence=7)])


@provokes(Reason.SESSION_BEHIND, metadata={"missing": "evil/1:7", "missing_count": "1"})
async def _(bench: Bench) -> Told:
    return await bench.fail(GET, kv_pb2.KeyValueServiceGetRequest(key="k", session=ELSEWHERE), timeout=1)


@provokes(Reason.SESSION_LIMIT)
async def _(bench: Bench) -> Told:
    bench.monkeypatch.setattr(sessions, "MAX_WAITING", 0)
    return await bench.fail(GET, kv_pb2.KeyValueServiceGetRequest(key="k", session=ELSEWHERE))


@provokes(Reason.CLOCK_POISON, field="session.clock")
async def _(bench: Bench) -> Told:
    return await bench.fail(PUT, put(session=common_pb2.Session(clock=2**61)))


# Watching


@provokes(Reason.WATCH_LIMIT, max_watchers=0)
async def _(bench: Bench) -> Told:
    return await bench.fail(WATCH, b"")


async def fail_to_watch(bench: Bench, so_that: Callable[[], Coroutine[Any, Any, None]]) -> Told:
    """Be told all that there is, then read on until the watch is ended."""
    async with grpc.aio.insecure_channel(bench.node.client_address) as channel:
        watch: Any = channel.unary_stream(f"/{WATCH}")
        call = watch(b"", timeout=DEADLINE)
        await call.read()
        await call.read()
        ending = asyncio.create_task(so_that())

        async def read_on() -> None:
            while await call.read() is not grpc.aio.EOF:
                pass

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_on()
        await ending
    return told_by(caught.value)


@provokes(Reason.SLOW_WATCHER, metadata={"resume_token": ANY})
async def _(bench: Bench) -> Told:
    node = bench.node

    async def much_happens() -> None:
        for _ in range(KEPT + 1):
            node.events.add(Change("a", Status.ALIVE, Status.ALIVE, True, "it says so"), node.scheduler.now())

    told = await fail_to_watch(bench, much_happens)
    assert told.metadata["resume_token"].startswith("a/")
    return told


@provokes(Reason.STOPPING, metadata={"resume_token": ANY})
async def _(bench: Bench) -> Told:
    told = await fail_to_watch(bench, bench.node.stop)
    assert told.metadata["resume_token"].startswith("a/")
    return told


# The node's own state


@provokes(Reason.NOT_READY, join=("127.0.0.1:1",), bootstrap_window=3600)
async def _(bench: Bench) -> Told:
    return await bench.fail(PUT, put())


async def break_disk(bench: Bench) -> Callable[[], None]:
    """Let no commit succeed until what is returned is called."""
    storage = bench.node.storage
    assert storage is not None
    await storage.saved(storage.ticket)  # what the node wrote when it started
    commit, failing = storage._commit, True

    def failing_commit(batch: writer.Batch, *, closing: bool) -> None:
        if failing:
            raise sqlite3.OperationalError("disk I/O error")
        commit(batch, closing=closing)

    def mend() -> None:
        nonlocal failing
        failing = False

    bench.monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)
    bench.monkeypatch.setattr(storage, "_commit", failing_commit)
    return mend


@provokes(Reason.NOT_ON_DISK, disk=True)
async def _(bench: Bench) -> Told:
    mend = await break_disk(bench)
    told = await bench.fail(PUT, put())
    assert (await bench.node.kv.get("k")).value == "x"
    mend()
    return told


@provokes(Reason.DISK_FAILED, disk=True)
async def _(bench: Bench) -> Told:
    mend = await break_disk(bench)
    await bench.fail(PUT, put())
    told = await bench.fail(PUT, put(key="other"))
    mend()
    return told


@provokes(Reason.INTERNAL)
async def _(bench: Bench) -> Told:
    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the node")

    bench.monkeypatch.setattr(Engine, "put", bug)
    told = await bench.fail(PUT, put())
    assert told.message == "internal error; the node's log says more"
    return told


# What peers do


@provokes(Reason.FOREIGN_CLUSTER, field="sender.cluster")
async def _(bench: Bench) -> Told:
    return await bench.fail(PUSH, push(cluster="other"))


@provokes(Reason.INCOMPATIBLE_PROTOCOL, field="sender.protocol")
async def _(bench: Bench) -> Told:
    return await bench.fail(PUSH, push(protocol=99))


@provokes(Reason.BROKEN_TRANSFER, field="chunk")
async def _(bench: Bench) -> Told:
    return await bench.fail(PUSH, push(delta=peer_pb2.Delta(), transfer=1, chunk=3))


@provokes(Reason.SYNC_LIMIT, max_inbound_syncs=1)
async def _(bench: Bench) -> Told:
    begun = peer_pb2.Delta(header=peer_pb2.DeltaHeader(base=peer_pb2.Digest(), clock=1))
    async with grpc.aio.insecure_channel(bench.node.peer_address) as channel:
        first: Any = channel.unary_unary(f"/{PUSH}")
        await first(push(sender="first", delta=begun, transfer=1).SerializeToString(), timeout=DEADLINE)
    return await bench.fail(PUSH, push(sender="second", delta=begun, transfer=1))


# Details that only some errors have


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(monkeypatch, tmp_path) as made:
        yield made


async def test_a_deleted_key_comes_with_the_session_of_its_deletion(made: Bench) -> None:
    await made.node.kv.put("k", "v")
    await made.node.kv.delete("k")
    told = await made.fail(GET, kv_pb2.KeyValueServiceGetRequest(key="k"))
    assert (told.reason, list(told.metadata)) == (Reason.KEY_NOT_FOUND, ["session"])


async def test_whatever_ends_an_upload_says_how_much_of_it_is_written(made: Bench) -> None:
    def batch(*keys: str) -> Message:
        entries = [kv_pb2.PutManyEntry(key=key, value=SOMETHING) for key in keys]
        return kv_pb2.KeyValueServicePutManyRequest(entries=entries)

    for wrong in (batch(""), b"\xff\xff", b"x" * 9_000_000):
        told = await made.fail(PUT_MANY, batch("a", "b"), wrong)
        assert told.reason in (Reason.INVALID_ARGUMENT, Reason.MALFORMED, Reason.MESSAGE_LIMIT)
        assert told.metadata == {"written": "2"}


async def test_an_error_that_quotes_what_is_very_long_arrives_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with bench(monkeypatch, tmp_path, max_key_bytes=4096) as made:
        for key in ("x" * 4096, "\x00\x01" * 2048, "é" * 2048):
            told = await made.fail(GET, kv_pb2.KeyValueServiceGetRequest(key=key))
            assert told.reason == Reason.KEY_NOT_FOUND
            assert len(told.message.encode()) <= MESSAGE_BYTES
            assert told.message.startswith("there is no value for ")
            assert told.message.endswith("...")


async def test_a_method_at_the_wrong_listener_is_told_which_one_it_is(made: Bench) -> None:
    for address, method, which in (
        (made.node.client_address, PUSH, "the client listener"),
        (made.node.peer_address, PUT, "the peer listener"),
        (made.node.client_address, "shop.v1.Orders/Get", "the client listener"),
    ):
        told = await fail(address, method, b"")
        assert (told.code, told.reason) == (grpc.StatusCode.UNIMPLEMENTED, Reason.NOT_IMPLEMENTED)
        assert f"this is {which} of a gossip-grpc node" in told.message
        assert method in told.message


async def test_our_client_says_so_too(made: Bench) -> None:
    async with AsyncClient(made.node.peer_address) as client:
        with pytest.raises(GossipError, match="this is the peer listener of a gossip-grpc node") as caught:
            await client.kv.put("k", "v")
    assert caught.value.reason == Reason.NOT_IMPLEMENTED


# What gRPC refuses before the node has a say


@pytest.mark.parametrize(("method", "size"), [(PUT, 20_000_000), (PUSH, 9_000_000)])
async def test_a_message_too_large_for_grpc_is_refused_by_grpc(made: Bench, method: str, size: int) -> None:
    told = await made.fail(method, b"x" * size)
    assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
    assert "larger than max" in told.message
    await made.node.kv.put("still", "here")


# The table


@dataclass
class Row:
    code: str
    retry: str


def table() -> dict[str, Row]:
    rows = {}
    for line in ERRORS.read_text().splitlines():
        if found := re.match(r"\| `([A-Z_]+)`<br>([A-Z_]+)(?:<br>again in (\d+ s))? \|", line):
            assert found[1] not in rows, f"{found[1]} is there twice"
            rows[found[1]] = Row(found[2], found[3] or "-")
    return rows


def test_the_table_has_every_reason_with_its_code_and_whether_to_retry() -> None:
    assert table() == {
        str(reason): Row(code.name, f"{RETRY_SECONDS[reason]} s" if reason in RETRY_SECONDS else "-")
        for reason, code in STATUS.items()
    }
    assert set(STATUS) == set(Reason)
