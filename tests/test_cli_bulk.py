"""`kv load` and `kv dump`: what one prints the other reads, and each line that is wrong is named."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import redirect_stderr
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gossip_grpc.cli.bulk import _Lines
from gossip_grpc.cli.kv import kv
from gossip_grpc.cli.root import root
from gossip_grpc.client import Item
from gossip_grpc.config import Config
from gossip_grpc.core.records import Kind
from gossip_grpc.node import Node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(Config(node_id="a", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0")) as node:
        yield node


async def command(node: Node, *args: str, given: bytes = b"") -> Result:
    runner = CliRunner()
    return await asyncio.to_thread(
        runner.invoke, root, ["kv", *args, "--address", node.client_address], input=given, catch_exceptions=False
    )


async def load(node: Node, *lines: str | bytes) -> Result:
    given = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    return await command(node, "load", "-", given=given)


async def test_what_is_dumped_can_be_loaded(node: Node) -> None:
    entries: dict[str, Any] = {"a": "text", "b\n": b"\x00\xff", "ü": "", "z": b""}
    await node.kv.put_many(entries)
    dumped = await command(node, "dump")
    for key in entries:
        await node.kv.delete(key)
    loaded = await command(node, "load", "-", given=dumped.stdout_bytes)
    assert (loaded.exit_code, loaded.stdout) == (0, "4 entries written\n")
    assert {entry.key: entry.value async for entry in node.kv.list()} == entries


async def test_only_what_begins_with_the_prefix_is_dumped(node: Node) -> None:
    await node.kv.put_many({"a/1": "v", "b/1": "v"})
    dumped = await command(node, "dump", "b/")
    assert dumped.stdout == '{"key": "b/1", "value": "v"}\n'


async def test_what_list_prints_can_be_loaded_too(node: Node) -> None:
    await node.kv.put("a", "v")
    (listed,) = json.loads((await command(node, "list", "--output", "json")).stdout)
    loaded = await load(node, json.dumps(listed))
    assert loaded.stdout == "1 entry written\n"


async def test_empty_lines_are_skipped_and_ends_are_granted(node: Node) -> None:
    loaded = await load(node, "", '{"key": "a", "value": "v", "ttl": 60.5, "ephemeral": true}', "  ", "")
    assert loaded.stdout == "1 entry written\n"
    record = node.engine.store.register("a")
    assert record is not None
    assert record.content.ephemeral
    assert record.content.expires_at > 0


async def test_an_end_is_kept_by_dump_and_load(node: Node) -> None:
    await node.kv.put_many([Item("a", "v", ttl=60), Item("b", "v", ephemeral=True)])
    before = [(entry.key, entry.expires_at, entry.ephemeral) async for entry in node.kv.list()]
    dumped = await command(node, "dump")
    assert (await command(node, "load", "-", given=dumped.stdout_bytes)).stdout == "2 entries written\n"
    after = [(entry.key, entry.expires_at, entry.ephemeral) async for entry in node.kv.list()]
    assert [(key, ephemeral) for key, _, ephemeral in after] == [("a", False), ("b", True)]
    assert after[0][1] == pytest.approx(before[0][1], abs=0.1)
    assert after[1][1] is None


async def test_what_is_over_is_over_when_it_is_loaded(node: Node) -> None:
    assert (await load(node, '{"key": "a", "value": "v", "expires_at": 1.0}')).stdout == "1 entry written\n"
    record = node.engine.store.get(Kind.REGISTER, "a")
    assert record is not None
    assert 0 < record.content.expires_at <= (node.scheduler.now() + node.engine.wall_offset) * 1000 + 10


async def test_json_for_programs(node: Node) -> None:
    loaded = await command(node, "load", "-", "--output", "json", given=b'{"key": "a", "value": "v"}')
    assert json.loads(loaded.stdout) == {"written": 1, "clock": node.engine.store.clock.time}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "it is not JSON: expecting property name enclosed in double quotes at column 2"),
        (b'{"key": "\xff"}', "it is not UTF-8"),
        ("[]", 'it must be an object such as {"key": "a", "value": "b"}'),
        ('{"key": "k", "valu": "v"}', "'valu' is no field; there are ephemeral, expires_at, key, ttl, value"),
        ('{"value": "v"}', "key must be text"),
        ('{"key": "k"}', 'value must be text, or {"base64": "..."} for bytes'),
        ('{"key": "k", "value": {"base64": "?"}}', "value.base64 is not base64"),
        ('{"key": "k", "value": "v", "ttl": true}', "ttl must be a number of seconds"),
        ('{"key": "k", "value": "v", "ttl": -1}', "ttl must be a number of seconds"),
        ('{"key": "k", "value": "v", "expires_at": "x"}', "expires_at must be a number of seconds"),
        ('{"key": "k", "value": "v", "ttl": 1, "expires_at": 9}', "it has ttl and expires_at; give one of them"),
        ('{"key": "k", "value": "v", "ephemeral": 1}', "ephemeral must be true or false"),
    ],
)
async def test_a_line_that_is_wrong_is_named_and_what_came_before_it_is_written(
    node: Node, line: str | bytes, complaint: str
) -> None:
    loaded = await load(node, '{"key": "a", "value": "v"}', "", line, '{"key": "b", "value": "v"}')
    assert (loaded.exit_code, loaded.stderr) == (2, f"Error: line 3: {complaint}; 1 entry written\n")
    assert list(node.engine.store.keys()) == ["a"]


async def test_a_line_that_the_node_refuses_is_named_too(node: Node) -> None:
    lines = [json.dumps({"key": f"{number}", "value": "v"}) for number in range(1500)]
    loaded = await load(node, *lines[:1200], "", '{"key": "", "value": "v"}', *lines[1200:])
    wanted = "Error: line 1202: key is empty; give 1 to 512 bytes of UTF-8; 1,000 entries written\n"
    assert (loaded.exit_code, loaded.stderr) == (2, wanted)
    assert node.engine.store.live == 1000


async def test_text_that_utf_8_cannot_encode_is_refused_by_its_line(node: Node) -> None:
    loaded = await load(node, '{"key": "a", "value": "v"}', '{"key": "\\ud800", "value": "v"}')
    assert loaded.exit_code == 2
    assert loaded.stderr.startswith("Error: line 2: key must be text that UTF-8 can encode")


def test_a_terminal_sees_how_far_it_is() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with redirect_stderr(Terminal()) as shown:
        lines = _Lines([b'{"key": "a", "value": "v"}'])
        lines._shown = 0.0
        assert [item.key for item in lines.items()] == ["a"]
        lines.end()
    assert shown.getvalue() == "\r1 entry read\r\033[K"


def test_both_are_among_the_commands() -> None:
    assert {"load", "dump"} <= kv.commands.keys()
