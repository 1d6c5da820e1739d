"""What has changed in a store since it was last asked: all that a disk needs to follow it.

The store notes each record that it takes in, moves or lets go of, and nothing else; what became of it is looked up
when the journal is taken. So noting costs next to nothing, a record that came and went is one entry, and what is taken
at one moment is consistent: a disk that writes it as a whole is a node as it was at that moment.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from gossip_grpc.core.records import Dot, Origin, Record


class Area(IntEnum):
    """Where a store keeps a record."""

    SLOT = 1
    """It is the content of its slot."""
    GUARD = 2
    """It is superseded, and kept until it is settled (see store.py)."""
    GRAVE = 3
    """It is a superseded deletion, and kept until it is purged."""


class Kept(NamedTuple):
    """A record as a store keeps it.

    Attributes:
        record: the record.
        area: where it is kept.
        since: for what may be purged, since when its retention counts, on the steady clock; None for all else.
    """

    record: Record
    area: Area
    since: float | None = None


class Knowledge(NamedTuple):
    """What a store knows of one origin.

    Attributes:
        sequence: covered up to here without a hole.
        above: ranges covered above it.
        floor: the highest sequence of a purged tombstone, 0 for none.
        context: the sequence up to which its writes are settled, 0 for none.
    """

    sequence: int
    above: tuple[tuple[int, int], ...] = ()
    floor: int = 0
    context: int = 0


class Changes(NamedTuple):
    """What a store was asked to write down.

    Attributes:
        origin: who writes here now.
        clock: the Lamport clock.
        sequence: the origin's last write.
        kept: the records that are new or kept in another way than before.
        gone: the dots of the records that are kept no more. A dot may be in it that never was in `kept`.
        origins: what is known now of the origins of which something else was known before; None if the origin has been
            folded.
        folded: nodes whose generations up to one have been folded since.
        own: whether any of it is a write of this node itself, its member record and accusations among them.
    """

    origin: Origin
    clock: int
    sequence: int
    kept: list[Kept]
    gone: list[Dot]
    origins: dict[Origin, Knowledge | None]
    folded: dict[str, int]
    own: bool
