"""Real nodes with disks: killed under load, restored from backups, stopped all together.

`--kills N` says how many times a node is killed; the default is few, for every run of the tests.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gossip_grpc.client import AsyncClient, Dot
from gossip_grpc.errors import GossipError
from gossip_grpc.storage import copies
from tests.processes import DEADLINE, NodeProcess, agree

WRITERS = 4
"""Clients of each node that write at a time."""

CHOICES = (0, 1, 2, 2, 2, 3)
"""What they write: to the counter, to the set, a key in memory, a key on disk."""

KEPT_BUSY = 0.6
"""Most seconds of load before a node is killed."""


class Fleet:
    """Nodes n0, n1, ... with a directory each, at addresses that stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: dict[str, NodeProcess] = {}
        self.flags: dict[str, tuple[str, ...]] = {}

    async def start(self, name: str, *flags: str) -> NodeProcess:
        """Start a node, again where it was before."""
        if name in self.nodes:
            await self.nodes[name].close()
        directory = ("--node-id", name, "--data-dir", str(self.path / name))
        if name in self.flags:
            node = await NodeProcess.start(*directory, *self.flags[name], *flags, listen=False)
        else:
            node = await NodeProcess.start(*directory, *flags)
            self.flags[name] = ("--peer-listen", node.peer_address, "--client-listen", node.client_address)
        self.nodes[name] = node
        return node

    async def agree(self, *, members: int | None = None) -> None:
        """Wait until all hold the same."""
        await agree(list(self.nodes.values()), members=members)


@asynccontextmanager
async def fleet(path: Path, count: int) -> AsyncIterator[Fleet]:
    """A cluster of nodes with disks; they join by n0, and find each other again without."""
    made = Fleet(path)
    try:
        first = await made.start("n0")
        await asyncio.gather(*(made.start(f"n{i}", "--join", first.peer_address) for i in range(1, count)))
        await made.agree(members=count)
        yield made
    finally:
        await asyncio.gather(*(node.close() for node in made.nodes.values()))


class Load:
    """Writers that note what was acknowledged."""

    def __init__(self, addresses: list[str], seed: int) -> None:
        self.values: dict[str, str] = {}
        self.dots: Counter[Dot] = Counter()
        self.counted = 0
        self.uncertain = 0
        self.elements: set[str | bytes] = set()
        self._rng = random.Random(seed)
        self._written = 0
        self._tasks = [asyncio.create_task(self._write(address)) for address in addresses for _ in range(WRITERS)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError(f"a writer has ended: {result!r}")

    async def _write(self, address: str) -> None:
        async with AsyncClient(address, timeout=10) as client:
            while True:
                self._written += 1
                name = f"w{self._written}"
                choice = self._rng.choice(CHOICES)
                try:
                    match choice:
                        case 0:
                            await self._count(client)
                        case 1:
                            await client.set.add("elements", name)
                            self.elements.add(name)
                        case 2:
                            session = await client.kv.put(f"memory/{name}", name, durability="memory")
                            self.dots.update(session.dots)
                        case _:
                            session = await client.kv.put(f"disk/{name}", name)
                            self.dots.update(session.dots)
                            self.values[f"disk/{name}"] = name
                except GossipError as error:
                    # Refused before anything was changed. In all other cases nobody knows.
                    if choice == 0 and (error.reason is not None or "connection refused" in str(error)):
                        self.uncertain -= 1
                    await asyncio.sleep(0.01)  # the node is down, or not ready; nothing tells when it is

    async def _count(self, client: AsyncClient) -> None:
        self.uncertain += 1  # until it is answered
        await client.counter.add("count", 1)
        self.uncertain -= 1
        self.counted += 1


async def test_what_was_acknowledged_outlives_sigkill_under_load(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills: int = request.config.getoption("--kills")
    seed: int = request.config.getoption("--first-seed")
    rng = random.Random(seed)
    async with fleet(tmp_path, 3) as nodes:
        load = Load([node.client_address for node in nodes.nodes.values()], seed)
        generations = {name: (await node.logged("node started"))["generation"] for name, node in nodes.nodes.items()}
        for _ in range(kills):
            await asyncio.sleep(rng.random() * KEPT_BUSY)  # a random moment is the point
            victims = rng.sample(sorted(nodes.nodes), rng.choice([1, 1, 1, 2, 3]))
            for name in victims:
                nodes.nodes[name].kill()
            started = await asyncio.gather(*(nodes.start(name) for name in victims))
            for name, node in zip(victims, started, strict=True):
                assert (await node.logged("node started"))["generation"] == generations[name]
                if rng.random() < 0.8:  # else it may be killed again before it is ready
                    await node.logged("ready")
        await asyncio.gather(*(node.logged("ready") for node in nodes.nodes.values()))
        await asyncio.sleep(KEPT_BUSY)
        await load.stop()
        await nodes.agree()
        count = 0
        for node in nodes.nodes.values():
            async with node.client() as client:
                held = {entry.key: entry.value async for entry in client.kv.list("disk/", page_size=10_000)}
                missing = load.values.items() - held.items()
                assert not missing, f"{len(missing)} writes acknowledged with DISK are lost: {sorted(missing)[:5]}"
                assert load.elements <= await client.set.get("elements")
                count = await client.counter.get("count")
                assert load.counted <= count <= load.counted + load.uncertain
                status = await client.status()
                assert status.gossip.backstop_heals == 0
                assert len(status.coverage) == len(nodes.nodes), "a node had to begin another life"
        twice = [dot for dot, times in load.dots.items() if times > 1]
        assert not twice, f"two writes were named {twice[:5]}"
        assert load.values
        print(  # noqa: T201  for whoever runs many
            f"{kills} kills, seed {seed}: {len(load.values):,} values and {len(load.elements):,} elements are there, "
            f"the counter is {count:,} of {load.counted:,} acknowledged and {load.uncertain:,} unanswered, "
            f"{len(load.dots):,} dots are named once"
        )


async def test_a_cluster_that_was_stopped_forms_again_from_its_disks_without_seeds(tmp_path: Path) -> None:
    async with fleet(tmp_path, 3) as nodes:
        async with nodes.nodes["n1"].client() as client:
            await client.kv.put("x", "1")
        await nodes.agree()
        for node in nodes.nodes.values():
            node.terminate()
        assert [await node.wait() for node in nodes.nodes.values()] == [0, 0, 0]
        await asyncio.gather(*(nodes.start(name) for name in nodes.nodes))
        await nodes.agree(members=3)
        async with nodes.nodes["n2"].client() as client:
            assert (await client.kv.get("x")).value == "1"


async def test_a_node_that_was_stopped_in_order_goes_on_where_it_was(tmp_path: Path) -> None:
    async with fleet(tmp_path, 1) as nodes:
        async with nodes.nodes["n0"].client() as client:
            first = await client.kv.put("x", "1")
        nodes.nodes["n0"].terminate()
        await nodes.nodes["n0"].wait()
        node = await nodes.start("n0")
        assert "as it was left" in (await node.logged("node started"))["storage"]
        async with node.client() as client:
            second = await client.kv.put("x", "2")
        # In between it has said that it leaves, and that it is back.
        assert second.dots == (Dot(first.dots[0].origin, first.dots[0].sequence + 3),)


@pytest.mark.parametrize("marked", [True, False], ids=["by the command", "by copying files"])
async def test_a_restored_node_takes_a_new_generation_and_loses_nothing_of_its_peers(
    tmp_path: Path, marked: bool
) -> None:
    async with fleet(tmp_path, 2) as nodes:
        async with nodes.nodes["n0"].client() as client:
            await client.kv.put("old", "1")
            with (tmp_path / "backup").open("wb") as file:
                async for data in client.backup():
                    file.write(data)
            await client.kv.put("old", "2")
            await client.kv.put("new", "3")
            await client.counter.add("n", 5)
        await nodes.agree()
        nodes.nodes["n0"].terminate()
        await nodes.nodes["n0"].wait()
        (tmp_path / "n0").rename(tmp_path / "gone")
        if marked:
            copies.restore(tmp_path / "backup", tmp_path / "n0")
        else:
            (tmp_path / "n0").mkdir()
            (tmp_path / "backup").rename(tmp_path / "n0" / "state.db")
        node = await nodes.start("n0")
        await node.logged("ready")
        async with node.client() as client:
            await client.kv.put("mine", "4")
            await client.counter.add("n", 2)
        await nodes.agree(members=2)
        for node in nodes.nodes.values():
            async with node.client() as client:
                found = {entry.key: entry.value async for entry in client.kv.list()}
                assert found == {"old": "2", "new": "3", "mine": "4"}
                assert await client.counter.get("n") == 7
                status = await client.status()
                assert len([origin for origin in status.coverage if origin.node_id == "n0"]) == 2


async def test_a_second_process_on_a_directory_ends_with_a_reason(tmp_path: Path) -> None:
    async with fleet(tmp_path, 1) as nodes:
        directory = str(tmp_path / "n0")
        with pytest.raises(AssertionError, match="in use by another process"):
            await NodeProcess.start("--node-id", "n0", "--data-dir", directory)
        async with asyncio.timeout(DEADLINE), nodes.nodes["n0"].client() as client:
            await client.kv.put("x", "1")
