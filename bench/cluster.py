"""Real nodes for benchmarks: processes of `gossip-grpc node` on free ports of this machine, killed at the end.

A node is found by what it logs when it listens (`node started`), so nobody has to choose ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from bench import processes
from gossip_grpc.client import AsyncClient, GossipError, Status

START_TIMEOUT = 60.0
"""Seconds that a node may take to listen: twenty starting at once on one core take a while."""

AGREE_TIMEOUT = 120.0
_LOG_LINES = 50
_CONCURRENT_STARTS = 4


class NodeProcess:
    """One process of `gossip-grpc node`; `client` speaks to it.

    Args:
        node_id: its name.
        join: peer addresses of seeds.
        settings: further settings by name, such as {"rumor_interval": 0.01}; `{node_id}` in them is its name.
    """

    def __init__(self, node_id: str, join: Sequence[str] = (), settings: Mapping[str, object] | None = None) -> None:
        self.node_id = node_id
        self.peer_address = ""
        self.client_address = ""
        self.client: AsyncClient
        given: dict[str, object] = {
            "node_id": node_id,
            "peer_listen": "127.0.0.1:0",
            "client_listen": "127.0.0.1:0",
            "log_format": "json",
            **(settings or {}),
        }
        if join:
            given["join"] = ",".join(join)
        ours = {f"GOSSIP_{name.upper()}": str(value).replace("{node_id}", node_id) for name, value in given.items()}
        # Whoever runs the benchmarks may have settings of a node of their own.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOSSIP_")}
        self._environment = inherited | ours
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.node_id} does not run")
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gossip_grpc", "node"),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._find()
        except TimeoutError as error:
            raise RuntimeError(f"{self.node_id} did not listen within {START_TIMEOUT:g} s:\n{self.log}") from error
        self.client = AsyncClient(self.client_address, timeout=30.0)
        self._reader = asyncio.create_task(self._read())

    async def kill(self) -> None:
        """End the process without a word."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._reader is not None:
            await self._reader
            await self.client.close()

    @property
    def log(self) -> str:
        """The last lines that it logged."""
        return "".join(self._log)

    def cpu_seconds(self) -> float:
        """Seconds of a core that it has used since it started."""
        return processes.cpu_seconds(self.pid)

    def memory_bytes(self) -> int:
        """Resident memory."""
        return processes.memory_bytes(self.pid)

    def _errors(self) -> asyncio.StreamReader:
        if self._process is None or self._process.stderr is None:
            raise RuntimeError(f"{self.node_id} does not run")
        return self._process.stderr

    async def _find(self) -> None:
        async for line in self._errors():
            self._log.append(line.decode())
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["event"] == "node started":
                    self.peer_address, self.client_address = event["peer_address"], event["client_address"]
                    return
        raise RuntimeError(f"{self.node_id} ended at its start:\n{self.log}")

    async def _read(self) -> None:
        async for line in self._errors():
            self._log.append(line.decode())


class Cluster:
    """Nodes n00, n01, ... that all join through the first one: `async with Cluster(20) as cluster: ...`."""

    def __init__(self, count: int, settings: Mapping[str, object] | None = None) -> None:
        self.nodes: list[NodeProcess] = []
        self._count = count
        self._settings = settings

    async def __aenter__(self) -> Self:
        try:
            first = NodeProcess("n00", settings=self._settings)
            self.nodes.append(first)
            await first.start()
            gate = asyncio.Semaphore(_CONCURRENT_STARTS)
            self.nodes += [
                NodeProcess(f"n{number:02}", [first.peer_address], self._settings) for number in range(1, self._count)
            ]
            async with asyncio.TaskGroup() as starts:
                for node in self.nodes[1:]:
                    starts.create_task(_behind(gate, node.start))
            await self.agreed()
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._kill()
        if error is not None:
            print(*(f"{node.node_id} logged last: {node.log}" for node in self.nodes if node.log), file=sys.stderr)

    async def statuses(self) -> list[Status]:
        """What each node says of itself."""
        return [await node.client.status() for node in self.nodes]

    async def agreed(self, records: int | None = None) -> list[Status]:
        """Wait until all are ready, know each other and hold the same (so many records, if given)."""

        def same(statuses: list[Status]) -> bool:
            seen = {(s.fingerprint, s.members, tuple(sorted(s.coverage.items()))) for s in statuses}
            return (
                len(seen) == 1
                and all(s.ready for s in statuses)
                and statuses[0].members >= self._count
                and records in (None, statuses[0].records)
            )

        deadline = time.monotonic() + AGREE_TIMEOUT
        statuses: list[Status] = []
        while time.monotonic() < deadline:
            with contextlib.suppress(GossipError):
                statuses = await self.statuses()
                if same(statuses):
                    return statuses
            await asyncio.sleep(0.2)
        seen = "\n".join(f"{s.node_id}: ready={s.ready} members={s.members} records={s.records}" for s in statuses)
        raise RuntimeError(f"the nodes do not agree after {AGREE_TIMEOUT:g} s:\n{seen}")

    async def _kill(self) -> None:
        await asyncio.gather(*(node.kill() for node in self.nodes), return_exceptions=True)


async def _behind(gate: asyncio.Semaphore, start: Callable[[], Awaitable[None]]) -> None:
    async with gate:
        await start()


@contextlib.asynccontextmanager
async def one_node(settings: Mapping[str, object] | None = None) -> AsyncIterator[NodeProcess]:
    """One node alone."""
    async with Cluster(1, settings) as cluster:
        yield cluster.nodes[0]
