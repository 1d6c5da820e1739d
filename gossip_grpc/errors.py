"""The errors of the protocol and of the API, whether raised in the node or seen by a client.

`ProtocolError` splits in two, as in h11: `LocalError` is our own misuse or a caller's bad input, `RemoteError` a
peer that misbehaves. Each names a `Reason`, which travels to clients as google.rpc.ErrorInfo, and says in its
message which field is wrong, what is allowed and what to do. Unless an error says otherwise, nothing was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a call failed; the `reason` of google.rpc.ErrorInfo in the domain `gossip-grpc`."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    KEY_NOT_FOUND = "KEY_NOT_FOUND"
    MEMBER_NOT_FOUND = "MEMBER_NOT_FOUND"
    MEMBER_ALIVE = "MEMBER_ALIVE"
    MEMBER_UNREACHABLE = "MEMBER_UNREACHABLE"
    COUNTER_OVERFLOW = "COUNTER_OVERFLOW"
    RECORD_LIMIT = "RECORD_LIMIT"
    SYNC_LIMIT = "SYNC_LIMIT"
    MESSAGE_LIMIT = "MESSAGE_LIMIT"
    WATCH_LIMIT = "WATCH_LIMIT"
    SLOW_WATCHER = "SLOW_WATCHER"
    SESSION_BEHIND = "SESSION_BEHIND"
    SESSION_LIMIT = "SESSION_LIMIT"
    NOT_READY = "NOT_READY"
    STOPPING = "STOPPING"
    FOREIGN_CLUSTER = "FOREIGN_CLUSTER"
    INCOMPATIBLE_PROTOCOL = "INCOMPATIBLE_PROTOCOL"
    MALFORMED = "MALFORMED"
    CLOCK_POISON = "CLOCK_POISON"
    BROKEN_TRANSFER = "BROKEN_TRANSFER"
    NO_DISK = "NO_DISK"
    DISK_FAILED = "DISK_FAILED"
    NOT_ON_DISK = "NOT_ON_DISK"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INTERNAL = "INTERNAL"


class ProtocolError(Exception):
    """Base of all errors of the protocol.

    Attributes:
        reason: the kind of failure, for programs.
        field: path of the offending field, such as `delta.registers[3].key`; empty if no field is to blame.
        metadata: more for programs, by name.
    """

    default_reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        self.field = field
        self.metadata = dict(metadata or {})


class LocalError(ProtocolError):
    """Our own misuse, or a caller's bad input. Nothing was changed."""

    default_reason = Reason.INVALID_ARGUMENT


class RemoteError(ProtocolError):
    """A peer sent what it must not. The message that held it was refused whole; nothing of it was merged."""

    default_reason = Reason.MALFORMED


class NotFoundError(LocalError):
    """The node holds no value for the key."""

    default_reason = Reason.KEY_NOT_FOUND


class NotReadyError(LocalError):
    """The node has not synced with its cluster yet and takes no writes. Retry shortly or ask another node."""

    default_reason = Reason.NOT_READY


class BehindError(LocalError):
    """The node does not cover what a session has written or seen. Allow more time, or ask another node."""

    default_reason = Reason.SESSION_BEHIND


class LimitError(LocalError):
    """A limit of the node is reached. Free something or raise the limit, then retry."""

    default_reason = Reason.RECORD_LIMIT


class ConfigError(Exception):
    """The configuration is wrong. The message names each value, what was given and what is allowed."""


class Attempt(NamedTuple):
    """One attempt at a call: at which address, and why it failed, in words."""

    address: str
    problem: str


class GossipError(Exception):
    """Base of what clients raise.

    Attributes:
        reason: the node's reason, or None if the failure did not come from a node (see `Reason`).
        fields: field path -> what is wrong with it, for invalid arguments.
        metadata: more of what the node said for programs, such as the `resume_token` of a watcher that was too slow.
        attempts: all that a client has tried, in order; empty if nothing was.
        may_have_taken_effect: whether the call was a write that some node may have carried out, or has.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        fields: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.fields = dict(fields or {})
        self.metadata = dict(metadata or {})
        self.attempts: tuple[Attempt, ...] = ()
        self.may_have_taken_effect = False


class InvalidArgumentError(GossipError):
    """The request breaks a rule or a limit; correct it before trying again."""


class KeyNotFoundError(GossipError):
    """The node asked holds no value for the key."""


class MemberNotFoundError(GossipError):
    """The node asked knows no member of that name."""


class UnavailableError(GossipError):
    """The node cannot be reached, is stopping, or is not ready for writes yet. Retry, or ask another node."""


class ResourceExhaustedError(GossipError):
    """A limit of the node is reached. Free something or raise the limit, then retry."""


class DeadlineError(GossipError):
    """The node did not answer within the deadline. A write may or may not have taken effect.

    With reason SESSION_BEHIND the node did answer, and nothing was done: it does not cover all yet that the session
    has written or seen. `metadata["missing"]` names the writes, as `node/generation:sequence`, or `...:1-sequence` for
    all up to one. Should they have been lost with a node, begin a new session.
    """
