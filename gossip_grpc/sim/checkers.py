"""The invariants, checked against what clients did: one function each, from a world to what is wrong in it.

They judge by the history alone (who wrote what, having seen what) and by their own order of records, so that a mistake
in the core cannot excuse itself. Each yields sentences for people.

| check         | says                                                                                              |
| ------------- | ------------------------------------------------------------------------------------------------- |
| `reflection`  | I1: a node that covers a write holds it, or what supersedes it, or it was deleted and purged      |
| `invention`   | nobody holds what nobody wrote                                                                    |
| `ghosts`      | who covers a deletion shows nothing that the deleter had seen                                     |
| `leases`      | a value that is not to stay is shown until it is over or its node is gone, and no longer          |
| `counters`    | a counter is the sum of the additions covered, less what resets covered had seen of it and voids  |
| `requests`    | nothing is void but what was counted for a request that another node counted too                  |
| `sets`        | additions win: an element is there if an addition of it is covered that no covered removal saw    |
| `causality`   | who writes over what it has seen wins; no dot names two writes                                    |
| `clocks`      | a node's Lamport clock is at least that of every write it covers                                  |
| `bookkeeping` | fingerprints, counts and listings are those of the records                                        |
| `messages`    | no message is above 4 MiB                                                                         |

and, once everything is healed and has agreed:

| check         | says                                                                                              |
| ------------- | ------------------------------------------------------------------------------------------------- |
| `convergence` | equal coverage, equal fingerprint, equal content                                                  |
| `durability`  | what was acknowledged is covered, unless its writer lost its memory before anybody had it         |
| `once`        | of the additions for one request one counts, and the others are void                              |
| `owners`      | a register that one node alone writes has that node's last word                                   |
| `oblivion`    | when nobody is missing, tombstones are purged after their retention                               |

What only shows over time is watched by the monitor (monitor.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Set
from typing import Any

from gossip_grpc.core.engine import Settings
from gossip_grpc.core.leases import lease_of
from gossip_grpc.core.records import (
    SYSTEM_KINDS,
    USER_KINDS,
    Dot,
    Kind,
    Lease,
    Origin,
    Record,
    Sums,
    Value,
    fingerprint,
    value_of,
)
from gossip_grpc.core.requests import receipt_of
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest
from gossip_grpc.sim.expiry import is_over, is_shown, may_be_over
from gossip_grpc.sim.history import Write
from gossip_grpc.sim.host import Host
from gossip_grpc.sim.world import PRELOAD, World

MAX_MESSAGE = 4 << 20

_OTHERS = (*SYSTEM_KINDS, Kind.COUNTER_RECEIPT, Kind.COUNTER_VOID)
"""Kinds of records that are not as a client gave them."""

Slot = tuple[Kind, Any]

Deletion = tuple[Record, Set[Dot]]
"""A tombstone, or what becomes one, as it was written, and what its writer had seen about it."""


class Truth:
    """What the clients of one cluster wrote, in the order in which they did."""

    def __init__(self, world: World, cluster: str) -> None:
        self.cluster = cluster
        self.machines = [host for host in world.hosts.values() if host.cluster == cluster]
        self.hosts = [host for host in self.machines if host.up]
        self.now = world.now
        names = {host.name for host in self.machines}
        self.writes = [write for write in world.history.writes if write.acknowledged and write.node in names]
        self.lives = [life for life in world.history.lives if life.node in names]
        self.slots: dict[Slot, list[Record]] = defaultdict(list)
        self.adds: dict[str, dict[Origin, list[tuple[Dot, int]]]] = defaultdict(lambda: defaultdict(list))
        self.resets: dict[str, list[Write]] = defaultdict(list)
        self._writes = {dot: write for write in self.writes for dot in write.dots}
        self.requests: dict[tuple[str, str], list[tuple[float, Record]]] = defaultdict(list)
        """Key and request_id -> the receipts written, with the time."""
        for write in self.writes:
            for record in write.records:
                if record.kind is Kind.COUNTER_RECEIPT:
                    self.requests[write.args[0], write.args[2]].append((write.time, record))
                else:
                    self.slots[record.kind, record.slot].append(record)
                    if write.verb == "add":
                        self.adds[write.args[0]][record.origin].append((record.dot, write.args[1]))
            if write.verb == "reset":
                self.resets[write.args[0]].append(write)
        self.folds = world.history.folds
        self.rotten: set[Slot] = {(Kind.REGISTER, key) for _, node, key in world.history.rots if node in names}

    def kept(self) -> Iterator[tuple[Slot, list[Record]]]:
        """The slots that no corruption has touched, each with all that was written to it."""
        for slot, records in self.slots.items():
            if slot not in self.rotten:
                yield slot, records

    def leases(self) -> set[str]:
        """The keys of registers that ever held a value that was not to stay."""
        return {str(slot) for (_, slot), records in self.kept() if any(record.is_lease for record in records)}

    def covers(self, host: Host, record: Record) -> bool:
        """Whether a host reflects a write for certain.

        It does not only because somebody folded the life that wrote it without having seen it: see folds.py.
        """
        return host.store.coverage.covers(record.origin, record.sequence) and not self.folds.doubts(record.dot)

    def doubtful(self, records: Iterable[Record]) -> list[Record]:
        """Those of which nobody knows who reflects them."""
        return [record for record in records if self.folds.doubts(record.dot)] if self.folds else []

    def seen(self, record: Record) -> Set[Dot]:
        """What the writer of a record had seen about it."""
        return self._writes[record.dot].seen

    def deletes(self, record: Record) -> bool:
        """Whether a record deletes what it supersedes, and may itself be purged one day."""
        return record.is_tombstone or (record.is_lease and may_be_over(self.machines, record, self.now))


Check = Callable[[World, Truth], Iterator[str]]


def check(world: World) -> list[str]:
    """What must hold at any moment; returns what does not."""
    return _run(world, _ALWAYS)


def check_end(world: World) -> list[str]:
    """What must hold once everything is healed and all nodes have agreed; returns what does not."""
    return _run(world, _ALWAYS | _AT_THE_END)


def _run(world: World, checks: dict[str, Check]) -> list[str]:
    truths = [Truth(world, cluster) for cluster in dict.fromkeys(host.cluster for host in world.hosts.values())]
    return [
        f"{name}: {violation}"
        for truth in truths
        for name, judge in checks.items()
        for violation in judge(world, truth)
    ]


# At any moment


def reflection(_world: World, truth: Truth) -> Iterator[str]:
    """I1: who covers a write holds it, or what supersedes it, or the slot was deleted and purged since."""
    for (kind, slot), records in truth.kept():
        doubtful = truth.doubtful(records)
        for host in truth.hosts:
            store = host.store
            covered = [record for record in records if truth.covers(host, record)]
            if not covered:
                continue
            best = max(covered, key=order)
            held = store.get(kind, slot)
            if held is not None and order(held) >= order(best):
                continue
            if truth.deletes(best) and (held is None or purged(store, best)):
                continue
            if any(order(record) > order(best) for record in doubtful):
                continue  # it may have been here, and have been let go of with its life
            if any(aside.dot == best.dot for aside in store.delta(Digest()).superseded):
                continue  # in the middle of a delta: what supersedes it is still to come
            yield f"{host.name} covers {best.dot} ({tell(best)}) but holds {tell(held)}"


def invention(_world: World, truth: Truth) -> Iterator[str]:
    """Nobody holds a record that nobody wrote."""
    written = {record.dot: record for records in truth.slots.values() for record in records}
    for host in truth.hosts:
        for record in host.store.records():
            slot: Any = record.slot
            if record.kind in _OTHERS or (record.kind is Kind.REGISTER and slot.startswith(PRELOAD)):
                continue
            known = written.get(record.dot)
            if known is None or order(known) != order(record) or known.content != record.content:
                yield f"{host.name} holds {tell(record)} as {record.dot}; what was written is {tell(known)}"


def ghosts(_world: World, truth: Truth) -> Iterator[str]:
    """Who covers a deletion shows nothing that the deleter had seen."""
    deletions = [
        (record, write.seen)
        for write in truth.writes
        for record in write.records
        if record.deletes and (record.kind, record.slot) not in truth.rotten and not truth.folds.doubts(record.dot)
    ]
    for host in truth.hosts:
        yield from ghosts_of(host, deletions)


def leases(_world: World, truth: Truth) -> Iterator[str]:
    """A value that is not to stay is shown until it is over or its node is gone, and no longer."""
    for host in truth.hosts:
        yield from leases_of(host, truth.leases(), truth.now)


def counters(_world: World, truth: Truth) -> Iterator[str]:
    """A counter is the sum of the additions covered, less what the resets covered had seen."""
    for key, shares in truth.adds.items():
        resets: dict[Origin, list[tuple[Dot, tuple[int, int]]]] = defaultdict(list)
        for reset in truth.resets[key]:
            for record in reset.records:
                slot: Any = record.slot
                origin = slot[1]
                resets[origin].append((record.dot, _share(shares[origin], reset.seen)))
        for host in truth.hosts:
            store = host.store
            expected = 0
            for origin, adds in shares.items():
                share = store.get(Kind.COUNTER_SHARE, (key, origin))
                known = {dot for dot, _ in adds if _reflects(truth, host, dot, share)}
                if share is None and any(truth.folds.doubts(dot) for dot, _ in adds):
                    known = set()  # let go of with its life
                added, subtracted = _share(adds, known)
                last = store.get(Kind.COUNTER_RESET, (key, origin))
                gone = [(0, 0), *(seen for dot, seen in resets[origin] if _reflects(truth, host, dot, last))]
                expected += max(added - max(part[0] for part in gone), 0)
                expected -= max(subtracted - max(part[1] for part in gone), 0)
                expected -= sum(
                    void.content
                    for mark, void in _voids(store, key, origin).items()
                    if max(gone) < mark <= (added, subtracted)
                )
            if store.counter(key) != expected:
                yield f"{host.name} says that counter {key} is {store.counter(key)}; what it covers makes {expected}"


def requests(_world: World, truth: Truth) -> Iterator[str]:
    """Nothing is void but what was counted for a request that another node counted too."""
    made = {
        (key, receipt_of(record).mark, record.origin): (receipt_of(record).amount, len(receipts))
        for (key, _), receipts in truth.requests.items()
        for _, record in receipts
    }
    for host in truth.hosts:
        for record in host.store.records():
            if record.kind is Kind.COUNTER_VOID:
                amount, times = made.get(record.slot, (0, 0))  # type: ignore[call-overload]  # its slot
                if amount != record.content or times < 2:
                    yield f"{host.name} holds {tell(record)}, and it was counted {times} times"


def once(world: World, truth: Truth) -> Iterator[str]:
    """Of the additions of one request that a node knows of one counts, and the others are void."""
    retention = Settings().request_retention
    for (key, request_id), receipts in truth.requests.items():
        if any(world.now - time >= retention for time, _ in receipts):
            continue
        for host in truth.hosts:
            store = host.store
            known = [
                (key, receipt_of(record).mark, record.origin)
                for _, record in receipts
                if truth.covers(host, record) and store.share(key, record.origin) >= receipt_of(record).mark
            ]
            counting = [name for name in known if store.get(Kind.COUNTER_VOID, name) is None]
            if known and len(counting) != 1:
                yield f"{host.name} knows of {len(known)} additions to {key} for {request_id}; {len(counting)} count"


def sets(_world: World, truth: Truth) -> Iterator[str]:
    """An element is in its set if, and only if, an addition is covered that no covered removal had seen."""
    for (kind, slot), records in truth.kept():
        if kind is not Kind.SET_ELEMENT or truth.doubtful(records):
            continue
        key, element, origin = slot
        for host in truth.hosts:
            store = host.store
            covered = [record for record in records if truth.covers(host, record)]
            additions = [record.content[0] for record in covered if not record.is_tombstone]
            removals = [record for record in covered if record.is_tombstone]
            removed = max((record.content[0] for record in removals), default=0)
            there = origin in store.elements(key).get(element, ())
            expected = any(sequence > removed for sequence in additions)
            if there == expected or (there and any(purged(store, record) for record in removals)):
                continue
            should = "should be" if expected else "should not be"
            yield f"{host.name}: {element!r} by {origin} is {'' if there else 'not '}in set {key}, and {should}"


def causality(_world: World, truth: Truth) -> Iterator[str]:
    """Who writes over what it has seen wins, and a dot names one write."""
    names: dict[Dot, Record] = {}
    ranked: dict[Slot, list[Record]] = defaultdict(list)
    for write in truth.writes:
        seen = write.seen
        for record in write.records:
            if record.dot in names:
                yield f"{record.dot} names two writes: {tell(names[record.dot])} and {tell(record)}"
            names[record.dot] = record
            others = ranked[record.kind, record.slot]
            place = bisect_left(others, order(record), key=order)
            for other in others[place:]:  # only what it loses to: next to nothing, but for writes that are concurrent
                if other.dot in seen:
                    yield f"{record.dot} ({tell(record)}) had seen {other.dot} ({tell(other)}) and yet loses to it"
            others.insert(place, record)


def clocks(_world: World, truth: Truth) -> Iterator[str]:
    """A node's clock is at least that of every write it covers, so that what it writes next wins over them."""
    for host in truth.hosts:
        for records in truth.slots.values():
            for record in records:
                if record.clock > host.store.clock.time and truth.covers(host, record):
                    yield f"{host.name} covers {record.dot} of {record.clock}, and its clock is {host.store.clock.time}"


def bookkeeping(_world: World, truth: Truth) -> Iterator[str]:
    """What a store keeps beside its records agrees with them."""
    for host in truth.hosts:
        store = host.store
        held = [record for record in store.records() if record.kind in USER_KINDS and not record.is_tombstone]
        live = [record for record in held if not record.is_lease]
        if store.fingerprint != sum(map(fingerprint, live)) % 2**64:
            yield f"{host.name}: the fingerprint is not that of its records"
        over = [is_over(host, record, truth.now) for record in held if record.is_lease]
        if not len(live) + over.count(False) <= store.live <= len(held) - over.count(True):
            over_now = over.count(True)
            yield f"{host.name} counts {store.live} live records and holds {len(held)}, {over_now} of them over"
        keys = sorted(str(record.slot) for record in live if record.kind is Kind.REGISTER)
        keys += [str(record.slot) for record in held if record.is_lease and store.register(str(record.slot)) is record]
        if list(store.keys()) != sorted(keys):
            yield f"{host.name} lists registers {list(store.keys())} and holds {sorted(keys)}"
        if store.tombstones < sum(record.is_tombstone for record in store.records()) + over.count(True):
            yield f"{host.name} counts fewer tombstones than it holds"


def messages(world: World, _truth: Truth) -> Iterator[str]:
    """No message is above 4 MiB."""
    if world.largest_message > MAX_MESSAGE:
        yield f"a message had {world.largest_message:,} bytes"


# At the end


def convergence(_world: World, truth: Truth) -> Iterator[str]:
    """All nodes that are up hold the same."""
    if not truth.hosts:
        return
    first = truth.hosts[0]
    expected = content(first.store)
    for host in truth.hosts[1:]:
        one, other = first.store, host.store
        if one.coverage != other.coverage:
            yield f"{first.name} and {host.name} do not cover the same: {one.coverage} and {other.coverage}"
        elif one.fingerprint != other.fingerprint:
            yield f"{first.name} and {host.name} cover the same, and their fingerprints differ"
        shown = content(other)
        if expected != shown:
            yield f"{first.name} holds {_difference(expected, shown)}, of which {host.name} says otherwise"
    for key in truth.leases():
        records = truth.slots[Kind.REGISTER, key]
        if any(map(truth.deletes, records)) or truth.doubtful(records):
            continue  # clocks differ
        holders = {host.name: host.store.get(Kind.REGISTER, key) for host in truth.hosts}
        if any(record != holders[first.name] for record in holders.values()):
            words = ", ".join(f"{name} holds {tell(record)}" for name, record in holders.items())
            yield f"register {key} is not the same everywhere: {words}"


def durability(world: World, truth: Truth) -> Iterator[str]:
    """What was acknowledged is everywhere, unless its writer lost its memory before anybody had it."""
    living = {host.store.origin for host in truth.hosts}
    for write in truth.writes:
        for record in write.records:
            covering = [host.name for host in truth.hosts if truth.covers(host, record)]
            kept = record.origin in living and not world.history.undone(record.dot)
            if len(covering) < len(truth.hosts) and not truth.folds.doubts(record.dot) and (covering or kept):
                missing = [host.name for host in truth.hosts if host.name not in covering]
                yield f"{record.dot} ({tell(record)}) has not reached {', '.join(missing)}"


def owners(_world: World, truth: Truth) -> Iterator[str]:
    """A register that one node alone writes has its last word.

    A life that began without having seen its predecessor's writes is concurrent with them: nothing is said then.
    """
    by_key: dict[str, list[Write]] = defaultdict(list)
    for write in truth.writes:
        if write.verb in ("put", "delete") and write.records:
            by_key[write.args[0]].append(write)
    for key, writes in by_key.items():
        if len({write.node for write in writes}) > 1 or (Kind.REGISTER, key) in truth.rotten:
            continue
        for host in truth.hosts:
            store = host.store
            if truth.doubtful(write.records[0] for write in writes):
                continue
            known = [write for write in writes if store.coverage.covers(*write.records[0].dot)]
            if not known or not all(write.records[0].dot in known[-1].seen for write in known[:-1]):
                continue
            record = store.register(key)
            last = known[-1].records[0]
            if last.is_lease and truth.deletes(last) and record is None:
                continue
            if last.is_lease and is_shown(host, last, truth.now) is not True:
                continue  # `leases` says more
            if (None if record is None else record.content) != last.content:
                yield f"{host.name} has {tell(record)} in {key}; its owner's last word was {tell(last)}"


def oblivion(world: World, truth: Truth) -> Iterator[str]:
    """When nobody is missing, no tombstone outlives its retention."""
    if any(life.ended == "crash" or life.restored for life in truth.lives) or not all(
        host.up or host.left for host in world.hosts.values()
    ):
        return  # what a node wrote last before it lost its memory can never be settled
    actions = (
        one.time for one in world.schedule.actions if one.verb not in ("agree", "check") and one.time < world.now
    )
    quiet = world.now - max((*(write.time for write in truth.writes), *actions), default=0.0)
    ends = [lease_of(record).expires_at / 1000 for write in truth.writes for record in write.records if record.is_lease]
    quiet = min([quiet, *(host.wall(world.now) - end for end in ends for host in truth.hosts)])
    for host in truth.hosts:
        if quiet > 2 * host.spec.retention + OBLIVION_GRACE * host.spec.interval and host.store.tombstones:
            yield f"{host.name} still keeps {host.store.tombstones} tombstones, {quiet:.0f} s after anything happened"


OBLIVION_GRACE = 60.0
"""Rounds beyond twice the retention after which a tombstone should be gone: a record may be merged late, and rounds
that settle it are some of all."""


_ALWAYS: dict[str, Check] = {
    judge.__name__: judge
    for judge in (
        reflection,
        invention,
        ghosts,
        leases,
        counters,
        requests,
        sets,
        causality,
        clocks,
        bookkeeping,
        messages,
    )
}
_AT_THE_END: dict[str, Check] = {judge.__name__: judge for judge in (convergence, durability, once, owners, oblivion)}


# Parts


def ghosts_of(host: Host, deletions: Iterable[Deletion]) -> Iterator[str]:
    """What a host shows though it covers its deletion.

    Args:
        host: who is looked at.
        deletions: those to look for.
    """
    store = host.store
    for tombstone, seen in deletions:
        slot: Any = tombstone.slot
        register = tombstone.kind is Kind.REGISTER
        held = store.register(slot) if register else store.get(tombstone.kind, slot)
        if held is None or held.is_tombstone or not store.coverage.covers(tombstone.origin, tombstone.sequence):
            continue
        if held.content[0] <= tombstone.content[0] if tombstone.kind is Kind.SET_ELEMENT else held.dot in seen:
            yield f"{host.name} shows {tell(held)} of {held.dot} and covers its deletion {tombstone.dot}"


def leases_of(host: Host, keys: Iterable[str], now: float) -> Iterator[str]:
    """What a host shows that is over, or hides though it is not.

    Args:
        host: who is looked at.
        keys: of the registers to look at.
        now: virtual time.
    """
    store = host.store
    for key in keys:
        held = store.get(Kind.REGISTER, key)
        if held is None or not held.is_lease:
            continue
        there = store.register(key) is held
        if is_shown(host, held, now) not in (there, None):
            yield f"{host.name} {'shows' if there else 'does not show'} {tell(held)} of {held.dot}"


def order(record: Record) -> tuple[Any, ...]:
    """The winner rule of the record's kind, as the design says it."""
    timestamp = (record.clock, record.origin.node_id, record.origin.generation)
    if record.kind is Kind.REGISTER:
        value = value_of(record)
        return (*timestamp, value is not None, isinstance(value, str), value or "")
    if record.kind is Kind.COUNTER_SHARE:
        return (record.sequence,)
    if record.kind is Kind.COUNTER_RESET:
        return tuple(record.content)
    return (*record.content, *timestamp)


def content(store: Store) -> dict[str, object]:
    """What users see of a store, without what is not to stay: there each goes by its own clock and view."""
    shown: dict[str, object] = {}
    for key in store.keys():
        record = store.register(key)
        if record is None or not record.is_lease:
            shown[f"register {key}"] = None if record is None else record.content
    for key in store.counter_keys():
        shown[f"counter {key}"] = store.counter(key)
    for key in store.set_keys():
        shown[f"set {key}"] = sorted(map(_spell, store.elements(key)))
    return shown


def purged(store: Store, tombstone: Record) -> bool:
    """Whether the store, or one that it took everything from, has purged a tombstone."""
    return store.floor.get(tombstone.origin, 0) >= tombstone.sequence


def _reflects(truth: Truth, host: Host, dot: Dot, held: Record | None) -> bool:
    """Whether a host reflects what a share or a reset says; in doubt, whether what it holds is that or says more."""
    if not host.store.coverage.covers(*dot):
        return False
    if not truth.folds.doubts(dot):
        return True
    return held is not None and held.origin == dot.origin and held.sequence >= dot.sequence


def _voids(store: Store, key: str, origin: Origin) -> dict[Sums, Record]:
    """The voids that a store holds of an origin's additions to a counter, by mark."""
    records = [record for record in store.counter_records(key) if record.kind is Kind.COUNTER_VOID]
    slots: list[tuple[Any, Record]] = [(record.slot, record) for record in records]
    return {slot[1]: record for slot, record in slots if slot[2] == origin}


def _share(adds: list[tuple[Dot, int]], known: Container[Dot]) -> tuple[int, int]:
    """What an origin had added and subtracted by the last of its additions that is known: a share counts all before."""
    last = max((index for index, (dot, _) in enumerate(adds) if dot in known), default=-1)
    amounts = [amount for _, amount in adds[: last + 1]]
    return sum(max(amount, 0) for amount in amounts), sum(max(-amount, 0) for amount in amounts)


def _spell(value: Value) -> str:
    return repr(value)


def _difference(one: dict[str, object], other: dict[str, object]) -> str:
    different = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    return ", ".join(f"{name} = {one.get(name)!r}" for name in different[:3])


def tell(record: Record | None) -> str:
    """A record in words."""
    if record is None:
        return "nothing"
    slot: Any = record.slot
    if record.kind is Kind.REGISTER:
        content = record.content
        if isinstance(content, Lease):
            end = f" until {content.expires_at / 1000:.3f}" if content.expires_at else ""
            return f"{record.slot} = {content.value!r}{end}{', ephemeral' if content.ephemeral else ''}"
        return f"{record.slot} deleted" if record.is_tombstone else f"{record.slot} = {content!r}"
    if record.kind is Kind.SET_ELEMENT:
        key, element, origin = slot
        return f"{element!r} {'removed from' if record.is_tombstone else 'added to'} {key} by {origin}"
    if record.kind is Kind.COUNTER_VOID:
        key, mark, origin = slot
        return f"void of {record.content} at {mark} of {origin} in {key}"
    key, origin = slot
    verb = "share" if record.kind is Kind.COUNTER_SHARE else "reset"
    return f"{verb} {record.content} of {origin} in {key}"
