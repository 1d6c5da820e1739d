"""How clients connect: addresses as people write them, and the options of a channel."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gossip_grpc.client.arguments import refused
from gossip_grpc.errors import GossipError

DEFAULT_ADDRESS = "127.0.0.1:7947"
DEFAULT_TIMEOUT = 5.0
"""Seconds."""

OPTIONS = (
    # A node is asked directly: a proxy of the environment is meant for the web.
    ("grpc.enable_http_proxy", 0),
    # gRPC's defaults let a client wait for up to two minutes after a node is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A node bounds what it answers with (pages of 1 MiB, or one value of whatever size it is configured to take).
    ("grpc.max_receive_message_length", -1),
    # A watcher may hear nothing for hours: without this it would never find out that the node's host is gone. The node
    # is asked only while a call is open; how long its answer may take is the timeout of pings, 60 s by default, and not
    # grpc.keepalive_timeout_ms (grpcio 1.85).
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)
# HOST:PORT, [IPv6]:PORT, or a target of gRPC with its scheme, such as unix:/run/node.sock or dns:///name:7947.
# gRPC would take a name alone too, and ask port 443.
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>\d+)|(?:unix|dns|ipv4|ipv6|xds):\S+")


def check_addresses(given: object) -> tuple[str, ...]:
    """One address or several, each of them once.

    Raises:
        InvalidArgumentError: one is none, or there are none.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        return (_check(given),)
    found = tuple(dict.fromkeys(_check(address) for address in given))
    if not found:
        raise refused("address", "is an empty list; name at least one node")
    return found


def _check(address: object) -> str:
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if not isinstance(address, str) or not found or not 0 < int(found["port"] or 1) < 2**16:
        hint = ", or several in a list" if isinstance(address, str) and "," in address else ""
        raise refused("address", f"must be HOST:PORT such as {DEFAULT_ADDRESS}{hint}, not {address!r}")
    return address


def closed() -> GossipError:
    """The error of a client that is closed."""
    return GossipError("this client is closed; make a new one")
