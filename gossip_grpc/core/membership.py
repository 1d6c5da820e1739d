"""The peers of a node: member records, seeds, and whom this node could reach lately.

Membership is data: a member's record is written by its owner alone, an accusation by the monitor that cannot reach
its target, and both spread like any other record. What this node finds out by its own calls (`reachable`) is its own
business and is never gossiped. Every node derives each member's status from the records:

| status    | if                                                                                                 |
| --------- | -------------------------------------------------------------------------------------------------- |
| `LEFT`    | its owner said so                                                                                  |
| `DEAD`    | two accuse its present incarnation whom nobody accuses; or it has been suspected for               |
|           | `suspicion_timeout`, and two of any sort accuse it, or it has one monitor only; or it was `DEAD`   |
|           | in this incarnation, and anybody accuses it still                                                  |
| `SUSPECT` | anybody accuses its present incarnation                                                            |
| `ALIVE`   | otherwise                                                                                          |

So one faulty monitor cannot kill a healthy node, nor can two that were cut off together and accuse everybody: they are
accused themselves, and who sees itself accused raises its incarnation in time, which voids what was said of the one
before. Accusations count whether or not their makers are monitors still.

Who the peers are is asked for at every push, and changes seldom. So it is kept in a `_View`, which is made anew when a
member record changes (`Store.members_version`), or what a contact or the seeds say (`_changed`); who of them is
reachable is kept in it too, and made anew when a peer becomes (un)reachable (`_flipped`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from gossip_grpc.core.monitors import Monitors
from gossip_grpc.core.records import Member, Origin, Record
from gossip_grpc.core.rings import Ring
from gossip_grpc.core.selection import Candidate
from gossip_grpc.core.store import Store, accusation_of, member_of

MAX_INCARNATION = 2**62
"""A wish to forget a higher one is void: its target could not refute it."""

QUORUM = 2
"""So many must accuse a member for it to be dead: more than half of its three monitors, or both of two."""

UNREACHABLE_AFTER = 2
"""Calls in a row that must fail until a peer is taken for unreachable: one may be lost."""

STRANGE_FAILURES = 10
"""Calls in a row that must fail until a node without a member record is no peer any more."""

MAX_STRANGERS = 10_000
"""Contacts and accusations kept at most of nodes without a member record, so that none can fill our memory."""

_NEVER = float("inf")

_HEARD = "it is heard"


class Status(StrEnum):
    """What a member is to this node."""

    ALIVE = "ALIVE"
    SUSPECT = "SUSPECT"
    DEAD = "DEAD"
    LEFT = "LEFT"


class Peer(NamedTuple):
    """Whom to call: an address and, unless it is a seed nobody has answered at yet, the node expected there."""

    address: str
    node_id: str | None = None


class Change(NamedTuple):
    """What has become of a member in this node's view.

    Attributes:
        node_id: its name.
        before: its status until now; None for a member that is new here.
        after: its status from now on; None for one that is forgotten.
        updated: whether what it says of itself has changed.
        cause: why, in words.
    """

    node_id: str
    before: Status | None
    after: Status | None
    updated: bool
    cause: str


@dataclass(slots=True)
class Standing:
    """What a member is to this node at present.

    Attributes:
        status: derived from the records.
        since: when it became so here, or began its present life, on the steady clock.
        record: the member record that it was derived from.
        cause: why, in words.
        suspected: when the first accusation that is valid now came here; infinite if there is none.
        gone: if it is dead or has left, since when by the clock of who said so; never later than it was known here.
    """

    status: Status
    since: float
    record: Record
    cause: str
    suspected: float = _NEVER
    gone: float | None = None


@dataclass(slots=True)
class Contact:
    """What this node knows of another one by its own calls, and not by its member record.

    Attributes:
        origin: the life of the node last heard of.
        address: where it said it is reached; used until its member record arrives.
        failures: calls in a row that failed.
    """

    origin: Origin
    address: str
    failures: int = 0


class _View:
    """The peers as of some member records, contacts and seeds."""

    def __init__(self, node_id: str, peers: tuple[Candidate, ...], seeds: dict[str, list[str]]) -> None:
        self.peers = peers
        self.seeds = seeds
        """The names of the peers at each seed."""
        self.reachable: tuple[Candidate, ...] | None = None
        self._node_id = node_id

    @cached_property
    def ring(self) -> Ring:
        """The peers on the ring of the rumors. Not everybody pushes any."""
        return Ring(self._node_id, [peer.node_id for peer in self.peers])


class Membership:
    """The peers of the node that writes to `store` as `store.origin`."""

    def __init__(self, store: Store, address: str, suspicion_timeout: float = 3.0) -> None:
        self.monitors = Monitors()
        self._store = store
        self._name = store.origin.node_id
        self._records = store.members()
        store.members_changed |= self._records.keys()  # what is on disk already is new here
        self._suspicion_timeout = suspicion_timeout
        self._standings: dict[str, Standing] = {}
        self._accused: set[str] = set()
        self._gone: set[str] = set()  # dead or left
        self._deadline = _NEVER
        self._void: dict[tuple[str, str], float] = {}
        """When accusations that count for nothing were first seen to do so, by target and accuser."""
        self._address = address
        self._contacts: dict[str, Contact] = {}
        self._seeds: tuple[str, ...] = ()
        self._own_seeds: set[str] = set()
        self._unreachable: set[str] = set()
        self._view: _View | None = None
        self._viewed = 0  # the version of the member records that the view is of

    @property
    def node_id(self) -> str:
        """This node's name."""
        return self._store.origin.node_id

    def set_seeds(self, addresses: Iterable[str]) -> None:
        """Replace the seeds' addresses, as names resolve now."""
        self._seeds = tuple(dict.fromkeys(addresses))
        self._changed()

    def heard(self, origin: Origin, address: str, called: str | None = None) -> None:
        """Note that a node spoke to us, or answered a call to the address `called`."""
        name = origin.node_id
        record = self._records.get(name)
        if name == self._name:
            if called is not None and origin == self._store.origin:
                self._own_seeds.add(called)
            return
        contact = self._contacts.get(name)
        known = record is not None and record.origin.generation >= origin.generation
        if known and contact is None and name not in self._unreachable:
            return  # nearly always, and this is called for every message
        if contact is not None and contact.origin.generation > origin.generation:
            return
        if name in self._unreachable:
            self._unreachable.remove(name)
            self._flipped()
        if known:
            self._contacts.pop(name, None)  # its record says it all
        elif contact is not None and contact.origin == origin and contact.address == address:
            contact.failures = 0
        elif contact is not None or record is not None or len(self._contacts) < MAX_STRANGERS:
            self._contacts[name] = Contact(origin, address)
            self._changed()

    def failed(self, peer: Peer) -> None:
        """Note that a call was not answered."""
        name = peer.node_id
        if name is None:
            return
        contact, record = self._contacts.get(name), self._records.get(name)
        if contact is None:
            if record is None:
                return  # forgotten since it was called
            contact = self._contacts[name] = Contact(record.origin, peer.address)
        contact.failures += 1
        if record is None and contact.failures >= STRANGE_FAILURES:
            del self._contacts[name]
            self._unreachable.discard(name)
            self._changed()
            return
        if contact.failures == UNREACHABLE_AFTER:
            self._unreachable.add(name)
            self._flipped()

    def reachable(self, node_id: str) -> bool:
        """Whether the last calls to a member were answered. True for those never called."""
        return node_id not in self._unreachable

    def address(self, node_id: str) -> str | None:
        """Where a node is reached: by its member record, or by what it said when it spoke to us in a newer life."""
        record = self._records.get(node_id)
        contact = self._contacts.get(node_id)
        if contact and (record is None or record.origin.generation < contact.origin.generation):
            return contact.address
        return member_of(record).peer_address if record else None

    def peers(self) -> tuple[Candidate, ...]:
        """All other members that have not left and are not dead, and nodes that spoke to us, in order of node_id.

        The same tuple until something changes.
        """
        return self._look().peers

    def reachable_peers(self) -> tuple[Candidate, ...]:
        """Those of `peers` that are worth calling. The same tuple until something changes."""
        view = self._look()
        if view.reachable is None:
            view.reachable = tuple(peer for peer in view.peers if peer.node_id not in self._unreachable)
        return view.reachable

    def unreachable_peers(self) -> list[str]:
        """Members that are dead, and those of `peers` that did not answer lately: whoever it is worth to try again."""
        dead = [name for name in self._accused if self.status(name) is Status.DEAD]
        if not self._unreachable and not dead:
            return []
        return sorted({*dead, *(peer.node_id for peer in self.peers() if peer.node_id in self._unreachable)})

    def unreachable(self) -> AbstractSet[str]:
        """The nodes, peers or not, that did not answer lately. Not to be changed."""
        return self._unreachable

    def ring(self) -> Ring:
        """All `peers`, reachable or not, as they follow this node on the ring of the rumors."""
        return self._look().ring

    def peer(self, node_id: str) -> Peer:
        """How to call one of `peers`."""
        address = self.address(node_id)
        if address is None:
            raise KeyError(node_id)
        return Peer(address, node_id)

    def unreached_seeds(self) -> list[str]:
        """Seeds that are not the address of a peer worth calling, nor our own."""
        at = self._look().seeds
        return [
            seed
            for seed in self._seeds
            if seed != self._address
            and seed not in self._own_seeds
            and all(name in self._unreachable for name in at.get(seed, ()))
        ]

    # Status

    def standing(self, node_id: str) -> Standing | None:
        """What a member is, as of the last `refresh`."""
        return self._standings.get(node_id)

    def status(self, node_id: str) -> Status:
        """What a member is, as of the last `refresh`; one that is not known yet is ALIVE."""
        standing = self._standings.get(node_id)
        return Status.ALIVE if standing is None else standing.status

    def accusations(self, node_id: str) -> dict[str, Record]:
        """The accusations of a member's present incarnation that are not withdrawn, by accuser."""
        record = self._records.get(node_id)
        accusations = self._store.accusations(node_id)
        if record is None or not accusations:
            return {}
        life = _life(record)
        found = {}
        for accuser, accusation in accusations.items():
            said = accusation_of(accusation)
            if not said.withdrawn and not said.forget and (said.generation, said.incarnation) == life:
                found[accuser] = accusation
        return found

    def accused_incarnation(self) -> int | None:
        """The highest incarnation of this node in this life that anybody accuses or wants forgotten; None if nobody."""
        own = self.own()
        if own is None:
            return None
        accused = [own.incarnation] if self.accusations(self.node_id) else []
        return max([*accused, *self._unwanted(self.node_id)], default=None)

    def monitored(self) -> list[str]:
        """The members that this node is a monitor of, those that are accused but not dead among them."""
        own = self.node_id
        names = self.monitors.monitored_by(own) if own in self.monitors else []
        suspects = [
            name
            for name in sorted(self._accused)
            if self._standings[name].status is Status.SUSPECT and own in self.monitors.of(name)
        ]
        return [*names, *suspects]

    def to_forget(self) -> list[str]:
        """Members whose present incarnation an operator wants forgotten."""
        return [
            name
            for name in sorted(self._store.members_changed & set(self._store.accused()))
            if name in self._records and name != self.node_id and self._unwanted(name)
        ]

    def _unwanted(self, node_id: str) -> list[int]:
        """The incarnations, of those that a member's present life may have, up to which it is to be forgotten."""
        record = self._records[node_id]
        return [
            one.incarnation
            for one in map(accusation_of, self._store.accusations(node_id).values())
            if one.forget
            and one.generation == record.origin.generation
            and member_of(record).incarnation <= one.incarnation <= MAX_INCARNATION
        ]

    def expired(self, now: float, reap_after: float) -> list[str]:
        """Members that have been dead or gone for longer than `reap_after`."""
        gone = {name: self._standings[name].gone for name in self._gone}
        return sorted(name for name, since in gone.items() if since is not None and now - since > reap_after)

    def outdated(self, now: float, reap_after: float) -> list[tuple[str, str]]:
        """Accusations, by target and accuser, that have counted for nothing for longer than `reap_after`.

        And the oldest of those of nobody that is known, beyond `MAX_STRANGERS`.
        """
        void: dict[tuple[str, str], float] = {}
        for name in self._store.accused():
            valid = self.accusations(name)
            for accuser in self._store.accusations(name):
                if accuser not in valid:
                    void[name, accuser] = self._void.get((name, accuser), now)
        self._void = void
        strange = [slot for slot in void if slot[0] not in self._records]
        surplus = sorted(strange, key=void.__getitem__)[: max(len(strange) - MAX_STRANGERS, 0)]
        return list(dict.fromkeys([*surplus, *(slot for slot, since in void.items() if now - since > reap_after)]))

    def deadline(self) -> float:
        """When a status changes by time alone, at the earliest."""
        return self._deadline

    def awake(self, stood: float) -> None:
        """This process stood still for so many seconds, in which nobody could refute anything here."""
        for name in self._accused:
            self._standings[name].suspected += stood
        self._deadline += stood

    def refresh(self, now: float, wall_offset: float = 0.0) -> list[Change]:
        """Derive anew what may have changed: the members that changed, and all that are suspected.

        Args:
            now: on the steady clock.
            wall_offset: what Unix time is ahead of it.
        """
        changed, self._store.members_changed = self._store.members_changed, set()
        members = self._records
        changes: list[Change] = []
        named = set(self._store.accused()) - {self._name}
        for name in sorted(changed):
            record = members.get(name)
            if record is None:
                self._forgotten(name, changes)
                continue
            accused = name in named and bool(self.accusations(name))
            (self._accused.add if accused else self._accused.discard)(name)
            on_the_rings = not accused and not member_of(record).left
            (self.monitors.add if on_the_rings else self.monitors.remove)(name)
        # In a second pass, for the verdict depends on who stands on the rings, and on who is accused.
        suspects = {name for name in self._accused if self.status(name) is Status.SUSPECT}
        for name in sorted((changed & members.keys()) | suspects):
            self._judge(name, members[name], now, wall_offset, changes)
        self._deadline = min(map(self._due, self._accused), default=_NEVER)
        if any(Status.DEAD in (change.before, change.after) for change in changes):
            self._changed()
        return changes

    def _judge(self, name: str, record: Record, now: float, wall_offset: float, changes: list[Change]) -> None:
        accusations = self.accusations(name) if name in self._accused else {}
        standing = self._standings.get(name)
        if standing is None and not accusations and not member_of(record).left:
            # Nearly always at the start, and then this is done for every member.
            self._standings[name] = Standing(Status.ALIVE, now, record, _HEARD)
            changes.append(Change(name, None, Status.ALIVE, True, _HEARD))
            return
        before = standing.status if standing is not None else None
        known = standing if standing is not None and _life(standing.record) == _life(record) else None
        suspected = _NEVER
        if accusations:
            suspected = now if known is None else min(known.suspected, now)
        was_dead = known is not None and before is Status.DEAD
        status = self._verdict(name, record, accusations, suspected, now, was_dead=was_dead)
        why = _cause(status, sorted(accusations))
        if standing is None:
            standing = self._standings[name] = Standing(status, now, record, why, suspected)
            changes.append(Change(name, None, status, True, why))
        else:
            # Clocks and dots aside: a restart from disk says the same again.
            reborn = standing.record.origin != record.origin
            updated = reborn or standing.record.content != record.content
            standing.record, standing.suspected, standing.status = record, suspected, status
            if reborn and status is Status.ALIVE:
                why = f"it has started again, at {member_of(record).peer_address}"
            elif before in (Status.SUSPECT, Status.DEAD) and status is Status.ALIVE:
                why = "it is heard again" if not updated else "it refuted what was said of it"
            if status is not before or reborn:
                standing.since = now
            if status is not before or reborn or accusations:
                standing.cause = why  # more may accuse it by now
            if status is not before or updated:
                said = status is before and not reborn
                changes.append(Change(name, before, status, updated, "it says so" if said else why))
        if status is not before or known is None:
            standing.gone = _gone(status, record, accusations, now, wall_offset)
            (self._gone.discard if standing.gone is None else self._gone.add)(name)

    def _verdict(
        self,
        name: str,
        record: Record,
        accusers: Collection[str],
        suspected: float,
        now: float,
        *,
        was_dead: bool,
    ) -> Status:
        if member_of(record).left:
            return Status.LEFT
        if not accusers:
            return Status.ALIVE
        if was_dead or sum(accuser not in self._accused for accuser in accusers) >= QUORUM:
            return Status.DEAD
        dies = self._dies_in_time(name, len(accusers)) and now >= suspected + self._suspicion_timeout
        return Status.DEAD if dies else Status.SUSPECT

    def _dies_in_time(self, name: str, accusers: int) -> bool:
        """Whether a suspect is dead once it has been one for `suspicion_timeout`."""
        return accusers >= QUORUM or len(self.monitors.of(name)) < QUORUM

    def _due(self, name: str) -> float:
        """When the status of an accused member changes by time alone."""
        standing = self._standings[name]
        if standing.status is not Status.SUSPECT:
            return _NEVER
        due = standing.suspected + self._suspicion_timeout
        return due if self._dies_in_time(name, len(self.accusations(name))) else _NEVER

    def _forgotten(self, name: str, changes: list[Change]) -> None:
        standing = self._standings.pop(name, None)
        if standing is None:
            return  # an accusation of somebody whom this node does not know, or no longer
        self.monitors.remove(name)
        self._accused.discard(name)
        self._gone.discard(name)
        self._contacts.pop(name, None)
        self._unreachable.discard(name)
        changes.append(Change(name, standing.status, None, False, "it was forgotten"))

    def newer(self, origin: Origin) -> int:
        """The generation of the newest life of a node by its member record, if it is newer than this one; else 0."""
        record = self._records.get(origin.node_id)
        return record.origin.generation if record is not None and record.origin.generation > origin.generation else 0

    def forgotten(self, origin: Origin) -> bool:
        """Whether a life was forgotten that speaks to us after all: what it said of itself first is covered here."""
        return origin.node_id not in self._records and self._store.coverage.sequence(origin) > 0

    def incarnation(self) -> int:
        """The number of this node's next member record."""
        record = self._records.get(self.node_id)
        if record is None or record.origin != self._store.origin:
            return 1
        return member_of(record).incarnation + 1

    def own(self) -> Member | None:
        """This node's member record in this life."""
        record = self._records.get(self.node_id)
        return member_of(record) if record and record.origin == self._store.origin else None

    def _look(self) -> _View:
        """The present view."""
        if self._view is None or self._viewed != self._store.members_version:
            self._viewed = self._store.members_version
            self._view = self._make_view()
        return self._view

    def _make_view(self) -> _View:
        members = self._records
        addresses: dict[str, str] = {}
        peers: list[Candidate] = []
        for name, record in members.items():
            member = member_of(record)
            if name != self.node_id and not member.left and self.status(name) is not Status.DEAD:
                peers.append(Candidate(name, member.zone))
                addresses[name] = member.peer_address
        for name, contact in self._contacts.items():
            known = members.get(name)
            if known is None or known.origin.generation < contact.origin.generation:
                if name not in addresses:
                    peers.append(Candidate(name, ""))
                addresses[name] = contact.address
        seeds: dict[str, list[str]] = {seed: [] for seed in self._seeds}
        for name, address in addresses.items() if seeds else ():
            if address in seeds:
                seeds[address].append(name)
        return _View(self.node_id, tuple(sorted(peers)), seeds)

    def _changed(self) -> None:
        """Who the peers are, or where, is to be looked up anew."""
        self._view = None

    def _flipped(self) -> None:
        """Who of the peers is reachable is to be looked up anew."""
        if self._view is not None:
            self._view.reachable = None


def _life(record: Record) -> tuple[int, int]:
    """What accusations are about: a member's generation and incarnation."""
    return record.origin.generation, member_of(record).incarnation


def _gone(
    status: Status, record: Record, accusations: Mapping[str, Record], now: float, wall_offset: float
) -> float | None:
    """See `Standing.gone`. This node may have started long after it happened; whatever clocks say, it has by now."""
    if status is Status.LEFT:
        left_at = member_of(record).left_at
        return min(now, left_at - wall_offset) if left_at else now
    if status is Status.DEAD:
        return min(now, max(accusation_of(one).at for one in accusations.values()) - wall_offset)
    return None


def _cause(status: Status, accusers: list[str]) -> str:
    if status is Status.LEFT:
        return "it says that it leaves"
    if accusers:
        return f"accused by {', '.join(accusers)}"
    return _HEARD
