"""What only shows over time: watched from a world's beginning, after every input of every node.

| check       | says                                                                                        |
| ----------- | ------------------------------------------------------------------------------------------- |
| `clocks`    | a life's Lamport clock never goes back                                                      |
| `shares`    | what a node reads of another one's share of a counter never goes back                       |
| `invention` | nobody covers more of an origin than it wrote                                               |
| `ghosts`    | at no moment does anybody show what it knows to be deleted                                  |
| `readiness` | who began with nothing takes no writes before it has met its cluster, or waited for it      |
| `leases`    | at no moment does anybody show what is over, or hide what is not                            |
| `folds`     | nobody folds a life before it has been over for the retention                               |
| `recovery`  | what a node finds on its disk is what it had when it crashed                                |
| `sessions`  | who asks with a token is shown all that it has written and seen, and its writes win over it |
| `heals`     | the backstop is needed only for what is known to need it: see heals.py                      |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from gossip_grpc.core.messages import Notice
from gossip_grpc.core.records import Dot, Kind, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.sim.checkers import Deletion, check, ghosts_of, leases_of, order, purged
from gossip_grpc.sim.heals import unexplained
from gossip_grpc.sim.host import Host
from gossip_grpc.sim.sessions import Told
from gossip_grpc.sim.world import World

MAX_RATE = 2
"""How many times too fast a node's steady clock may run: its bootstrap window is shorter by that."""

_MAX_GHOSTS = 20
"""Beyond so many violations ghosts are not listed any more: each is seen again after every input."""


class Monitor:
    """Watches a world from its start for what only shows over time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._violations: list[str] = []
        self._written: dict[Origin, int] = {}
        self._clocks: dict[tuple[Origin, int], int] = {}
        self._shares: dict[tuple[Origin, int, str, Origin], tuple[int, int]] = {}
        self._leases: dict[str, dict[str, None]] = defaultdict(dict)
        self._seen = 0
        self._folded = 0
        self._deletions: dict[str, list[Deletion]] = defaultdict(list)
        self._versions: dict[Origin, int] = {}
        self._states: dict[str, tuple[Store, int, int]] = {}
        self._writes = world.history.writes
        self._dots: dict[str, dict[Dot, None]] = defaultdict(dict)
        self._known: dict[tuple[str, str], Record] = {}
        world.after_call.append(self._after_call)
        world.after_input.append(self._after_input)
        world.after_heal.append(self._after_heal)
        world.after_load.append(self._after_load)
        world.checker = lambda world: [*self.look(), *check(world)]
        for host in world.hosts.values():
            self._after_input(host)

    def look(self) -> list[str]:
        """What has gone wrong so far."""
        self._look_at_shares()
        self._look_at_coverage()
        found, self._violations = self._violations, []
        return found

    def _after_heal(self, host: Host, notice: Notice) -> None:
        """The backstop is needed only for what is known to need it."""
        problem = unexplained(self._world, host, notice)
        if problem is not None:
            self._violations.append(f"heals: {problem} (at {self._world.now:.3f} s)")

    def _after_input(self, host: Host) -> None:
        engine = host.engine
        if engine is None:
            return
        store = engine.store
        if self._folded < len(self._world.history.folds.made):
            self._look_at_folds(host)
        if self._leases:
            self._look_at_leases(host)
        time = store.clock.time
        state = self._states.get(host.name)
        if (
            state is not None
            and state[1] == store.version
            and state[2] == time
            and state[0] is store
            and self._seen == len(self._writes)
        ):
            return  # nearly always, and this is called for every message
        origin = store.origin
        self._states[host.name] = (store, store.version, time)
        life = (origin, host.restores)
        before = self._clocks.get(life, 0)
        if time < before:
            self._violations.append(f"clocks: that of {host.name} went back from {before} to {time}")
        self._clocks[life] = time
        self._written[origin] = max(store.coverage.sequence(origin), self._written.get(origin, 0))
        self._look_at_writes(host)
        if self._versions.get(origin) != store.version:
            self._versions[origin] = store.version
            self._look_for_ghosts(host)

    def _after_load(self, host: Host, store: Store) -> None:
        """What a node finds on its disk is what it had when it crashed."""
        for name, (before, after) in _image_differences(host.store, store).items():
            self._violations.append(f"recovery: {host.name} crashed with the {name} {before} and starts with {after}")

    def _look_at_folds(self, host: Host) -> None:
        """Nobody folds a life before it has been over for the retention: who is cut off for less keeps its writes."""
        history, now = self._world.history, self._world.now
        for name, fold in history.folds.made[self._folded :]:
            for life in history.lives:
                if life.node != name or not fold.first <= life.origin.generation <= fold.last:
                    continue
                present = self._world.hosts[name].store.origin
                end = life.end if life.end is not None or present == life.origin else 0.0
                if end is None or now - end < host.spec.retention / MAX_RATE:
                    self._violations.append(
                        f"folds: {host.name} folded {life} at {now:.3f} s; the retention is {host.spec.retention:g} s"
                    )
        self._folded = len(history.folds.made)

    def _look_at_leases(self, host: Host) -> None:
        """At no moment does anybody show what is over, or hide what is not."""
        if len(self._violations) < _MAX_GHOSTS:
            now = self._world.now
            found = leases_of(host, self._leases[host.cluster], now)
            self._violations += [f"leases: {problem} (at {now:.3f} s)" for problem in found]

    def _after_call(self, host: Host, told: Told) -> None:
        """Whoever answers a session covers all that it has written and seen, and shows none of it undone."""
        dots = self._dots[told.session]
        lacking = [str(dot) for dot in dots if not host.store.coverage.covers(*dot)]
        if lacking:
            self._violations.append(
                f"sessions: {host.name} answered {told.session} at {self._world.now:.3f} s and does not cover its "
                f"{', '.join(lacking)}"
            )
        dots.update(dict.fromkeys(record.dot for record in told.records))
        if told.key is None or any(key == told.key for _, _, key in self._world.history.rots):
            return
        name, record = (told.session, told.key), told.records[0] if told.records else None
        known = self._known.get(name)
        if known is not None and self._world.history.folds.doubts(known.dot):
            known = None  # let go of with its life
        if known is None or (record is not None and order(record) > order(known)):
            if record is not None:
                self._known[name] = record
        elif told.wrote and record is not None:
            self._violations.append(f"sessions: {told.session} wrote {record}, which loses to {known}, which it knew")
        elif not told.wrote and record != known and not self._deleted(host, known, record):
            self._violations.append(
                f"sessions: {host.name} showed {told.session} {record} at {self._world.now:.3f} s; it knew {known}"
            )

    def _deleted(self, host: Host, known: Record, shown: Record | None) -> bool:
        """Whether what a session knew was deleted, and that purged, so that nothing or something older is shown."""
        return any(
            record.deletes
            and order(record) >= order(known)
            and host.store.coverage.covers(*record.dot)
            and (shown is None or purged(host.store, record))
            for write in self._world.history.about(("register", str(known.slot)))
            for record in write.records
        )

    def _look_at_writes(self, host: Host) -> None:
        """Nobody who began with nothing takes writes before it has met its cluster, or waited for it."""
        writes = self._world.history.writes
        for write in writes[self._seen :]:
            if write.verb in ("delete", "set-remove") or any(record.is_lease for record in write.records):
                cluster = self._world.hosts[write.node].cluster
                self._deletions[cluster] += [(record, write.seen) for record in write.records if record.deletes]
                self._leases[cluster] |= {str(record.slot): None for record in write.records if record.is_lease}
            if not write.acknowledged or write.node != host.name or host.life.from_disk or host.spec.nodes == 1:
                continue
            alone = host.store.coverage.origins() <= {host.store.origin}
            if alone and write.time < host.life.start + host.spec.bootstrap / MAX_RATE:
                self._violations.append(f"readiness: {write} was taken by a node that had met nobody yet")
        self._seen = len(writes)

    def _look_for_ghosts(self, host: Host) -> None:
        """At no moment does anybody show what it knows to be deleted: a heal soon after would hide it."""
        deletions = self._deletions[host.cluster]
        if deletions:
            rotten = {key for _, _, key in self._world.history.rots}
            doubts = self._world.history.folds.doubts
            suspects = [
                one
                for one in deletions
                if not (one[0].kind is Kind.REGISTER and one[0].slot in rotten) and not doubts(one[0].dot)
            ]
            found = [f"ghosts: {ghost} (at {self._world.now:.3f} s)" for ghost in ghosts_of(host, suspects)]
            self._violations += found[: max(0, _MAX_GHOSTS - len(self._violations))]

    def _look_at_shares(self) -> None:
        """What a node reads of another one's share of a counter never goes back."""
        for host in self._world.live():
            store = host.store
            for key in store.counter_keys():
                for origin in store.counter_origins(key):
                    now = store.share(key, origin)
                    name = (store.origin, host.restores, key, origin)
                    before = self._shares.get(name, (0, 0))
                    if now[0] < before[0] or now[1] < before[1]:
                        self._violations.append(
                            f"shares: {host.name} read {before}, then {now} of {origin} in counter {key}"
                        )
                    self._shares[name] = now

    def _look_at_coverage(self) -> None:
        """Nobody covers more of an origin than it wrote."""
        for host in self._world.live():
            coverage = host.store.coverage
            for origin in sorted(coverage.origins()):
                if coverage.highest(origin) > self._written.get(origin, 0):
                    self._violations.append(
                        f"invention: {host.name} covers {origin}:{coverage.highest(origin)}; "
                        f"{origin} wrote {self._written.get(origin, 0)} times"
                    )


def _image_differences(one: Store, other: Store) -> dict[str, tuple[object, object]]:
    """In what two stores differ of all that a disk keeps, and what of it each has alone."""
    before, after = _image(one), _image(other)
    found: dict[str, tuple[object, object]] = {}
    for name, parts in before.items():
        if parts != after[name]:
            both = parts.items() & after[name].items()
            found[name] = (dict(parts.items() - both), dict(after[name].items() - both))
    return found


def _image(store: Store) -> dict[str, dict[Hashable, Hashable]]:
    store.keep_journal()
    changes = store.take_changes()
    kept = changes.kept if changes is not None else []
    origins = changes.origins if changes is not None else {}
    return {
        "records": {one.record.dot: (one.area, one.since) for one in kept},
        "origins": {origin: known for origin, known in origins.items() if known is not None},
        "folds": {name: store.coverage.folded[name] for name in store.coverage.folded},
        "clock": {"time": store.clock.time},
    }
