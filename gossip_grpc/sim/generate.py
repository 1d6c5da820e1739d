"""Random schedules: a seed in, the text of a scenario out.

Each seed takes some of the verbs and some of the faults, not all (swarm testing: Groce et al., ISSTA 2012): a bug that
needs deletions and partitions shows sooner where not every other line is a crash. Keys are few, so that writes meet.
A schedule ends by healing everything, and asks for agreement.
"""

from __future__ import annotations

import random
from collections.abc import Callable

KEYS = ("a", "b")
ELEMENTS = ("x", "y")
VERBS = ("put", "put", "delete", "own", "own-delete", "add", "add", "reset", "set-add", "set-remove")

AGREE = 40.0
"""Seconds within which all nodes must agree once everything is healed: some dozen rounds, and a bootstrap."""

LONG = 10.0
"""A long schedule, in which cuts last for hours and the retention is minutes, has rounds so many times as far apart."""


class _Author:
    """Writes one schedule, keeping track of what is up, paused and cut."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(f"schedule {seed}")
        self.lines: list[tuple[float, str]] = []
        self.now = 0.0
        self.nodes = [f"n{number}" for number in range(1, rng.choice([2, 3, 3, 4, 4, 5, 6]) + 1)]
        self.crashed: dict[str, float] = {}
        self.paused: set[str] = set()
        self.written = 0
        self.lossy = False
        self.retention = rng.choice([4, 8, 8, 3600])
        faults: dict[str, tuple[int, Callable[[], None]]] = {
            "cut": (4, self.cut),
            "heal": (1, lambda: self.say("heal")),
            "crash": (2, self.crash),
            "crash-disk": (2, self.crash_with_disk),
            "pause": (1, self.pause),
            "loss": (2, self.loss),
            "link": (1, self.link),
            "slow": (1, self.slow),
            "rot": (1, self.rot),
            "silence": (2, self.silence),
            "skew": (1, self.skew),
            "drift": (1, self.drift),
            "join": (1, self.join),
        }
        chosen = rng.sample(sorted(faults), rng.randint(1, 5))
        self.verbs = rng.sample(VERBS, rng.randint(3, len(VERBS)))
        self.keys: tuple[str, ...] = KEYS
        if rng.random() < 0.4:  # deletions of one key that purging, cuts and late arrivals get between
            self.keys = KEYS[:1]
            self.verbs = ["put", "delete"]
            self.retention = 4
            chosen = ["cut", "heal", "silence", *rng.sample(sorted(faults), 1)]
        # Of a source of its own: schedules without leases and backups stay what they were.
        self.ends = ends = random.Random(f"ends {seed}")
        self.leases = ends.choice([(), (), ("ttl",), ("ephemeral",), ("ttl", "ephemeral")])
        self.snapshots: dict[str, float] = {}
        self.long = ends.random() < 0.04
        if self.long:
            self.retention = ends.choice([60, 120])
            chosen = sorted({*chosen, "cut", "silence"})
        # Of a source of its own: what clients without sessions do stays what it was.
        self.carried = random.Random(f"sessions {seed}")
        self.sessions = self.carried.choice([0, 0, 1, 2])
        # And this of its own too.
        self.asked = random.Random(f"requests {seed}")
        self.requests: dict[str, list[int]] | None = {} if self.asked.random() < 0.5 else None
        self.faults = [faults[name][1] for name in chosen for _ in range(faults[name][0])]
        if ends.random() < 0.25:
            self.faults += [self.backup, self.backup]
        self.seed = seed

    def write(self) -> str:
        """The text."""
        rng = self.rng
        latency = rng.choice(["1ms", "1ms..5ms", "1ms..200ms", "20ms..50ms", "100ms..900ms"])
        # A pushed delta takes a round trip a chunk: in tiny chunks and with seconds each, longer than we wait.
        chunk = rng.choice([32, 64, 200, 4096]) if latency != "100ms..900ms" else 4096
        settings = [
            f"strategy={rng.choice(['push', 'pull', 'push-pull', 'push-pull', 'push-pull'])}",
            f"selector={rng.choice(['random', 'random', 'round-robin', 'hypercube', 'zone-aware'])}",
            f"fanout={rng.choice([0, 1, 1, 2, 3])}",
            f"retention={self.retention}s",
            f"chunk={chunk}",
            f"zones={rng.choice([1, 1, 2])}",
        ]
        if latency == "100ms..900ms" or rng.random() < 0.7:
            # Failure detection is not for such networks as it is set here, and heartbeats take time to simulate.
            settings.append("heartbeat=1h")
        if self.long:
            settings += [f"interval={LONG:g}s", "timeout=2s"]
            settings = [*(setting for setting in settings if setting != "heartbeat=1h"), "heartbeat=1h"]
        if rng.random() < 0.3:
            settings.append("start=cold")
        troubles = [("loss", [5, 20, 40]), ("duplicate", [5, 30]), ("reorder", [5, 30])]
        trouble = [f"{name}={rng.choice(shares)}%" for name, shares in troubles if rng.random() < 0.3]
        if trouble:  # of all links, until somebody mends them
            for node in self.nodes:
                self.say(f"link {node} {' '.join(trouble)}")
        head = [
            f"# Random schedule {self.seed}.",
            f"cluster {len(self.nodes)} {' '.join(settings)}",
            f"network latency={latency}",
        ]
        self.now = 12.0 if "start=cold" in settings else 1.0
        for _ in range(rng.randint(20, 70)):
            self.now += rng.choice([0.0, 0.001, 0.02, 0.3, 1.0])
            if rng.random() < 0.3:
                rng.choice(self.faults)()
            else:
                self.client()
            if rng.random() < 0.05:
                self.say("check")
        self.mend()
        lines = [f"at {_duration(time)} {line}" for time, line in sorted(self.lines, key=lambda entry: entry[0])]
        return "\n".join([*head, *lines, f"end {_duration(self.now)}"]) + "\n"

    def say(self, line: str, after: float = 0.0) -> None:
        self.lines.append((self.now + after, line))

    # What clients do

    def client(self) -> None:
        """One write, or a few at the same moment at several nodes."""
        key = self.rng.choice(self.keys)
        for node in self.rng.sample(self.nodes, self.rng.choice([1, 1, 1, min(2, len(self.nodes))])):
            verb = self.rng.choice(self.verbs)
            self.written += 1
            if verb == "put":
                self.ask(node, f"put {key} v{self.written}{self.lease()}")
            elif verb == "own":
                self.ask(node, f"put own-{node} v{self.written}{self.lease()}")
            elif verb == "own-delete":
                self.ask(node, f"delete own-{node}")
            elif verb == "add":
                self.ask(node, self.addition(key, self.rng.choice([1, 2, 10, -1])))
            elif verb in ("set-add", "set-remove"):
                self.ask(node, f"{verb} {key} {self.rng.choice(ELEMENTS)}")
            else:
                self.ask(node, f"{verb} {key}")

    def ask(self, node: str, what: str) -> None:
        """Anybody's write, or that of a client with a session, which then reads somewhere."""
        if not self.sessions or self.carried.random() < 0.3:
            self.say(f"{node} {what}")
            return
        session = f"s{self.carried.randint(1, self.sessions)}"
        self.say(f"{node} as {session} {what}")
        while self.carried.random() < 0.5:
            after = self.carried.choice([0.0, 0.005, 0.3])
            self.say(f"{self.carried.choice(self.nodes)} as {session} get {self.carried.choice(self.keys)}", after)

    def addition(self, key: str, amount: int) -> str:
        """A new addition, or, of a client that had no answer, one that was asked for before."""
        if self.requests is None or self.asked.random() < 0.3:
            return f"add {key} {amount}"
        made = self.requests.setdefault(key, [])
        if not made or self.asked.random() < 0.4:
            made.append(amount)
        number = self.asked.randrange(max(len(made) - 3, 0), len(made))
        return f"add {key} {made[number]} id=r{number + 1}"

    def lease(self) -> str:
        """Whether a value is to stay for ever, in words."""
        if not self.leases or self.ends.random() < 0.4:
            return ""
        words = {"ttl": f" ttl={self.ends.choice([200, 1000, 3000, 10000, 60000])}ms", "ephemeral": " ephemeral"}
        return "".join(words[lease] for lease in self.leases if self.ends.random() < 0.7)

    # What goes wrong

    def cut(self) -> None:
        """Two sides, one direction of a link, or everything mended."""
        nodes = self.rng.sample(self.nodes, len(self.nodes))
        where = self.rng.randint(1, len(nodes) - 1)
        how = self.rng.random()
        if how < 0.6:
            self.say(f"cut {' '.join(nodes[:where])} | {' '.join(nodes[where:])}")
        else:
            self.say(f"cut {nodes[0]} > {nodes[1]}")

    def crash(self) -> None:
        """A node dies and comes back empty."""
        self._crash("")

    def crash_with_disk(self) -> None:
        """A node dies and comes back with its state."""
        self._crash(" disk")

    def _crash(self, how: str) -> None:
        up = [node for node in self.nodes if node not in self.crashed or self.crashed[node] < self.now]
        if len(up) > 1:
            node = self.rng.choice(up)
            self.say(f"crash {node}{how}")
            later = self.rng.choice([0.01, 0.1, 1.0, 4.0])
            self.crashed[node] = self.now + later
            self.say(f"restart {node}", later)

    def backup(self) -> None:
        """A copy of a node's state is taken; later the node is lost and goes on from the copy."""
        node = self.ends.choice(self.nodes)
        taken = self.snapshots.get(node)
        if taken is None or (node in self.crashed and self.crashed[node] >= self.now):
            self.snapshots[node] = self.now
            self.say(f"snapshot {node}")
            return
        self.say(f"crash {node}")
        later = self.ends.choice([0.01, 1.0, 4.0])
        self.crashed[node] = self.now + later
        self.say(f"restore {node}", later)

    def pause(self) -> None:
        """A node stops for a while, as by SIGSTOP."""
        node = self.rng.choice(self.nodes)
        self.paused.add(node)
        self.say(f"pause {node}")
        self.say(f"resume {node}", self.rng.choice([0.5, 3.0, 8.0]))

    def loss(self) -> None:
        """A node's links lose messages for a while."""
        node = self.rng.choice(self.nodes)
        self.say(f"link {node} loss={self.rng.choice([30, 60, 90])}%")
        self.say(f"link {node} loss=0%", self.rng.choice([1.0, 5.0]))

    def link(self) -> None:
        """One link is bad."""
        one, other = self.rng.sample(self.nodes, 2)
        quality = self.rng.choice(["latency=300ms..900ms", "loss=70%", "duplicate=60%", "bandwidth=2KB", "reorder=50%"])
        self.say(f"link {one} {self.rng.choice(['', '> '])}{other} {quality}")

    def slow(self) -> None:
        """A node takes its time over every input."""
        node = self.rng.choice(self.nodes)
        self.say(f"slow {node} {self.rng.choice(['20ms', '100ms'])}")
        self.say(f"slow {node} 0ms", self.rng.choice([2.0, 6.0]))

    def rot(self) -> None:
        """A record vanishes from one node's store."""
        self.say(f"rot {self.rng.choice(self.nodes)} {self.rng.choice(KEYS)}")

    def silence(self) -> None:
        """Nothing happens for long enough that tombstones may be purged."""
        if self.long:
            self.now += self.ends.choice([1.5 * self.retention, 600, 3600, 7200])
        else:
            self.now += min(self.retention, 20) * self.rng.choice([1.0, 1.5])

    def skew(self) -> None:
        """A node's wall clock jumps."""
        self.say(f"skew {self.rng.choice(self.nodes)} +{self.rng.choice([30, 3600])}s")

    def drift(self) -> None:
        """A node's steady clock runs too slow or too fast."""
        self.say(f"drift {self.rng.choice(self.nodes)} {self.rng.choice([0.5, 2])}")

    def join(self) -> None:
        """A new node, which has to ask for everything."""
        if len(self.nodes) < 8:
            node = f"n{len(self.nodes) + 1}"
            self.say(f"join {node}")
            self.nodes.append(node)

    def mend(self) -> None:
        """Let all faults end, and ask for agreement; sometimes wait until tombstones should be gone."""
        self.now = max([self.now, *(time for time, _ in self.lines)]) + 0.5
        self.say("heal")
        self.now += 0.5
        agree = AGREE * LONG if self.long else AGREE
        self.say(f"agree {agree:g}s")
        self.now += agree
        if self.retention < 3600 and self.rng.random() < 0.2:
            self.now += 2.5 * self.retention + 60 * (LONG if self.long else 1)
            self.say("check")


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def generate(seed: int) -> str:
    """The schedule of a seed, in the language of scenarios."""
    return _Author(seed).write()
