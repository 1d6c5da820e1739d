"""Tries an installed gossip-grpc as a user meets it: `python -I smoke.py`, run by the Python it is installed for.

Two nodes by the command, the Python client at either, the command line, health and reflection, a restart from disk, the
end. It needs nothing but the package, and must not find the source tree. .ci/package runs it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import gossip_grpc
import gossip_grpc.gen.gossip.v1
from gossip_grpc import Client, KeyNotFoundError
from gossip_grpc.client import KeyValueEventKind, MemberStatus

PATIENCE = 60.0
"""Seconds that anything may take before this gives up: never a measure of speed."""
COMMAND = str(Path(sys.executable).with_name("gossip-grpc"))
SERVICES = {f"gossip.v1.{name}Service" for name in ("KeyValue", "Counter", "Set", "Event", "Cluster")}


class Node:
    """One `gossip-grpc node`, and its log as it comes."""

    def __init__(self, name: str, *flags: str) -> None:
        self.log: list[str] = []
        self._process = subprocess.Popen(
            (
                *(COMMAND, "node", "--node-id", name, "--log-format", "json"),
                *("--peer-listen", "127.0.0.1:0", "--client-listen", "127.0.0.1:0", *flags),
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        started = self.logged("node started")
        self.peer_address: str = started["peer_address"]
        self.client_address: str = started["client_address"]

    def logged(self, event: str) -> dict[str, Any]:
        """The first line of that event, waited for."""

        def found() -> dict[str, Any] | None:
            ended = not self._reader.is_alive()
            for line in list(self.log):
                told: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
                if told.get("event") == event:
                    return told
            if ended:
                raise SystemExit(f"the node ended without {event!r}:\n" + "\n".join(self.log))
            return None

        return wait(f"a log line {event!r}", found)

    def stop(self) -> None:
        """SIGTERM, after which it must leave in order, and have logged no traceback and no error."""
        self._process.terminate()
        same("exit code of the node", self._process.wait(PATIENCE), 0)
        self._reader.join(PATIENCE)
        bad = [line for line in self.log if "Traceback" in line or not line.startswith("{") or _level(line) == "error"]
        same("what the node logged of errors", bad, [])

    def close(self) -> None:
        """End it by force if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.log.extend(iter(line.rstrip("\n") for line in self._process.stderr))


def _level(line: str) -> str:
    return str(json.loads(line)["level"])


@contextlib.contextmanager
def node(name: str, *flags: str) -> Iterator[Node]:
    started = Node(name, *flags)
    try:
        yield started
    finally:
        started.close()


T = TypeVar("T")


def wait(what: str, look: Callable[[], T | None]) -> T:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if (found := look()) is not None:
            return found
        time.sleep(0.02)  # between two looks at another process: there is no event to wait for
    raise SystemExit(f"waited for {what} in vain")


def same(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise SystemExit(f"{what}: {got!r}, where {wanted!r} was expected")


def run(*arguments: str, code: int = 0, command: tuple[str, ...] = (COMMAND,)) -> str:
    done = subprocess.run((*command, *arguments), capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != code or "Traceback" in done.stderr:
        raise SystemExit(f"gossip-grpc {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def try_installation() -> None:
    """It is the installed one, whole: every module of it can be imported, the stubs among them."""
    assert gossip_grpc.__file__ is not None
    place = Path(gossip_grpc.__file__).resolve()
    same(f"{place} is below {sys.prefix}", place.is_relative_to(Path(sys.prefix).resolve()), True)
    same("version", importlib.metadata.version("gossip-grpc"), gossip_grpc.__version__)
    same("gossip-grpc --version", run("--version"), f"gossip-grpc {gossip_grpc.__version__}\n")
    same("python -m", run("--version", command=(sys.executable, "-Im", "gossip_grpc")), run("--version"))
    stubs = [module.name for module in pkgutil.iter_modules(gossip_grpc.gen.gossip.v1.__path__)]
    same("kv_pb2_grpc among the stubs", "kv_pb2_grpc" in stubs, True)
    for stub in stubs:
        importlib.import_module(f"gossip_grpc.gen.gossip.v1.{stub}")


def try_client(a: Node, b: Node) -> None:
    """What is written at one node is there at the other."""
    with Client(a.client_address, timeout=PATIENCE) as here:
        here.kv.put("greeting", "hello")
        here.kv.put("bytes", b"\x00\xff")
        here.counter.add("visits", 5)
        here.set.add("fruit", "apple", "pear")
        with Client(b.client_address, timeout=PATIENCE, session=here.session) as there:
            same("value", there.kv.get("greeting").value, "hello")
            same("bytes", there.kv.get("bytes").value, b"\x00\xff")
            same("counter", there.counter.add("visits", -2), 3)
            same("set", there.set.get("fruit"), {"apple", "pear"})
            there.kv.delete("bytes")
            with contextlib.suppress(KeyNotFoundError):
                raise SystemExit(f"deleted, and still there: {there.kv.get('bytes')}")
            try_watching(here, there)


def try_watching(here: Client, there: Client) -> None:
    """A watcher and a subscriber at one node are told of what is done at the other."""
    watcher = there.kv.watch("watched/")
    same("begin of the watch", next(watcher).kind, KeyValueEventKind.CURRENT)
    here.kv.put("watched/key", "new")
    told = next(watcher)
    same("watched", (told.kind, told.entry and told.entry.value), (KeyValueEventKind.PUT, "new"))
    watcher.close()

    subscriber = there.event.subscribe("deploys/*")
    same("begin of the subscription", next(subscriber).event, None)
    here.event.publish("deploys/web", "v1")
    published = next(subscriber).event
    same("event", published and (published.topic, published.payload), ("deploys/web", "v1"))
    subscriber.close()


def try_command_line(a: Node, b: Node) -> None:
    at_a, at_b = ("--address", a.client_address), ("--address", b.client_address)
    same("kv get", run("kv", "get", "greeting", *at_b), "hello\n")
    run("kv", "get", "missing", *at_b, code=1)
    run("kv", "put", "from", "shell", *at_a)
    same("counter get", run("counter", "get", "visits", *at_a), "3\n")
    same("set get", run("set", "get", "fruit", *at_a), "apple\npear\n")
    run("event", "publish", "deploys/web", "v2", *at_a)
    same("members", [line.split()[0] for line in run("members", *at_a).splitlines()], ["NODE", "a", "b"])
    same("node_id in status", json.loads(run("status", "--output", "json", *at_b))["node_id"], "b")
    same("completion", "_GOSSIP_GRPC_COMPLETE" in run("completion", "bash"), True)
    same("node_id in config print", "node_id" in run("config", "print"), True)
    run("status", "--address", "127.0.0.1:1", code=3)


def try_health_and_reflection(node: Node) -> None:
    with grpc.insecure_channel(node.client_address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # typed stubs of both do not know their methods
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        same("health", answer.status, health_pb2.HealthCheckResponse.SERVING)
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed = next(iter(reflection.ServerReflectionInfo(asked, timeout=PATIENCE)))
        names = {service.name for service in listed.list_services_response.service}
        same("services that reflection misses", SERVICES - names, set())


def try_restart(data: str) -> None:
    """What was acknowledged is there after a restart with the same directory, without any other node."""
    with node("a", "--data-dir", data) as again, Client(again.client_address, timeout=PATIENCE) as client:
        same("value after the restart", client.kv.get("greeting").value, "hello")
        same("counter after the restart", client.counter.get("visits"), 3)
        same("set after the restart", client.set.get("fruit"), {"apple", "pear"})
        again.stop()


def main() -> None:
    try_installation()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(HOME=home, NO_COLOR="1")
        data = str(Path(home, "data"))
        with node("a", "--data-dir", data) as a, node("b", "--join", a.peer_address) as b:
            b.logged("ready")
            with Client(a.client_address, timeout=PATIENCE) as client:
                wait(
                    "two live members",
                    lambda: sum(member.status is MemberStatus.ALIVE for member in client.members()) == 2 or None,
                )
            try_client(a, b)
            try_command_line(a, b)
            try_health_and_reflection(a)
            b.stop()
            a.stop()
        try_restart(data)
    tried = ("grpcio", "protobuf", "click", "rich", "structlog", "xxhash")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in tried)
    sys.stdout.write(f"all of it works: Python {sys.version.split()[0]}, {versions}\n")


if __name__ == "__main__":
    main()
