"""How the parts that several responses have in common are read."""

from __future__ import annotations

from gossip_grpc.client.results import Dot, Origin, Value
from gossip_grpc.gen.gossip.v1 import common_pb2


def read_value(value: common_pb2.Value) -> Value:
    """Text or bytes."""
    return value.data if value.WhichOneof("kind") == "data" else value.text


def read_origin(origin: common_pb2.Origin) -> Origin:
    """Who writes."""
    return Origin(origin.node_id, origin.generation)


def read_dot(dot: common_pb2.Dot) -> Dot:
    """One write."""
    return Dot(read_origin(dot.origin), dot.sequence)
