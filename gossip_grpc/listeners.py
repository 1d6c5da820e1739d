"""A node's two listeners: the options of gRPC that each has, and what it serves beside the node's own services.

That is what tools expect of any gRPC server: health by service, reflection, and channelz where it is wanted. It knows
nothing of the node but its configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc.aio
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gossip_grpc.channels import RECEIVE_BYTES
from gossip_grpc.config import Config
from gossip_grpc.gen.gossip.v1 import cluster_pb2, counter_pb2, event_pb2, kv_pb2, peer_pb2, set_pb2

CLIENT_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (kv_pb2, "KeyValueService"),
        (counter_pb2, "CounterService"),
        (set_pb2, "SetService"),
        (event_pb2, "EventService"),
        (cluster_pb2, "ClusterService"),
    )
)
PEER_SERVICES = (peer_pb2.DESCRIPTOR.services_by_name["PeerService"].full_name,)
CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name

CLIENT_RECEIVE_BYTES = 16 << 20
"""What gRPC lets in from clients. Twice what is taken, so that who sends too much mostly hears what the limits are;
from what is larger still gRPC protects the node's memory, and answers without a word about them."""

PING_INTERVAL = 0.5
"""Least seconds between two pings of a client; who sends more than two too early is sent away (too_many_pings). Half
of the second that is promised in docs/operations.md, for pings come unevenly."""

KEEPALIVE_TIME, KEEPALIVE_TIMEOUT = 20.0, 10.0
"""After how many seconds of silence a client is asked whether it is still there, and how many it has to answer."""

_COMMON = (
    # Without it two processes share a port and each gets some of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", RECEIVE_BYTES),
    # Clients of other languages ping every 10 s or so, and those that watch every few seconds; without these gRPC takes
    # that for an attack. So it does a ping with no call open, which many clients send to keep a connection through a
    # NAT, or to find a dead one before they need it.
    ("grpc.http2.min_ping_interval_without_data_ms", int(PING_INTERVAL * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
)


def peer_options() -> list[tuple[str, int]]:
    """Of the listener for peers, whose calls all have deadlines: who is gone is found out by those."""
    return [*_COMMON, ("grpc.max_receive_message_length", RECEIVE_BYTES)]


def client_options(config: Config) -> list[tuple[str, int]]:
    """Of the listener for clients."""
    options = [
        *_COMMON,
        ("grpc.max_receive_message_length", CLIENT_RECEIVE_BYTES),
        # A watcher that is cut off, rather than gone, would keep its place for ever if nothing happens.
        ("grpc.keepalive_time_ms", int(KEEPALIVE_TIME * 1000)),
        # Which of the two counts is up to gRPC's version.
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT * 1000)),
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if config.max_connection_age:
        options.append(("grpc.max_connection_age_ms", _milliseconds(config.max_connection_age)))
        if config.max_connection_age_grace:
            options.append(("grpc.max_connection_age_grace_ms", _milliseconds(config.max_connection_age_grace)))
    if config.channelz == "on":
        options.append(("grpc.enable_channelz", 1))
    return options


class Common:
    """What is served at a listener beside the node's own services.

    Args:
        server: the listener's.
        services: the names of the node's own.
        channelz_on: whether it tells about connections.
    """

    def __init__(self, server: grpc.aio.Server, services: Iterable[str], *, channelz_on: bool = False) -> None:
        self._names = ("", *services)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        more = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        if channelz_on:
            channelz.add_channelz_servicer(server)
            more.append(CHANNELZ)
        reflection.enable_server_reflection((*services, *more), server)

    async def set_serving(self, *, serving: bool) -> None:
        """Tell health checks whether the services are of use now."""
        status: Any = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    async def end(self) -> None:
        """Tell health checks that the services are of no use any more, for good."""
        await self._health.enter_graceful_shutdown()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
