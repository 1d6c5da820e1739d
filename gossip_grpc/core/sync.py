"""Digests, deltas, and the comparison that decides what a round of anti-entropy still has to do.

A round starts with the hash of the digest; if both sides agree, that is the whole round. If not, the responder's
digest comes back and `compare` says what is missing where:

| strategy  | compare by | then fetch (Pull)   | then send (Push)    |
| --------- | ---------- | ------------------- | ------------------- |
| push      | Push       |                     | what the peer lacks |
| pull      | Pull       | what we lack        |                     |
| push-pull | Pull       | what we lack        | what the peer lacks |

Equal coverage with unequal fingerprints is the backstop's case: both sides exchange everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from xxhash import xxh3_64_intdigest

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Kind, Origin, Record


class Strategy(StrEnum):
    """Which way records flow in a round of anti-entropy."""

    PUSH = "push"
    PULL = "pull"
    PUSH_PULL = "push-pull"

    @property
    def fetches(self) -> bool:
        """Whether the initiator takes what it lacks."""
        return self is not Strategy.PUSH

    @property
    def sends(self) -> bool:
        """Whether the initiator gives what the peer lacks."""
        return self is not Strategy.PULL


@dataclass(slots=True)
class Digest:
    """What a node knows: coverage, GC floor, causal context (see store.py) and fingerprint."""

    coverage: Coverage = field(default_factory=Coverage)
    floor: dict[Origin, int] = field(default_factory=dict)
    context: dict[Origin, int] = field(default_factory=dict)
    fingerprint: int = 0

    def hash(self) -> int:
        """64-bit hash of coverage and fingerprint. Floor and context differ between nodes that agree."""
        return hash_digest(self.coverage, self.fingerprint)


def hash_digest(coverage: Coverage, fingerprint: int) -> int:
    """The hash of the digest that a store of this coverage and fingerprint would make."""
    return xxh3_64_intdigest(f"{coverage.hash()} {fingerprint}".encode())


@dataclass(slots=True)
class Delta:
    """The records that `base` lacks, of the store whose digest was `snapshot`.

    Attributes:
        base: the digest the delta was computed against.
        snapshot: the sender's digest when the records were read.
        full: what the receiver must drop is told too, because `base` was below the sender's GC floor (see `held`).
        repair: all records, because coverage was equal and fingerprints were not.
        records: members first, then by origin and sequence; at most one of a slot.
        superseded: records that lost their slots but must be kept (see store.py).
        clock: the sender's Lamport clock then. It is at least that of every write covered, also of those purged since.
        held: of a full delta, the dots of all user records that the sender holds; then those that `base` covers are not
            among `records`. None where that would take too much: then all are.
    """

    base: Digest
    snapshot: Digest
    full: bool = False
    repair: bool = False
    records: list[Record] = field(default_factory=list)
    superseded: list[Record] = field(default_factory=list)
    clock: int = 0
    held: Coverage | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two digests say of each other.

    Attributes:
        we_lack: the peer covers, or has purged, what we do not.
        they_lack: we cover, or have purged, what the peer does not.
        diverged: both cover the same and yet hold different records.
    """

    we_lack: bool
    they_lack: bool
    diverged: bool

    @property
    def agreed(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.we_lack or self.they_lack or self.diverged)


def layers(records: Iterable[Record]) -> list[list[Record]]:
    """Split records, in order, into as few lists as possible that hold at most one record of a slot each."""
    result: list[list[Record]] = []
    depth: dict[tuple[Kind, Hashable], int] = {}
    for record in records:
        slot = (record.kind, record.slot)
        layer = depth.get(slot, 0)
        depth[slot] = layer + 1
        if layer == len(result):
            result.append([])
        result[layer].append(record)
    return result


def compare(ours: Digest, theirs: Digest) -> Comparison:
    """Compare our digest with a peer's."""
    we_lack = not ours.coverage.includes(theirs.coverage)
    they_lack = not theirs.coverage.includes(ours.coverage)
    diverged = not we_lack and not they_lack and ours.fingerprint != theirs.fingerprint
    return Comparison(we_lack, they_lack, diverged)
