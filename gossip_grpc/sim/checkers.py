"""The invariants, checked against what clients did: one function each, from a world to what is wrong in it.

They judge by the history alone (who wrote what, having seen what) and by their own order of records, so that a mistake
in the core cannot excuse itself. Each yields sentences for people.

| check         | says                                                                                              |
| ------------- | ------------------------------------------------------------------------------------------------- |
| `reflection`  | I1: a node that covers a write holds it, or what supersedes it, or it was deleted and purged      |
| `invention`   | nobody holds what nobody wrote                                                                    |
| `ghosts`      | who covers a deletion shows nothing that the deleter had seen                                     |
| `counters`    | a counter is the sum of the additions covered, less what resets covered had seen of it            |
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
| `owners`      | a register that one node alone writes has that node's last word                                   |
| `oblivion`    | when nobody is missing, tombstones are purged after their retention                               |

What only shows over time is watched by the monitor (monitor.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Set
from typing import Any

from gossip_grpc.core.records import SYSTEM_KINDS, USER_KINDS, Dot, Kind, Origin, Record, Value, fingerprint
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest
from gossip_grpc.sim.history import Write
from gossip_grpc.sim.host import Host
from gossip_grpc.sim.world import PRELOAD, World

MAX_MESSAGE = 4 << 20

Slot = tuple[Kind, Any]

Deletion = tuple[Record, Set[Dot]]
"""A tombstone as it was written, and what its writer had seen about it."""


class Truth:
    """What the clients of one cluster wrote, in the order in which they did."""

    def __init__(self, world: World, cluster: str) -> None:
        self.cluster = cluster
        self.hosts = [host for host in world.hosts.values() if host.cluster == cluster and host.up]
        names = {host.name for host in world.hosts.values() if host.cluster == cluster}
        self.writes = [write for write in world.history.writes if write.acknowledged and write.node in names]
        self.lives = [life for life in world.history.lives if life.node in names]
        self.slots: dict[Slot, list[Record]] = defaultdict(list)
        self.adds: dict[str, dict[Origin, list[tuple[Dot, int]]]] = defaultdict(lambda: defaultdict(list))
        self.resets: dict[str, list[Write]] = defaultdict(list)
        for write in self.writes:
            for record in write.records:
                self.slots[record.kind, record.slot].append(record)
            if write.verb == "add":
                key, amount = write.args
                for record in write.records:
                    self.adds[key][record.origin].append((record.dot, amount))
            elif write.verb == "reset":
                self.resets[write.args[0]].append(write)
        self.rotten: set[Slot] = {(Kind.REGISTER, key) for _, node, key in world.history.rots if node in names}

    def kept(self) -> Iterator[tuple[Slot, list[Record]]]:
        """The slots that no corruption has touched, each with all that was written to it."""
        for slot, records in self.slots.items():
            if slot not in self.rotten:
                yield slot, records


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
        for host in truth.hosts:
            store = host.store
            covered = [record for record in records if store.coverage.covers(record.origin, record.sequence)]
            if not covered:
                continue
            best = max(covered, key=order)
            held = store.get(kind, slot)
            if held is not None and order(held) >= order(best):
                continue
            if best.is_tombstone and (held is None or purged(store, best)):
                continue
            if any(aside.dot == best.dot for aside in store.delta(Digest()).superseded):
                continue  # in the middle of a delta: what supersedes it is still to come
            yield f"{host.name} covers {best.dot} ({_tell(best)}) but holds {_tell(held)}"


def invention(_world: World, truth: Truth) -> Iterator[str]:
    """Nobody holds a record that nobody wrote."""
    written = {record.dot: record for records in truth.slots.values() for record in records}
    for host in truth.hosts:
        for record in host.store.records():
            slot: Any = record.slot
            if record.kind in SYSTEM_KINDS or (record.kind is Kind.REGISTER and slot.startswith(PRELOAD)):
                continue
            known = written.get(record.dot)
            if known is None or order(known) != order(record) or known.content != record.content:
                yield f"{host.name} holds {_tell(record)} as {record.dot}; what was written is {_tell(known)}"


def ghosts(_world: World, truth: Truth) -> Iterator[str]:
    """Who covers a deletion shows nothing that the deleter had seen."""
    deletions = [(record, write.seen) for write in truth.writes for record in write.records if record.is_tombstone]
    for host in truth.hosts:
        yield from ghosts_of(host, [one for one in deletions if (one[0].kind, one[0].slot) not in truth.rotten])


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
                added, subtracted = _share(adds, {dot for dot, _ in adds if store.coverage.covers(*dot)})
                gone = [(0, 0), *(seen for dot, seen in resets[origin] if store.coverage.covers(*dot))]
                expected += max(added - max(part[0] for part in gone), 0)
                expected -= max(subtracted - max(part[1] for part in gone), 0)
            if store.counter(key) != expected:
                yield f"{host.name} says that counter {key} is {store.counter(key)}; what it covers makes {expected}"


def sets(_world: World, truth: Truth) -> Iterator[str]:
    """An element is in its set if, and only if, an addition is covered that no covered removal had seen."""
    for (kind, slot), records in truth.kept():
        if kind is not Kind.SET_ELEMENT:
            continue
        key, element, origin = slot
        for host in truth.hosts:
            store = host.store
            covered = [record for record in records if store.coverage.covers(record.origin, record.sequence)]
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
                yield f"{record.dot} names two writes: {_tell(names[record.dot])} and {_tell(record)}"
            names[record.dot] = record
            others = ranked[record.kind, record.slot]
            place = bisect_left(others, order(record), key=order)
            for other in others[place:]:  # only what it loses to: next to nothing, but for writes that are concurrent
                if other.dot in seen:
                    yield f"{record.dot} ({_tell(record)}) had seen {other.dot} ({_tell(other)}) and yet loses to it"
            others.insert(place, record)


def clocks(_world: World, truth: Truth) -> Iterator[str]:
    """A node's clock is at least that of every write it covers, so that what it writes next wins over them."""
    for host in truth.hosts:
        for records in truth.slots.values():
            for record in records:
                if record.clock > host.store.clock.time and host.store.coverage.covers(record.origin, record.sequence):
                    yield f"{host.name} covers {record.dot} of {record.clock}, and its clock is {host.store.clock.time}"


def bookkeeping(_world: World, truth: Truth) -> Iterator[str]:
    """What a store keeps beside its records agrees with them."""
    for host in truth.hosts:
        store = host.store
        live = [record for record in store.records() if record.kind in USER_KINDS and not record.is_tombstone]
        if store.fingerprint != sum(map(fingerprint, live)) % 2**64:
            yield f"{host.name}: the fingerprint is not that of its records"
        if store.live != len(live):
            yield f"{host.name} counts {store.live} live records and holds {len(live)}"
        keys = sorted(str(record.slot) for record in live if record.kind is Kind.REGISTER)
        if list(store.keys()) != keys:
            yield f"{host.name} lists registers {list(store.keys())} and holds {keys}"
        if store.tombstones < sum(record.is_tombstone for record in store.records()):
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


def durability(_world: World, truth: Truth) -> Iterator[str]:
    """What was acknowledged is everywhere, unless its writer lost its memory before anybody had it."""
    living = {host.store.origin for host in truth.hosts}
    for write in truth.writes:
        for record in write.records:
            covering = [host.name for host in truth.hosts if host.store.coverage.covers(*record.dot)]
            if len(covering) < len(truth.hosts) and (covering or record.origin in living):
                missing = [host.name for host in truth.hosts if host.name not in covering]
                yield f"{record.dot} ({_tell(record)}) has not reached {', '.join(missing)}"


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
            known = [write for write in writes if store.coverage.covers(*write.records[0].dot)]
            if not known or not all(write.records[0].dot in known[-1].seen for write in known[:-1]):
                continue
            record = store.register(key)
            said = known[-1].records[0].content
            if (None if record is None else record.content) != said:
                yield f"{host.name} has {_tell(record)} in {key}; its owner's last word was {said!r}"


def oblivion(world: World, truth: Truth) -> Iterator[str]:
    """When nobody is missing, no tombstone outlives its retention."""
    if any(life.ended == "crash" for life in truth.lives) or not all(
        host.up or host.left for host in world.hosts.values()
    ):
        return  # what a node wrote last before it lost its memory can never be settled
    quiet = world.now - max((write.time for write in truth.writes), default=0.0)
    for host in truth.hosts:
        if quiet > 2 * host.spec.retention + OBLIVION_GRACE and host.store.tombstones:
            yield f"{host.name} still keeps {host.store.tombstones} tombstones, {quiet:.0f} s after the last write"


OBLIVION_GRACE = 60.0
"""Seconds beyond twice the retention after which a tombstone should be gone: a record may be merged late, and rounds
that settle it are some of all."""


_ALWAYS: dict[str, Check] = {
    judge.__name__: judge
    for judge in (reflection, invention, ghosts, counters, sets, causality, clocks, bookkeeping, messages)
}
_AT_THE_END: dict[str, Check] = {judge.__name__: judge for judge in (convergence, durability, owners, oblivion)}


# Parts


def ghosts_of(host: Host, deletions: Iterable[Deletion]) -> Iterator[str]:
    """What a host shows though it covers its deletion.

    Args:
        host: who is looked at.
        deletions: those to look for.
    """
    store = host.store
    for tombstone, seen in deletions:
        held = store.get(tombstone.kind, tombstone.slot)
        if held is None or held.is_tombstone or not store.coverage.covers(tombstone.origin, tombstone.sequence):
            continue
        if held.content[0] <= tombstone.content[0] if tombstone.kind is Kind.SET_ELEMENT else held.dot in seen:
            yield f"{host.name} shows {_tell(held)} of {held.dot} and covers its deletion {tombstone.dot}"


def order(record: Record) -> tuple[Any, ...]:
    """The winner rule of the record's kind, as the design says it."""
    timestamp = (record.clock, record.origin.node_id, record.origin.generation)
    if record.kind is Kind.REGISTER:
        value = record.content
        return (*timestamp, value is not None, isinstance(value, str), value or "")
    if record.kind is Kind.COUNTER_SHARE:
        return (record.sequence,)
    if record.kind is Kind.COUNTER_RESET:
        return tuple(record.content)
    return (*record.content, *timestamp)


def content(store: Store) -> dict[str, object]:
    """What users see of a store."""
    shown: dict[str, object] = {}
    for key in store.keys():
        record = store.register(key)
        shown[f"register {key}"] = None if record is None else record.content
    for key in store.counter_keys():
        shown[f"counter {key}"] = store.counter(key)
    for key in store.set_keys():
        shown[f"set {key}"] = sorted(map(_spell, store.elements(key)))
    return shown


def purged(store: Store, tombstone: Record) -> bool:
    """Whether the store, or one that it took everything from, has purged a tombstone."""
    return store.floor.get(tombstone.origin, 0) >= tombstone.sequence


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


def _tell(record: Record | None) -> str:
    """A record in words."""
    if record is None:
        return "nothing"
    slot: Any = record.slot
    if record.kind is Kind.REGISTER:
        return f"{record.slot} deleted" if record.is_tombstone else f"{record.slot} = {record.content!r}"
    if record.kind is Kind.SET_ELEMENT:
        key, element, origin = slot
        return f"{element!r} {'removed from' if record.is_tombstone else 'added to'} {key} by {origin}"
    key, origin = slot
    verb = "share" if record.kind is Kind.COUNTER_SHARE else "reset"
    return f"{verb} {record.content} of {origin} in {key}"
