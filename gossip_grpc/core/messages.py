"""What nodes say to each other, and what the engine asks its driver to do.

The engine has two effects: `Call` (one RPC to a peer, whose outcome the driver reports back with the same object) and
`Notice` (something an operator should read). Time is asked for by `Engine.deadline`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.membership import Peer
from gossip_grpc.core.records import Record
from gossip_grpc.core.sync import Delta, Digest


@dataclass(slots=True)
class PullRequest:
    """Compare (by hash, or for the digest alone if there is neither), or fetch what a digest lacks."""

    digest_hash: int | None = None
    digest: Digest | None = None
    repair: bool = False


@dataclass(slots=True)
class PullReply:
    """Of a comparison: agreement, or the responder's digest. Of a fetch: the delta."""

    agreed: bool = False
    digest: Digest | None = None
    delta: Delta | None = None


@dataclass(slots=True)
class PushRequest:
    """Rumors (`records`), or a complete `delta`; with the hash of the sender's digest if a comparison is wanted."""

    records: list[Record] = field(default_factory=list)
    delta: Delta | None = None
    digest_hash: int | None = None


@dataclass(slots=True)
class PushReply:
    """How many records were new; whether the hashes agree; if not, the receiver's digest."""

    fresh: int = 0
    agreed: bool = False
    digest: Digest | None = None


@dataclass(slots=True, eq=False)
class Round:
    """One round of anti-entropy, as its initiator sees it. `sent` is our coverage when the comparison was asked for."""

    peer: Peer
    fetches: bool
    sends: bool
    sent: Coverage


@dataclass(slots=True, eq=False)
class Call:
    """An RPC to be made. `round` is None for rumors."""

    peer: Peer
    request: PullRequest | PushRequest
    round: Round | None = None


@dataclass(slots=True)
class Notice:
    """Something an operator should read: an event's name, its level and its facts."""

    event: str
    level: str = "info"
    facts: dict[str, Any] = field(default_factory=dict)


Effect = Call | Notice
