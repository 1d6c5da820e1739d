"""What nodes say to each other, and what the engine asks its driver to do.

The engine has five effects: `Call` (one RPC to a peer, whose outcome the driver reports back with the same object),
`Notice` (something an operator should read), `Change` (a member has become something else), `StepDown` (this node must
stop) and `Renewed` (this node has another generation). Time is asked for by `Engine.deadline`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.membership import Change, Peer
from gossip_grpc.core.records import Origin, Record
from gossip_grpc.core.sync import Delta, Digest


@dataclass(slots=True)
class PullRequest:
    """Compare (by hash, or for the digest alone if there is neither), or fetch what a digest lacks."""

    digest_hash: int | None = None
    digest: Digest | None = None
    repair: bool = False


@dataclass(slots=True)
class PullReply:
    """Of a comparison: agreement, or the responder's digest. Of a fetch: the delta.

    `forgotten`: the responder has forgotten the sender, which is to announce itself anew.
    """

    agreed: bool = False
    digest: Digest | None = None
    delta: Delta | None = None
    forgotten: bool = False


@dataclass(slots=True)
class PushRequest:
    """Rumors (`records`), or a complete `delta`; with the hash of the sender's digest if a comparison is wanted."""

    records: list[Record] = field(default_factory=list)
    delta: Delta | None = None
    digest_hash: int | None = None


@dataclass(slots=True)
class PushReply:
    """How many records were new; whether the hashes agree; if not, the receiver's digest. `forgotten` as above."""

    fresh: int = 0
    agreed: bool = False
    digest: Digest | None = None
    forgotten: bool = False


@dataclass(slots=True)
class HeartbeatRequest:
    """I am alive: by whom is in every message; in which incarnation, a number that only grows, and what it knows."""

    incarnation: int
    beat: int
    digest_hash: int


@dataclass(slots=True)
class HeartbeatReply:
    """What the monitor knows.

    Attributes:
        digest_hash: of its digest.
        newer: the generation of a newer life of the sender that it knows; 0 if the sender's is the newest.
    """

    digest_hash: int
    newer: int = 0


@dataclass(slots=True)
class ProbeRequest:
    """Whether the node called is the target; or (`relay`) whether the node called can reach the target."""

    target: Origin
    relay: bool = False


@dataclass(slots=True)
class ProbeReply:
    """Whether the target answered."""

    reached: bool


@dataclass(slots=True)
class StepDown:
    """This node must stop: a newer one runs under its id."""

    reason: str


@dataclass(slots=True)
class Renewed:
    """This node writes as another origin from now on, which its next messages must name."""

    origin: Origin


@dataclass(slots=True, eq=False)
class Round:
    """One round of anti-entropy, as its initiator sees it. `sent` is our coverage when the comparison was asked for."""

    peer: Peer
    fetches: bool
    sends: bool
    sent: Coverage


@dataclass(slots=True, eq=False)
class Call:
    """An RPC to be made.

    Attributes:
        peer: whom to call.
        request: with what.
        round: the round of anti-entropy that it is part of; None for rumors, heartbeats and probes.
        timeout: seconds that the peer may take; None for the driver's default.
    """

    peer: Peer
    request: PullRequest | PushRequest | HeartbeatRequest | ProbeRequest
    round: Round | None = None
    timeout: float | None = None


@dataclass(slots=True)
class Notice:
    """Something an operator should read: an event's name, its level and its facts."""

    event: str
    level: str = "info"
    facts: dict[str, Any] = field(default_factory=dict)


Effect = Call | Notice | Change | StepDown | Renewed
