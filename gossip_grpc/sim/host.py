"""A simulated node: the engine, and what a process and a machine are to it: clocks, a disk, a name, a peering."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from gossip_grpc import __version__
from gossip_grpc.core.detector import DetectorSettings
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.records import Dot, Member, Origin
from gossip_grpc.core.store import Store
from gossip_grpc.sim.disk import Disk
from gossip_grpc.sim.folds import Folds, Noted
from gossip_grpc.sim.history import Life
from gossip_grpc.sim.memo import Memo, MemoPeering
from gossip_grpc.sim.schedule import ClusterSpec

EPOCH = 1_700_000_000.0
"""Unix time at which every world begins. Generations are milliseconds of it, as in a node."""

NEVER = float("inf")


def address_of(cluster: int, number: int) -> str:
    """Where a node is reached: as long as addresses are, for they are in every message.

    Args:
        cluster: its place among the clusters, from 0.
        number: of the node, from 1.
    """
    return f"10.{cluster + 1}.{number // 256}.{number % 256}:7946"


class Host:
    """One node.

    Attributes:
        name: its node_id.
        spec: its cluster.
        address: where it is reached now; swaps change it, and the process finds out when it starts again.
        engine: the state machine; None while there is no process.
        store: the records; of the last life while there is none. Empty after a crash that took the disk.
        disk: what is kept of it, if anything is. It is written after every input.
        backup: a copy of the disk, as of the last snapshot.
        peering: turns calls into bytes and back. Meaningless while it is down.
        up: whether there is a process.
        paused: whether it stands still, as by SIGSTOP. What arrives waits.
        left: whether it has left in order.
        slow: seconds that each input takes.
        hindered: whether it is paused or slow, so that what arrives must wait.
        life: the present life, or the last one.
        lives: how many there have been.
        restores: how many of them began from a backup.
        adjusted: when its clocks were last set, it was started or it went on after a pause: what is due by the clock
            may be done a moment later then.
        set_back: whether its wall clock was ever set back.
        lacks: dots of acknowledged writes that it does not cover yet.
        timer: virtual time of the earliest timer set for the engine.
        version: the store's version after the last input.
        waiting: what has arrived while it was paused.
        busy: when it has done what it was given; for slow nodes.
        random: its share of the network's randomness.
    """

    __slots__ = (
        "_offset",
        "_rate",
        "_seed",
        "_seeds",
        "_wall_offset",
        "address",
        "adjusted",
        "backup",
        "busy",
        "disk",
        "engine",
        "hindered",
        "lacks",
        "left",
        "life",
        "lives",
        "name",
        "number",
        "paused",
        "peering",
        "random",
        "restores",
        "set_back",
        "slow",
        "spec",
        "store",
        "timer",
        "up",
        "version",
        "waiting",
    )

    def __init__(self, name: str, number: int, spec: ClusterSpec, address: str, seeds: list[str], seed: int) -> None:
        self.name = name
        self.number = number
        self.spec = spec
        self.address = address
        self.store = Store(Origin(name, 0))
        self.peering: MemoPeering
        self.life: Life
        self.lives = self.restores = 0
        self.adjusted = 0.0
        self.set_back = False
        self.disk: Disk | None = None
        self.backup: Disk | None = None
        self.up = self.paused = self.left = self.hindered = False
        self.slow = 0.0
        self.busy = 0.0
        self.lacks: dict[Dot, None] = {}
        self.timer = NEVER
        self.version = -1
        self.waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.random = random.Random(f"{seed}/network/{name}")
        self.engine: Engine | None = None
        self._seed = seed
        self._seeds = seeds
        self._rate = 1.0
        self._offset = 0.0
        self._wall_offset = 0.0

    @property
    def cluster(self) -> str:
        """The name of its cluster."""
        return self.spec.name

    # Clocks

    def clock(self, now: float) -> float:
        """Its steady clock, which the engine is given, at a virtual time."""
        return now * self._rate + self._offset

    def when(self, clock: float) -> float:
        """The virtual time at which its steady clock shows `clock`."""
        return (clock - self._offset) / self._rate

    def wall(self, now: float) -> float:
        """Its wall clock: Unix time in seconds."""
        return EPOCH + now + self._wall_offset

    def skew(self, seconds: float, now: float) -> None:
        """Let the wall clock jump."""
        self._wall_offset += seconds
        self.set_back = self.set_back or seconds < 0
        self.set_wall_clock(now)

    def drift(self, rate: float, now: float) -> None:
        """Let the steady clock run so many times as fast as time from now on."""
        self._offset = self.clock(now) - now * rate
        self._rate = rate
        self.set_wall_clock(now)

    @property
    def steady(self) -> bool:
        """Whether the steady clock runs as fast as time."""
        return self._rate == 1.0

    def set_wall_clock(self, now: float) -> None:
        """Tell the engine how far Unix time is from its clock, as the scheduler of a node does now and then."""
        self.adjusted = now
        self._set_offset(now)

    def follow_wall_clock(self, now: float) -> None:
        """The same where one clock runs away from the other."""
        if not self.steady:
            self._set_offset(now)

    def _set_offset(self, now: float) -> None:
        if self.engine is not None:
            self.engine.wall_offset = self.wall(now) - self.clock(now)

    # Processes

    def member(self) -> Member:
        """What it says of itself."""
        zone = f"z{(self.number - 1) % self.spec.zones + 1}" if self.spec.zones > 1 else ""
        client = f"{self.address.rpartition(':')[0]}:7947"
        return Member(0, self.address, client, zone, {}, __version__)

    def new_origin(self, now: float) -> Origin:
        """The identity of a life that begins without the state of the one before."""
        return Origin(self.name, int(self.wall(now) * 1000))

    def start(
        self,
        now: float,
        memo: Memo,
        folds: Folds,
        *,
        store: Store | None = None,
        ready: bool = False,
        restored: bool = False,
        seeds: list[str] | None = None,
    ) -> None:
        """Start the process.

        Args:
            now: virtual time.
            memo: the world's.
            folds: the history's.
            store: what the disk has; None for an empty node.
            ready: whether it need not sync before it takes writes.
            restored: whether the disk is a backup.
            seeds: addresses to join by; by default those of the cluster.
        """
        spec = self.spec
        origin = store.origin if store is not None else self.new_origin(now)
        seeds = self._seeds if seeds is None else seeds
        self._seeds = seeds
        settings = Settings(
            strategy=spec.strategy,
            selector=spec.selector,
            fanout=spec.fanout,
            gossip_interval=spec.interval,
            rumor_interval=spec.gather,
            bootstrap_window=spec.bootstrap,
            tombstone_retention=spec.retention,
            has_seeds=not ready and any(seed != self.address for seed in seeds),
            detector=DetectorSettings(
                heartbeat_interval=spec.heartbeat, phi_threshold=spec.threshold, acceptable_pause=spec.pause
            ),
            limits=Limits(chunk_bytes=spec.chunk, max_inbound_syncs=spec.syncs),
        )
        self.lives += 1
        rng = random.Random(f"{self._seed}/engine/{self.name}/{self.lives}")
        clock = self.clock(now)
        if store is not None:
            self._keep(store, folds, fresh=False)
        engine = Engine(origin, self.member(), settings, rng, clock, store)
        if store is None:
            self._keep(engine.store, folds, fresh=True)
        engine.set_seeds(seeds, clock)
        self.engine = engine
        self.set_wall_clock(now)
        self.store = engine.store
        self.peering = MemoPeering(engine, memo, cluster=spec.name, address=self.address)
        self.life = Life(self.name, engine.store, now, from_disk=store is not None, restored=restored)
        self.restores += restored
        self.up = True
        self.left = False
        self.timer = NEVER
        self.version = -1
        self.busy = now

    def _keep(self, store: Store, folds: Folds, *, fresh: bool) -> None:
        """Have what the store folds noted, and its changes written to the disk, if it has one."""
        store.coverage = Noted(store.coverage, folds)
        if self.disk is None:
            return
        if fresh:
            self.disk = Disk()
        store.keep_journal()
        if not fresh and self.disk.origin is not None:
            store.take_changes()  # the disk has all that

    def load(self, now: float, origin: Origin | None = None) -> Store:
        """What the disk has."""
        assert self.disk is not None  # noqa: S101 - whoever loads has kept
        return self.disk.load(self.clock(now), origin)

    def save(self) -> None:
        """Write down what has changed; all of it, if there was no disk until now."""
        if self.disk is None:
            self.disk = Disk()
            self.store.keep_journal()
        self.disk.follow(self.store)

    def stop(self, now: float, how: str) -> None:
        """End the process without a word. A pause ends with it."""
        self.life.close(now, how)
        self.engine = None
        self.up = self.paused = False
        self.hindered = self.slow > 0
        self.timer = NEVER
        self.waiting.clear()

    def __repr__(self) -> str:
        return f"Host({self.name}{'' if self.up else ', down'}{', paused' if self.paused else ''})"
