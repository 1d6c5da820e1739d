"""The driver: whatever a peer answers, each call ends with an outcome and the node goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from gossip_grpc.channels import Channels
from gossip_grpc.config import Config
from gossip_grpc.core.counters import Counters
from gossip_grpc.core.messages import Call
from gossip_grpc.gen.gossip.v1 import common_pb2, peer_pb2
from gossip_grpc.node import Node
from gossip_grpc.wire import PROTOCOL

HANG = b"hang"
JUNK = b"\xff\xff\xff\xff"
PEER = peer_pb2.Sender(cluster="default", protocol=PROTOCOL, node_id="liar", generation=1, address="127.0.0.1:1")
LARGER = peer_pb2.Digest(
    origins=[peer_pb2.OriginDigest(origin=common_pb2.Origin(node_id="liar", generation=1), sequence=5)]
)
OTHERS = peer_pb2.Digest(
    origins=[peer_pb2.OriginDigest(origin=common_pb2.Origin(node_id="other", generation=1), sequence=5)]
)


def compared(**fields: Any) -> bytes:
    return peer_pb2.PullResponse(sender=PEER, digest=LARGER, **fields).SerializeToString()


def chunk(**fields: Any) -> bytes:
    return peer_pb2.PullResponse(sender=PEER, delta=peer_pb2.Delta(**fields)).SerializeToString()


HEADER = peer_pb2.DeltaHeader(snapshot=LARGER)

COMPARISONS = {
    "junk": [JUNK],
    "nothing": [],
    "no sender": [peer_pb2.PullResponse(agreed=True).SerializeToString()],
    "a broken digest": [
        peer_pb2.PullResponse(
            sender=PEER,
            digest=peer_pb2.Digest(origins=[peer_pb2.OriginDigest(origin=common_pb2.Origin(node_id="?"))]),
        ).SerializeToString()
    ],
}
FETCHES = {
    "junk": [JUNK],
    "nothing": [],
    "no header": [chunk(complete=True)],
    "no end": [chunk(header=HEADER)],
    "a base that is not ours": [chunk(header=peer_pb2.DeltaHeader(base=OTHERS, snapshot=LARGER), complete=True)],
    "a poisonous clock": [
        chunk(
            header=HEADER,
            origins=[common_pb2.Origin(node_id="liar", generation=1)],
            registers=[peer_pb2.RegisterRecord(sequence=1, clock=2**63, key="k", text="v")],
            complete=True,
        )
    ],
}


@pytest.mark.parametrize("name", COMPARISONS)
async def test_a_comparison_answered_badly_fails_and_the_next_one_is_made(name: str) -> None:
    async with Liar(comparison=COMPARISONS[name]) as liar, joined(liar) as node:
        await liar.asked("comparison", times=3)
        assert node.engine.counters.rounds_failed >= 1
        assert not node.engine.ready


@pytest.mark.parametrize("name", FETCHES)
async def test_a_fetch_answered_badly_fails_and_the_next_one_is_made(name: str) -> None:
    async with Liar(comparison=[compared()], fetch=FETCHES[name]) as liar, joined(liar) as node:
        await liar.asked("fetch", times=3)
        assert node.engine.counters.rounds_failed >= 1
        assert not node.engine.ready
        assert node.engine.store.register("k") is None


async def test_a_bug_of_ours_ends_the_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    agreeing = [peer_pb2.PullResponse(sender=PEER, agreed=True).SerializeToString()]
    async with Liar(comparison=agreeing) as liar, joined(liar) as node:

        def broken(call: Call, *_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(node.engine, "on_pull_reply", broken)
        await liar.asked("comparison", times=3)
        assert node.engine.counters.rounds_failed >= 1


async def test_a_fetch_that_goes_silent_is_given_up() -> None:
    async with Liar(comparison=[compared()], fetch=[HANG]) as liar, joined(liar) as node:
        await liar.asked("fetch", times=2)
        assert node.engine.counters.rounds_failed >= 1


async def test_a_channel_to_where_a_member_was_is_closed_when_it_is_elsewhere() -> None:
    def config(name: str, *join: str) -> Config:
        return Config(node_id=name, peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", join=join)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  channels tell nobody
                await asyncio.sleep(0.01)

    async with Node(config("stays")) as stays:
        channels = stays.scheduler._channels._channels
        async with Node(config("moves", stays.peer_address)) as moves:
            former = moves.peer_address
            await until(lambda: former in channels)
        async with Node(config("moves", stays.peer_address)) as moves:
            address = moves.peer_address
            assert address != former
            await until(lambda: address in channels and former not in channels)


async def test_a_call_that_was_on_its_way_to_where_a_member_was_leaves_no_channel_there() -> None:
    channels = Channels(Counters(), 5.0)
    async with asyncio.timeout(20):
        closing = asyncio.create_task(channels.abandon("127.0.0.1:1"))
        await asyncio.sleep(0)  # it has looked for a channel, and found none
        with pytest.raises(grpc.aio.AioRpcError):
            await channels.push("127.0.0.1:1", b"", 0.0)
        await closing
    assert not channels._channels


class Liar:
    """A peer that answers pulls with what it is told to, and takes every push."""

    def __init__(self, comparison: list[bytes], fetch: list[bytes] | None = None) -> None:
        self.answers = {"comparison": comparison, "fetch": fetch or []}
        self.counts = {"comparison": 0, "fetch": 0}
        self.address = ""
        self._changed = asyncio.Condition()
        self._server = grpc.aio.server(interceptors=[_Handlers({"Pull": self._pull})])

    async def asked(self, what: str, *, times: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.counts[what] >= times)

    async def _pull(self, raw: bytes, context: Any) -> AsyncIterator[bytes]:
        request = peer_pb2.PullRequest.FromString(raw)
        what = "fetch" if request.HasField("digest") else "comparison"
        async with self._changed:
            self.counts[what] += 1
            self._changed.notify_all()
        for answer in self.answers[what]:
            if answer == HANG:
                await asyncio.Event().wait()
            yield answer

    async def __aenter__(self) -> Liar:
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


class _Handlers(grpc.aio.ServerInterceptor):
    def __init__(self, streams: dict[str, Callable[[bytes, Any], AsyncIterator[bytes]]]) -> None:
        self._streams = streams

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: str = handler_call_details.method
        stream = self._streams.get(method.rpartition("/")[2])
        return grpc.unary_stream_rpc_method_handler(stream) if stream else None


def joined(liar: Liar) -> Node:
    return Node(
        Config(
            node_id="n1",
            peer_listen="127.0.0.1:0",
            client_listen="127.0.0.1:0",
            join=(liar.address,),
            gossip_interval=0.05,
            exchange_timeout=0.5,
            leave_timeout=0,
        )
    )
