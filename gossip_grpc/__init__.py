"""gossip-grpc: membership and replicated state over gRPC, without a service to operate.

`Node` embeds a node in an asyncio program, `BlockingNode` in one with threads; `AsyncClient` and `Client` talk to a
cluster. Same verbs, same exceptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossip_grpc.errors import (
    ConfigError,
    DeadlineError,
    GossipError,
    InvalidArgumentError,
    KeyNotFoundError,
    MemberNotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from gossip_grpc.blocking import BlockingNode
    from gossip_grpc.client import AsyncClient, Client, Session
    from gossip_grpc.config import Config
    from gossip_grpc.node import Node

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BlockingNode",
    "Client",
    "Config",
    "ConfigError",
    "DeadlineError",
    "GossipError",
    "InvalidArgumentError",
    "KeyNotFoundError",
    "MemberNotFoundError",
    "Node",
    "ResourceExhaustedError",
    "Session",
    "UnavailableError",
]

_LAZY = {
    "AsyncClient": "gossip_grpc.client",
    "BlockingNode": "gossip_grpc.blocking",
    "Client": "gossip_grpc.client",
    "Config": "gossip_grpc.config",
    "Node": "gossip_grpc.node",
    "Session": "gossip_grpc.client",
}


def __getattr__(name: str) -> Any:
    """Import what needs gRPC when it is first used: a command line that only prints help stays quick."""
    if name in _LAZY:
        from importlib import import_module  # noqa: PLC0415  needed here only

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
