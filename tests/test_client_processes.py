"""A client with three addresses, while each of the three real nodes is killed and started again, one by one.

Most of it goes without sessions: what a node has acknowledged in the moment before it is killed may be on its disk
alone, and a session waits for it until the node is back.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest

from gossip_grpc.client import (
    AsyncClient,
    Client,
    GossipError,
    KeyValueEventKind,
    SubscriptionEventKind,
    UnavailableError,
)
from gossip_grpc.config import Config
from gossip_grpc.node import Node
from tests.processes import DEADLINE, NodeProcess, agree


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


class Trio:
    """Three nodes with disks, at addresses that stay."""

    def __init__(self, directory: Path) -> None:
        addresses = free_ports(6)
        self.peers, self.addresses = addresses[:3], addresses[3:]
        self.nodes: dict[int, NodeProcess] = {}
        self._directory = directory

    async def start(self, number: int) -> None:
        joins = [flag for peer in self.peers if peer != self.peers[number] for flag in ("--join", peer)]
        self.nodes[number] = await NodeProcess.start(
            *("--node-id", f"n{number}", "--data-dir", str(self._directory / f"n{number}")),
            *("--peer-listen", self.peers[number], "--client-listen", self.addresses[number], *joins),
            env={"GOSSIP_BOOTSTRAP_WINDOW": "1"},
            listen=False,
        )
        await self.nodes[number].logged("ready")

    async def kill(self, number: int) -> None:
        self.nodes[number].kill()
        await self.nodes[number].wait()


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    trio = Trio(tmp_path)
    try:
        await asyncio.gather(*(trio.start(number) for number in range(3)))
        await agree(list(trio.nodes.values()), members=3)
        yield trio
    finally:
        await asyncio.gather(*(node.close() for node in trio.nodes.values()))


class Work:
    """What a program does all the time, and what of it was acknowledged."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.added = 0
        self.written: list[str] = []
        self.published: list[str] = []
        self.doubtful: set[str] = set()
        self.rounds = 0
        self.stop = asyncio.Event()
        self.went_on = asyncio.Event()

    async def run(self) -> None:
        while not self.stop.is_set():
            name = f"{self.rounds:06}"
            await self._client.counter.add("hits", 1)
            self.added += 1
            await self._client.event.publish("topic", name)
            self.published.append(name)
            await self.put(f"key/{name}")
            self.rounds += 1
            self.went_on.set()
            await asyncio.sleep(0.005)

    async def put(self, key: str) -> None:
        try:
            await self._client.kv.put(key, "x")
        except GossipError as error:
            if not error.may_have_taken_effect:
                raise
            # Nobody else writes this key, so it may be repeated; the client cannot know that.
            self.doubtful.add(key)
            await self.put(key)
        else:
            self.written.append(key)

    async def goes_on(self) -> None:
        """Some rounds from now."""
        for _ in range(5):
            self.went_on.clear()
            async with asyncio.timeout(DEADLINE):
                await self.went_on.wait()


class Mirror:
    """What a watcher knows, by the rules: RESET forgets."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.resets = 0
        self.events: list[str] = []

    async def watch(self, client: AsyncClient) -> None:
        async for event in client.kv.watch("key/"):
            if event.kind is KeyValueEventKind.RESET:
                self.keys.clear()
                self.resets += 1
            elif event.kind is not KeyValueEventKind.CURRENT:
                assert event.kind in (KeyValueEventKind.SNAPSHOT, KeyValueEventKind.PUT)
                self.keys.add(event.key)

    async def subscribe(self, client: AsyncClient) -> None:
        async for told in client.event.subscribe("topic"):
            if told.kind is SubscriptionEventKind.EVENT:
                assert told.event is not None
                self.events.append(str(told.event.payload))

    async def until(self, keys: set[str], events: set[str]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not (keys <= self.keys and events <= set(self.events)):  # noqa: ASYNC110 - streams set no event
                await asyncio.sleep(0.05)


@asynccontextmanager
async def working(trio: Trio) -> AsyncIterator[tuple[Work, Mirror]]:
    """A client that works, and one that watches."""
    async with AsyncExitStack() as stack:
        client, watcher = [
            await stack.enter_async_context(
                AsyncClient(trio.addresses, timeout=DEADLINE, shuffle=False, sessions=False)
            )
            for _ in range(2)
        ]
        work, mirror = Work(client), Mirror()
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work.run())
            watching = [tasks.create_task(mirror.watch(watcher)), tasks.create_task(mirror.subscribe(watcher))]
            yield work, mirror
            work.stop.set()
            await working
            await mirror.until(set(work.written), set(work.published))
            for task in watching:
                task.cancel()


async def test_nothing_is_lost_or_counted_twice_while_each_node_is_killed_in_turn(trio: Trio) -> None:
    async with working(trio) as (work, mirror):
        await work.goes_on()
        for number in range(3):
            await trio.kill(number)
            await work.goes_on()  # at another node
            await trio.start(number)
            await agree_on_members(trio)
            await work.goes_on()
    await agree(list(trio.nodes.values()), members=3)
    async with AsyncClient(trio.addresses) as client:
        assert await client.counter.get("hits") == work.added
        assert {entry.key async for entry in client.kv.list("key/")} == set(work.written)
    assert mirror.resets >= 1
    assert mirror.keys == set(work.written)
    assert len(mirror.events) == len(set(mirror.events))
    assert set(mirror.events) == set(work.published)
    print(f"{work.rounds} rounds, {mirror.resets} resets, {len(work.doubtful)} puts in doubt")  # noqa: T201


async def agree_on_members(trio: Trio) -> None:
    """Wait until all three take each other for live."""

    async def know_all(node: NodeProcess) -> bool:
        # gRPC shares connections within a process: a new client fails with what another one has found out before.
        with suppress(UnavailableError):
            async with node.client() as client:
                return len([one for one in await client.members(statuses=["alive"]) if one.reachable]) == 3
        return False

    async with asyncio.timeout(DEADLINE):
        for node in trio.nodes.values():
            while not await know_all(node):  # noqa: ASYNC110 - processes set no event
                await asyncio.sleep(0.05)


async def test_a_node_that_stops_in_order_is_left_for_another_without_an_error(trio: Trio) -> None:
    async with working(trio) as (work, mirror):
        await work.goes_on()
        trio.nodes[0].terminate()
        assert await trio.nodes[0].wait() == 0
        await work.goes_on()
    assert mirror.keys == set(work.written)


async def test_a_node_that_stands_still_is_left_for_another(trio: Trio) -> None:
    async with AsyncClient(trio.addresses, timeout=4.0, shuffle=False) as client:
        await client.counter.add("hits", 1)
        await agree(list(trio.nodes.values()))
        trio.nodes[0].process.send_signal(signal.SIGSTOP)
        try:
            await client.counter.add("hits", 1)  # after half of the time it is asked elsewhere
            assert client.address == trio.addresses[1]
            assert await client.counter.get("hits") == 2
        finally:
            trio.nodes[0].process.send_signal(signal.SIGCONT)


async def test_a_session_sees_what_it_has_written_at_the_node_that_was_killed(trio: Trio) -> None:
    async with AsyncClient(trio.addresses, timeout=DEADLINE, shuffle=False) as client:
        for number in range(20):
            await client.kv.put(f"key/{number}", "x")
        await trio.kill(0)
        reading = asyncio.create_task(client.kv.get("key/19"))  # at another node, which waits if it has to
        await trio.start(0)
        assert (await reading).value == "x"
        assert len([entry async for entry in client.kv.list("key/")]) == 20


async def test_the_blocking_client_goes_on_as_well(trio: Trio) -> None:
    def work(client: Client, rounds: int) -> Iterator[int]:
        for _ in range(rounds):
            yield client.counter.add("hits", 1)

    with Client(trio.addresses, timeout=DEADLINE, shuffle=False) as client:
        assert await asyncio.to_thread(lambda: list(work(client, 3))) == [1, 2, 3]
        await agree(list(trio.nodes.values()))  # or the session would wait for what the dead node had not passed on
        await trio.kill(0)
        assert await asyncio.to_thread(lambda: list(work(client, 3))) == [4, 5, 6]
        assert client.address == trio.addresses[1]


async def test_when_all_are_gone_the_error_names_them_all(trio: Trio) -> None:
    for number in range(3):
        await trio.kill(number)
    async with AsyncClient(trio.addresses, timeout=1.0) as client:
        with pytest.raises(UnavailableError, match=r"^no node has done it, after ") as caught:
            await client.kv.put("k", "v")
    assert {attempt.address for attempt in caught.value.attempts} == set(trio.addresses)
    assert not caught.value.may_have_taken_effect


async def test_a_watch_outlives_the_connections_that_a_node_closes_for_their_age() -> None:
    config = Config(
        node_id="a",
        peer_listen="127.0.0.1:0",
        client_listen="127.0.0.1:0",
        max_connection_age=1.0,
        max_connection_age_grace=0.1,
    )
    async with Node(config) as node, AsyncClient(node.client_address, sessions=False) as client:
        found: list[str] = []
        kinds = set()
        async with asyncio.timeout(DEADLINE), aclosing(client.kv.watch()) as events:
            number, resumed = 0, 0
            async for event in events:
                kinds.add(event.kind)
                if event.kind is KeyValueEventKind.PUT:
                    found.append(event.key)
                resumed += event.cause == "resumed"
                if resumed == 2:
                    break
                number += 1
                asyncio.get_running_loop().call_later(0.05, write, node, f"{number:04}")
        assert KeyValueEventKind.RESET not in kinds  # it is the same node, which knows what came after the token
        assert found == [f"{number:04}" for number in range(1, len(found) + 1)]


def write(node: Node, key: str) -> None:
    node.engine.put(key, "x", node.scheduler.now())
    node.scheduler.pump()
