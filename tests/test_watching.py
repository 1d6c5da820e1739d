"""Watching members: snapshot, events, resumption, and watchers that are too slow or too many."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

import pytest
from xxhash import xxh3_64_hexdigest

from gossip_grpc.client import (
    AsyncClient,
    Client,
    InvalidArgumentError,
    MemberEvent,
    MemberEventKind,
    MemberStatus,
    ResourceExhaustedError,
    UnavailableError,
    connections,
)
from gossip_grpc.config import Config
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.membership import Change, Status
from gossip_grpc.core.records import Member, Origin, Record
from gossip_grpc.errors import LimitError, LocalError, Reason
from gossip_grpc.gen.gossip.v1 import cluster_pb2
from gossip_grpc.member_events import KEPT, MemberEvents
from gossip_grpc.node import Node
from gossip_grpc.watching import MAX_LAG, Watchers
from tests.processes import NodeProcess
from tests.samples import A, B, C, member

DEADLINE = 20.0
UPDATE = Change("a", Status.ALIVE, Status.ALIVE, True, "it says so")
T = TypeVar("T")
Response = cluster_pb2.ClusterServiceWatchMembersResponse


class Watched:
    """The log of an engine of node a, without any network."""

    def __init__(self, *records: Record, most: int = 10) -> None:
        self.engine = Engine(A, Member(0, "a:1"), Settings(), random.Random(1), 0.0)
        self.watchers = Watchers(most, life=1)
        self.events = MemberEvents(self.engine, self.watchers)
        self.learn(*records)

    def learn(self, *records: Record) -> None:
        """What the node does when a rumor comes."""
        self.engine.on_push(Origin("messenger", 1), "messenger:1", list(records), None, 1.0)
        self.log_effects()

    def log_effects(self) -> None:
        for effect in self.engine.effects():
            if isinstance(effect, Change):
                self.events.add(effect, 1.0)

    def happen(self, count: int, at: float = float("-inf")) -> None:
        """So many events of any kind, by default long ago."""
        for _ in range(count):
            self.events.add(UPDATE, at)


async def take(stream: AsyncGenerator[T, None], count: int) -> list[T]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(stream) for _ in range(count)]


def of_members(token: str) -> str:
    """A token with the checksum that says that it is one of members."""
    return f"{token}/{xxh3_64_hexdigest(b'members')}"


async def read_to_the_end(stream: AsyncGenerator[T, None]) -> None:
    async with asyncio.timeout(DEADLINE):
        async for _ in stream:
            pass


def told(responses: list[Response]) -> list[str]:
    return [
        f"{cluster_pb2.MemberEventKind.Name(one.kind).removeprefix('MEMBER_EVENT_KIND_').lower()} {one.member.node_id}"
        for one in responses
    ]


async def test_a_watcher_is_told_all_members_then_that_these_were_all_then_what_happens() -> None:
    watched = Watched(member(B))
    async with aclosing(watched.events.watch("")) as stream:
        first = await take(stream, 3)
        assert told(first) == ["snapshot a", "snapshot b", "current "]
        assert [bool(one.resume_token) for one in first] == [False, False, True]
        watched.learn(member(C))
        watched.learn(member(C, 2, incarnation=2, tags={"k": "v"}))
        watched.learn(member(C, 3, incarnation=3, left=True))
        watched.engine.vigil.forget("c")
        watched.engine.vigil.look(2.0)
        watched.log_effects()
        after = await take(stream, 4)
    assert told(after) == ["alive c", "updated c", "left c", "reaped c"]
    assert [one.cause for one in after] == [
        "it is heard",
        "it says so",
        "it says that it leaves",
        "it was forgotten",
    ]
    assert after[1].member.tags == {"k": "v"}
    assert (after[3].member.node_id, after[3].member.status) == ("c", cluster_pb2.MEMBER_STATUS_LEFT)


async def test_an_event_keeps_the_status_that_it_was_about() -> None:
    watched = Watched()
    async with aclosing(watched.events.watch("")) as stream:
        await take(stream, 2)
        watched.learn(member(C))
        watched.learn(member(C, 2, incarnation=2, left=True))
        alive, left = await take(stream, 2)
    assert (alive.member.status, left.member.status) == (1, 4)


async def test_what_happens_while_the_snapshot_is_read_comes_once_and_after_it() -> None:
    watched = Watched(member(B))
    async with aclosing(watched.events.watch("")) as stream:
        first = await take(stream, 1)
        watched.learn(member(C))
        rest = await take(stream, 3)
    assert told(first + rest) == ["snapshot a", "snapshot b", "alive c", "current "]


async def test_a_watcher_that_comes_back_with_its_token_gets_what_it_missed() -> None:
    watched = Watched()
    async with aclosing(watched.events.watch("")) as stream:
        token = (await take(stream, 2))[-1].resume_token
    watched.learn(member(B))
    watched.learn(member(C))
    async with aclosing(watched.events.watch(token)) as stream:
        missed = await take(stream, 3)
        assert told(missed) == ["alive b", "alive c", "current "]
        assert missed[-1].cause == "resumed"
    async with aclosing(watched.events.watch(missed[0].resume_token)) as stream:
        assert told(await take(stream, 2)) == ["alive c", "current "]
    assert watched.watchers.count == 0


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("b/1/0", "the token is of node b, so these are all members"),
        ("a/2/0", "the token is of another run of a, so these are all members"),
        ("a/1/99999", "what came after the token is not kept any more, so these are all members"),
        ("a/1/1", "what came after the token is not kept any more, so these are all members"),
    ],
)
async def test_a_token_that_is_of_no_use_leads_to_a_snapshot_that_says_so(token: str, why: str) -> None:
    watched = Watched()
    watched.happen(KEPT + 2)
    async with aclosing(watched.events.watch(of_members(token))) as stream:
        responses = await take(stream, 3)
    assert told(responses) == ["reset ", "snapshot a", "current "]
    assert responses[0].cause == responses[-1].cause == why


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a/1/2",
        "a/1/2/0123456789abcdef",
        *map(of_members, ["a/1", "a/1/2/3", "a/-1/2", "a/1/x", "a/1/٣", f"a/{2**64}/1", "a/1/" + "9" * 30]),
    ],
)
async def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(LocalError, match="resume_token is not one that this call has answered") as caught:
        await anext(Watched().events.watch(token))
    assert caught.value.field == "resume_token"


async def test_a_watcher_that_is_too_slow_is_cut_off_with_its_token_and_can_resume() -> None:
    watched = Watched()
    async with aclosing(watched.events.watch("")) as stream:
        await take(stream, 2)
        watched.happen(1)
        last = (await take(stream, 1))[-1].resume_token
        watched.happen(MAX_LAG + 1)
        with pytest.raises(LimitError) as caught:
            await anext(stream)
    assert caught.value.reason is Reason.SLOW_WATCHER
    assert caught.value.metadata == {"resume_token": last}
    async with aclosing(watched.events.watch(last)) as stream:
        assert told(await take(stream, MAX_LAG + 2))[-1] == "current "


async def test_what_a_watcher_missed_does_not_count_as_slowness() -> None:
    watched = Watched()
    watched.happen(KEPT)
    async with aclosing(watched.events.watch(of_members("a/1/1"))) as stream:
        await take(stream, 10)
        watched.happen(10)
        responses = await take(stream, 1)
    # The ten events that came meanwhile pushed the oldest out of the log, not those it has yet to read.
    assert told(responses) == ["updated a"]


async def test_a_watcher_that_is_so_far_behind_that_events_are_gone_is_cut_off_however_patient_the_node() -> None:
    watched = Watched()
    async with aclosing(watched.events.watch("")) as stream:
        await take(stream, 2)
        watched.happen(KEPT + 1, at=float("inf"))
        with pytest.raises(LimitError, match="10001 events behind"):
            await anext(stream)


async def test_one_that_came_back_just_in_time_and_lost_the_rest_is_told_so() -> None:
    watched = Watched()
    watched.happen(KEPT)
    async with aclosing(watched.events.watch(of_members("a/1/51"))) as stream:
        await take(stream, 1)
        watched.happen(200, at=float("inf"))
        with pytest.raises(LimitError) as caught:
            await take(stream, 200)
    assert caught.value.reason is Reason.SLOW_WATCHER


async def test_many_events_in_one_step_are_no_slowness() -> None:
    watched = Watched()
    async with aclosing(watched.events.watch("")) as stream:
        await take(stream, 2)
        watched.happen(2 * MAX_LAG, at=asyncio.get_running_loop().time())
        assert len(await take(stream, 2 * MAX_LAG)) == 2 * MAX_LAG


async def test_no_more_than_so_many_watch_at_a_time() -> None:
    watched = Watched(most=1)
    async with aclosing(watched.events.watch("")) as first:
        await take(first, 1)
        with pytest.raises(LimitError, match="the node has 1 of max_watchers, 1, already") as caught:
            await anext(watched.events.watch(""))
        assert caught.value.reason is Reason.WATCH_LIMIT
    async with aclosing(watched.events.watch("")) as second:
        await take(second, 1)


# By the API of a node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    config = Config(
        node_id="a", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", leave_timeout=0, max_watchers=2
    )
    async with Node(config) as node:
        yield node


def join(node: Node, origin: Origin) -> None:
    now = node.scheduler.now()
    node.engine.on_push(origin, f"{origin.node_id}:1", [member(origin)], None, now)
    node.scheduler.pump()


async def test_clients_and_embedded_nodes_watch_alike(node: Node) -> None:
    def kinds(events: list[MemberEvent]) -> list[MemberEventKind]:
        return [event.kind for event in events]

    async with (
        AsyncClient(node.client_address) as client,
        aclosing(client.watch()) as remote,
        aclosing(node.watch()) as local,
    ):
        for stream in (remote, local):
            first, marker = await take(stream, 2)
            assert kinds([first, marker]) == [MemberEventKind.SNAPSHOT, MemberEventKind.CURRENT]
            assert first.member is not None
            assert first.member.node_id == "a"
            assert marker.member is None
        join(node, B)
        [here], [there] = await take(local, 1), await take(remote, 1)
        assert (here.kind, here.cause, here.token) == (there.kind, there.cause, there.token)
        assert here.member is not None
        assert (here.kind, here.member.status) == (MemberEventKind.ALIVE, MemberStatus.ALIVE)


async def test_the_blocking_client_watches_and_hangs_up(node: Node) -> None:
    def watch() -> list[str]:
        with Client(node.client_address) as client:
            events = client.watch()
            seen = [next(events).kind, next(events).kind]
            events.close()
            return [str(kind) for kind in seen]

    assert await asyncio.to_thread(watch) == ["snapshot", "current"]
    async with asyncio.timeout(DEADLINE):
        while node.watchers.count:  # noqa: ASYNC110 - the node has no event for it
            await asyncio.sleep(0)


async def test_a_watcher_finds_out_that_the_node_does_not_answer_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    times = ("grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms")
    quick = [(name, 200 if name in times else value) for name, value in connections.OPTIONS]
    monkeypatch.setattr(connections, "OPTIONS", quick)
    stopped = await NodeProcess.start()
    try:
        async with stopped.client() as client, aclosing(client.watch(reconnect=0)) as events:
            await take(events, 2)
            stopped.process.send_signal(signal.SIGSTOP)
            with pytest.raises(UnavailableError):
                await take(events, 1)
    finally:
        stopped.process.send_signal(signal.SIGCONT)
        await stopped.close()


async def test_a_node_lets_watchers_ask_whether_it_is_still_there(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    often = [(name, 1_100 if name == "grpc.keepalive_time_ms" else value) for name, value in connections.OPTIONS]
    monkeypatch.setattr(connections, "OPTIONS", often)
    async with AsyncClient(node.client_address) as client, aclosing(client.watch()) as events:
        await take(events, 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4.5):  # gRPC cuts off who asks too often at the third time
                await anext(events)


async def test_errors_reach_watchers_with_their_reason(node: Node) -> None:
    async with AsyncClient(node.client_address) as client:
        for verbs in (client, node):
            with pytest.raises(InvalidArgumentError) as wrong:
                await anext(verbs.watch("x"))
            assert list(wrong.value.fields) == ["resume_token"]
        async with aclosing(node.watch()) as first, aclosing(client.watch()) as second:
            await take(first, 2)
            last = (await take(second, 2))[-1].token
            with pytest.raises(ResourceExhaustedError) as many:
                await anext(client.watch())
            assert many.value.reason == "WATCH_LIMIT"
            node.events.add(UPDATE, 0.0)
            [event] = await take(second, 1)
            assert event.token != last


async def test_a_slow_watcher_is_given_its_token_over_the_network(node: Node) -> None:
    async with AsyncClient(node.client_address) as client, aclosing(client.watch(reconnect=0)) as stream:
        await take(stream, 2)
        for _ in range(KEPT + 1):
            node.events.add(UPDATE, node.scheduler.now())
        with pytest.raises(ResourceExhaustedError) as caught:
            await read_to_the_end(stream)
    assert caught.value.reason == "SLOW_WATCHER"
    assert caught.value.metadata["resume_token"].startswith("a/")


async def test_a_node_that_stops_ends_its_watchers_and_does_not_wait_for_them(node: Node) -> None:
    async with AsyncClient(node.client_address) as client, aclosing(client.watch(reconnect=0)) as stream:
        await take(stream, 2)
        stopping = asyncio.create_task(node.stop())
        with pytest.raises(UnavailableError) as caught:
            await read_to_the_end(stream)
        assert caught.value.reason == "STOPPING"
        await stopping
