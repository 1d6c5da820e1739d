"""The listeners of a node as tools and clients of any language meet them.

Health by service, reflection, channelz, pings, dead clients, and connections that are given up for their age.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gossip_grpc import listeners
from gossip_grpc.client import AsyncClient, Client, KeyValueEventKind
from gossip_grpc.config import Config
from gossip_grpc.node import Node
from tests.processes import DEADLINE, NodeProcess
from tests.test_node import free_port, output

SERVICES = {
    "gossip.v1.ClusterService",
    "gossip.v1.CounterService",
    "gossip.v1.EventService",
    "gossip.v1.KeyValueService",
    "gossip.v1.SetService",
}
TOOLS = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def config(**changes: Any) -> Config:
    settings = {"node_id": "a", "peer_listen": "127.0.0.1:0", "client_listen": "127.0.0.1:0", "leave_timeout": 0}
    return Config(**{**settings, **changes})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  nodes tell nobody
            await asyncio.sleep(0.01)


# Reflection


async def test_grpcurl_lists_and_describes_all_services_of_both_listeners(grpcurl: str) -> None:
    node = await NodeProcess.start()
    try:
        for address, services, message in (
            (node.client_address, SERVICES | TOOLS, "gossip.v1.KeyValueServicePutRequest"),
            (node.peer_address, {"gossip.v1.PeerService"} | TOOLS, "gossip.v1.Digest"),
        ):
            assert set((await output(grpcurl, "-plaintext", address, "list")).split()) == services
            for service in services:
                described = await output(grpcurl, "-plaintext", address, "describe", service)
                assert described.startswith(f"{service} is a service:\n")
                assert "rpc " in described
            assert (await output(grpcurl, "-plaintext", address, "describe", message)).startswith(
                f"{message} is a message:\n"
            )
    finally:
        await node.close()


async def test_grpcurl_shows_the_reason_and_the_field_of_an_error(grpcurl: str) -> None:
    node = await NodeProcess.start()
    try:
        process = await asyncio.create_subprocess_exec(
            *(grpcurl, "-plaintext", "-format-error", node.client_address, "gossip.v1.KeyValueService/Get"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(DEADLINE):
            _, stderr = await process.communicate()
        status = json.loads(stderr)
        assert [detail["@type"].rpartition(".")[2] for detail in status["details"]] == ["ErrorInfo", "BadRequest"]
        assert status["details"][0]["reason"] == "INVALID_ARGUMENT"
        assert status["details"][1]["field_violations"][0]["field"] == "key"
    finally:
        await node.close()


# Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def health(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield health_pb2_grpc.HealthStub(channel)  # its types know no methods


async def check(address: str, service: str) -> Any:
    async with health(address) as stub:
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)).status


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
async def test_a_service_is_serving_from_the_first_sync_until_the_node_stops(service: str) -> None:
    seed = config(node_id="seed")
    joining = config(join=(f"127.0.0.1:{free_port()}",), bootstrap_window=3600)
    async with Node(seed) as other, Node(joining) as node, health(node.client_address) as stub:
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        assert (await watch.read()).status == NOT_SERVING
        assert await check(node.client_address, service) == NOT_SERVING
        node.engine.set_seeds([other.peer_address], node.scheduler.now())
        node.scheduler.pump()
        assert (await watch.read()).status == SERVING
        assert await check(node.client_address, service) == SERVING
        await node.leave()
        assert (await watch.read()).status == NOT_SERVING
        assert await check(node.client_address, service) == NOT_SERVING


@pytest.mark.parametrize("service", ["", "gossip.v1.PeerService"])
async def test_the_peer_listener_has_a_health_of_its_own_which_ends_when_the_node_stops(service: str) -> None:
    joining = config(join=(f"127.0.0.1:{free_port()}",), bootstrap_window=3600)
    async with Node(joining) as node, health(node.peer_address) as stub:
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        assert (await watch.read()).status == SERVING
        assert await check(node.peer_address, service) == SERVING
        assert await check(node.client_address, "") == NOT_SERVING
        await node.leave()
        assert (await watch.read()).status == NOT_SERVING


async def test_a_node_that_steps_down_is_not_serving_while_it_stops() -> None:
    async with Node(config()) as node, health(node.client_address) as stub:
        await node.wait_ready()
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        while (await watch.read()).status != SERVING:
            pass
        node._step_down("a newer node runs as a")
        stopping = asyncio.create_task(node.stop())
        assert (await watch.read()).status == NOT_SERVING
        await stopping


async def test_an_unknown_service_has_no_health() -> None:
    async with Node(config()) as node:
        for address, service in (
            (node.client_address, "gossip.v1.Nobody"),
            (node.client_address, "gossip.v1.PeerService"),
            (node.peer_address, "gossip.v1.KeyValueService"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(address, service)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            async with health(address) as stub:
                watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
                watch.cancel()


# Channelz


def channelz(channel: grpc.aio.Channel) -> Any:
    return channelz_pb2_grpc.ChannelzStub(cast("grpc.Channel", channel))  # its types know blocking channels only


async def test_channelz_tells_of_both_listeners_and_of_who_is_connected() -> None:
    async with Node(config(channelz="on")) as node, grpc.aio.insecure_channel(node.client_address) as channel:
        stub = channelz(channel)
        servers = (await stub.GetServers(channelz_pb2.GetServersRequest(), timeout=DEADLINE)).server
        listening = [socket.name for server in servers for socket in server.listen_socket]
        assert len(listening) >= 2, "both listeners"
        connections = [await connections_of(stub, server.ref.server_id) for server in servers]
        [ours] = [connection for found in connections for connection in found]
        assert ours.remote.tcpip_address.port > 0
        assert ours.data.streams_started > 0


async def connections_of(stub: Any, server: int) -> list[Any]:
    request = channelz_pb2.GetServerSocketsRequest(server_id=server)
    refs = (await stub.GetServerSockets(request, timeout=DEADLINE)).socket_ref
    requests = [channelz_pb2.GetSocketRequest(socket_id=ref.socket_id) for ref in refs]
    return [(await stub.GetSocket(request, timeout=DEADLINE)).socket for request in requests]


async def test_channelz_is_off_unless_it_is_asked_for_and_only_for_clients() -> None:
    async with Node(config()) as silent, Node(config(node_id="b", channelz="on")) as node:
        for address in (silent.client_address, silent.peer_address, node.peer_address):
            async with grpc.aio.insecure_channel(address) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channelz(channel).GetServers(channelz_pb2.GetServersRequest())
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_grpcurl_finds_channelz_where_it_is_on(grpcurl: str) -> None:
    node = await NodeProcess.start(env={"GOSSIP_CHANNELZ": "on"})
    try:
        services = await output(grpcurl, "-plaintext", node.client_address, "list")
        assert set(services.split()) == SERVICES | TOOLS | {"grpc.channelz.v1.Channelz"}
        method = "grpc.channelz.v1.Channelz/GetServers"
        assert len(json.loads(await output(grpcurl, "-plaintext", node.client_address, method))["server"]) == 2
    finally:
        await node.close()


# Pings


@pytest.mark.parametrize("listener", ["client", "peer"])
async def test_a_client_may_ping_each_second_without_a_call(listener: str) -> None:
    options = (
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with Node(config()) as node:
        address = node.client_address if listener == "client" else node.peer_address
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
            assert channel.get_state() is grpc.ChannelConnectivity.READY
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):  # gRPC sends away who pings too often at the third ping
                    await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


class Relay:
    """A stretch of network between clients and a node, which can be cut: then it is silent, and no end is told."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.connections = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, address: str) -> AsyncIterator[Relay]:
        relay = cls(address)
        server = await asyncio.start_server(relay._connect, "127.0.0.1", 0)
        relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            server.close()
            for task in relay._tasks:
                task.cancel()
            await asyncio.gather(*relay._tasks, return_exceptions=True)

    def cut(self) -> None:
        self._whole.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection(self._host, self._port)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self._whole.wait()
                target.write(data)
            await self._whole.wait()
        except ConnectionError:
            pass
        finally:
            target.close()


async def test_a_watcher_behind_a_cut_network_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "KEEPALIVE_TIME", 0.2)
    monkeypatch.setattr(listeners, "KEEPALIVE_TIMEOUT", 0.2)
    async with (
        Node(config(max_watchers=1)) as node,
        Relay.to(node.client_address) as relay,
        AsyncClient(relay.address) as lost,
        AsyncClient(node.client_address) as client,
        aclosing(lost.kv.watch()) as events,
        aclosing(client.kv.watch()) as others,
    ):
        await anext(events)
        assert node.watchers.count == 1
        relay.cut()
        await until(lambda: node.watchers.count == 0)
        await anext(others)


# The age of connections


async def test_calls_go_on_without_an_error_while_connections_are_renewed_for_their_age() -> None:
    async with (
        Node(config(max_connection_age=0.3)) as node,
        Relay.to(node.client_address) as relay,
        AsyncClient(relay.address, timeout=DEADLINE) as client,
        asyncio.timeout(DEADLINE),
    ):
        calls = 0
        while relay.connections < 4:
            calls += 1
            assert await client.counter.add("calls", 1) == calls


async def test_without_an_age_a_connection_stays() -> None:
    options = dict(listeners.client_options(config(max_connection_age=0, max_connection_age_grace=5)))
    assert not [name for name in options if "age" in name.split(".")[-1].split("_")]


async def test_who_watches_stays_connected_beyond_the_age_if_there_is_no_grace() -> None:
    async with (
        Node(config(max_connection_age=0.2)) as node,
        Relay.to(node.client_address) as relay,
        AsyncClient(relay.address) as client,
        aclosing(client.kv.watch()) as events,
        asyncio.timeout(DEADLINE),
    ):
        assert (await anext(events)).kind is KeyValueEventKind.CURRENT
        while relay.connections < 4:  # the first is the watcher's, for it has one of its own from its age on
            await client.status()
        await node.kv.put("k", "v")
        assert (await anext(events)).kind is KeyValueEventKind.PUT


async def test_a_watch_that_is_cut_off_for_its_age_resumes_and_misses_nothing() -> None:
    aged = config(max_connection_age=0.3, max_connection_age_grace=0.3)
    async with Node(aged) as node, Relay.to(node.client_address) as relay, AsyncClient(relay.address) as client:
        await node.kv.put("before", "x")
        async with aclosing(client.kv.watch()) as events, asyncio.timeout(DEADLINE):
            assert [(await anext(events)).kind for _ in range(2)] == [
                KeyValueEventKind.SNAPSHOT,
                KeyValueEventKind.CURRENT,
            ]
            number = resumed = 0
            while resumed < 3:
                await node.kv.put("k", str(number))
                while (event := await anext(events)).kind is KeyValueEventKind.CURRENT:
                    assert event.cause == "resumed"
                    resumed += 1
                assert event.entry is not None
                assert event.entry.value == str(number)
                number += 1


@pytest.mark.parametrize("reconnect", [60.0, 0.0])
async def test_a_node_that_ends_connections_for_their_age_is_no_node_that_is_gone(reconnect: float) -> None:
    aged = config(max_connection_age=0.2, max_connection_age_grace=0.2)

    def causes(address: str) -> list[str]:
        with Client(address) as client:
            events = client.watch(reconnect=reconnect)
            found: list[str] = []
            while len(found) < 2:
                event = next(events)
                if event.member is None:
                    found.append(event.cause)
            events.close()
            return found

    async with Node(aged) as node:
        assert await asyncio.to_thread(causes, node.client_address) == ["these are all members", "resumed"]
