"""What gRPC itself takes for a transfer: a server that streams the chunks of a node's delta again, and nothing else.

It is given a node's peer address, fetches all that the node has, and prints its own address and the bytes it holds.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc.aio

from gossip_grpc.channels import OPTIONS
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.listeners import peer_options
from gossip_grpc.node import run_loop
from gossip_grpc.wire import PROTOCOL

SERVICE = "gossip.v1.PeerService"

EVERYTHING = peer_pb2.PullRequest(
    sender=peer_pb2.Sender(cluster="default", protocol=PROTOCOL), digest=peer_pb2.Digest()
).SerializeToString()
"""An onlooker's request for the whole state of a node."""


async def pull(address: str) -> AsyncIterator[bytes]:
    """The chunks that a server sends, as bytes."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        # Without serializers gRPC hands bytes through; its types do not know.
        method = cast("grpc.aio.UnaryStreamMultiCallable[bytes, bytes]", channel.unary_stream(f"/{SERVICE}/Pull"))
        async for raw in method(EVERYTHING):
            yield raw


async def serve(source: str) -> None:
    chunks = [raw async for raw in pull(source)]

    async def stream(
        request: bytes,  # noqa: ARG001  it always sends the same
        context: Any,  # noqa: ARG001
    ) -> AsyncIterator[bytes]:
        for raw in chunks:
            yield raw

    server = grpc.aio.server(options=peer_options())
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Pull": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port} {len(chunks)} {sum(map(len, chunks))}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    run_loop(serve(sys.argv[1]))
