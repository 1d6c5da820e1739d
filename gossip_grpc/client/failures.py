"""The one place where a failed gRPC call becomes an error of the client.

An answer of the node bears google.rpc.ErrorInfo of our domain: its message stands as the node wrote it. Whatever else
fails (nobody listens, another server answers, the deadline passes) comes without it, and is put into words here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

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
_RESOLVE = re.compile(r"resolv|resolution", re.IGNORECASE)


def error_of(call: grpc.Call, *, address: str, timeout: float) -> GossipError:
    """Returns the error that a failed call means: of either kind of client, as its errors have the same methods.

    The address and the deadline in seconds are those of the call, for the message.
    """
    code, details = call.code(), call.details() or ""
    reason, fields, metadata = _details_of(call)
    message = details if reason else _in_words(code, details, address, timeout)
    return error_for(code, message, reason=reason, fields=fields, metadata=metadata)


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


def _details_of(call: grpc.Call) -> tuple[str | None, dict[str, str], dict[str, str]]:
    """The reason, the violated fields and the metadata that the node gave; None if it was not our node that failed."""
    try:
        status = rpc_status.from_call(call)
        info, request = ErrorInfo(), BadRequest()
        for detail in status.details if status else ():
            detail.Unpack(info)
            detail.Unpack(request)
    except (ValueError, DecodeError):
        # They contradict the code or the message, or are no details: something between us and the node rewrote them.
        return None, {}, {}
    if info.domain != DOMAIN:
        return None, {}, {}
    fields = {violation.field: violation.description for violation in request.field_violations}
    return info.reason, fields, dict(info.metadata)


def _in_words(code: grpc.StatusCode, details: str, address: str, timeout: float) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        if found := _CONNECT.search(details):
            return f"cannot reach {address}: {found['cause'].lower()}; is the node running?"
        if _RESOLVE.search(details):
            return f"cannot reach {address}: the name cannot be resolved; is it spelled right?"
        return f"cannot reach {address}: {details}; is a node running there?"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return (
            f"{address} did not answer within {timeout:g} s; if it was a write, it may or may not have taken effect; "
            "check the address, or allow more time"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"{address} does not know this call ({details}); is it the client address of a gossip-grpc node?"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"{address} refused the size or the number of requests ({details}); send less at once"
    return f"the call to {address} failed with {code.name} ({details}); look into the log of the node"
