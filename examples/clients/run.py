"""Builds the five clients and compares what they see of one real cluster with what is expected.

They run at once against three nodes; the node that they talk to is killed, and started again.

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gossip_grpc.client import Client, GossipError, MemberStatus

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
    {"step": "counter", "tasks": 8, "visits": 200, "surplus": {"n0": 0, "n1": 0, "n2": 0}},
    {"step": "set", "added": 3, "removed": 1, "size": 2, "elements": ["text:blue", "text:red"]},
    {"step": "members", "alive": ["n0", "n1", "n2"]},
    {
        "step": "subscribe",
        "events": ["CURRENT", "EVENT news/a=text:1", "EVENT news/b=text:2", "EVENT news/a=text:3"],
    },
    {"step": "subscribe resumed", "events": ["EVENT news/b=text:4", "EVENT news/a=text:5"]},
    {"step": "error", "code": 5, "domain": "gossip-grpc", "reason": "KEY_NOT_FOUND", "fields": []},
    {"step": "error", "code": 3, "domain": "gossip-grpc", "reason": "INVALID_ARGUMENT", "fields": ["key"]},
    {"step": "error", "code": 4, "domain": "gossip-grpc", "reason": "SESSION_BEHIND", "fields": []},
    {"step": "session", "reads": 20, "stale": 0},
    {"step": READY, "node": "n0"},
    {"step": "failover", "from": "n0", "to": "n1"},
    {
        "step": MOVED,
        "events": ["RESET", "SNAPSHOT watched/b=text:3", "CURRENT", "PUT watched/c=text:beat"],
    },
    {"step": "return", "node": "n0", "missing": 0, "surplus": {"n0": 0, "n1": 0, "n2": 0}},
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
PROTO = "../../../proto"
PROTOS = [f"{PROTO}/gossip/v1/{name}.proto" for name in ("common", "kv", "counter", "set", "event", "cluster")]

# Those that take longest to build come first.
LANGUAGES = (
    Language("rust", ("cargo",), (("cargo", "build", "--locked", "--quiet"),), ("target/debug/tour",)),
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
                *(".venv/bin/python", "-m", "grpc_tools.protoc", "--proto_path", PROTO),
                *("--python_out=stubs", "--pyi_out=stubs", "--grpc_python_out=stubs", *PROTOS),
            ),
        ),
        ("env", "PYTHONPATH=stubs", ".venv/bin/python", "tour.py"),
    ),
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
    if not log.exists():
        return ""
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
    problem: str = "was not begun"
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return LOGS / f"{self.language.name}-run.log"

    def start(self, addresses: list[str]) -> None:
        self.problem = "was not brought to its end"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*self.language.run, f"{self.language.name}/", *addresses],
                cwd=self.language.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        assert self.process.stdout is not None  # noqa: S101  it is a pipe
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def has_reached(self, step: str) -> bool:
        """Whether it has come to a step, or will never do so."""
        return not self._reader.is_alive() or any(line.get("step") == step for line in self.lines)

    def end(self) -> None:
        """Wait for its end."""
        self._reader.join(PATIENCE)
        if self._reader.is_alive() or self.process is None:
            self.problem = f"did not end within {PATIENCE:g} s"
        else:
            code = self.process.wait()
            self.problem = f"ended with exit code {code}" if code else ""

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def check_visits(self, nodes: list[Node]) -> None:
        """Whether each node has counted what the client says, now that nothing more can come."""
        said = self.lines[-2].get("info", {}).get("visits") if len(self.lines) > 1 else None
        for node in nodes:
            with Client(node.client) as client:
                counted = client.counter.get(f"{self.language.name}/visits")
            if counted != said and not self.problem:
                self.problem = f"says {said} visits, but {node.name} has counted {counted}"

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

    def _read(self, stdout: IO[bytes]) -> None:
        with (LOGS / f"{self.language.name}.jsonl").open("wb") as copy:
            for line in stdout:
                copy.write(line)
                copy.flush()
                try:
                    self.lines.append(json.loads(line))
                except json.JSONDecodeError:
                    self.lines.append({"not JSON": line.decode(errors="replace")})


def run(tours: list[Tour]) -> None:
    """All tours at once, through the death and the return of the node they talk to."""
    if not tours:
        return
    state = LOGS / "state"
    shutil.rmtree(state, ignore_errors=True)
    for log in LOGS.glob("n?.log"):
        log.unlink()
    nodes = [Node(name, state / name) for name in NODES]
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
        for tour in tours:
            tour.check_visits(nodes)
    finally:
        for tour in tours:
            tour.kill()
        for node in nodes:
            node.stop()


# --- the verdict ---


def choose() -> tuple[list[Language], bool]:
    """The languages asked for, and whether to build them."""
    names = [language.name for language in LANGUAGES]
    parser = argparse.ArgumentParser(description="Builds and runs the example clients.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=", ".join(names))
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.languages) - set(names)):
        parser.error(f"no such language: {', '.join(unknown)}")
    chosen = [language for language in LANGUAGES if language.name in (arguments.languages or names)]
    return chosen, not arguments.no_build


def prepare(language: Language, *, wanted: bool) -> tuple[str, str]:
    """Builds a client if that is wanted; its verdict ("" for one that can run) and a line that says why."""
    if missing := language.missing():
        reason = f"{', '.join(missing)} not on PATH"
        return ("failed", f"{reason}, and CI=true allows nothing to be skipped") if IN_CI else ("skipped", reason)
    if not wanted:
        return "", "not built anew"
    try:
        return "", f"built in {build(language):.1f} s"
    except HarnessError as error:
        return "failed", str(error)


def judge(tour: Tour) -> tuple[str, str]:
    """The verdict on a tour, and a line or more that say why."""
    differences = tour.differences()
    if not tour.problem and not differences:
        return "passed", f"saw all {len(tour.lines)} steps as expected"
    return "failed", f"{tour.problem or 'saw something else'}\n{differences}\n{tail(tour.log)}"


def tell(language: Language, verdict: str, reason: str) -> None:
    print(f"{language.name:<11}{verdict:<8}{reason}", flush=True)


def main() -> int:
    chosen, wanted = choose()
    LOGS.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    verdicts: list[str] = []
    ready: list[Language] = []
    # Two at a time: much of a build is waiting for its registry.
    with ThreadPoolExecutor(max_workers=2) as builders:
        outcomes = builders.map(lambda language: prepare(language, wanted=wanted), chosen)
        for language, (verdict, reason) in zip(chosen, outcomes, strict=True):
            tell(language, verdict, reason)
            if verdict:
                verdicts.append(verdict)
            else:
                ready.append(language)
    tours = [Tour(language) for language in ready]
    begun = time.monotonic()
    try:
        run(tours)
    except HarnessError as error:
        print(f"The run broke off: {error}")
        verdicts += ["failed"] * (not tours)
    for tour in tours:
        verdict, reason = judge(tour)
        tell(tour.language, verdict, reason)
        verdicts.append(verdict)
    print(f"The tours took {time.monotonic() - begun:.1f} s.")
    print(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("passed", "failed", "skipped")))
    return 1 if "failed" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
