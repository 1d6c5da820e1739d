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
from collections.abc import Set as AbstractSet

from gossip_grpc.core.records import Record
from gossip_grpc.core.rings import Ring
from gossip_grpc.core.selection import pick

MAX_PENDING = 10_000
"""Records that wait for the next push. Beyond it the oldest are left to anti-entropy, so memory stays bounded."""

MAX_OPEN = 16
"""Pushes of rumors that a peer may owe an answer for; beyond it the peer's rumors go to others."""


class Rumors:
    """The records to be pushed next, each with the peer it came from (None: written here), and who is to get them."""

    def __init__(self, *, fanout: int, interval: float, rng: random.Random) -> None:
        self._fanout = fanout
        self._interval = interval
        self._rng = rng
        self._pending: dict[Record, str | None] = {}
        self._next = float("-inf")
        self._open: dict[str, int] = {}
        self._busy: set[str] = set()  # who owes MAX_OPEN answers
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

    def take(self, now: float, ring: Ring, unreachable: AbstractSet[str]) -> dict[str, list[Record]]:
        """What to push to whom, if a push is due. Nothing goes back to where it came from, nor to its writer.

        Without peers to listen nothing is kept: who joins later gets it by anti-entropy. Peers that are pushed the same
        share one list, not to be changed.
        """
        if not self._pending or now < self._next:
            return {}
        pending, self._pending = self._pending, {}
        deaf = unreachable | self._busy
        successor = next((name for name in ring.names if name not in deaf), None)
        if successor is None:
            return {}
        self._next = now + self._interval
        knowing = [{source, record.origin.node_id} for record, source in pending.items()]
        all_know: set[str | None] = set.intersection(*knowing)
        # If the successor knows it all, the ring goes on there by itself.
        targets = [] if successor in all_know else [successor]
        targets += pick(ring.names, self._fanout - len(targets), self._rng, avoid={successor, *all_know, *deaf})
        some_know = set().union(*knowing)
        records = list(pending)
        return {
            peer: [record for record, known in zip(records, knowing, strict=True) if peer not in known]
            if peer in some_know
            else records
            for peer in targets
        }

    def after(self, failed: str, ring: Ring, unreachable: AbstractSet[str]) -> str | None:
        """Who gets what `failed` could not be given: the next on the ring, as it starts at this node, or None.

        One for one, and never round the ring, so that losses cannot multiply pushes.
        """
        return next((name for name in ring.behind(failed) if name not in unreachable and name not in self._busy), None)

    def begun(self, peer: str) -> None:
        """A push to the peer is on its way."""
        left = self._open[peer] = self._open.get(peer, 0) + 1
        if left >= MAX_OPEN:
            self._busy.add(peer)

    def ended(self, peer: str) -> None:
        """A push to the peer has had its outcome."""
        left = self._open.pop(peer, 1) - 1
        if left:
            self._open[peer] = left
        if left < MAX_OPEN:
            self._busy.discard(peer)
