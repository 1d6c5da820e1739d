"""Builds the five clients, runs them at once against a cluster of three nodes, kills the node they talk to, restarts it,
and compares what each of them saw with what is expected.

    .venv/bin/python examples/clients/run.py [LANGUAGE...] [--no-build]

A language whose tools are missing is skipped with the reason; with CI=true it fails. Logs are in build/clients/.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossip_grpc import Client, GossipError, MemberStatus

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOGS = ROOT / "build" / "clients"
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
NODES = ("n0", "n1", "n2")

PATIENCE = 120.0
"""Seconds that each phase may take: a JVM and others start on few cores."""

LOOK = 0.02
"""Seconds between two looks at what has no event to wait for."""

# Where a tour waits for a node to die, and where it waits for it to come back.
READY, MOVED = "ready for failover", "watch moved"

# What each tour must print, in this order. `info` is left out of the comparison: it differs from run to run.
EXPECTED: tuple[dict[str, Any], ...] = (
    {"step": "connect", "node": "n0", "nodes": ["n0", "n1", "n2"]},
    {"step": "put", "count": 3},
    {
        "step": "get",
        "values": {
            "kv/blob": "data:AP8Q",
            "kv/greeting": "text:hello",
            "kv/unicode": "text:Grüße, 世界 🐌",
        },
    },
    {"step": "list", "keys": ["kv/blob", "kv/greeting", "kv/unicode"], "pages": 2},
    {
        "step": "watch",
        "events": ["SNAPSHOT watched/a=text:0", "CURRENT", "PUT watched/a=text:1", "PUT watched/a=text:2"],
    },
    {"step": "watch resumed", "events": ["DELETED watched/a", "PUT watched/b=text:3"]},
    {"step": "counter", "tasks": 8, "values": {"n0": 200, "n1": 200, "n2": 200}},
    {"step": "set", "added": 3, "removed": 1, "size": 2, "elements": ["text:blue", "text:red"]},
    {"step": "members", "alive": ["n0", "n1", "n2"]},
    {"step": "error", "code": 5, "domain": "gossip-grpc", "reason": "KEY_NOT_FOUND", "fields": []},
    {"step": "error", "code": 3, "domain": "gossip-grpc", "reason": "INVALID_ARGUMENT", "fields": ["key"]},
    {"step": "session", "reads": 20, "stale": 0},
    {"step": READY, "node": "n0"},
    {"step": "failover", "from": "n0", "to": "n1"},
    {
        "step": MOVED,
        "events": ["RESET", "SNAPSHOT watched/b=text:3", "CURRENT", "PUT watched/c=text:beat"],
    },
    {"step": "return", "node": "n0", "missing": 0, "visits": 200},
    {"step": "done"},
)


@dataclass(frozen=True)
class Language:
    """How the client of a language is built and run, in its directory."""

    name: str
    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]

    @property
    def directory(self) -> Path:
        return HERE / self.name

    def missing(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]


PYTHON = sys.executable
PROTOS = [
    str(ROOT / "proto" / "gossip" / "v1" / f"{name}.proto") for name in ("common", "kv", "counter", "set", "cluster")
]

LANGUAGES = (
    Language(
        "go",
        ("go", "buf"),
        (("go", "generate", "./..."), ("go", "vet", "./..."), ("go", "build", "-o", "tour", ".")),
        ("./tour",),
    ),
    Language(
        "java",
        ("java", "javac", "mvn"),
        (("mvn", "--batch-mode", "--quiet", "--no-transfer-progress", "package"),),
        ("java", "-jar", "target/tour.jar"),
    ),
    Language(
        "python",
        (),
        (
            (PYTHON, "-m", "venv", ".venv"),
            (".venv/bin/python", "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"),
            ("mkdir", "-p", "stubs"),
            (
                *(".venv/bin/python", "-m", "grpc_tools.protoc", "--proto_path", "../../../proto"),
                *("--python_out=stubs", "--pyi_out=stubs", "--grpc_python_out=stubs", *PROTOS),
            ),
        ),
        ("env", "PYTHONPATH=stubs", ".venv/bin/python", "tour.py"),
    ),
    Language("rust", ("cargo",), (("cargo", "build", "--locked", "--quiet"),), ("target/debug/tour",)),
    Language(
        "typescript",
        ("node", "npm"),
        (("npm", "ci", "--silent"), ("npm", "run", "--silent", "build")),
        ("node", "dist/tour.js"),
    ),
)


class HarnessError(Exception):
    """The run cannot go on. The message says why."""


# --- building ---


def build(language: Language) -> float:
    """Builds one client; returns the seconds it took."""
    begun = time.monotonic()
    log = LOGS / f"{language.name}-build.log"
    with log.open("wb") as output:
        for command in language.build:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            done = subprocess.run(
                command, cwd=language.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
            if done.returncode:
                raise HarnessError(f"{' '.join(command)} failed in {language.directory}:\n{tail(log)}")
    return time.monotonic() - begun


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])


# --- the cluster ---


class Node:
    """A node, through several lives: on the ports and with the data of its first one."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.state = state
        self.log = LOGS / f"{name}.log"
        self.peer = self.client = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, join: Iterable[str]) -> None:
        seeds = [part for address in join for part in ("--join", address)]
        begins = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gossip_grpc", "node", "--node-id", self.name, "--cluster", "clients"),
                    *("--peer-listen", self.peer, "--client-listen", self.client),
                    *("--data-dir", str(self.state), "--log-format", "json", *seeds),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith("GOSSIP_")},
            )
        wait_for(lambda: self._find_addresses(begins), f"{self.name} to listen")

    def kill(self) -> None:
        """SIGKILL: no leave, no last word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()

    def _find_addresses(self, begins: int) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise HarnessError(f"{self.name} ended with exit code {self.process.returncode}:\n{tail(self.log)}")
        for line in self.log.read_bytes()[begins:].splitlines():
            if b'"node started"' in line and line.endswith(b"}"):
                event = json.loads(line)
                self.peer, self.client = event["peer_address"], event["client_address"]
                return True
        return False


def settled(nodes: list[Node]) -> bool:
    """Whether all nodes take writes, see all as alive, and hold the same."""
    fingerprints = set()
    for node in nodes:
        try:
            with Client(node.client) as client:
                status = client.status()
                alive = [member for member in client.members() if member.status == MemberStatus.ALIVE]
        except GossipError:
            return False
        if not status.ready or len(alive) != len(nodes):
            return False
        fingerprints.add(status.fingerprint)
    return len(fingerprints) == 1


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise HarnessError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(LOOK)


# --- the tours ---


@dataclass
class Tour:
    """One client on its tour, and what it has printed so far."""

    language: Language
    lines: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    def start(self, addresses: list[str]) -> None:
        self.log = LOGS / f"{self.language.name}-run.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*self.language.run, f"{self.language.name}/", *addresses],
                cwd=self.language.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def has_reached(self, step: str) -> bool:
        """Whether it has come to a step, or will never do so."""
        return not self._reader.is_alive() or any(line.get("step") == step for line in self.lines)

    def end(self) -> None:
        """Wait for its end."""
        deadline = time.monotonic() + PATIENCE
        self._reader.join(PATIENCE)
        try:
            code = self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            self.problem = f"did not end within {PATIENCE:g} s"
        else:
            self.problem = self.problem or (f"ended with exit code {code}" if code else "")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def differences(self) -> str:
        """What it saw and what it should have seen, line by line; empty if they are the same."""
        expected = [json.dumps(line, sort_keys=True, ensure_ascii=False) for line in EXPECTED]
        seen = [
            json.dumps(
                {name: value for name, value in line.items() if name != "info"}, sort_keys=True, ensure_ascii=False
            )
            for line in self.lines
        ]
        return "\n".join(difflib.unified_diff(expected, seen, "expected", "seen", lineterm="", n=0))

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101  it is a pipe
        with (LOGS / f"{self.language.name}.jsonl").open("wb") as copy:
            for line in self.process.stdout:
                copy.write(line)
                try:
                    self.lines.append(json.loads(line))
                except json.JSONDecodeError:
                    self.problem = f"printed what is not JSON: {line!r}"


def run(languages: list[Language]) -> list[Tour]:
    """All tours at once, through the death and the return of the node they talk to."""
    state = LOGS / "state"
    shutil.rmtree(state, ignore_errors=True)
    for log in LOGS.glob("n?.log"):
        log.unlink()
    nodes = [Node(name, state / name) for name in NODES]
    tours = [Tour(language) for language in languages]
    try:
        for node in nodes:
            node.start([other.peer for other in nodes if other.process is not None and other is not node])
        wait_for(lambda: settled(nodes), "the nodes to agree")
        for tour in tours:
            tour.start([node.client for node in nodes])
        wait_for(lambda: all(tour.has_reached(READY) for tour in tours), f"all tours to be {READY}")
        print("all are ready: n0 is killed")
        nodes[0].kill()
        wait_for(lambda: all(tour.has_reached(MOVED) for tour in tours), "all tours to go on at another node")
        print("all have moved: n0 is started again")
        nodes[0].start(node.peer for node in nodes[1:])
        for tour in tours:
            tour.end()
        wait_for(lambda: settled(nodes), "the nodes to agree again")
    finally:
        for tour in tours:
            if hasattr(tour, "process"):
                tour.kill()
        for node in nodes:
            node.stop()
    return tours


# --- the verdict ---


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds and runs the example clients.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=", ".join(one.name for one in LANGUAGES))
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    arguments = parser.parse_args()
    if unknown := set(arguments.languages) - {one.name for one in LANGUAGES}:
        parser.error(f"no such language: {', '.join(sorted(unknown))}")
    LOGS.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in LANGUAGES if not arguments.languages or one.name in arguments.languages]
    ready, failed, skipped = [], 0, 0
    for language in chosen:
        if missing := language.missing():
            what = "fails, for CI=true allows nothing to be skipped" if IN_CI else "is skipped"
            print(f"{language.name:<11}{what}: {', '.join(missing)} not on PATH")
            failed, skipped = failed + IN_CI, skipped + (not IN_CI)
            continue
        try:
            if not arguments.no_build:
                print(f"{language.name:<11}built in {build(language):.1f} s")
            ready.append(language)
        except HarnessError as error:
            print(f"{language.name:<11}fails: {error}")
            failed += 1
    passed = 0
    begun = time.monotonic()
    try:
        tours = run(ready) if ready else []
    except HarnessError as error:
        print(f"The run broke off: {error}")
        for language in ready:
            print(
                f"{language.name}:\n{tail(LOGS / f'{language.name}.jsonl', 3)}\n{tail(LOGS / f'{language.name}-run.log')}"
            )
        return 1
    for tour in tours:
        differences = tour.differences()
        if tour.problem or differences:
            failed += 1
            print(
                f"{tour.language.name:<11}fails: {tour.problem or 'it saw something else'}\n{differences}\n{tail(tour.log)}"
            )
        else:
            passed += 1
            print(f"{tour.language.name:<11}saw all {len(tour.lines)} steps as expected")
    print(f"the tours took {time.monotonic() - begun:.1f} s")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
