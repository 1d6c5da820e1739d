"""PutMany: batches of entries in, each written whole or not at all.

A batch is checked before anything of it is written, and between two batches others have the loop. What is written is
the work of one step, so a caller that hangs up cannot leave half a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from gossip_grpc import wire
from gossip_grpc.core.engine import PutEntry, check_ttl
from gossip_grpc.core.limits import MAX_BATCH
from gossip_grpc.core.records import Record
from gossip_grpc.errors import LocalError, ProtocolError
from gossip_grpc.gen.gossip.v1 import common_pb2, kv_pb2
from gossip_grpc.peering import check_size

if TYPE_CHECKING:
    from gossip_grpc.node import Node

_SLICE = 1_000
"""Entries that are checked before others have the loop."""


async def put_many(
    node: Node, requests: AsyncIterator[kv_pb2.KeyValueServicePutManyRequest], context: Any
) -> kv_pb2.KeyValueServicePutManyResponse:
    """Write what comes in, batch by batch.

    Raises:
        ProtocolError: a batch is refused; those before it stay written, `written` in the metadata counts their entries.
    """
    written = kept = 0
    first = True
    last: list[Record] = []
    durability = common_pb2.DURABILITY_UNSPECIFIED
    try:
        async for request in requests:
            if first:
                await node.sessions.reach(request, context)
                durability = node.promise(request.durability)
                first = False
            entries = await _checked(node, request)
            await node.keep(durability)  # the batch before: this one was read while the disk was at work
            kept = written
            last = node.engine.put_many(entries, node.scheduler.now())[-1:]
            node.scheduler.pump()
            written += len(entries)
            await asyncio.sleep(0)
        await node.keep(durability)
    except ProtocolError as error:
        error.metadata["written"] = str(await _kept(node, durability, written, kept))
        raise
    session = node.written(last)
    # All that this node wrote before the last one is covered wherever that is complete: one dot for them all.
    session.complete.extend(session.dots)
    del session.dots[:]
    return kv_pb2.KeyValueServicePutManyResponse(session=session, written=written, durability=durability)


async def _kept(node: Node, durability: common_pb2.Durability.ValueType, written: int, kept: int) -> int:
    """How many entries are where the acknowledgement says: the last batch too, if its wait ends well."""
    try:
        await node.keep(durability)
    except ProtocolError:
        return kept
    return written


async def _checked(node: Node, request: kv_pb2.KeyValueServicePutManyRequest) -> list[PutEntry]:
    """The entries of a batch, each within the limits."""
    check_size(request.ByteSize())
    limits = node.limits
    count = len(request.entries)
    if not 1 <= count <= MAX_BATCH:
        raise LocalError(f"entries has {count} items; give 1 to {MAX_BATCH} in a batch", field="entries")
    entries: list[PutEntry] = []
    for index, entry in enumerate(request.entries):
        if index % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        path = f"entries[{index}]"
        key = entry.key
        limits.check_key(key, f"{path}.key")
        value = wire.decode_value(entry.value, f"{path}.value")
        limits.check_value(value, f"{path}.value")
        ttl = entry.ttl_milliseconds
        check_ttl(ttl, f"{path}.ttl_milliseconds")
        entries.append(PutEntry(key, value, ttl, entry.ephemeral))
    return entries
