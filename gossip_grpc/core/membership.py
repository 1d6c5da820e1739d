"""The peers of a node: member records, seeds, and whom this node could reach lately.

Membership is data: a member's record is written by its owner alone and spreads like any other. What this node finds
out by its own calls (`reachable`) is its own business and is never gossiped. Failure detection will derive ALIVE,
SUSPECT and DEAD from accusations; until it lands, a member is LEFT if its owner said so and ALIVE otherwise.

Who the peers are is asked for at every push, and changes seldom. So it is kept in a `_View`, which is made anew when a
member record changes (`Store.members_version`), or what a contact or the seeds say (`_changed`); who of them is
reachable is kept in it too, and made anew when a peer becomes (un)reachable (`_flipped`).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import starmap
from typing import NamedTuple

from gossip_grpc.core.records import Member, Origin, Record
from gossip_grpc.core.rings import Ring
from gossip_grpc.core.selection import Candidate
from gossip_grpc.core.store import Store, member_of

UNREACHABLE_AFTER = 2
"""Calls in a row that must fail until a peer is taken for unreachable: one may be lost."""


MAX_STRANGERS = 10_000
"""Contacts kept at most while nodes without a member record speak to us, so that none can fill our memory."""


class Status(StrEnum):
    """What a member is to this node."""

    ALIVE = "ALIVE"
    LEFT = "LEFT"


class Peer(NamedTuple):
    """Whom to call: an address and, unless it is a seed nobody has answered at yet, the node expected there."""

    address: str
    node_id: str | None = None


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

    def __init__(self, store: Store, address: str) -> None:
        self._store = store
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
        if name == self._store.origin.node_id:
            if called is not None and origin == self._store.origin:
                self._own_seeds.add(called)
            return
        contact = self._contacts.get(name)
        if contact is not None and contact.origin.generation > origin.generation:
            return
        if name in self._unreachable:
            self._unreachable.remove(name)
            self._flipped()
        record = self._store.members().get(name)
        if record is not None and record.origin.generation >= origin.generation:
            if contact is not None:
                del self._contacts[name]  # its record says it all
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
        contact = self._contacts.get(name)
        if contact is None:
            record = self._store.members().get(name)
            contact = self._contacts[name] = Contact(record.origin if record else Origin(name, 0), peer.address)
            if record is None:
                self._changed()
        contact.failures += 1
        if contact.failures == UNREACHABLE_AFTER:
            self._unreachable.add(name)
            self._flipped()

    def reachable(self, node_id: str) -> bool:
        """Whether the last calls to a member were answered. True for those never called."""
        return node_id not in self._unreachable

    def address(self, node_id: str) -> str | None:
        """Where a node is reached: by its member record, or by what it said when it spoke to us in a newer life."""
        record = self._store.members().get(node_id)
        contact = self._contacts.get(node_id)
        if contact and (record is None or record.origin.generation < contact.origin.generation):
            return contact.address
        return member_of(record).peer_address if record else None

    def peers(self) -> tuple[Candidate, ...]:
        """All other members that have not left, and nodes that spoke to us, in order of node_id.

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
        """Those of `peers` that did not answer lately."""
        if not self._unreachable:
            return []
        return [peer.node_id for peer in self.peers() if peer.node_id in self._unreachable]

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

    def status(self, record: Record) -> Status:
        """What a member is, by the records."""
        return Status.LEFT if member_of(record).left else Status.ALIVE

    def incarnation(self) -> int:
        """The number of this node's next member record."""
        record = self._store.members().get(self.node_id)
        if record is None or record.origin != self._store.origin:
            return 1
        return member_of(record).incarnation + 1

    def own(self) -> Member | None:
        """This node's member record in this life."""
        record = self._store.members().get(self.node_id)
        return member_of(record) if record and record.origin == self._store.origin else None

    def _look(self) -> _View:
        """The present view."""
        if self._view is None or self._viewed != self._store.members_version:
            self._viewed = self._store.members_version
            self._view = self._make_view()
        return self._view

    def _make_view(self) -> _View:
        members = self._store.members()
        own, alive = self.node_id, Status.ALIVE
        zones = {
            name: member_of(record).zone
            for name, record in members.items()
            if name != own and self.status(record) is alive
        }
        for name, contact in self._contacts.items():
            record = members.get(name)
            if record is None or record.origin.generation < contact.origin.generation:
                zones.setdefault(name, "")
        seeds: dict[str, list[str]] = {seed: [] for seed in self._seeds}
        for name in zones if seeds else ():
            address = self.address(name)
            if address in seeds:
                seeds[address].append(name)
        return _View(self.node_id, tuple(starmap(Candidate, sorted(zones.items()))), seeds)

    def _changed(self) -> None:
        """Who the peers are, or where, is to be looked up anew."""
        self._view = None

    def _flipped(self) -> None:
        """Who of the peers is reachable is to be looked up anew."""
        if self._view is not None:
            self._view.reachable = None
