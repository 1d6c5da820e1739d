"""Real node processes on loopback: they form clusters, agree, survive kills, refuse strangers and leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Iterator

import pytest

from gossip_grpc.client import AsyncClient
from gossip_grpc.client.results import MemberStatus
from gossip_grpc.config import Config
from gossip_grpc.errors import ConfigError, KeyNotFoundError, UnavailableError
from gossip_grpc.node import Node
from tests.processes import DEADLINE, NodeProcess, agree, cluster

QUICK = ("--gossip-interval", "0.2")

STRATEGIES_AND_SELECTORS = [
    ("push", "random"),
    ("pull", "random"),
    ("push-pull", "random"),
    ("push-pull", "round-robin"),
    ("push-pull", "hypercube"),
    ("push-pull", "zone-aware"),
]


@pytest.mark.parametrize(("strategy", "selector"), STRATEGIES_AND_SELECTORS)
@pytest.mark.parametrize("fanout", ["0", "3"])
async def test_seven_nodes_agree_on_writes_made_everywhere(strategy: str, selector: str, fanout: str) -> None:
    flags = ("--strategy", strategy, "--selector", selector, "--fanout", fanout, "--gossip-interval", "0.1")
    async with cluster(7, *flags) as nodes:
        for number, node in enumerate(nodes):
            async with node.client() as client:
                await client.kv.put(f"key{number}", f"value{number}")
                await client.counter.add("hits", number)
                await client.set.add("names", f"n{number}")
        await agree(nodes)
        for node in nodes:
            async with node.client() as client:
                entries = {entry.key: entry.value async for entry in client.kv.list()}
                assert entries == {f"key{i}": f"value{i}" for i in range(7)}
                assert await client.counter.get("hits") == sum(range(7))
                assert await client.set.get("names") == {f"n{i}" for i in range(7)}


async def test_a_late_joiner_gets_everything() -> None:
    async with cluster(3, *QUICK) as nodes:
        async with nodes[1].client() as client:
            for number in range(300):
                await client.kv.put(f"key{number:03}", "x" * 1000)
        late = await NodeProcess.start("--node-id", "late", "--join", nodes[2].peer_address, *QUICK)
        nodes.append(late)
        await late.logged("ready")
        async with late.client() as client:
            assert len([entry async for entry in client.kv.list()]) == 300
            await client.kv.put("from-late", "hello")
        await agree(nodes, members=4)


async def test_a_seed_that_is_down_does_not_keep_a_node_from_joining() -> None:
    async with cluster(2, *QUICK) as nodes:
        down = f"127.0.0.1:{free_port()}"
        joiner = await NodeProcess.start("--node-id", "j", "--join", down, "--join", nodes[0].peer_address, *QUICK)
        nodes.append(joiner)
        ready = await joiner.logged("ready")
        assert ready["why"].startswith("synced with")
        await agree(nodes, members=3)


async def test_a_node_whose_seeds_are_all_down_waits_and_then_starts_alone() -> None:
    down = f"127.0.0.1:{free_port()}"
    node = await NodeProcess.start("--node-id", "n1", "--join", down, env={"GOSSIP_BOOTSTRAP_WINDOW": "1"})
    try:
        async with AsyncClient(node.client_address, retries=False) as client:
            with pytest.raises(UnavailableError) as caught:
                await client.kv.put("early", "x")
            assert caught.value.reason == "NOT_READY"
            await node.logged("ready", why="no seed answered within the bootstrap window")
            await client.kv.put("now", "x")
    finally:
        await node.close()


async def test_a_killed_node_comes_back_empty_and_nothing_is_lost_or_resurrected() -> None:
    async with cluster(4, *QUICK) as nodes:
        async with nodes[3].client() as client:
            for number in range(50):
                await client.kv.put(f"key{number}", "x")
            await client.counter.add("hits", 7)
        await agree(nodes)
        nodes[3].kill()
        await nodes[3].wait()
        async with nodes[0].client() as client:
            for number in range(0, 50, 2):
                await client.kv.delete(f"key{number}")
            await client.counter.add("hits", 5)
        back = await NodeProcess.start("--node-id", "n3", "--join", nodes[1].peer_address, *QUICK)
        nodes[3] = back
        await back.logged("ready")
        async with back.client() as client:
            await client.counter.add("hits", 1)
            await agree(nodes, members=4)
            assert {entry.key async for entry in client.kv.list()} == {f"key{number}" for number in range(1, 50, 2)}
        for node in nodes:
            async with node.client() as client:
                assert await client.counter.get("hits") == 13
                with pytest.raises(KeyNotFoundError):
                    await client.kv.get("key0")


async def test_nodes_of_two_clusters_refuse_each_other_and_both_logs_say_why() -> None:
    async with cluster(1, "--cluster", "red") as nodes:
        red = nodes[0]
        async with red.client() as client:
            await client.kv.put("secret", "red")
        blue = await NodeProcess.start(
            "--node-id", "b", "--cluster", "blue", "--join", red.peer_address, env={"GOSSIP_BOOTSTRAP_WINDOW": "1"}
        )
        nodes.append(blue)
        refused = await red.logged("refused a peer's message")
        assert "'blue'" in refused["error"]
        assert "'red'" in refused["error"]
        complained = await blue.logged("a peer refused, or answered what it must not")
        assert "FAILED_PRECONDITION" in complained["error"]
        await blue.logged("ready")
        async with blue.client() as client, red.client() as other:
            assert [entry async for entry in client.kv.list()] == []
            assert len(await other.members()) == len(await client.members()) == 1
            assert (await other.status()).gossip.refused > 0


async def test_two_nodes_of_one_id_are_told_in_both_logs() -> None:
    async with cluster(1, "--cluster", "twins") as nodes:
        twin = await NodeProcess.start("--node-id", "n0", "--cluster", "twins", "--join", nodes[0].peer_address)
        nodes.append(twin)
        event = "another node runs under this node's id; stop one of them and give each its own --node-id"
        assert (await nodes[0].logged(event))["address"] == twin.peer_address
        assert (await twin.logged(event))["address"] == nodes[0].peer_address


async def seen_as(node: NodeProcess, member: str, status: MemberStatus) -> None:
    """Wait until a node takes a member for that."""
    async with asyncio.timeout(DEADLINE), node.client() as client:
        while True:
            if (member, status) in [(one.node_id, one.status) for one in await client.members()]:
                return
            await asyncio.sleep(0.05)  # between two looks at a process


async def test_a_killed_node_is_dead_to_the_others_and_alive_again_when_it_comes_back() -> None:
    async with cluster(3) as nodes:
        nodes[2].kill()
        await nodes[2].wait()
        for node in nodes[:2]:
            await seen_as(node, "n2", MemberStatus.DEAD)
            line = await node.logged("member is dead", member="n2")
            assert line["level"] == "warning"
            assert line["cause"].startswith("accused by n")
        nodes[2] = await NodeProcess.start("--node-id", "n2", "--join", nodes[0].peer_address)
        for node in nodes:
            await seen_as(node, "n2", MemberStatus.ALIVE)


async def test_the_older_of_two_processes_of_one_id_steps_down_even_if_there_are_no_others() -> None:
    async with cluster(1) as nodes:
        name = str((await nodes[0].logged("node started"))["node_id"])
        twin = await NodeProcess.start("--node-id", name, "--join", nodes[0].peer_address)
        older, nodes[0] = nodes[0], twin
        try:
            assert await older.wait() == 4
        finally:
            await older.close()
        async with twin.client() as client:
            assert (await client.status()).node_id == name


async def test_the_older_of_two_processes_of_one_id_steps_down_and_says_why() -> None:
    async with cluster(3) as nodes:
        twin = await NodeProcess.start("--node-id", "n2", "--join", nodes[0].peer_address)
        older, nodes[2] = nodes[2], twin
        try:
            assert await older.wait() == 4
            line = await older.logged("stepping down")
            assert line["level"] == "error"
            assert "a newer node runs as n2, as " in line["error"]
            assert "give each node its own --node-id" in line["error"]
        finally:
            await older.close()
        for node in nodes:
            await seen_as(node, "n2", MemberStatus.ALIVE)
        async with twin.client() as client:
            await client.kv.put("still", "here")


async def test_sigterm_leaves_in_order_and_exits_0() -> None:
    async with cluster(3, *QUICK) as nodes:
        nodes[2].terminate()
        assert await nodes[2].wait() == 0
        assert nodes[2].other == []
        stopped = await nodes[2].logged("node stopped")
        assert stopped["told"] >= 2
        async with nodes[0].client() as client:
            left = next(member for member in await client.members() if member.node_id == "n2")
            assert left.status is MemberStatus.LEFT
            assert (await client.status()).members == 2


async def test_ctrl_c_of_a_node_alone_exits_0_without_a_traceback() -> None:
    async with cluster(1) as nodes:
        nodes[0].process.send_signal(2)
        assert await nodes[0].wait() == 0
        assert nodes[0].other == []


async def test_leave_by_the_api_stops_the_process() -> None:
    async with cluster(2, *QUICK) as nodes:
        async with nodes[1].client() as client:
            assert await client.leave() == 1
        assert await nodes[1].wait() == 0


async def test_nothing_is_logged_per_round_at_info() -> None:
    async with cluster(2, "--gossip-interval", "0.02") as nodes:
        before = len(nodes[0].log)
        async with nodes[0].client() as client, asyncio.timeout(DEADLINE):
            start = (await client.status()).gossip.rounds
            while (await client.status()).gossip.rounds < start + 20:
                pass
        assert nodes[0].log[before:] == []


async def test_a_port_in_use_is_a_clear_error_and_exit_2() -> None:
    with listening() as port:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gossip_grpc", "node", "--client-listen", f"127.0.0.1:{port}"),
            *("--peer-listen", "127.0.0.1:0"),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(DEADLINE):
            _, stderr = await process.communicate()
    assert process.returncode == 2
    assert f"client_listen: cannot listen on 127.0.0.1:{port}: Address already in use" in stderr.decode()
    assert "Traceback" not in stderr.decode()


async def test_grpcurl_lists_the_services_and_calls_them(grpcurl: str) -> None:
    async with cluster(1, "--cluster", "demo") as nodes:
        node = nodes[0]
        services = await output(grpcurl, "-plaintext", node.client_address, "list")
        assert {
            "gossip.v1.ClusterService",
            "gossip.v1.CounterService",
            "gossip.v1.EventService",
            "gossip.v1.KeyValueService",
            "gossip.v1.SetService",
            "grpc.health.v1.Health",
        } <= set(services.split())
        await output(
            *(grpcurl, "-plaintext", "-d", '{"key": "greeting", "value": {"text": "hello"}}', node.client_address),
            "gossip.v1.KeyValueService/Put",
        )
        got = json.loads(
            await output(
                *(grpcurl, "-plaintext", "-d", '{"key": "greeting"}', node.client_address),
                "gossip.v1.KeyValueService/Get",
            )
        )
        assert got["entry"]["value"] == {"text": "hello"}
        health = await output(
            grpcurl, "-plaintext", "-d", '{"service": "gossip.v1.KeyValueService"}', node.client_address,
            "grpc.health.v1.Health/Check",
        )  # fmt: skip
        assert "SERVING" in health
        onlooker = '{"sender": {"cluster": "demo"}, "digest": {}}'
        pulled = json.loads(
            await output(grpcurl, "-plaintext", "-d", onlooker, node.peer_address, "gossip.v1.PeerService/Pull")
        )
        assert pulled["delta"]["columns"]["texts"] == ["hello"]


async def test_two_embedded_nodes_share_what_either_writes() -> None:
    async with Node(config("a")) as first, Node(config("b", first.peer_address)) as second:
        await second.wait_ready()
        await first.kv.put("key", b"bytes")
        await second.counter.add("hits", -2)
        async with asyncio.timeout(DEADLINE):
            while first.engine.digest()[1] != second.engine.digest()[1]:
                await first.scheduler.progress(1)
        assert (await second.kv.get("key")).value == b"bytes"
        assert await first.counter.get("hits") == -2
        assert [member.node_id for member in await first.members()] == ["a", "b"]
        assert (await second.status()).ready


async def test_an_embedded_node_raises_what_a_client_raises() -> None:
    async with Node(config("a")) as node, AsyncClient(node.client_address) as client:
        for verbs in (node, client):
            with pytest.raises(KeyNotFoundError):
                await verbs.kv.get("missing")


async def test_an_embedded_node_on_a_port_in_use_raises_config_error() -> None:
    with listening() as port, pytest.raises(ConfigError, match="peer_listen: cannot listen"):
        async with Node(Config(node_id="a", peer_listen=f"127.0.0.1:{port}", client_listen="127.0.0.1:0")):
            pass


def config(node_id: str, *join: str) -> Config:
    return Config(node_id=node_id, peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", join=join)


async def output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE):
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port
