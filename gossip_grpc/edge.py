"""The edge of the node's API: the one interceptor where bytes become messages and errors become statuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus

from gossip_grpc.errors import LimitError, LocalError, ProtocolError, Reason, RemoteError
from gossip_grpc.logs import get_logger
from gossip_grpc.settings import shown

DOMAIN = "gossip-grpc"
"""The domain of google.rpc.ErrorInfo."""

STATUS: dict[Reason, grpc.StatusCode] = {
    Reason.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.KEY_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.MEMBER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.MEMBER_ALIVE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.MEMBER_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.COUNTER_OVERFLOW: grpc.StatusCode.OUT_OF_RANGE,
    Reason.RECORD_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SYNC_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.MESSAGE_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.WATCH_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SLOW_WATCHER: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SESSION_BEHIND: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.SESSION_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Reason.STOPPING: grpc.StatusCode.UNAVAILABLE,
    Reason.FOREIGN_CLUSTER: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.INCOMPATIBLE_PROTOCOL: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.CLOCK_POISON: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BROKEN_TRANSFER: grpc.StatusCode.ABORTED,
    Reason.NO_DISK: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.DISK_FAILED: grpc.StatusCode.UNAVAILABLE,
    # Not UNAVAILABLE, which asks to try again: the write stands.
    Reason.NOT_ON_DISK: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}

# Where the same call, made again, may well succeed though the caller changes nothing, and repeats nothing by that.
#
# Not here, though they may pass: MEMBER_UNREACHABLE, for that a member does not answer is what Ping was to find out;
# RECORD_LIMIT, for room comes of deletions, and those of a day ago; BROKEN_TRANSFER, for it is the transfer that begins
# anew, and not the call; NOT_ON_DISK, for the write stands and would be made twice.
RETRY_SECONDS = {
    Reason.NOT_READY: 1,
    # At this address another node may answer, or this one, started again.
    Reason.STOPPING: 1,
    Reason.SYNC_LIMIT: 1,
    # The node goes on fetching what the session has seen, so the next attempt finds it further.
    Reason.SESSION_BEHIND: 1,
    Reason.SESSION_LIMIT: 1,
    # Its place in the log is kept: with its token a watcher misses nothing.
    Reason.SLOW_WATCHER: 1,
    # Watchers stay for long, and those that hang up without a word are found out after half a minute.
    Reason.WATCH_LIMIT: 5,
    Reason.DISK_FAILED: 1,
}
"""Where trying again helps, and after how many seconds: sent as google.rpc.RetryInfo."""

MESSAGE_BYTES = 1000
"""Longest message of an error. It travels two or three times in a trailer, of which many clients take 8 KiB at most."""

REQUEST_BYTES = 8 << 20
"""Largest request that is decoded. Some bytes may stand for many times as many in memory."""


def status_of(error: ProtocolError) -> RpcStatus:
    """The google.rpc.Status that tells a caller of an error: ErrorInfo, and BadRequest if a field is to blame."""
    message = _clipped(str(error))
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=message)
        details.append(BadRequest(field_violations=[violation]))
    if error.reason in RETRY_SECONDS:
        retry = RetryInfo()
        retry.retry_delay.FromSeconds(RETRY_SECONDS[error.reason])
        details.append(retry)
    packed = []
    for detail in details:
        box = AnyMessage()
        box.Pack(detail)
        packed.append(box)
    number, _ = STATUS[error.reason].value
    return RpcStatus(code=number, message=message, details=packed)


def _clipped(text: str) -> str:
    """The text without what is too much of it: it may quote what the caller sent."""
    raw = text.encode(errors="replace")
    return text if len(raw) <= MESSAGE_BYTES else raw[: MESSAGE_BYTES - 3].decode(errors="ignore") + "..."


async def _abort(context: Any, error: ProtocolError) -> None:
    status = status_of(error)
    trailer = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(STATUS[error.reason], status.message, trailer)


class Edge(grpc.aio.ServerInterceptor):
    """Decodes requests, runs the handler, encodes responses; turns every error into a status.

    Args:
        listener: what this is the edge of, in words, for who calls what is not there.
        limits: the limits on what is sent, in words, for who sends too much.
        seen: called with the sizes in bytes of what came in and what goes out.
        refused: called with the caller's address and each error that came of what it sent.
        patience: seconds that a caller may take to make room for a further response of a stream; None for ever.
    """

    def __init__(
        self,
        listener: str,
        limits: str,
        seen: Callable[[int, int], None],
        refused: Callable[[str, ProtocolError], None],
        patience: float | None = None,
    ) -> None:
        self._listener = listener
        self._limits = limits
        self._seen = seen
        self._patience = patience
        self._refused = refused
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._log = get_logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method; each method's is wrapped once."""
        method: str = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return self._unknown(method)
            if not method.startswith("/gossip.v1."):
                return handler
            handler = self._handlers[method] = self._wrap(handler)
        return handler

    def _unknown(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        """For a method that is not here: it may be any of the four kinds, so nothing is read."""
        error = LocalError(
            f"this is {self._listener}, and it has no method {shown(method.removeprefix('/'))}; is it the right "
            "address, and is the node as new as its caller?",
            reason=Reason.NOT_IMPLEMENTED,
        )

        async def unknown(_: object, context: Any) -> None:
            await _abort(context, error)

        return grpc.stream_stream_rpc_method_handler(unknown)

    def _decoder(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def decoded(raw: bytes) -> Any:
            if len(raw) > REQUEST_BYTES:
                raise LimitError(
                    f"the message has {len(raw):,} bytes; at most {REQUEST_BYTES:,} are taken: {self._limits}",
                    reason=Reason.MESSAGE_LIMIT,
                )
            return decode(raw)

        return decoded

    def _wrap(self, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        decode = self._decoder(handler.request_deserializer)
        encode = handler.response_serializer
        if handler.unary_unary:
            behaviour = handler.unary_unary

            async def unary(raw: bytes, context: Any) -> bytes:
                try:
                    response: bytes = encode(await behaviour(decode(raw), context))
                except Exception as error:  # noqa: BLE001  whatever it is becomes a status, and our bugs a log line
                    failure = self._failure(error, context)
                else:
                    self._seen(len(raw), len(response))
                    return response
                await _abort(context, failure)  # outside of the try: it ends the call by raising
                return b""

            return grpc.unary_unary_rpc_method_handler(unary)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._uploading(handler))
        return grpc.unary_stream_rpc_method_handler(self._streaming(handler))

    def _streaming(self, handler: Any) -> Callable[[bytes, Any], Awaitable[None]]:
        stream, encode = handler.unary_stream, handler.response_serializer
        decode = self._decoder(handler.request_deserializer)

        async def streaming(raw: bytes, context: Any) -> None:
            self._seen(len(raw), 0)
            try:
                async with contextlib.aclosing(stream(decode(raw), context)) as responses:
                    async for response in responses:
                        data = encode(response)
                        self._seen(0, len(data))
                        try:
                            async with asyncio.timeout(self._patience):
                                await context.write(data)
                        except TimeoutError:
                            raise self._stalled(response) from None
            except Exception as error:  # noqa: BLE001  as above
                failure = self._failure(error, context)
            else:
                return
            await _abort(context, failure)

        return streaming

    def _stalled(self, response: Any) -> LimitError:
        """Why a call is cut off whose last response was not taken yet. gRPC hands it over before the status."""
        token = getattr(response, "resume_token", "")
        return LimitError(
            f"the caller has taken nothing for {self._patience:g} s; "
            + ("resume with the token" if token else "begin anew")
            + ", and read faster",
            reason=Reason.SLOW_WATCHER,
            metadata={"resume_token": token} if token else {},
        )

    def _uploading(self, handler: Any) -> Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]:
        behaviour, encode = handler.stream_unary, handler.response_serializer
        decode = self._decoder(handler.request_deserializer)

        async def requests(raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for raw in raws:
                self._seen(len(raw), 0)
                try:
                    request = decode(raw)
                except DecodeError:
                    raise _no_message() from None  # here: whoever reads the stream may have more to say
                yield request

        async def uploading(raws: AsyncIterator[bytes], context: Any) -> bytes:
            try:
                response: bytes = encode(await behaviour(requests(raws), context))
            except Exception as error:  # noqa: BLE001  as above
                failure = self._failure(error, context)
            else:
                self._seen(0, len(response))
                return response
            await _abort(context, failure)
            return b""

        return uploading

    def _failure(self, error: Exception, context: Any) -> ProtocolError:
        if isinstance(error, DecodeError):
            error = _no_message()
        if isinstance(error, ProtocolError):
            self._refused(context.peer(), error)
            return error
        self._log.error("handler failed", error=repr(error), exc_info=error)
        return ProtocolError("internal error; the node's log says more", reason=Reason.INTERNAL)


def _no_message() -> RemoteError:
    return RemoteError("the request is not a message of this method's type; check the client's stubs")
