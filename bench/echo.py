"""What gRPC itself costs: a server whose Put does nothing, in a process of its own, to compare a node's Put with.

Loop and server options are the node's; the response is as long as the node's. Prints its address.
"""

from __future__ import annotations

from typing import Any

import grpc.aio

from gossip_grpc.config import Config
from gossip_grpc.gen.gossip.v1 import common_pb2, kv_pb2
from gossip_grpc.listeners import client_options
from gossip_grpc.node import run_loop

SERVICE = kv_pb2.DESCRIPTOR.services_by_name["KeyValueService"].full_name

_DOT = common_pb2.Dot(origin=common_pb2.Origin(node_id="n00", generation=1_750_000_000_000), sequence=10_000)
_RESPONSE = kv_pb2.KeyValueServicePutResponse(session=common_pb2.Session(clock=10_000, dots=[_DOT]))


async def _put(
    request: kv_pb2.KeyValueServicePutRequest,  # noqa: ARG001  it does nothing
    context: Any,  # noqa: ARG001
) -> kv_pb2.KeyValueServicePutResponse:
    return _RESPONSE


async def serve() -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        _put,
        request_deserializer=kv_pb2.KeyValueServicePutRequest.FromString,
        response_serializer=kv_pb2.KeyValueServicePutResponse.SerializeToString,
    )
    server = grpc.aio.server(options=client_options(Config()))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Put": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    run_loop(serve())
