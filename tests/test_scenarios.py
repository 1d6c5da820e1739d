"""Scenarios: transcripts of a cluster in virtual time, told in plain text in tests/scenarios/.

A scenario is a sequence of blocks, apart from each other by empty lines: comments (`# ...`), commands one a line, a
line `----`, and what the commands print. A test runs the commands and compares what they print with what is written.

    # The write reaches the other node.
    put n0 x hello
    run 1s
    get x
    ----
    n0: wrote n0/1:2
    n0: hello
    n1: hello

`pytest tests/test_scenarios.py --rewrite-scenarios` writes what they print now as what is expected. Read the difference
before you commit it: it is a change of the protocol's behaviour.

| command                                    | does                                                                |
| ------------------------------------------ | ------------------------------------------------------------------- |
| `cluster N [SETTING=VALUE ...]`            | starts n0 ... n<N-1>, joined through n0, and waits until they agree |
| `put NODE KEY TEXT`, `delete NODE KEY`     | writes a register                                                   |
| `add NODE KEY AMOUNT`, `reset NODE KEY`    | writes a counter                                                    |
| `set-add`, `set-remove NODE KEY ELEMENT`   | writes a set                                                        |
| `get KEY`, `count KEY`, `set KEY`          | shows what each node has                                            |
| `run DURATION`                             | lets time pass (`5ms`, `3s`, `2m`); prints what nodes log meanwhile |
| `agree DURATION`                           | lets time pass until all nodes that are up agree                    |
| `partition NODE ...`, `heal`               | cuts these nodes off from the others                                |
| `loss PERCENT`                             | loses that share of all calls from now on                           |
| `silence`                                  | lets no node begin another round, so that only rumors spread        |
| `kill NODE`, `restart NODE SEED`, `leave NODE` | stops a node; starts it empty, in a new life; makes it leave    |
| `status`                                   | shows what each node counts and covers                              |
| `members NODE`                             | shows the members as a node sees them                               |
| `calls`                                    | counts the calls made since it was last asked                       |
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.messages import Call, PullRequest, PushRequest
from gossip_grpc.core.records import Record
from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.store import member_of
from gossip_grpc.core.sync import Strategy
from gossip_grpc.errors import ProtocolError
from tests.virtual import VirtualCluster

SCENARIOS = Path(__file__).parent / "scenarios"

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def seconds(duration: str) -> float:
    number = duration.rstrip("ms")
    return float(number) * UNITS[duration.removeprefix(number)]


class Interpreter:
    """Runs the commands of one scenario."""

    def __init__(self) -> None:
        self.cluster = VirtualCluster()
        self.settings = Settings()
        self.told = 0

    def run(self, line: str) -> list[str]:
        """Run one command; returns the lines it prints."""
        name, *words = line.split()
        command: Callable[..., Iterator[str]] | None = getattr(self, f"do_{name.replace('-', '_')}", None)
        if command is None:
            raise ValueError(f"unknown command: {line}")
        try:
            return list(command(*words))
        except ProtocolError as error:
            return [f"{error.reason}: {error}"]

    def do_cluster(self, count: str, *settings: str) -> Iterator[str]:
        given = dict(setting.split("=") for setting in settings)
        self.settings = Settings(
            strategy=Strategy(given.pop("strategy", "push-pull")),
            selector=SelectorKind(given.pop("selector", "random")),
            fanout=int(given.pop("fanout", "3")),
            tombstone_retention=seconds(given.pop("retention", "1440m")),
        )
        assert not given, f"unknown settings: {given}"
        self.cluster.grow(int(count), self.settings)
        agreed = self.cluster.run(
            30.0, lambda: self.cluster.agreed() and all(e.ready for e in self.cluster.engines.values())
        )
        self.cluster.run(5.0)  # what the start has set off comes to its end
        self.told = len(self.cluster.notices)
        self.cluster.calls.clear()
        yield f"{count} nodes agree" if agreed else "no agreement"

    # Writing

    def write(self, node: str, verb: Callable[[Engine, float], Record | list[Record] | None]) -> Iterator[str]:
        written: list[Record] = []

        def action(engine: Engine, now: float) -> None:
            made = verb(engine, now)
            written.extend(made if isinstance(made, list) else [made] if made else [])

        self.cluster.act(node, action)
        yield f"{node}: wrote {', '.join(str(record.dot) for record in written) or 'nothing'}"

    def do_put(self, node: str, key: str, *text: str) -> Iterator[str]:
        return self.write(node, lambda engine, now: engine.put(key, " ".join(text), now))

    def do_delete(self, node: str, key: str) -> Iterator[str]:
        return self.write(node, lambda engine, now: engine.delete(key, now))

    def do_add(self, node: str, key: str, amount: str) -> Iterator[str]:
        return self.write(node, lambda engine, now: engine.add(key, int(amount), now))

    def do_reset(self, node: str, key: str) -> Iterator[str]:
        return self.write(node, lambda engine, now: engine.reset(key, now))

    def do_set_add(self, node: str, key: str, *elements: str) -> Iterator[str]:
        return self.write(node, lambda engine, now: engine.set_add(key, list(elements), now))

    def do_set_remove(self, node: str, key: str, *elements: str) -> Iterator[str]:
        return self.write(node, lambda engine, now: engine.set_remove(key, list(elements), now))

    # Reading

    def show(self, what: Callable[[Engine], object]) -> Iterator[str]:
        for name, engine in self.cluster.engines.items():
            yield f"{name}: {'down' if name in self.cluster.down else what(engine)}"

    def do_get(self, key: str) -> Iterator[str]:
        def value(engine: Engine) -> object:
            record = engine.store.register(key)
            return "-" if record is None else record.content

        return self.show(value)

    def do_count(self, key: str) -> Iterator[str]:
        return self.show(lambda engine: engine.store.counter(key))

    def do_set(self, key: str) -> Iterator[str]:
        return self.show(lambda engine: " ".join(sorted(map(str, engine.store.elements(key)))) or "-")

    def do_status(self) -> Iterator[str]:
        def status(engine: Engine) -> str:
            store = engine.store
            floor = ", ".join(f"{origin}:{sequence}" for origin, sequence in sorted(store.floor.items()))
            covered = ", ".join(
                f"{origin} {store.coverage.sequence(origin)}"
                + "".join(f" +{first}-{last}" for first, last in store.coverage.above(origin))
                for origin in sorted(store.coverage.origins())
            )
            return (
                f"{'ready' if engine.ready else 'not ready'}, {store.live} live, {store.tombstones} tombstones, "
                f"floor {floor or 'none'}; covers {covered}"
            )

        return self.show(status)

    def do_members(self, node: str) -> Iterator[str]:
        engine = self.cluster.engines[node]
        for name, record in sorted(engine.store.members().items()):
            reachable = "reachable" if name == node or engine.membership.reachable(name) else "unreachable"
            member = member_of(record)
            yield (
                f"{name}: {engine.membership.status(name)}, {reachable}, "
                f"generation {record.origin.generation}, incarnation {member.incarnation}"
            )

    def do_calls(self) -> Iterator[str]:
        def kind(call: Call) -> str:
            if isinstance(call.request, PullRequest):
                return "compares" if call.request.digest is None else "fetches"
            if call.round is None:
                return "rumors"
            return "sends" if isinstance(call.request, PushRequest) and call.request.delta is not None else "compares"

        counts = Counter(kind(call) for _, call in self.cluster.calls)
        self.cluster.calls.clear()
        yield ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"

    # Time and the network

    def do_run(self, duration: str) -> Iterator[str]:
        self.cluster.run(seconds(duration))
        return self.news()

    def do_agree(self, duration: str) -> Iterator[str]:
        agreed = self.cluster.run(seconds(duration), self.cluster.agreed)
        yield from self.news()
        yield f"agreed within {duration}" if agreed else f"no agreement within {duration}"

    def news(self) -> Iterator[str]:
        for name, notice in self.cluster.notices[self.told :]:
            if notice.level != "debug":
                facts = "".join(f", {fact}={value}" for fact, value in notice.facts.items())
                yield f"{name}: {notice.level}: {notice.event}{facts}"
        self.told = len(self.cluster.notices)

    def do_partition(self, *nodes: str) -> Iterator[str]:
        self.cluster.cut = lambda here, there: (here in nodes) != (there in nodes)
        return iter(())

    def do_heal(self) -> Iterator[str]:
        self.cluster.cut = lambda here, there: False
        return iter(())

    def do_loss(self, percent: str) -> Iterator[str]:
        self.cluster.loss = float(percent.rstrip("%")) / 100
        return iter(())

    def do_silence(self) -> Iterator[str]:
        self.cluster.silence()
        return iter(())

    def do_kill(self, node: str) -> Iterator[str]:
        self.cluster.kill(node)
        return iter(())

    def do_restart(self, node: str, seed: str) -> Iterator[str]:
        generation = self.cluster.engines[node].store.origin.generation + 1
        self.cluster.add(node, self.settings, generation=generation, seeds=(seed,))
        return iter(())

    def do_leave(self, node: str) -> Iterator[str]:
        self.cluster.act(node, lambda engine, now: engine.leave(now))
        self.cluster.run(0.1)
        yield f"{node}: {len(self.cluster.engines[node].leave_acks)} peers have it"


def play(text: str) -> str:
    """Run a scenario; returns it with what its commands printed in place of what was expected."""
    interpreter = Interpreter()
    played = []
    for block in text.strip().split("\n\n"):
        script = block.split("\n----")[0].splitlines()
        commands = [line for line in script if not line.startswith("#")]
        printed = [line for command in commands for line in interpreter.run(command)]
        if commands:
            script += ["----", *printed]
        played.append("\n".join(script))
    return "\n\n".join(played) + "\n"


def test_there_are_scenarios() -> None:
    assert len(list(SCENARIOS.glob("*.txt"))) >= 6


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text(encoding="utf-8")
    played = play(text)
    if request.config.getoption("--rewrite-scenarios"):
        path.write_text(played, encoding="utf-8")
        return
    difference = difflib.unified_diff(
        text.splitlines(), played.splitlines(), f"{path.name}, expected", f"{path.name}, printed", lineterm="", n=8
    )
    assert text == played, "\n".join(["see --rewrite-scenarios", *difference])


SMALL = """\
# Two nodes.
cluster 2
----
2 nodes agree

put n0 x hello world
run 10ms
get x
----
n0: wrote n0/1:2
n0: hello world
n1: hello world
"""


def test_what_is_expected_takes_no_part_in_what_is_printed() -> None:
    assert play(SMALL) == SMALL
    assert play(SMALL.replace("n1: hello world", "n1: anything\nelse")) == SMALL
    assert play("\n\n".join(block.split("\n----")[0] for block in SMALL.split("\n\n"))) == SMALL


def test_a_refusal_is_printed_with_its_reason() -> None:
    text = "cluster 1\nleave n0\nput n0 x 1"
    assert play(text).splitlines()[-1].startswith("STOPPING: the node is leaving")


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown command: jump n1"):
        play("jump n1")
