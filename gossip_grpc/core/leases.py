"""Leases: values that are not to stay for ever, and when each of them is to be seen.

A lease (see records.py) is its own deletion. As long as it is not over, its record is live; from then on it is a
tombstone: kept for the retention, settled, purged, and floor and graves apply to it (store.py).

| it is      | if                                                                          | seen | ages |
| ---------- | --------------------------------------------------------------------------- | ---- | ---- |
| over       | its time has come, by this node's wall clock                                | no   | yes  |
| abandoned  | it is ephemeral, and its origin is not the present life of any member       | no   | yes  |
| hidden     | it is ephemeral, and its origin is a member that is DEAD or has left        | no   | no   |
| shown      | otherwise                                                                   | yes  | no   |

What ages is purged one day. An abandoned one is no more so if its origin turns out to be a member: its record may have
overtaken the member's.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from gossip_grpc.core.records import Lease, Origin, Record

MAX_DUE = 10_000
"""Leases that end in one step at most; the rest follows in the next."""

_SPARSE = 64
"""The ends are looked through once so many more than there are leases are of leases that are gone."""

_NEVER = float("inf")


class Leases:
    """The leases that are in their slots: those that have an end by their time, the ephemeral ones by their node."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        """Members that are DEAD or have left."""
        self._live: set[int] = set()  # identities of the records that do not age
        self._ends: list[tuple[int, int, Record]] = []  # by time; the number keeps records from being compared
        self._number = 0
        self._owned: dict[str, dict[int, Record]] = {}

    def __contains__(self, record: Record) -> bool:
        """Whether it is here and does not age."""
        return id(record) in self._live

    def add(self, record: Record) -> None:
        """A lease has come into its slot, or ages no more."""
        self._live.add(id(record))
        lease = lease_of(record)
        if lease.expires_at:
            self._number += 1
            heappush(self._ends, (lease.expires_at, self._number, record))
        self.own(record)

    def own(self, record: Record) -> None:
        """Look after an ephemeral one, which may age, until `remove`."""
        if lease_of(record).ephemeral:
            self._owned.setdefault(record.origin.node_id, {})[id(record)] = record

    def age(self, record: Record) -> None:
        """It is over, or abandoned."""
        self._live.discard(id(record))

    def remove(self, record: Record) -> None:
        """It has left its slot."""
        self._live.discard(id(record))
        owned = self._owned.get(record.origin.node_id, {})
        if owned.pop(id(record), None) is not None and not owned:
            del self._owned[record.origin.node_id]
        if len(self._ends) > _SPARSE + 2 * len(self._live):  # renewed again and again, long before they end
            self._ends = [entry for entry in self._ends if id(entry[2]) in self._live]
            heapify(self._ends)

    def owned(self, node_id: str) -> list[Record]:
        """The ephemeral ones that a node wrote, those that age too."""
        return list(self._owned.get(node_id, {}).values())

    def deadline(self) -> float:
        """Unix time in seconds at which the next one is over; infinite if none is to be."""
        while self._ends and id(self._ends[0][2]) not in self._live:
            heappop(self._ends)
        return self._ends[0][0] / 1000 if self._ends else _NEVER

    def due(self, now: float, wall_offset: float) -> Iterator[Record]:
        """Take those that are over, `MAX_DUE` at most; time is given as in `is_over`."""
        for _ in range(MAX_DUE):
            if self.deadline() - wall_offset > now:
                return
            yield heappop(self._ends)[2]

    def is_shown(self, record: Record) -> bool:
        """Whether one that does not age is seen."""
        return not (lease_of(record).ephemeral and record.origin.node_id in self.down)


def lease_of(record: Record) -> Lease:
    """The content of a lease's record."""
    lease: Lease = record.content
    return lease


def is_over(record: Record, now: float, wall_offset: float, life: Origin | None) -> bool:
    """Whether a lease is over or abandoned.

    Args:
        record: its record.
        now: seconds on the steady clock.
        wall_offset: Unix time less that clock. Not their sum, which is rounded: what is due at `Store.next_expiry` has
            to be over when the steady clock says just that.
        life: the origin that the member of its writer's name is now; None if there is no such member.
    """
    lease = lease_of(record)
    if lease.expires_at and lease.expires_at / 1000 - wall_offset <= now:
        return True
    return lease.ephemeral and record.origin != life
