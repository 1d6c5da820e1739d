"""The demo's node processes: started as a user starts them, found by what they log, and never left behind.

Each is in a session of its own, so that Ctrl-C and the end of the terminal reach the demo alone, which then ends them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from gossip_grpc.client import AsyncClient

START_TIMEOUT = 30.0
"""Seconds that a process may take until it listens; on a busy machine Python alone takes some."""

STOP_TIMEOUT = 2.0
"""Seconds that all nodes together get to leave in order before they are killed."""

_LOOK = 0.01
"""Seconds between two looks at a log or at a process: neither has an event to wait for."""

_TAIL = 5


class NodeProcessError(Exception):
    """A node did not start, or ended by itself. The message has a line for what happened and the end of its log."""


class NodeProcess:
    """One life of one node: `gossip-grpc node` on free ports of the loopback interface."""

    def __init__(self, node: str, cluster: str, join: Iterable[str], log: Path) -> None:
        self.node = node
        self.peer_address = ""
        self.client_address = ""
        self.log = log
        seeds = [part for address in join for part in ("--join", address)]
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gossip_grpc", "node", "--node-id", node, "--cluster", cluster),
                    *("--peer-listen", "127.0.0.1:0", "--client-listen", "127.0.0.1:0", "--log-format", "json"),
                    *seeds,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # The demo's nodes are the demo's to configure, whatever is set for others.
                env={name: value for name, value in os.environ.items() if not name.startswith("GOSSIP_")},
                start_new_session=True,
            )
        self.client: AsyncClient

    async def started(self) -> None:
        """Wait until it listens.

        Raises:
            NodeProcessError: it ended, or did not listen in time.
        """
        for _ in range(int(START_TIMEOUT / _LOOK)):
            if self._find_addresses():
                self.client = AsyncClient(self.client_address)
                return
            if self.exit_code() is not None:
                raise NodeProcessError(self._failure(f"ended with exit code {self.exit_code()}"))
            await asyncio.sleep(_LOOK)
        raise NodeProcessError(self._failure(f"did not listen within {START_TIMEOUT:g} seconds"))

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.exit_code() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end, which is then a matter of moments."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def _find_addresses(self) -> bool:
        for line in self.log.read_text(errors="replace").splitlines():
            if '"node started"' in line:
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:  # it is being written
                    return False
                self.peer_address, self.client_address = event["peer_address"], event["client_address"]
                return True
        return False

    def _failure(self, what: str) -> str:
        tail = self.log.read_text(errors="replace").splitlines()[-_TAIL:]
        return "\n".join([f"{self.node} {what}; the end of its log:", *(f"  {line}" for line in tail)])


class NodeProcesses:
    """The nodes n1 ... n<count>; `async with` ends every process that was started in it, however it is left.

    Attributes:
        cluster: a name of its own, so that no two demos on a machine ever meet.
        logs: the directory with a log for each life; it is removed at the end unless `keep_logs` is set.
    """

    def __init__(self, count: int) -> None:
        self.names = tuple(f"n{number}" for number in range(1, count + 1))
        self.cluster = f"demo-{secrets.token_hex(3)}"
        self.logs = Path(tempfile.mkdtemp(prefix="gossip-grpc-demo-"))
        self.keep_logs = False
        self._lives: list[NodeProcess] = []
        self._current: dict[str, NodeProcess] = {}

    async def start(self, node: str) -> str:
        """Start a node that joins through all others that run; returns its client address once it listens."""
        number = sum(life.node == node for life in self._lives)
        log = self.logs / (f"{node}-{number + 1}.log" if number else f"{node}.log")
        join = [life.peer_address for life in self._current.values() if life.node != node and life.exit_code() is None]
        life = NodeProcess(node, self.cluster, filter(None, join), log)
        self._lives.append(life)
        self._current[node] = life
        await life.started()
        return life.client_address

    async def kill(self, node: str) -> None:
        """SIGKILL: no leave, no last word."""
        # Its client stays open: closing it would cancel whoever is waiting for an answer just now.
        self._current.pop(node).kill()

    def client(self, node: str) -> AsyncClient:
        """The client of a node that has been started."""
        return self._current[node].client

    def peer_address(self, node: str) -> str:
        """Where its peers reach a node."""
        return self._current[node].peer_address

    def exit_code(self, node: str) -> int | None:
        """None while the node runs, or has been killed by us."""
        life = self._current.get(node)
        return life.exit_code() if life else None

    def kill_all(self) -> None:
        """End every process now."""
        for life in self._lives:
            life.send(signal.SIGKILL)
        for life in self._lives:
            life.kill()

    async def stop(self) -> None:
        """End every process: in order if that is quick, else by force."""
        try:
            for life in self._lives:
                life.send(signal.SIGTERM)
            for _ in range(int(STOP_TIMEOUT / _LOOK)):
                if all(life.exit_code() is not None for life in self._lives):
                    break
                await asyncio.sleep(_LOOK)
        finally:
            self.kill_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await asyncio.gather(*(life.client.close() for life in self._lives if life.client_address))
            await self.stop()
        finally:
            self.kill_all()
            if not self.keep_logs:
                shutil.rmtree(self.logs, ignore_errors=True)
