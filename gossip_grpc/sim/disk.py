"""A simulated disk: what a store was asked to write down, and the store that comes of it again.

It takes the way of a real one: the store's journal, its changes, and `Store.load`. So what is simulated of a restart is
the recovery, and not that an object was kept.
"""

from __future__ import annotations

from gossip_grpc.core.journal import Changes, Kept, Knowledge
from gossip_grpc.core.records import Dot, Origin
from gossip_grpc.core.store import Store


class Disk:
    """What is kept of one node."""

    def __init__(self) -> None:
        self._origin: Origin | None = None
        self._clock = 0
        self._kept: dict[Dot, Kept] = {}
        self._origins: dict[Origin, Knowledge] = {}
        self._folded: dict[str, int] = {}

    @property
    def origin(self) -> Origin | None:
        """Who wrote it; None while it is empty."""
        return self._origin

    def follow(self, store: Store) -> None:
        """Write down what has changed in a store that keeps a journal."""
        changes = store.take_changes()
        if changes is not None:
            self.write(changes)
        self._clock = max(self._clock, store.clock.time)

    def write(self, changes: Changes) -> None:
        """Take over what has changed."""
        self._origin = changes.origin
        for dot in changes.gone:
            self._kept.pop(dot, None)
        for kept in changes.kept:
            self._kept[kept.record.dot] = kept
        for origin, known in changes.origins.items():
            if known is None:
                self._origins.pop(origin, None)
            else:
                self._origins[origin] = known
        self._folded |= changes.folded

    def load(self, now: float, origin: Origin | None = None) -> Store:
        """The store that was written down.

        Args:
            now: the time, on the steady clock.
            origin: who writes there from now on; by default who did.

        Raises:
            ValueError: nothing was written down.
        """
        origin = origin or self._origin
        if origin is None:
            raise ValueError("the disk is empty")
        self._origin = origin
        return Store.load(origin, self._clock, self._kept.values(), self._origins, self._folded, now)

    def copy(self) -> Disk:
        """A backup."""
        copy = Disk()
        copy._origin, copy._clock = self._origin, self._clock
        copy._kept, copy._origins, copy._folded = dict(self._kept), dict(self._origins), dict(self._folded)
        return copy
