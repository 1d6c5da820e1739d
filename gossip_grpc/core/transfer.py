"""Receiving a delta chunk by chunk.

Each chunk is checked whole before anything of it is merged. Every record covers its own dot as it is merged, so a
delta that breaks off loses nothing and resumes where it stopped; only its end takes over the sender's coverage.
"""

from __future__ import annotations

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta
from gossip_grpc.errors import Reason, RemoteError

MAX_EXAMPLE = 200
"""Characters of a key that are logged."""


def check_records(store: Store, records: list[Record], *, synced: bool) -> None:
    """Refuse records of which one has a poisonous clock (see clock.py) or is a write of ours that we have not made.

    Raises:
        RemoteError: nothing was merged.

    Nor may anybody tell us of writes of this node in this life that it has not made: the next would be one of them.
    """
    if not records:
        return
    own = store.origin
    written = store.coverage.sequence(own)
    store.clock.check(max([record.clock for record in records]), synced=synced)
    if any([record.origin == own and record.sequence > written for record in records]):  # noqa: C419  twice as fast
        raise _not_ours("a record")


class InboundDelta:
    """One delta on its way in. `header` is a Delta whose records come separately, in chunks.

    Attributes:
        merged: records that were new here, or, in a repair, changed a slot.
        ignored: the others.
        dropped: records that a full delta has taken away at its end.
        missing: slots that were empty here and that a repair has filled.
        older: slots of which a repair has replaced the record.
        example: one of those slots.
    """

    def __init__(self, store: Store, header: Delta, *, synced: bool = False) -> None:
        store.clock.check(header.clock, synced=synced)
        if not store.coverage.includes(header.base.coverage):
            # Made for a predecessor of this node, or for its state before a restore: committing would leave holes.
            raise RemoteError(
                "delta.header.base covers writes that this node does not; compare digests again",
                reason=Reason.BROKEN_TRANSFER,
                field="delta.header.base",
            )
        if header.snapshot.coverage.highest(store.origin) > store.coverage.sequence(store.origin):
            raise _not_ours("delta.header.snapshot", "delta.header.snapshot")
        self.header = header
        self.merged = 0
        self.ignored = 0
        self.dropped = 0
        self.missing = self.older = 0
        self.example = ""
        self._folded = False
        self._store = store
        self._received = (header.held or Coverage()) if header.full else None

    def merge(self, records: list[Record], now: float, *, synced: bool, superseded: bool = False) -> list[Record]:
        """Merge one chunk; returns the records that were new here.

        Args:
            records: the chunk's records.
            now: the time, from which the retention of tombstones counts.
            synced: whether this node has synced once (see clock.py).
            superseded: whether the chunk holds records that lost their slots at the sender.

        Raises:
            RemoteError: the chunk holds a poisonous clock, or its repair came too late; nothing of it was merged.
        """
        check_records(self._store, records, synced=synced)
        self._check_repair()
        if self._received is not None and self.header.held is None and not superseded:
            for record in records:
                self._received.add(record.origin, record.sequence)
        if superseded:
            fresh = self._store.merge_superseded(records, now)
        else:
            held = [self._store.get(record.kind, record.slot) for record in records] if self.header.repair else []
            fresh = self._store.merge(records, now, repair=self.header.repair)
            self._diagnose(records, held)
        self.merged += len(fresh)
        self.ignored += len(records) - len(fresh)
        return fresh

    def _diagnose(self, records: list[Record], held: list[Record | None]) -> None:
        """What the repair found: for whoever reads the log."""
        for record, old in zip(records, held, strict=bool(held)):
            if self._store.get(record.kind, record.slot) is not old:
                self.missing += old is None
                self.older += old is not None
                self._folded = self._folded or self._store.coverage.is_folded(record.origin)
                self.example = self.example or f"{record.kind.name} {record.slot}"[:MAX_EXAMPLE]

    @property
    def cause(self) -> str:
        """What may have made both sides differ, as far as this node can tell from what the repair has changed here."""
        if not self.missing and not self.older:
            return "nothing was missing here"
        if self._folded:
            return "a life was folded of which the peer knew more"
        if self._store.floor:
            return "a write met a tombstone that was purged already, or something is corrupt"
        return "something is corrupt"

    def _check_repair(self) -> None:
        """A repair merges what is covered too: right only while nothing was purged since both sides compared."""
        if self.header.repair and self.header.base.floor != self._store.floor:
            raise RemoteError(
                "tombstones were purged since the digests were compared for this repair; compare them again",
                reason=Reason.BROKEN_TRANSFER,
                field="delta.header.base",
            )

    def complete(self) -> None:
        """End the delta after its last chunk: our coverage takes the maximum with the sender's."""
        self.dropped = self._store.complete(self.header, self._received)


def _not_ours(what: str, field: str = "") -> RemoteError:
    return RemoteError(f"{what} claims writes of this node that it has not made", field=field)
