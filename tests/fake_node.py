"""A fake node for tests of the clients: a real gRPC server whose every answer is laid down by the test.

It is asked by the clients of the package only, so it has no state and no rules: a test says what is answered to which
type of request, and looks at the requests that came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, message_factory
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from gossip_grpc.gen.gossip.v1 import cluster_pb2, counter_pb2, event_pb2, kv_pb2, set_pb2

SERVICES = [
    *kv_pb2.DESCRIPTOR.services_by_name.values(),
    *counter_pb2.DESCRIPTOR.services_by_name.values(),
    *set_pb2.DESCRIPTOR.services_by_name.values(),
    *event_pb2.DESCRIPTOR.services_by_name.values(),
    *cluster_pb2.DESCRIPTOR.services_by_name.values(),
]


class Fault:
    """A failed call as a node fails it: code, message, and the details that our clients read."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        fields: dict[str, str] | None = None,
        *,
        domain: str = "gossip-grpc",
        metadata: dict[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        details: list[Message] = []
        if reason:
            details.append(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
        if retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(round(retry_after * 1000))
            details.append(retry)
        if fields:
            violation = error_details_pb2.BadRequest.FieldViolation
            violations = [violation(field=name, description=text) for name, text in fields.items()]
            details.append(error_details_pb2.BadRequest(field_violations=violations))
        packed = [any_pb2.Any() for _ in details]
        for holder, detail in zip(packed, details, strict=True):
            holder.Pack(detail)
        proto = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message, details=packed)
        self.code, self.message = code, message
        self.metadata: Any = rpc_status.to_status(proto).trailing_metadata


Answer = Message | Fault | Callable[[Any], Message | Fault]
"""Of a method that streams: a sequence of messages, which a fault may end, or what makes one of the request."""


@dataclass
class FakeNode:
    """What is answered by type of request, and what was asked."""

    address: str = ""
    answers: dict[type[Message], Answer | Sequence[Message | Fault] | Callable[[Any], Sequence[Message | Fault]]] = (
        field(default_factory=dict)
    )
    requests: list[Any] = field(default_factory=list)
    health: health_pb2.HealthCheckResponse | None = None
    """What it says of its health; None if it knows no such question."""

    def answer(self, request: Message) -> Message | Fault:
        self.requests.append(request)
        answer = self.answers.get(type(request), Fault(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!"))
        assert not isinstance(answer, Sequence)
        answered = answer if isinstance(answer, Message | Fault) else answer(request)
        assert not isinstance(answered, Sequence)
        return answered


def _streamed(node: FakeNode, request: Message) -> Sequence[Message | Fault]:
    node.requests.append(request)
    answers = node.answers[type(request)]
    if callable(answers):
        answers = answers(request)
    assert isinstance(answers, Sequence)
    return answers


def _handlers(
    behaviour: Callable[[Message, Any], Message | Awaitable[Message]],
    streaming: Callable[[Message, Any], Iterator[Message] | AsyncIterator[Message]],
) -> list[grpc.GenericRpcHandler]:
    handlers = []
    for service in SERVICES:
        methods = {}
        for method in service.methods:
            streams = method.server_streaming
            make: Any = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
            methods[method.name] = make(
                streaming if streams else behaviour,
                request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
                response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
            )
        handlers.append(grpc.method_handlers_generic_handler(service.full_name, methods))
    return handlers


def _health_of(node: FakeNode) -> grpc.GenericRpcHandler:
    def check(request: Message, context: grpc.ServicerContext) -> Message:
        if node.health is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        assert node.health is not None
        return node.health

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})


@contextmanager
def serving() -> Iterator[FakeNode]:
    """A fake node behind a blocking server."""
    node = FakeNode()

    def behaviour(request: Message, context: grpc.ServicerContext) -> Message:
        answer = node.answer(request)
        if isinstance(answer, Fault):
            context.set_trailing_metadata(answer.metadata)
            context.abort(answer.code, answer.message)
        return answer

    def streaming(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        for answer in _streamed(node, request):
            if isinstance(answer, Fault):
                context.set_trailing_metadata(answer.metadata)
                context.abort(answer.code, answer.message)
            yield answer

    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([*_handlers(behaviour, streaming), _health_of(node)])
    node.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield node
    finally:
        server.stop(None).wait()


@asynccontextmanager
async def serving_async() -> AsyncIterator[FakeNode]:
    """A fake node behind a server of grpc.aio."""
    node = FakeNode()

    async def behaviour(request: Message, context: Any) -> Message:
        answer = node.answer(request)
        if isinstance(answer, Fault):
            context.set_trailing_metadata(answer.metadata)
            await context.abort(answer.code, answer.message)
            raise AssertionError("abort raises")
        return answer

    async def streaming(request: Message, context: Any) -> AsyncIterator[Message]:
        for answer in _streamed(node, request):
            if isinstance(answer, Fault):
                context.set_trailing_metadata(answer.metadata)
                await context.abort(answer.code, answer.message)
                raise AssertionError("abort raises")
            yield answer

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(_handlers(behaviour, streaming)))
    node.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield node
    finally:
        await server.stop(None)
