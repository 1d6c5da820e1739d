"""The one place where a failed gRPC call becomes an error of the client, and is found to have had an effect or none.

An answer of the node bears google.rpc.ErrorInfo of our domain: its message stands as the node wrote it. Whatever else
fails (nobody listens, another server answers, the deadline passes) comes without it, and is put into words here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from gossip_grpc.client.retries import Effect, effect_of
from gossip_grpc.errors import (
    DeadlineError,
    GossipError,
    InvalidArgumentError,
    KeyNotFoundError,
    MemberNotFoundError,
    Reason,
    ResourceExhaustedError,
    UnavailableError,
)

DOMAIN = "gossip-grpc"

LONGEST_DELAY = 3600.0
"""Seconds: a node that asks for more is asked again after so many."""

_ERRORS: dict[grpc.StatusCode, type[GossipError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,  # the node stopped with the call under way
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}
_NOT_FOUND: dict[str, type[GossipError]] = {
    Reason.KEY_NOT_FOUND: KeyNotFoundError,
    Reason.MEMBER_NOT_FOUND: MemberNotFoundError,
}
# Both forms in which grpcio has told why it could not connect: "connect: Connection refused (111)", and without
# the call and the number.
_CONNECT = re.compile(r"Failed to connect to remote host: (?:.*: )?(?P<cause>[^:()]+?)(?: \(\d+\))?$")
_NEVER = "failed to connect to all addresses"
"""gRPC's words when there was no connection to send the call by."""
_TOO_LARGE = "message larger than max"
"""gRPC's words when it has not even read what it was sent."""
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
_REFUSALS = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
_RESOLVE = re.compile(r"resolv|resolution", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    Attributes:
        error: what it means to the user.
        effect: whether the call may have been carried out, and what may be done next.
        problem: why it failed, in a few words that do not name the address.
        retry_after: seconds before which this node is not to be asked again; None if it did not say.
    """

    error: GossipError
    effect: Effect
    problem: str
    retry_after: float | None = None


def failure_of(call: grpc.Call, *, address: str, timeout: float) -> Failure:
    """Reads a failed call: of either kind of client, as its errors have the same methods.

    The address and the deadline in seconds are those of the call, for the message.
    """
    code, details = call.code(), call.details() or ""
    reason, fields, metadata, retry_after = _details_of(call)
    if reason:
        error = error_for(code, details, reason=reason, fields=fields, metadata=metadata)
        written = metadata.get("written", "0")
        effect = effect_of(reason, written=int(written) if written.isdecimal() else 0, retry_after=retry_after)
        return Failure(error, effect, details, retry_after)
    error = error_for(code, _in_words(code, details, address, timeout), reason=None, fields=fields, metadata=metadata)
    return Failure(error, _effect(code, details), _in_short(code, details, timeout))


def unreachable(address: str, problem: str) -> Failure:
    """That of a node which was not even asked."""
    return Failure(UnavailableError(f"cannot reach {address}: {problem}"), Effect.UNREACHABLE, problem)


def error_of(call: grpc.Call, *, address: str, timeout: float) -> GossipError:
    """The error alone."""
    return failure_of(call, address=address, timeout=timeout).error


def error_for(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str | None,
    fields: Mapping[str, str],
    metadata: Mapping[str, str],
) -> GossipError:
    """Returns the error that stands for a status, with the node's reason if it gave one."""
    kind = _ERRORS.get(code, GossipError)
    if code is grpc.StatusCode.NOT_FOUND:
        kind = _NOT_FOUND.get(reason or "", GossipError)
    return kind(message, reason=reason, fields=fields, metadata=metadata)


def _details_of(call: grpc.Call) -> tuple[str | None, dict[str, str], dict[str, str], float | None]:
    """The reason, the violated fields, the metadata that the node gave, and in how many seconds to try again.

    The reason is None if it was not our node that failed.
    """
    try:
        status = rpc_status.from_call(call)
        info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        retry_after = None
        for detail in status.details if status else ():
            detail.Unpack(info)
            detail.Unpack(request)
            if detail.Unpack(retry):
                delay = retry.retry_delay
                retry_after = min(max(delay.seconds + delay.nanos / 1e9, 0.0), LONGEST_DELAY)
    except (ValueError, DecodeError):
        # They contradict the code or the message, or are no details: something between us and the node rewrote them.
        return None, {}, {}, None
    if info.domain != DOMAIN:
        return None, {}, {}, None
    fields = {violation.field: violation.description for violation in request.field_violations}
    return info.reason, fields, dict(info.metadata), retry_after


def _effect(code: grpc.StatusCode, details: str) -> Effect:
    if code is grpc.StatusCode.UNAVAILABLE and (
        _CONNECT.search(details) or _RESOLVE.search(details) or _NEVER in details
    ):
        return Effect.UNREACHABLE
    if code in _LOST:
        return Effect.UNKNOWN
    return Effect.REFUSED if code in _REFUSALS or _TOO_LARGE in details else Effect.STANDS


def _in_short(code: grpc.StatusCode, details: str, timeout: float) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        if found := _CONNECT.search(details):
            return found["cause"].lower()
        return "the name cannot be resolved" if _RESOLVE.search(details) else details
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {timeout:.3g} s"
    return f"{code.name} ({details})"


def _in_words(code: grpc.StatusCode, details: str, address: str, timeout: float) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        if found := _CONNECT.search(details):
            return f"cannot reach {address}: {found['cause'].lower()}; is the node running?"
        if _RESOLVE.search(details):
            return f"cannot reach {address}: the name cannot be resolved; is it spelled right?"
        return f"cannot reach {address}: {details}; is a node running there?"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return (
            f"{address} did not answer within {timeout:.3g} s; if it was a write, it may or may not have taken effect; "
            "check the address, or allow more time"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"{address} does not know this call ({details}); is it the client address of a gossip-grpc node?"
    if _TOO_LARGE in details:
        return f"{address} takes no message of that size ({details}); limits of values are far below"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"{address} refused the size or the number of requests ({details}); send less at once"
    return f"the call to {address} failed with {code.name} ({details}); look into the log of the node"
