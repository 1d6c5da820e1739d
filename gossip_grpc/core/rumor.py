"""Rumor: what is new here is pushed at once, and passed on once by each node it is new to.

Infect-and-die to `fanout` random peers leaves a share s = exp(-fanout * (1 - s)) of the nodes without the rumor
(Demers et al. 1987): at fan-out 3 one in seventeen. So one of the pushes goes to the successor on a ring, as in
RingCast (Voulgaris and van Steen, "Hybrid Dissemination", Middleware 2007): without loss everybody is reached for
certain, and the random pushes make it quick and bridge losses. Anti-entropy makes it certain with losses.

Pushes are coalesced: the first goes out at once, further ones at most every `interval` seconds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gossip_grpc.core.records import Record
from gossip_grpc.core.rings import successors

MAX_PENDING = 10_000
"""Records that wait for the next push. Beyond it the oldest are left to anti-entropy, so memory stays bounded."""


class Rumors:
    """The records to be pushed next, each with the peer it came from (None: written here)."""

    def __init__(self, *, node_id: str, fanout: int, interval: float, rng: random.Random) -> None:
        self._node_id = node_id
        self._fanout = fanout
        self._interval = interval
        self._rng = rng
        self._pending: dict[Record, str | None] = {}
        self._next = float("-inf")
        self.dropped = 0

    def add(self, records: Sequence[Record], source: str | None) -> None:
        """Note records that are new here."""
        if self._fanout == 0:
            return
        for record in records:
            self._pending[record] = source
        while len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
            self.dropped += 1

    def deadline(self) -> float | None:
        """When the next push is due; None if nothing waits."""
        return self._next if self._pending else None

    def take(self, now: float, peers: Sequence[str]) -> dict[str, list[Record]]:
        """What to push to whom, if a push is due. Nothing goes back to where it came from, nor to its writer.

        Without peers nothing is kept: who joins later gets it by anti-entropy.
        """
        if not self._pending or now < self._next:
            return {}
        pending, self._pending = self._pending, {}
        if not peers:
            return {}
        self._next = now + self._interval
        knowing = [{source, record.origin.node_id} for record, source in pending.items()]
        targets = self.targets(peers, exclude=set.intersection(*knowing))
        return {
            peer: [record for record, known in zip(pending, knowing, strict=True) if peer not in known]
            for peer in targets
        }

    def after(self, failed: str, peers: Sequence[str]) -> str | None:
        """Who gets what `failed` could not be given: the next on the ring, as it starts at this node, or None.

        One for one, and never round the ring, so that losses cannot multiply pushes.
        """
        ring = successors(self._node_id, {*peers, failed})
        return next(iter(ring[ring.index(failed) + 1 :]), None)

    def targets(self, peers: Sequence[str], exclude: set[str | None]) -> list[str]:
        """The ring's successor and, of the others, as many at random as the fan-out allows.

        Args:
            peers: who can be reached.
            exclude: who knows all of it already. If the successor does, the ring goes on there by itself.
        """
        successor = successors(self._node_id, peers)[0]
        chosen = [] if successor in exclude else [successor]
        others = sorted(peer for peer in peers if peer != successor and peer not in exclude)
        return chosen + self._rng.sample(others, min(self._fanout - len(chosen), len(others)))
