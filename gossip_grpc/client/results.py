"""What calls answer with: plain, immutable values that know nothing of gRPC; only a session has a form as bytes.

The fields are those of the schema, where their meaning is written down in full (`proto/gossip/v1/`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from gossip_grpc.errors import InvalidArgumentError, Reason
from gossip_grpc.gen.gossip.v1 import common_pb2
from gossip_grpc.tokens import join

Value: TypeAlias = str | bytes
"""Text and bytes are different values: "a" is not b"a"."""


class Origin(NamedTuple):
    """The identity that writes: a node in one of its lives. As text: `node_id/generation`."""

    node_id: str
    generation: int

    def __str__(self) -> str:
        return f"{self.node_id}/{self.generation}"


class Dot(NamedTuple):
    """Names one write for ever: the origin and its count of writes. As text: `node_id/generation:sequence`."""

    origin: Origin
    sequence: int

    def __str__(self) -> str:
        return f"{self.origin}:{self.sequence}"


@dataclass(frozen=True, slots=True)
class Session:
    """A token of what somebody has written and seen: what a write answers with, and what a client carries.

    As text, `str(session)`, it fits into a header; `Session.parse` reads it.
    """

    clock: int = 0
    """The greatest Lamport clock of the writes."""
    dots: tuple[Dot, ...] = ()
    """Single writes, oldest first; none if a write changed nothing."""
    complete: tuple[Dot, ...] = ()
    """All writes of each origin up to its sequence."""

    def merge(self, other: Session) -> Session:
        """One token that asks for at least what both ask for, and is short."""
        dots, complete = join((*self.dots, *other.dots), (*self.complete, *other.complete))
        return Session(max(self.clock, other.clock), dots, complete)

    def to_bytes(self) -> bytes:
        """As the message `Session` of the schema."""
        parts = [common_pb2.Session(clock=self.clock).SerializeToString()]
        parts += [_part(dot, False) for dot in self.dots]
        parts += [_part(end, True) for end in self.complete]
        return b"".join(parts)

    @classmethod
    def from_message(cls, message: common_pb2.Session) -> Session:
        """From the message of the schema."""
        complete = message.complete
        return cls(message.clock, _dots(message.dots), _dots(complete) if complete else ())

    @classmethod
    def parse(cls, text: str) -> Session:
        """Reads a session's text; InvalidArgumentError if it is none."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return cls.from_message(common_pb2.Session.FromString(raw))
        except (ValueError, binascii.Error, DecodeError) as error:
            problem = "is not the text of a session; hand it on as `str(session)` gave it"
            raise InvalidArgumentError(
                f"session {problem}", reason=Reason.INVALID_ARGUMENT, fields={"session": problem}
            ) from error

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.to_bytes()).decode().rstrip("=")


def _dots(messages: Iterable[common_pb2.Dot]) -> tuple[Dot, ...]:
    found = []
    for message in messages:
        origin = message.origin
        found.append(Dot(Origin(origin.node_id, origin.generation), message.sequence))
    return tuple(found)


@lru_cache(1024)
def _part(dot: Dot, complete: bool) -> bytes:
    """One dot of a session's bytes, its tag included: parts of a message may be joined."""
    origin = common_pb2.Origin(node_id=dot.origin.node_id, generation=dot.origin.generation)
    message = common_pb2.Dot(origin=origin, sequence=dot.sequence)
    made = common_pb2.Session(complete=[message]) if complete else common_pb2.Session(dots=[message])
    return made.SerializeToString()


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value, and the write (dot, Lamport clock) that put it there."""

    key: str
    value: Value
    dot: Dot
    clock: int
    expires_at: float | None = None
    """Until when it is visible: Unix time in seconds by its writer's clock; None if it has no end."""
    ephemeral: bool = False
    """Whether it is visible only while the node that wrote it is a live member."""


class Item(NamedTuple):
    """One of many keys to write, where a pair of key and value does not say it all."""

    key: str
    value: Value
    ttl: float | timedelta = 0.0
    """Seconds, or the time, for which it is to be seen, from when it is written; 0 for ever."""
    ephemeral: bool = False
    """Whether it is to be seen only while the node that is asked is a live member."""


@dataclass(frozen=True, slots=True)
class Written:
    """What writing many keys did: how many entries were written, and the token of them all."""

    count: int
    session: Session


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion did; true if the node held a value for the key."""

    found: bool
    session: Session

    def __bool__(self) -> bool:
        return self.found


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter and its value as the node asked knows it."""

    key: str
    value: int


@dataclass(frozen=True, slots=True)
class SetSummary:
    """One set in a listing and the number of its elements, at least 1."""

    key: str
    size: int


class KeyValueEventKind(StrEnum):
    """What has happened to an entry."""

    UNKNOWN = "unknown"
    """The node sent one that this version of the client has no word for."""
    RESET = "reset"
    """The token was of no use: forget all you knew, a snapshot follows."""
    SNAPSHOT = "snapshot"
    """Nothing: it is one of the entries that there are."""
    CURRENT = "current"
    """All that there was has been told; what follows is new."""
    PUT = "put"
    DELETED = "deleted"
    EXPIRED = "expired"
    """Its time has come."""
    HIDDEN = "hidden"
    """It is ephemeral, and the node that wrote it is not a live member any more."""
    SHOWN = "shown"
    """That node is a live member again."""


@dataclass(frozen=True, slots=True)
class KeyValueEvent:
    """Something that has happened to an entry at the node asked."""

    kind: KeyValueEventKind
    key: str
    """Empty in RESET and CURRENT."""
    entry: Entry | None
    """After it; None if there is none any more."""
    old_value: Value | None
    """Before it; None if there was none, and in a snapshot."""
    dot: Dot | None
    """The write that made the difference, or that had put there what is gone or back now."""
    clock: int
    """Lamport clock of that write."""
    token: str
    """To go on from here another time; empty before CURRENT of a snapshot."""
    cause: str
    """Of RESET and CURRENT: why, in words."""


class CounterEventKind(StrEnum):
    """What has happened to a counter."""

    UNKNOWN = "unknown"
    """The node sent one that this version of the client has no word for."""
    RESET = "reset"
    """The token was of no use: forget all you knew, a snapshot follows."""
    SNAPSHOT = "snapshot"
    """Nothing: it is one of the counters that there are."""
    CURRENT = "current"
    """All that there was has been told; what follows is new."""
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class CounterEvent:
    """Something that has happened to a counter at the node asked."""

    kind: CounterEventKind
    counter: Counter | None
    """After it; None of RESET and CURRENT."""
    old_value: int
    """Before it; 0 unless it has changed."""
    dot: Dot | None
    """The write that made the difference; None unless it has changed."""
    clock: int
    """Lamport clock of that write."""
    token: str
    """To go on from here another time; empty before CURRENT of a snapshot."""
    cause: str
    """Of RESET and CURRENT: why, in words."""


class SetEventKind(StrEnum):
    """What has happened to an element of a set."""

    UNKNOWN = "unknown"
    """The node sent one that this version of the client has no word for."""
    RESET = "reset"
    """The token was of no use: forget all you knew, a snapshot follows."""
    SNAPSHOT = "snapshot"
    """Nothing: it is one of the elements that there are."""
    CURRENT = "current"
    """All that there was has been told; what follows is new."""
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class SetEvent:
    """Something that has happened to an element of a set at the node asked."""

    kind: SetEventKind
    key: str
    """Of the set; empty in RESET and CURRENT."""
    element: Value | None
    """None of RESET and CURRENT."""
    dot: Dot | None
    """The write that made the difference; None unless it was added or removed."""
    clock: int
    """Lamport clock of that write."""
    token: str
    """To go on from here another time; empty before CURRENT of a snapshot."""
    cause: str
    """Of RESET and CURRENT: why, in words."""


@dataclass(frozen=True, slots=True)
class Event:
    """What was published, at any node."""

    topic: str
    payload: Value
    ordering_key: str
    """What its publisher gave; empty if nothing."""
    published_at: float
    """Unix time in seconds, by the clock of the node it was published at."""
    dot: Dot
    """Names the event for ever."""
    clock: int
    """Lamport clock: what was published by somebody who had seen it has a greater one."""
    request_id: str = ""
    """What its publisher named it by, itself or its client; empty if nothing."""


class SubscriptionEventKind(StrEnum):
    """What a subscriber is told."""

    UNKNOWN = "unknown"
    """The node sent one that this version of the client has no word for."""
    RESET = "reset"
    """The token was of no use: events may have been missed, others may come once more."""
    CURRENT = "current"
    """What there was has been told; what follows is new."""
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class SubscriptionEvent:
    """Something that a subscriber is told by the node asked."""

    kind: SubscriptionEventKind
    event: Event | None
    """None of RESET and CURRENT."""
    token: str
    """To go on from here another time; empty before CURRENT."""
    cause: str
    """Of RESET and CURRENT: why, in words."""

    @property
    def dot(self) -> Dot | None:
        """That of the event."""
        return None if self.event is None else self.event.dot

    @property
    def clock(self) -> int:
        """That of the event; 0 of RESET and CURRENT."""
        return 0 if self.event is None else self.event.clock


class MemberStatus(StrEnum):
    """What a member is to the node asked."""

    UNKNOWN = "unknown"
    """The node sent a status that this version of the client has no word for."""
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the cluster, as the node asked sees it."""

    node_id: str
    generation: int
    incarnation: int
    peer_address: str
    client_address: str
    zone: str
    tags: dict[str, str]
    version: str
    status: MemberStatus
    reachable: bool
    """Whether the node asked could exchange with it at the last attempt."""
    phi: float | None
    """How surprising its silence is; None unless the node asked is one of its monitors."""
    status_age_seconds: float
    """For how long it has been what it is, to the node asked."""
    cause: str
    """Why it is that, in words."""


class MonitorPhase(StrEnum):
    """What a monitor does about a member."""

    UNKNOWN = "unknown"
    """The node sent one that this version of the client has no word for."""
    LISTENING = "listening"
    PINGING = "pinging it"
    ASKING = "asking others"
    ACCUSING = "accusing it"


@dataclass(frozen=True, slots=True)
class MonitorView:
    """What a monitor hears of a member; times in seconds."""

    phi: float
    mean_seconds: float
    deviation_seconds: float
    heartbeat_age_seconds: float | None
    """Since its last heartbeat; None before the first."""
    heartbeats: int
    phase: MonitorPhase


@dataclass(frozen=True, slots=True)
class Monitor:
    """A monitor of a member."""

    node_id: str
    client_address: str
    view: MonitorView | None
    """What it hears; None unless it is the node asked."""


@dataclass(frozen=True, slots=True)
class MemberAccusation:
    """What a member says of another one that it cannot reach."""

    accuser: str
    made_at: float
    """Unix time in seconds, by the accuser's clock."""
    age_seconds: float
    phi: float
    incarnation: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a member is what it is to the node asked."""

    member: Member
    monitors: tuple[Monitor, ...]
    accusations: tuple[MemberAccusation, ...]
    accusers_needed: int
    """How many must accuse it for it to be dead at once."""
    verdict: str
    """What it would take to declare it dead, in words."""


class MemberEventKind(StrEnum):
    """What has happened to a member."""

    UNKNOWN = "unknown"
    """The node sent one that this version of the client has no word for."""
    RESET = "reset"
    """The token was of no use: forget all that was known, a snapshot follows."""
    SNAPSHOT = "snapshot"
    """Nothing: it is one of the members that there are."""
    CURRENT = "current"
    """All that there was has been told; what follows is new."""
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    UPDATED = "updated"
    REAPED = "reaped"


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """Something that has happened to a member, as the node asked sees it."""

    kind: MemberEventKind
    member: Member | None
    """As it is after it; None of RESET and CURRENT. Of a member that is forgotten only node_id and the last status."""
    cause: str
    token: str
    """To go on from here another time; empty before CURRENT of a snapshot."""


@dataclass(frozen=True, slots=True)
class GossipCounters:
    """What the node has done for gossip since it started; each is explained in `cluster.proto`."""

    rounds: int
    rounds_agreed: int
    rounds_failed: int
    pushes_sent: int
    pushes_received: int
    pulls_sent: int
    pulls_received: int
    bytes_sent: int
    bytes_received: int
    records_merged: int
    records_ignored: int
    full_syncs: int
    backstop_heals: int
    refused: int
    purged: int
    heartbeats_sent: int
    heartbeats_received: int
    expired: int = 0
    generations_folded: int = 0


class Durability(StrEnum):
    """What the acknowledgement of a write means."""

    MEMORY = "memory"
    """The node holds it, and pushes it on."""
    DISK = "disk"
    """It is on the node's disk."""


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """What the node keeps on disk."""

    default_durability: Durability = Durability.MEMORY
    """What a write's acknowledgement means if the caller does not say."""
    file_bytes: int = 0
    pending_changes: int = 0
    """Changes that wait to be written."""
    error: str = ""
    """Why the last attempt to write failed; empty while all is well."""
    commits: int = 0
    format_version: int = 0
    """0 without a data directory."""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How much of a limit is used: None of one on single items, no account is kept of those."""

    used: int | None
    limit: int


@dataclass(frozen=True, slots=True)
class Status:
    """What the node asked is and how it does."""

    node_id: str
    generation: int
    cluster: str
    ready: bool
    """Whether the node takes writes."""
    clock: int
    fingerprint: str
    """16 hex digits; equal on nodes that agree."""
    records: int
    tombstones: int
    coverage: dict[Origin, int]
    """Of each origin every write up to this sequence is covered."""
    coverage_above: dict[Origin, tuple[tuple[int, int], ...]]
    """Ranges of sequences covered above it, both ends included; only origins that have any."""
    uptime_seconds: float
    version: str
    strategy: str
    selector: str
    peer_address: str
    client_address: str
    members: int
    gossip: GossipCounters
    last_round_age_seconds: float | None
    """Seconds since the last round that ended well; None before the first."""
    last_round_peer: str
    limits: dict[str, LimitUse] = field(default_factory=dict)
    """By the name of the setting."""
    storage: StorageStatus = field(default_factory=StorageStatus)
    folded: dict[str, int] = field(default_factory=dict)
    """Nodes of whose generations up to this one everything counts as covered."""
    tombstones_blocked: int = 0
    """Tombstones old enough to be purged that wait for news of a node not heard of for long."""
