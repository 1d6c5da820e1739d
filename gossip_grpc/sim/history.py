"""What clients did and what they were told, with what each writer knew then: the checkers' word on what must hold.

Nothing here is read by the world itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

from gossip_grpc.core.coverage import EVERYTHING, Coverage, Ranges
from gossip_grpc.core.records import Dot, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.sim.folds import Folds

ACKNOWLEDGED = "acknowledged"
DOWN = "down"
PAUSED = "paused"

SlotKey = tuple[str, ...]
"""What a write is about: ("register", key), ("counter", key) or ("set", key, element)."""

_KINDS = {"put": "register", "delete": "register", "fill": "register", "add": "counter", "reset": "counter"}


def slot_keys(verb: str, args: Sequence[Any]) -> tuple[SlotKey, ...]:
    """What a client's verb is about."""
    kind = _KINDS.get(verb)
    if kind is not None:
        return ((kind, args[0]),)
    return tuple(("set", args[0], element) for element in args[1:])


class Write:
    """One call of a client.

    Attributes:
        number: its place in the history, from 0.
        time: virtual seconds.
        node: the node asked.
        origin: that node in its life of then; None if it was down.
        verb: put, delete, add, reset, set-add or set-remove.
        args: as in `Action.args`.
        keys: what it is about; several for set elements.
        records: what the engine wrote; none where there was nothing to do, or nothing was acknowledged.
        outcome: `acknowledged`, `down`, `paused` (nobody answered; nothing was done), or the reason of the refusal.
    """

    __slots__ = ("_history", "_knew", "args", "keys", "node", "number", "origin", "outcome", "records", "time", "verb")

    def __init__(
        self,
        history: History,
        time: float,
        node: str,
        origin: Origin | None,
        verb: str,
        args: tuple[Any, ...],
        knew: dict[Origin, tuple[int, Ranges]],
    ) -> None:
        self.number = len(history.writes)
        self.time = time
        self.node = node
        self.origin = origin
        self.verb = verb
        self.args = args
        self.keys = slot_keys(verb, args)
        self.records: tuple[Record, ...] = ()
        self.outcome = DOWN
        self._history = history
        self._knew = knew

    @property
    def acknowledged(self) -> bool:
        """Whether the client was told that it is done."""
        return self.outcome == ACKNOWLEDGED

    @property
    def refused(self) -> bool:
        """Whether it was not done: the node was down, stood still or refused."""
        return self.outcome != ACKNOWLEDGED

    @property
    def dots(self) -> tuple[Dot, ...]:
        """The dots of the records written."""
        return tuple(record.dot for record in self.records)

    @property
    def seen(self) -> Seen:
        """Dots of the earlier writes about the same that the writer covered just before this one.

        Of a life that the writer had folded, those that somebody folded without having seen them (see folds.py) are not
        among them.
        """
        return Seen(self, self._history)

    def knew(self, dot: Dot) -> bool:
        """Whether the writer covered the dot of an earlier write about the same."""
        sequence, above = self._knew.get(dot.origin, (0, []))
        if dot.sequence <= sequence:
            return sequence < EVERYTHING or not self._history.folds.doubts(dot)
        index = bisect_right(above, (dot.sequence, float("inf"))) - 1
        return index >= 0 and dot.sequence <= above[index][1]

    def __repr__(self) -> str:
        words = " ".join(map(str, (self.verb, *self.args)))
        return f"Write({self.time:.3f} {self.node} {words}: {self.outcome} {', '.join(map(str, self.dots))})"


class Seen(Set[Dot]):
    """What a writer had seen: a set of dots that is asked of one by one more often than it is read."""

    def __init__(self, write: Write, history: History) -> None:
        self._write = write
        self._history = history

    def __contains__(self, dot: object) -> bool:
        # No number to compare: nobody covers what is written later.
        return isinstance(dot, Dot) and self._history.wrote(dot, self._write.keys) and self._write.knew(dot)

    def __iter__(self) -> Iterator[Dot]:
        for write in self._history.about(*self._write.keys):
            if write.number >= self._write.number:
                return
            yield from (dot for dot in write.dots if self._write.knew(dot))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{{{', '.join(map(str, self))}}}"


class Life:
    """One run of a node's process.

    Attributes:
        node: its name.
        origin: the identity it wrote as when it began.
        start: virtual seconds.
        from_disk: whether it began with what the life before had kept.
        end: virtual seconds; None while it lasts.
        ended: `crash`, `crash disk` (its state was kept), `leave`; empty while it lasts.
        restored: whether it began from a backup.
    """

    __slots__ = ("_store", "_written", "end", "ended", "from_disk", "node", "origin", "restored", "start")

    def __init__(self, node: str, store: Store, start: float, *, from_disk: bool, restored: bool = False) -> None:
        self.node = node
        self.origin = store.origin
        self._store: Store | None = store
        self._written = 0
        self.start = start
        self.from_disk = from_disk
        self.restored = restored
        self.end: float | None = None
        self.ended = ""

    @property
    def written(self) -> int:
        """The sequence of its origin's last write, in this life or before."""
        return self._written if self._store is None else self._store.coverage.sequence(self.origin)

    def close(self, end: float, ended: str) -> None:
        """Note that it has ended."""
        self._written = self.written
        self._store = None  # what was lost need not be kept here
        self.end = end
        self.ended = ended

    def __repr__(self) -> str:
        return f"Life({self.origin} from {self.start:.3f} to {self.end}, {self.ended or 'lasts'})"


class History:
    """All writes of clients, all lives of nodes, and what was damaged.

    Attributes:
        writes: in order of time.
        lives: in order of their beginning.
        rots: (time, node, key) of each record that a fault let vanish.
        folds: who folded which lives.
        heals: how often a node found that fingerprints differ at equal coverage.
        purged: whether any node has purged a tombstone.
        preloaded: cluster -> number of registers `preload/1` ... that all its nodes began with; not among the writes.
    """

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.lives: list[Life] = []
        self.rots: list[tuple[float, str, str]] = []
        self.folds = Folds()
        self.heals = 0
        self.purged = False
        self.preloaded: dict[str, int] = {}
        self._about: defaultdict[SlotKey, list[Write]] = defaultdict(list)
        self._writers: defaultdict[SlotKey, dict[Origin, None]] = defaultdict(dict)
        self._dots: defaultdict[SlotKey, set[Dot]] = defaultdict(set)
        self._undone: list[tuple[Origin, int, int]] = []

    def about(self, *keys: SlotKey) -> Iterator[Write]:
        """The acknowledged writes about any of these, in order; each once."""
        found = {write.number: write for key in keys for write in self._about.get(key, ())}
        return iter([found[number] for number in sorted(found)])

    def keys(self) -> list[SlotKey]:
        """All that acknowledged writes are about, in order of the first."""
        return list(self._about)

    def wrote(self, dot: Dot, keys: Iterable[SlotKey]) -> bool:
        """Whether an acknowledged write about any of these has the dot."""
        return any(dot in self._dots.get(key, ()) for key in keys)

    def revert(self, origin: Origin, backup: int) -> None:
        """Note that a node goes on as the same origin from a backup of its first writes: it does not know the later."""
        written = (dot.sequence for write in self.writes for dot in write.dots if dot.origin == origin)
        self._undone.append((origin, backup, max(written, default=0)))

    def undone(self, dot: Dot) -> bool:
        """Whether a write was made after the backup from which its writer went on."""
        return any(dot.origin == origin and first < dot.sequence <= last for origin, first, last in self._undone)

    def open(
        self,
        time: float,
        node: str,
        verb: str,
        args: tuple[Any, ...],
        writer: tuple[Origin, Coverage] | None,
    ) -> Write:
        """Note that a client asks, before it is done.

        Args:
            time: virtual seconds.
            node: who is asked.
            verb: what for.
            args: with which arguments.
            writer: the node as it is now, or None if it is down.
        """
        knew: dict[Origin, tuple[int, Ranges]] = {}
        if writer is not None:
            coverage = writer[1]
            for key in slot_keys(verb, args):
                for origin in self._writers.get(key, ()):
                    knew[origin] = (coverage.sequence(origin), list(coverage.above(origin)))
        write = Write(self, time, node, writer[0] if writer else None, verb, args, knew)
        self.writes.append(write)
        return write

    def close(self, write: Write, outcome: str, records: Sequence[Record] = ()) -> None:
        """Note what came of it."""
        write.outcome = outcome
        write.records = tuple(records)
        if outcome != ACKNOWLEDGED:
            return
        for key in write.keys:
            self._about[key].append(write)
            for record in records:
                self._writers[key][record.origin] = None
                self._dots[key].add(record.dot)
