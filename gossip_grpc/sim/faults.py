"""Planted faults: mistakes one could make in the core, each as a patch at run time.

`gossip-grpc simulate check --plant NAME` runs the schedules against a core with that mistake; a test has every one
found within 500 seeds. A mistake that no checker sees would mean a missing checker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from gossip_grpc.core import engine as engine_module
from gossip_grpc.core import leases as leases_module
from gossip_grpc.core import records as records_module
from gossip_grpc.core import requests as requests_module
from gossip_grpc.core import store as store_module
from gossip_grpc.core import sync as sync_module
from gossip_grpc.core.aside import Aside
from gossip_grpc.core.clock import LamportClock
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.journal import Area, Changes, Knowledge
from gossip_grpc.core.logs import Log
from gossip_grpc.core.messages import Call
from gossip_grpc.core.records import RANKS, Kind, Origin, Record
from gossip_grpc.core.sessions import Session
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Comparison, Delta, Digest
from gossip_grpc.core.tallies import _Part
from gossip_grpc.core.transfer import InboundDelta
from gossip_grpc.sim.host import Host

Patch = tuple[Any, str, Any]
"""An object, the name of one of its attributes, and what stands there instead."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run with a fault.

    Raises:
        KeyError: there is no fault of that name.
    """
    with ExitStack() as stack:
        for target, attribute, substitute in FAULTS[name]():
            stack.enter_context(_patched(target, attribute, substitute))
        yield


@contextmanager
def _patched(target: Any, attribute: str, substitute: Any) -> Iterator[None]:
    mapping = isinstance(target, dict)
    original = target[attribute] if mapping else target.__dict__[attribute]
    if mapping:
        target[attribute] = substitute
    else:
        setattr(target, attribute, substitute)
    try:
        yield
    finally:
        if mapping:
            target[attribute] = original
        else:
            setattr(target, attribute, original)


def describe(name: str) -> str:
    """What the fault is, in a sentence."""
    return (FAULTS[name].__doc__ or "").strip()


# Coverage and deltas


def interrupted_delta_completes() -> list[Patch]:
    """A delta that broke off advances coverage to the sender's snapshot."""
    original = Engine.on_failure

    def on_failure(self: Engine, call: Call, error: str, now: float, *, answered: bool = False) -> None:
        inbound = self._deltas.get(call)
        if inbound is not None:
            inbound.complete()
        original(self, call, error, now, answered=answered)

    return [(Engine, "on_failure", on_failure)]


def coverage_without_holes() -> list[Patch]:
    """A pushed record covers all that its origin wrote before it."""

    def add(self: Coverage, origin: Origin, sequence: int) -> bool:
        return self.add_range(origin, 1, sequence)

    return [(Coverage, "add", add)]


def covered_dots_accepted() -> list[Patch]:
    """A record whose dot is covered is merged again."""

    def merge(self: Store, records: Iterable[Record], now: float, *, repair: bool = False) -> list[Record]:
        fresh = []
        for record in records:
            new = self.coverage.add(record.origin, record.sequence)
            self.clock.witness(record.clock)
            if self._apply(record, now, guarded=not repair) or new:
                fresh.append(record)
                self.version += 1
        return fresh

    return [(Store, "merge", merge)]


def delta_misses_its_first() -> list[Patch]:
    """A delta leaves out the first record that its digest lacks."""
    original = Store._missing

    def missing(self: Store, *arguments: Any) -> Iterator[Record]:
        yield from list(original(self, *arguments))[1:]

    return [(Store, "_missing", missing)]


def delta_ignores_ranges() -> list[Patch]:
    """A delta starts after the highest dot of an origin that is covered, holes below it or not."""
    original = Log.missing

    def missing(self: Any, origin: Origin, coverage: Coverage, held: Callable[[Record], bool]) -> list[Record]:
        found: list[Record] = original(self, origin, coverage, held)
        return [record for record in found if record.sequence > coverage.highest(origin)]

    return [(Log, "missing", missing)]


def snapshot_taken_late() -> list[Patch]:
    """A delta claims one write more of its sender than it holds."""
    original = Store.delta

    def delta(self: Store, base: Digest, *, repair: bool = False) -> Delta:
        made = original(self, base, repair=repair)
        own = [record for record in made.records if record.origin == self.origin and record.kind is not Kind.MEMBER]
        return replace(made, records=[record for record in made.records if record not in own[-1:]])

    return [(Store, "delta", delta)]


def delta_chunk_lost() -> list[Patch]:
    """A chunk in the middle of a fetched delta is not merged."""
    original = InboundDelta.merge

    def merge(self: InboundDelta, records: list[Record], *arguments: Any, **options: Any) -> list[Record]:
        keep = records if self.merged + self.ignored == 0 else records[:-1]
        return original(self, keep, *arguments, **options)

    return [(InboundDelta, "merge", merge)]


def foreign_base_taken() -> list[Patch]:
    """A delta that was made for a former life of this node is taken."""
    original = InboundDelta.__init__

    def init(self: InboundDelta, store: Store, header: Delta, **options: Any) -> None:
        original(self, store, replace(header, base=Digest()), **options)

    return [(InboundDelta, "__init__", init)]


# Winners


def tie_by_arrival() -> list[Patch]:
    """Of two registers with the same clock the one that arrives last wins."""

    def wins(new: Record, old: Record) -> bool:
        if new.kind is Kind.REGISTER:
            return new.clock >= old.clock
        return records_module.wins(new, old)

    return [(store_module, "wins", wins)]


def last_arrival_wins() -> list[Patch]:
    """Registers are taken as they arrive."""

    def wins(new: Record, old: Record) -> bool:
        return new.kind is Kind.REGISTER or records_module.wins(new, old)

    return [(store_module, "wins", wins)]


def deletion_always_wins() -> list[Patch]:
    """A tombstone wins over every value."""

    def rank(record: Record) -> tuple[Any, ...]:
        return (record.content is None, record.clock, record.origin.node_id, record.origin.generation)

    return [(RANKS, Kind.REGISTER, rank)]  # type: ignore[list-item]  # the name of an entry, here


def removal_always_wins() -> list[Patch]:
    """A removal wins over additions that it had not seen."""

    def rank(record: Record) -> tuple[Any, ...]:
        return (record.content[1], record.content[0], record.clock, record.origin, record.sequence)

    return [(RANKS, Kind.SET_ELEMENT, rank)]  # type: ignore[list-item]  # the name of an entry, here


def share_by_clock_of_the_reader() -> list[Patch]:
    """A counter's share goes back to an older one that arrives late."""

    def rank(record: Record) -> tuple[Any, ...]:
        return (-record.sequence,)

    return [(RANKS, Kind.COUNTER_SHARE, rank)]  # type: ignore[list-item]  # the name of an entry, here


def reset_cancels_everything() -> list[Patch]:
    """A counter that was reset counts nothing of the origins it names."""
    original = Store.counter

    def counter(self: Store, key: str) -> int:
        if any(self.get(Kind.COUNTER_RESET, (key, origin)) for origin in self.counter_origins(key)):
            return 0
        return original(self, key)

    return [(Store, "counter", counter)]


def nothing_is_void() -> list[Patch]:
    """What two nodes have counted for one request counts twice."""
    return [(Store, "void_repeats", lambda self, now, *, own=False: [])]


def every_node_takes_its_own() -> list[Patch]:
    """Of the additions for one request a node takes the one for counted that came to it first."""
    return [(requests_module, "_turn", lambda record: 0)]


def void_outlives_a_reset() -> list[Patch]:
    """A void takes away also what a reset has taken away."""
    original = _Part._count

    def count(self: _Part) -> None:
        original(self)
        if self.share > self.reset:
            self.value -= self.void_reset

    return [(_Part, "_count", count)]


def clock_not_merged() -> list[Patch]:
    """The Lamport clock does not take the maximum of what is merged."""
    return [(LamportClock, "witness", lambda self, time: None)]


def clock_goes_back() -> list[Patch]:
    """The Lamport clock follows the last record merged, backwards too."""

    def witness(self: LamportClock, time: int) -> None:
        self.time = max(time, 1)

    return [(LamportClock, "witness", witness)]


def clock_of_records_alone() -> list[Patch]:
    """Who takes over a sender's coverage does not take over its clock."""
    original = Store.complete

    def complete(self: Store, header: Delta, received: Coverage | None = None) -> int:
        return original(self, replace(header, clock=0), received)

    return [(Store, "complete", complete)]


# Deleting


def tombstone_forgotten_at_once() -> list[Patch]:
    """A tombstone is forgotten when it is made, and nobody is told of the floor."""

    def purge(self: Store, now: float, retention: float) -> int:
        dead = [record for record, _ in self._aside.tombstones.values() if self._in_slot(record)]
        for record in dead:
            self._remove(record)
            del self._aside.tombstones[record.dot]
        return len(dead)

    return [(Store, "purge", purge)]


def purged_unsettled() -> list[Patch]:
    """A tombstone is purged once it is old, whether all that its deleter had seen has arrived or not."""
    original = Store.purge

    def purge(self: Store, now: float, retention: float) -> int:
        learned = self._context
        self._context = {origin: self.coverage.highest(origin) for origin in self.coverage.origins()}
        purged = original(self, now, retention)
        self._context = learned
        return purged

    return [(Store, "purge", purge)]


def graves_forgotten() -> list[Patch]:
    """A superseded tombstone is not kept."""

    def bury(self: Aside, loser: Record, winner: Record | None, now: float) -> None:
        self.tombstones.pop(loser.dot, None)

    return [(Aside, "bury", bury)]


def purged_without_floor() -> list[Patch]:
    """Purging does not raise the floor, so that peers keep what was deleted."""
    original = Store.purge

    def purge(self: Store, now: float, retention: float) -> int:
        purged = original(self, now, retention)
        self.floor.clear()
        return purged

    return [(Store, "purge", purge)]


def full_sync_drops_nothing() -> list[Patch]:
    """At the end of a full delta nothing is dropped."""
    original = Store.complete

    def complete(self: Store, header: Delta, received: Coverage | None = None) -> int:
        return original(self, header, None)

    return [(Store, "complete", complete)]


def full_sync_drops_the_unseen() -> list[Patch]:
    """At the end of a full delta everything is dropped that it did not hold, seen by the sender or not."""
    original = Store.complete

    def complete(self: Store, header: Delta, received: Coverage | None = None) -> int:
        if received is not None:
            for record in list(self.records()):
                if record.kind is not Kind.MEMBER and not received.covers(*record.dot):
                    self.forget(record.kind, record.slot)
        return original(self, header, received)

    return [(Store, "complete", complete)]


def full_sync_drops_counters() -> list[Patch]:
    """At the end of a full delta counters are dropped that it did not hold, as what was deleted."""
    return [(store_module, "DELETABLE_KINDS", records_module.USER_KINDS)]


def tombstones_never_purged() -> list[Patch]:
    """Tombstones are kept for ever."""
    return [(Store, "purge", lambda self, now, retention: 0)]


# Values that are not to stay


def ended_value_shown() -> list[Patch]:
    """A value stays when its time has come."""
    return [(Store, "expire", lambda self, now: 0), (Store, "next_expiry", lambda self: float("inf"))]


def ended_value_forgotten_at_once() -> list[Patch]:
    """A value that is over is forgotten, where it should stand for its own deletion."""
    original = Store._age

    def age(self: Store, record: Record) -> None:
        original(self, record)
        self._remove(record)
        del self._aside.tombstones[record.dot]

    return [(Store, "_age", age)]


def ended_values_never_purged() -> list[Patch]:
    """A value that is over is kept for ever."""
    original = Store.purge

    def purge(self: Store, now: float, retention: float) -> int:
        aging = self._aside.tombstones
        self._aside.tombstones = {dot: entry for dot, entry in aging.items() if not entry[0].is_lease}
        before = set(self._aside.tombstones)
        purged = original(self, now, retention)
        gone = before - self._aside.tombstones.keys()
        self._aside.tombstones = {dot: entry for dot, entry in aging.items() if dot not in gone}
        return purged

    return [(Store, "purge", purge)]


def lease_fingerprinted() -> list[Patch]:
    """A value that is not to stay counts in the fingerprint, in which no two nodes agree when it ends."""
    original = Store._show

    def show(self: Store, record: Record) -> None:
        original(self, record)
        self.fingerprint = (self.fingerprint + record.sequence) % 2**64

    return [(Store, "_show", show)]


def ephemeral_value_of_the_dead_shown() -> list[Patch]:
    """An ephemeral value is shown whatever has become of its node."""
    return [(Store, "set_down", lambda self, node_id, now, down: None)]


def ephemeral_value_outlives_its_life() -> list[Patch]:
    """An ephemeral value stays when its node has begun another life."""

    def is_over(record: Record, unix: float, life: Origin | None) -> bool:
        return 0 < leases_module.lease_of(record).expires_at <= unix * 1000

    return [(store_module, "is_over", is_over)]


# Divergence


def fingerprints_not_compared() -> list[Patch]:
    """Equal coverage is taken for agreement, whatever the fingerprints are."""
    original = sync_module.compare

    def compare(ours: Digest, theirs: Digest) -> Comparison:
        return replace(original(ours, theirs), diverged=False)

    def digest_hash(self: Digest) -> int:
        return self.coverage.hash()

    return [(engine_module, "compare", compare), (Digest, "hash", digest_hash)]


def fingerprint_keeps_the_dead() -> list[Patch]:
    """A record that leaves its slot stays in the fingerprint."""
    original = Store._remove

    def remove(self: Store, record: Record) -> None:
        before = self.fingerprint
        original(self, record)
        self.fingerprint = before

    return [(Store, "_remove", remove)]


def repair_overtaken() -> list[Patch]:
    """A repair is merged though its receiver has purged tombstones since both sides compared."""
    return [(InboundDelta, "_check_repair", lambda self: None)]


def repair_of_everything() -> list[Patch]:
    """Different fingerprints are taken for divergence though coverage differs too."""
    original = sync_module.compare

    def compare(ours: Digest, theirs: Digest) -> Comparison:
        return replace(original(ours, theirs), diverged=ours.fingerprint != theirs.fingerprint)

    return [(engine_module, "compare", compare)]


# Lives


def folded_too_early() -> list[Patch]:
    """A life is folded as soon as a newer one is known, whoever is cut off."""
    original = Store.fold
    return [(Store, "fold", lambda self, now, age: original(self, now, 0.0))]


def floor_of_a_folded_life_dropped() -> list[Patch]:
    """With a life its floor is folded into nothing."""

    def join_floors(self: Store, now: float, age: float) -> None:
        for origin in [origin for origin in self.floor if self.coverage.is_folded(origin)]:
            del self.floor[origin]

    return [(Store, "_join_floors", join_floors)]


def fold_not_taken_over() -> list[Patch]:
    """What a sender has folded is not taken over at the end of its delta."""
    original = Coverage.merge

    def merge(self: Coverage, other: Coverage) -> set[str]:
        copy = other.copy()
        copy._folded = {}
        return original(self, copy)

    return [(Coverage, "merge", merge)]


def renewal_forgotten() -> list[Patch]:
    """A node goes on as the same origin though a peer knows more of it."""
    return [(Engine, "_recognize", lambda self, theirs, now: None)]


# Disks


def recovered_without_its_clock() -> list[Patch]:
    """A node that restarts from disk begins its Lamport clock anew."""
    return [(Store, "load", _loading(lambda clock, kept, origins, folded: (0, kept, origins, folded)))]


def recovered_without_the_superseded() -> list[Patch]:
    """A node that restarts from disk has lost what is kept beside the slots."""
    return [
        (
            Store,
            "load",
            _loading(
                lambda clock, kept, origins, folded: (
                    clock,
                    [one for one in kept if one.area is Area.SLOT],
                    origins,
                    folded,
                )
            ),
        )
    ]


def recovered_without_ranges() -> list[Patch]:
    """A node that restarts from disk takes what it covers above a hole for covered without one."""

    def change(clock: int, kept: Any, origins: dict[Origin, Knowledge], folded: Any) -> tuple[Any, ...]:
        closed = {
            origin: known._replace(sequence=known.above[-1][1], above=()) if known.above else known
            for origin, known in origins.items()
        }
        return clock, kept, closed, folded

    return [(Store, "load", _loading(change))]


def disk_keeps_what_is_gone() -> list[Patch]:
    """What a store lets go of stays on disk."""
    original = Store.take_changes

    def take_changes(self: Store) -> Changes | None:
        changes = original(self)
        return None if changes is None else changes._replace(gone=[])

    return [(Store, "take_changes", take_changes)]


def _loading(change: Callable[..., tuple[Any, ...]]) -> Any:
    """`Store.load` of a disk that is not what was written."""
    original = Store.load.__func__  # type: ignore[attr-defined]  # of the class method

    def load(
        cls: type[Store], origin: Origin, clock: int, kept: Any, origins: Any, folded: Any, now: float = 0.0
    ) -> Any:
        return original(cls, origin, *change(clock, kept, origins, folded), now)

    return classmethod(load)


def sequence_reused_after_loss() -> list[Patch]:
    """A node that lost its disk comes back under its old generation."""
    return [(Host, "new_origin", lambda self, now: Origin(self.name, 1))]


def writes_taken_before_the_first_sync() -> list[Patch]:
    """A node takes writes before it has synced with anybody."""
    return [(Engine, "_check_writable", lambda self: None)]


# Sessions


def session_not_waited_for() -> list[Patch]:
    """A node answers a session with what it has."""
    return [(Session, "missing", lambda self, coverage: Session())]


def session_met_with_holes() -> list[Patch]:
    """All writes of an origin up to one are taken for covered where one as late is."""

    def missing(self: Session, coverage: Coverage) -> Session:
        ends = tuple(end for end in self.complete if coverage.highest(end.origin) < end.sequence)
        return Session(self.clock, tuple(dot for dot in self.dots if not coverage.covers(*dot)), ends)

    return [(Session, "missing", missing)]


def session_forgets() -> list[Patch]:
    """A session is what its last call answered."""
    return [(Session, "merge", lambda self, other, exact=0: other)]


FAULTS: dict[str, Callable[[], list[Patch]]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        interrupted_delta_completes,
        coverage_without_holes,
        covered_dots_accepted,
        delta_misses_its_first,
        delta_ignores_ranges,
        snapshot_taken_late,
        delta_chunk_lost,
        foreign_base_taken,
        tie_by_arrival,
        last_arrival_wins,
        deletion_always_wins,
        removal_always_wins,
        share_by_clock_of_the_reader,
        reset_cancels_everything,
        nothing_is_void,
        every_node_takes_its_own,
        void_outlives_a_reset,
        clock_not_merged,
        clock_goes_back,
        clock_of_records_alone,
        tombstone_forgotten_at_once,
        purged_unsettled,
        graves_forgotten,
        purged_without_floor,
        full_sync_drops_nothing,
        full_sync_drops_the_unseen,
        full_sync_drops_counters,
        tombstones_never_purged,
        ended_value_shown,
        ended_value_forgotten_at_once,
        ended_values_never_purged,
        lease_fingerprinted,
        ephemeral_value_of_the_dead_shown,
        ephemeral_value_outlives_its_life,
        fingerprints_not_compared,
        fingerprint_keeps_the_dead,
        repair_overtaken,
        repair_of_everything,
        sequence_reused_after_loss,
        writes_taken_before_the_first_sync,
        folded_too_early,
        floor_of_a_folded_life_dropped,
        fold_not_taken_over,
        renewal_forgotten,
        recovered_without_its_clock,
        recovered_without_the_superseded,
        recovered_without_ranges,
        disk_keeps_what_is_gone,
        session_not_waited_for,
        session_met_with_holes,
        session_forgets,
    )
}
"""The faults by name."""
