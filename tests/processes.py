"""Real node processes for tests: started by the command line, found by the line they log, stopped whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from gossip_grpc.client import AsyncClient

DEADLINE = 60.0
"""Seconds that anything may take before a test fails: never a measure of speed."""


class NodeProcess:
    """One `gossip-grpc node`. Its log is read as it comes, so that it never blocks on a full pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._logged = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())
        self.peer_address = ""
        self.client_address = ""

    @classmethod
    async def start(
        cls, *flags: str, env: dict[str, str] | None = None, listen: bool = True, command: Sequence[str] = ()
    ) -> Self:
        """Start a node on free ports and wait until it serves. `command` comes first, such as `ip netns exec NAME`."""
        ports = ("--peer-listen", "127.0.0.1:0", "--client-listen", "127.0.0.1:0") if listen else ()
        node = cls(
            await asyncio.create_subprocess_exec(
                *command,
                sys.executable,
                "-m",
                "gossip_grpc",
                "node",
                *ports,
                *flags,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **(env or {})},
            )
        )
        try:
            started = await node.logged("node started")
        except BaseException:
            await node.close()
            raise
        node.peer_address = started["peer_address"]
        node.client_address = started["client_address"]
        return node

    async def logged(self, event: str, **facts: Any) -> dict[str, Any]:
        """Wait for a line of the log, and return it."""

        def found() -> dict[str, Any] | None:
            for line in self.log:
                if line["event"] == event and all(line.get(name) == value for name, value in facts.items()):
                    return line
            return None

        async with asyncio.timeout(DEADLINE), self._logged:
            await self._logged.wait_for(lambda: found() or self._reader.done())
        line = found()
        assert line is not None, f"the node ended without logging {event!r}: {self.log} {self.other}"
        return line

    def client(self) -> AsyncClient:
        """A client of this node."""
        return AsyncClient(self.client_address, timeout=DEADLINE)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        async with asyncio.timeout(DEADLINE):
            await self.process.wait()
            await self._reader
        assert self.process.returncode is not None
        return self.process.returncode

    async def close(self) -> None:
        """End it by force if it has not ended."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            text = raw.decode().rstrip()
            async with self._logged:
                try:
                    self.log.append(json.loads(text))
                except json.JSONDecodeError:
                    self.other.append(text)
                self._logged.notify_all()
        async with self._logged:
            self._logged.notify_all()


@asynccontextmanager
async def cluster(count: int, *flags: str) -> AsyncIterator[list[NodeProcess]]:
    """Start n0 ... n<count-1>, the first without seeds; wait until all know all."""
    nodes: list[NodeProcess] = []
    try:
        nodes.append(await NodeProcess.start("--node-id", "n0", *flags))
        joined = [
            NodeProcess.start("--node-id", f"n{i}", "--join", nodes[0].peer_address, *flags) for i in range(1, count)
        ]
        nodes += await asyncio.gather(*joined)
        for node in nodes:
            await node.logged("ready") if node is not nodes[0] else None
        await agree(nodes, members=count)
        yield nodes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


async def agree(nodes: list[NodeProcess], *, members: int | None = None) -> None:
    """Wait until all nodes have the same fingerprint and coverage, and know that many members if given."""
    async with asyncio.timeout(DEADLINE):
        while True:
            states = [await _state(node) for node in nodes]
            if all(state == states[0] for state in states) and (members is None or states[0][2] == members):
                return
            await asyncio.sleep(0.05)  # between two looks at processes: there is no event to wait for


async def _state(node: NodeProcess) -> tuple[object, object, int]:
    async with node.client() as client:
        status = await client.status()
    return status.fingerprint, status.coverage, status.members
