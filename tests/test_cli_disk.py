"""The commands of a node's state in files, with a real node: backup, restore, inspect, and --durability."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from unittest.mock import ANY

import pytest
from click.testing import CliRunner, Result

from gossip_grpc.cli.root import root
from tests.processes import NodeProcess

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[NodeProcess]:
    """A node with a data directory, `data`, and some content."""
    node = await NodeProcess.start("--node-id", "a", "--data-dir", str(tmp_path / "data"))
    try:
        async with node.client() as client:
            await client.kv.put("greeting", "hello")
            await client.kv.put("logo", b"\x00\xff")
            await client.kv.put("gone", "1")
            await client.kv.delete("gone")
            await client.counter.add("hits", 5)
            await client.set.add("fruit", "apple")
        yield node
    finally:
        await node.close()


@pytest.fixture
async def memory() -> AsyncIterator[NodeProcess]:
    """A node without a data directory."""
    node = await NodeProcess.start("--node-id", "m")
    try:
        yield node
    finally:
        await node.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    async def run(*args: str, at: NodeProcess | None = None, code: int = 0) -> Result:
        env = {"GOSSIP_ADDRESS": at.client_address if at else None}
        result = await asyncio.to_thread(CliRunner().invoke, root, args, env=env)
        assert result.exit_code == code, result.output
        return result

    return run


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_a_backup_is_restored_and_a_node_starts_on_it(disk: NodeProcess, run: Run, tmp_path: Path) -> None:
    assert "bytes written to b.db" in (await run("backup", "b.db", at=disk)).output
    await run("backup", "b.db", at=disk, code=2)
    written = json.loads((await run("backup", "b.db", "--force", "--output", "json", at=disk)).output)
    assert written == {"file": "b.db", "bytes": (tmp_path / "b.db").stat().st_size}
    assert _names(tmp_path) == {"b.db", "data"}  # nothing unfinished is left
    restored = await run("restore", "b.db", "--data-dir", "new", "--node-id", "c")
    assert restored.output == "new is ready for node c of cluster default\n"
    assert "is not empty" in (await run("restore", "b.db", "--data-dir", "new", code=2)).output
    assert (
        "--node-id is 'no name'"
        in (await run("restore", "b.db", "--data-dir", "x", "--node-id", "no name", code=2)).output
    )
    node = await NodeProcess.start("--node-id", "c", "--data-dir", "new")
    try:
        await node.logged("ready")
        async with node.client() as client:
            assert (await client.kv.get("greeting")).value == "hello"
            assert await client.counter.get("hits") == 5
    finally:
        await node.close()


async def test_a_node_without_a_disk_can_be_backed_up_too(memory: NodeProcess, run: Run) -> None:
    async with memory.client() as client:
        await client.kv.put("x", "1")
        await client.kv.put("y", "2", durability="memory")
    await run("backup", "b.db", at=memory)
    found = json.loads((await run("inspect", "b.db", "--output", "json")).output)
    assert found["node_id"] == "m"
    assert found["records"]["register"] == 2
    await run("restore", "b.db", "--data-dir", "new", "--output", "json")
    async with memory.client() as client:
        await client.kv.put("z", "3")  # no journal is left behind


async def test_a_backup_of_nobody_leaves_no_file(run: Run, tmp_path: Path) -> None:
    await run("backup", "b.db", "--address", "127.0.0.1:1", code=3)
    assert _names(tmp_path) == set()


async def test_a_backup_that_cannot_be_written_says_so_and_why(memory: NodeProcess, run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "b.db"
    failed = await run("backup", str(missing), "--address", memory.client_address, code=4)
    assert failed.output == f"Error: {missing} cannot be written: no such file or directory\n"


async def test_inspect_tells_what_is_inside(disk: NodeProcess, run: Run) -> None:
    shown = [line.split(maxsplit=1) for line in (await run("inspect", "data")).output.splitlines()]
    assert ["node", ANY] in shown
    assert ["state", "running, or was killed"] in shown
    assert ["registers", "2"] in shown
    assert ["tombstones", "1"] in shown
    found = json.loads((await run("inspect", "data", "--output", "json")).output)
    assert found["cluster"] == "default"
    assert [member["node_id"] for member in found["members"]] == ["a"]
    listed = json.loads((await run("inspect", "data", "--records", "--output", "json")).output)
    contents = {(one["kind"], str(one["slot"])): one["content"] for one in listed}
    assert contents["register", "greeting"] == "hello"
    assert contents["register", "logo"] == {"base64": "AP8="}
    assert contents["register", "gone"] is None
    table = (await run("inspect", "data", "--prefix", "lo")).output
    assert "base64:AP8=" in table
    assert "greeting" not in table
    disk.terminate()
    await disk.wait()
    assert "stopped in order" in (await run("inspect", "data")).output
    assert "no database" in (await run("inspect", "nowhere", code=2)).output


async def test_status_tells_of_the_disk(disk: NodeProcess, memory: NodeProcess, run: Run) -> None:
    assert "bytes on disk" in (await run("status", at=disk)).output
    assert "memory only" in (await run("status", at=memory)).output
    found = json.loads((await run("status", "--output", "json", at=disk)).output)["storage"]
    assert found["default_durability"] == "disk"
    assert found["commits"] > 0
    assert found["error"] == ""


@pytest.mark.parametrize(
    "command",
    [
        ("kv", "put", "k", "v"),
        ("kv", "delete", "k"),
        ("counter", "add", "k"),
        ("counter", "reset", "k"),
        ("set", "add", "k", "e"),
        ("set", "remove", "k", "e"),
    ],
    ids=" ".join,
)
async def test_every_write_may_ask_for_disk_and_is_refused_without(
    command: tuple[str, ...], disk: NodeProcess, memory: NodeProcess, run: Run
) -> None:
    await run(*command, "--durability", "disk", at=disk)
    await run(*command, "--durability", "memory", at=disk)
    await run(*command, "--durability", "memory", at=memory)
    refused = await run(*command, "--durability", "disk", at=memory, code=4)
    assert "start it with --data-dir, or ask for MEMORY" in refused.output
    await run(*command, "--durability", "tape", at=disk, code=2)
