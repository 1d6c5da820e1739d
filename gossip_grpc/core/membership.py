"""The peers of a node: member records, seeds, and whom this node could reach lately.

Membership is data: a member's record is written by its owner alone and spreads like any other. What this node finds
out by its own calls (`reachable`) is its own business and is never gossiped. Failure detection will derive ALIVE,
SUSPECT and DEAD from accusations; until it lands, a member is LEFT if its owner said so and ALIVE otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gossip_grpc.core.records import Member, Origin, Record
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
    """What this node knows of another one by its own calls.

    Attributes:
        origin: the life of the node last heard of.
        address: where it said it is reached; used until its member record arrives.
        failures: calls in a row that failed.
    """

    origin: Origin
    address: str
    failures: int = 0

    @property
    def reachable(self) -> bool:
        """Whether it is worth calling."""
        return self.failures < UNREACHABLE_AFTER


class Membership:
    """The peers of the node that writes to `store` as `store.origin`."""

    def __init__(self, store: Store, address: str) -> None:
        self._store = store
        self._address = address
        self._contacts: dict[str, Contact] = {}
        self._seeds: tuple[str, ...] = ()
        self._own_seeds: set[str] = set()

    @property
    def node_id(self) -> str:
        """This node's name."""
        return self._store.origin.node_id

    def set_seeds(self, addresses: Iterable[str]) -> None:
        """Replace the seeds' addresses, as names resolve now."""
        self._seeds = tuple(dict.fromkeys(addresses))

    def heard(self, origin: Origin, address: str, called: str | None = None) -> None:
        """Note that a node spoke to us, or answered a call to the address `called`."""
        if origin.node_id == self.node_id:
            if called is not None and origin == self._store.origin:
                self._own_seeds.add(called)
            return
        contact = self._contacts.get(origin.node_id)
        if contact is None and origin.node_id not in self._store.members() and len(self._contacts) >= MAX_STRANGERS:
            return
        if contact is None or contact.origin.generation <= origin.generation:
            self._contacts[origin.node_id] = Contact(origin, address)

    def failed(self, peer: Peer) -> None:
        """Note that a call was not answered."""
        if peer.node_id is None:
            return
        record = self._store.members().get(peer.node_id)
        origin = record.origin if record else Origin(peer.node_id, 0)
        contact = self._contacts.setdefault(peer.node_id, Contact(origin, peer.address))
        contact.failures += 1

    def reachable(self, node_id: str) -> bool:
        """Whether the last calls to a member were answered. True for those never called."""
        contact = self._contacts.get(node_id)
        return contact is None or contact.reachable

    def address(self, node_id: str) -> str | None:
        """Where a node is reached: by its member record, or by what it said when it spoke to us in a newer life."""
        record = self._store.members().get(node_id)
        contact = self._contacts.get(node_id)
        if contact and (record is None or record.origin.generation < contact.origin.generation):
            return contact.address
        return member_of(record).peer_address if record else None

    def peers(self) -> list[Candidate]:
        """All other members that have not left, and nodes that spoke to us, in order of node_id."""
        members = self._store.members()
        zones = {
            name: member_of(record).zone
            for name, record in members.items()
            if name != self.node_id and self.status(record) is Status.ALIVE
        }
        for name, contact in self._contacts.items():
            record = members.get(name)
            if record is None or record.origin.generation < contact.origin.generation:
                zones.setdefault(name, "")
        return [Candidate(name, zones[name]) for name in sorted(zones)]

    def reachable_peers(self) -> list[Candidate]:
        """Those of `peers` that are worth calling."""
        return [peer for peer in self.peers() if self.reachable(peer.node_id)]

    def unreachable_peers(self) -> list[str]:
        """Those of `peers` that did not answer lately."""
        return [peer.node_id for peer in self.peers() if not self.reachable(peer.node_id)]

    def peer(self, node_id: str) -> Peer:
        """How to call one of `peers`."""
        address = self.address(node_id)
        if address is None:
            raise KeyError(node_id)
        return Peer(address, node_id)

    def unreached_seeds(self) -> list[str]:
        """Seeds that are not the address of a peer worth calling, nor our own."""
        known = {self.address(peer.node_id) for peer in self.reachable_peers()}
        known |= {self._address} | self._own_seeds
        return [seed for seed in self._seeds if seed not in known]

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
