"""Puts many records into a running cluster in seconds: a node in this process that joins, writes, and leaves."""

from __future__ import annotations

from bench import data
from bench.cluster import Cluster
from gossip_grpc import logs
from gossip_grpc.config import Config
from gossip_grpc.node import Node

_FREE = "127.0.0.1:0"


async def load(cluster: Cluster, count: int) -> None:
    """Write registers until the cluster holds `count` of them, and wait until every node has them by gossip."""
    logs.configure("json", "error")
    held = (await cluster.agreed())[0].records
    seeds = (cluster.nodes[0].peer_address,)
    async with Node(Config(node_id="loader", peer_listen=_FREE, client_listen=_FREE, join=seeds)) as loader:
        await loader.wait_ready()
        data.fill(loader.engine.store, count - held, first=held)
        await cluster.agreed(count)
    await cluster.agreed(count)
