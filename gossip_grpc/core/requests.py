"""Requests: additions to counters that a caller may make again, at any node, and that count once all the same.

Whoever adds for a request writes a *receipt* first and then its share: the receipt names the request, the amount, and
the sums of the share that has it (its mark, see tallies.py). A node that holds a receipt, and a share that has reached
its mark, takes another call with the same `request_id` for counted.

Two nodes may still have counted the same request before they heard of each other. Whoever finds both receipts, and
both shares, writes a *void* for all but one: the first by Lamport clock, on which everybody agrees. Those that have
counted the request do so at once, others at their next round, so that a hundred nodes do not all write the same. A
void names one addition and takes it out of the value for ever. It is written only where the addition that counts is
held, and goes out with the share that has it.

Receipts are no state of the counter: they are in no fingerprint, no full sync drops them, and each node forgets them by
itself after its retention. So nodes may differ in receipts, never in values: those follow from shares, resets and voids
alone, which are records as any others. What is counted twice by nodes that have not synced within the retention stays
counted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gossip_grpc.core.records import Origin, Receipt, Record, Sums


class Requests:
    """The receipts that one store keeps, in the order in which they came.

    Args:
        share: what an origin has added to a counter and subtracted from it, as far as the store knows.
        node_id: of the store.
    """

    def __init__(self, share: Callable[[str, Origin], Sums], node_id: str) -> None:
        self._share = share
        self._node_id = node_id
        self._kept: dict[int, tuple[float, Record]] = {}  # by identity, with the time each came
        self._named: dict[tuple[str, str], list[Record]] = {}
        self._doubtful: set[tuple[str, str]] = set()  # what several origins have counted
        self._own: set[tuple[str, str]] = set()  # those of them that this node has counted, too

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, record: Record, now: float) -> None:
        """A receipt has come."""
        name = _name(record)
        self._kept[id(record)] = (now, record)
        records = self._named.setdefault(name, [])
        records.append(record)
        if len(records) > 1:
            self._doubtful.add(name)
            if any(one.origin.node_id == self._node_id for one in records):
                self._own.add(name)

    def drop(self, record: Record) -> None:
        """A receipt has gone."""
        del self._kept[id(record)]
        name = _name(record)
        records = self._named[name]
        records.remove(record)
        if len(records) < 2:
            self._decided(name)
        if not records:
            del self._named[name]

    def old(self, now: float, retention: float, most: int) -> list[Record]:
        """Those that came `retention` seconds ago, and of the others the oldest beyond `most`."""
        found: list[Record] = []
        for since, record in self._kept.values():
            if now - since < retention and len(self._kept) - len(found) <= most:
                break
            found.append(record)
        return found

    def counted(self, key: str, request_id: str) -> Record | None:
        """The receipt of the addition that counts for a request; None if none is held here."""
        counted = self._counted(self._named.get((key, request_id), ()))
        return min(counted, key=_turn, default=None)

    def repeats(self, *, own: bool) -> list[tuple[Record, Record]]:
        """The receipts of additions that do not count, each with that of the one that does; each is told once.

        Args:
            own: only of requests that this node has counted itself.
        """
        found: list[tuple[Record, Record]] = []
        for name in sorted(self._own if own else self._doubtful):
            records = self._named[name]
            counted = sorted(self._counted(records), key=_turn)
            found += [(record, counted[0]) for record in counted[1:]]
            if len(counted) == len(records):
                self._decided(name)
        return found

    def _decided(self, name: tuple[str, str]) -> None:
        self._doubtful.discard(name)
        self._own.discard(name)

    def _counted(self, records: list[Record] | tuple[()]) -> list[Record]:
        """Those whose addition is in the share held."""
        return [record for record in records if self._share(_name(record)[0], record.origin) >= receipt_of(record).mark]


def receipt_of(record: Record) -> Receipt:
    """The content of a receipt's record."""
    receipt: Receipt = record.content
    return receipt


def _name(record: Record) -> tuple[str, str]:
    slot: Any = record.slot
    key, request_id, _ = slot
    return key, request_id


def _turn(record: Record) -> tuple[int, Origin]:
    return record.clock, record.origin
