"""How much of each limit of a node is used, for `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gossip_grpc.gen.gossip.v1 import cluster_pb2
from gossip_grpc.members import tags_bytes

if TYPE_CHECKING:
    from gossip_grpc.node import Node


def limit_uses(node: Node) -> list[cluster_pb2.LimitUse]:
    """Each limit with what is used of it; nothing of those on single items, no account is kept of those."""
    limits, engine = node.limits, node.engine
    own = engine.membership.own()
    used = {
        "max_records": engine.store.live + engine.store.tombstones + engine.store.event_count,
        # Those that are sent and those that are received have the limit each for itself.
        "max_inbound_syncs": max(node.scheduler.peering.serving, engine.transfers),
        "max_watchers": node.watchers.count,
        "max_receipts": engine.store.receipt_count,
        "max_tags_bytes": tags_bytes(own.tags) if own is not None else 0,
    }
    names = [*used, *(name for name in limits.__slots__ if name not in used)]
    return [cluster_pb2.LimitUse(name=name, used=used.get(name), limit=getattr(limits, name)) for name in names]
