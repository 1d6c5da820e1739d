"""The examples of embedding run as they are, share what they write, stop in order, and say why they cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from gossip_grpc import BlockingNode, Config, ConfigError, KeyNotFoundError, UnavailableError
from gossip_grpc.client import AsyncClient, Client, KeyValueEventKind, MemberStatus
from tests.processes import DEADLINE
from tests.test_client_processes import free_ports

EXAMPLES = Path(__file__).parent.parent / "examples" / "embedding"
APPS = ["fastapi_app", "starlette_app"]
PROGRAMS = ["asyncio_program", "blocking_program"]


class Program:
    """An example in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, text: str) -> str:
        """Wait for a line that holds a text, in either output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            async for raw in self.process.stdout:
                self.lines.append(raw.decode().rstrip())
                if text in self.lines[-1]:
                    return self.lines[-1]
        raise AssertionError(f"it ended without {text!r}: {self.lines}")

    async def end(self) -> int:
        """Read on to its end; the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            async for raw in self.process.stdout:
                self.lines.append(raw.decode().rstrip())
            return await self.process.wait()


@asynccontextmanager
async def running(*command: str, **env: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=EXAMPLES,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def flags(node_id: str, peer: str, client: str, *join: str) -> list[str]:
    return [
        *("--node-id", node_id, "--peer-listen", peer, "--client-listen", client),
        *(flag for address in join for flag in ("--join", address)),
    ]


def variables(node_id: str, peer: str, client: str, *join: str) -> dict[str, str]:
    return {
        "GOSSIP_NODE_ID": node_id,
        "GOSSIP_PEER_LISTEN": peer,
        "GOSSIP_CLIENT_LISTEN": client,
        "GOSSIP_JOIN": ",".join(join),
    }


async def status_of(address: str, node_id: str) -> MemberStatus:
    async with AsyncClient(address) as client:
        return {member.node_id: member.status for member in await client.members()}[node_id]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_a_program_works_with_others_and_leaves_in_order(program: str, ending: signal.Signals) -> None:
    peers, clients = free_ports(2), free_ports(2)
    async with (
        running("asyncio_program.py", *flags("a", peers[0], clients[0])) as first,
        running(f"{program}.py", *flags("b", peers[1], clients[1], peers[0])) as second,
    ):
        await first.until("jobs done")
        await second.until("jobs done")
        second.process.send_signal(ending)
        assert await second.end() == 0
        assert second.lines[-1] == "left the cluster"
        assert await status_of(clients[0], "b") is MemberStatus.LEFT
        first.process.send_signal(ending)
        assert await first.end() == 0


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_whose_port_is_taken_says_so(program: str) -> None:
    ports = free_ports(3)
    async with running("asyncio_program.py", *flags("a", ports[0], ports[1])) as first:
        await first.until("clients may ask")
        async with running(f"{program}.py", *flags("b", ports[0], ports[2])) as second:
            assert await second.end() == 1
    advice = "give another address, or stop what uses this one"
    said = [line for line in second.lines if line.startswith("peer_listen")]
    assert said == [f"peer_listen: cannot listen on {ports[0]}: Address already in use; {advice}"]
    assert not any("Traceback" in line for line in second.lines)


def ask(address: str, path: str, method: str = "GET") -> Any:
    with closing(urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", method=method))) as answer:
        return json.load(answer)


async def asked(address: str, path: str, method: str = "GET") -> Any:
    return await asyncio.to_thread(ask, address, path, method)


def serve(app: str, port: str) -> list[str]:
    return ["-m", "uvicorn", f"{app}:app", "--host", "127.0.0.1", "--port", port.rpartition(":")[2]]


async def test_what_one_fastapi_application_writes_another_one_reads() -> None:
    http, peers, clients = free_ports(2), free_ports(2), free_ports(2)
    async with (
        running(*serve("fastapi_app", http[0]), **variables("a", peers[0], clients[0])) as first,
        running(*serve("fastapi_app", http[1]), **variables("b", peers[1], clients[1], peers[0])) as second,
    ):
        await first.until("Uvicorn running")
        await second.until("Uvicorn running")
        assert await asked(http[0], "/greeting?value=hello", "PUT") == {"key": "greeting", "value": "hello"}
        async with asyncio.timeout(DEADLINE):
            while (await found(http[1], "/greeting")) != {"key": "greeting", "value": "hello"}:  # noqa: ASYNC110 - processes set no event
                await asyncio.sleep(0.02)
        second.process.send_signal(signal.SIGTERM)
        await second.end()
        assert any("Application shutdown complete" in line for line in second.lines)
        assert await status_of(clients[0], "b") is MemberStatus.LEFT


async def found(address: str, path: str) -> Any:
    try:
        return await asked(address, path)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise


async def test_a_starlette_application_counts_and_knows_its_members() -> None:
    http, peer, client = free_ports(3)
    async with running(*serve("starlette_app", http), **variables("a", peer, client)) as app:
        await app.until("Uvicorn running")
        assert [await asked(http, "/hits") for _ in range(2)] == [{"hits": 1}, {"hits": 2}]
        assert await asked(http, "/members") == {"a": "alive"}
        app.process.send_signal(signal.SIGINT)
        await app.end()
        assert any("Application shutdown complete" in line for line in app.lines)


@pytest.mark.parametrize("app", APPS)
async def test_an_application_whose_nodes_port_is_taken_says_so_and_ends(app: str) -> None:
    http, peer, client, other = free_ports(4)
    async with running("asyncio_program.py", *flags("a", peer, client)) as first:
        await first.until("clients may ask")
        async with running(*serve(app, http), **variables("b", peer, other)) as second:
            assert await second.end() == 3
    assert any(f"peer_listen: cannot listen on {peer}: Address already in use" in line for line in second.lines)


# BlockingNode

CONFIG = Config(node_id="a", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", leave_timeout=0.1)


def test_a_node_in_a_thread_has_the_verbs_of_the_client() -> None:
    with BlockingNode(CONFIG) as node:
        node.wait_ready()
        node.kv.put("k", "v")
        assert node.kv.get("k").value == "v"
        assert [entry.key for entry in node.kv.list()] == ["k"]
        assert node.counter.add("c", 2) == 2
        assert node.set.add("s", "x") == 1
        assert node.set.get("s") == {"x"}
        assert [member.node_id for member in node.members()] == ["a"]
        with pytest.raises(KeyNotFoundError):
            node.kv.get("missing")
        with Client(node.client_address) as client:
            assert client.kv.get("k").value == "v"
        assert node.peer_address != node.client_address


def test_a_stream_of_it_ends_when_it_is_closed() -> None:
    with BlockingNode(CONFIG) as node:
        with closing(node.kv.watch()) as events:
            assert next(events).kind is KeyValueEventKind.CURRENT
            node.kv.put("k", "v")
            assert next(events).key == "k"
        assert sum(1 for _ in node.backup()) > 0


def test_threads_share_it() -> None:
    with BlockingNode(CONFIG) as node:
        threads = [threading.Thread(target=node.counter.add, args=("c", 1)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert node.counter.get("c") == 20


def test_one_that_cannot_start_raises_what_is_wrong() -> None:
    with BlockingNode(CONFIG) as node:
        taken = Config(node_id="b", peer_listen=node.peer_address, client_listen="127.0.0.1:0")
        other = BlockingNode(taken)
        with pytest.raises(ConfigError, match=r"peer_listen: cannot listen on .*: Address already in use"):
            other.start()
        other.stop()


@pytest.mark.parametrize("end", [BlockingNode.stop, BlockingNode.leave], ids=["stopped", "left"])
def test_one_that_has_ended_says_so_and_can_be_stopped_again(end: Callable[[BlockingNode], object]) -> None:
    node = BlockingNode(CONFIG)
    with pytest.raises(UnavailableError, match="the node does not run"):
        node.kv.get("k")
    node.start()
    end(node)
    node._thread.join(DEADLINE)
    with pytest.raises(UnavailableError, match="the node does not run"):
        node.kv.get("k")
    node.stop()
    node.stop()


def test_what_waits_when_it_stops_is_told_so() -> None:
    node = BlockingNode(CONFIG)
    node.start()
    told = threading.Event()
    errors: list[Exception] = []
    events = node.kv.watch()
    next(events)

    def wait() -> None:
        try:
            next(events)
        except UnavailableError as error:
            errors.append(error)
        told.set()

    threading.Thread(target=wait, daemon=True).start()
    node.stop()
    assert told.wait(DEADLINE)
    assert len(errors) == 1
