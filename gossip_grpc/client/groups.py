"""The verbs in groups, as methods: blocking, and for asyncio. What executes them is a client, or an embedded node."""

from __future__ import annotations

from collections.abc import AsyncIterable

from gossip_grpc.client.calls import Call
from gossip_grpc.client.methods import (
    Calls,
    CallsAsync,
    awaiting,
    blocking,
    gathering,
    gathering_async,
    iterating,
    iterating_async,
    streaming,
    streaming_async,
)
from gossip_grpc.client.results import Item, Value, Written
from gossip_grpc.client.upload import Entries, Upload, entries_of
from gossip_grpc.client.verbs import cluster, counter, event, kv, sets
from gossip_grpc.errors import GossipError


class _Group:
    def __init__(self, client: Calls) -> None:
        self.run = client.run
        self.stream = client.stream


class KeyValue(_Group):
    """Registers: one value a key."""

    get = blocking(kv.get_entry)
    put = blocking(kv.put_entry)
    delete = blocking(kv.delete_entry)
    list = iterating(kv.list_entries)
    watch = streaming(kv.watch_entries)

    def put_many(self, entries: Entries, *, durability: str | None = None, timeout: float | None = None) -> Written:
        """Writes many keys, given as a mapping or as pairs of key and value (or as `Item`), in order.

        They may be far more than fit into memory, and come as slowly as they like. They are sent in batches of up to
        1,000, each written whole or not at all. If one is refused, or the node cannot be reached any more, those before
        it stay written: `metadata["written"]` of the error says how many entries that is at least. The timeout is that
        of a call, which takes eight batches. A call is not repeated once it may have been received.
        """
        upload = Upload(durability, timeout)
        for entry in entries_of(entries):
            if (call := upload.add(entry)) is not None:
                self._send(upload, call)
        if (call := upload.rest()) is not None:
            self._send(upload, call)
        return upload.written

    def _send(self, upload: Upload, call: Call[Written]) -> None:
        try:
            self.run(call)
        except GossipError as error:
            upload.failed(error)
            raise


class Counters(_Group):
    """Counters that every node adds to."""

    get = blocking(counter.get_counter)
    add = blocking(counter.add_to_counter)
    reset = blocking(counter.reset_counter)
    list = iterating(counter.list_counters)
    watch = streaming(counter.watch_counters)


class Sets(_Group):
    """Sets in which an addition wins over a concurrent removal."""

    get = gathering(sets.list_elements, set)
    add = blocking(sets.add_elements)
    remove = blocking(sets.remove_elements)
    list = iterating(sets.list_sets)
    watch = streaming(sets.watch_sets)


class Events(_Group):
    """Events, published to the subscribers of all nodes."""

    publish = blocking(event.publish_event)
    subscribe = streaming(event.subscribe_to_events)


class _AsyncGroup:
    def __init__(self, client: CallsAsync) -> None:
        self.run = client.run
        self.stream = client.stream


class AsyncKeyValue(_AsyncGroup):
    """Registers: one value a key."""

    get = awaiting(kv.get_entry)
    put = awaiting(kv.put_entry)
    delete = awaiting(kv.delete_entry)
    list = iterating_async(kv.list_entries)
    watch = streaming_async(kv.watch_entries)

    async def put_many(
        self,
        entries: Entries | AsyncIterable[tuple[str, Value] | Item],
        *,
        durability: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the deadline of calls, which gRPC sends along
    ) -> Written:
        """Writes many keys, given as a mapping or as pairs of key and value (or as `Item`), in order.

        They may be far more than fit into memory, and come as slowly as they like, from an async iterable too. They are
        sent in batches of up to 1,000, each written whole or not at all. If one is refused, or the node cannot be
        reached any more, those before it stay written: `metadata["written"]` of the error says how many entries that is
        at least. The timeout is that of a call, which takes eight batches. A call is not repeated once it may have been
        received.
        """
        upload = Upload(durability, timeout)
        if isinstance(entries, AsyncIterable):
            async for entry in entries:
                if (call := upload.add(entry)) is not None:
                    await self._send(upload, call)
        else:
            for entry in entries_of(entries):
                if (call := upload.add(entry)) is not None:
                    await self._send(upload, call)
        if (call := upload.rest()) is not None:
            await self._send(upload, call)
        return upload.written

    async def _send(self, upload: Upload, call: Call[Written]) -> None:
        try:
            await self.run(call)
        except GossipError as error:
            upload.failed(error)
            raise


class AsyncCounters(_AsyncGroup):
    """Counters that every node adds to."""

    get = awaiting(counter.get_counter)
    add = awaiting(counter.add_to_counter)
    reset = awaiting(counter.reset_counter)
    list = iterating_async(counter.list_counters)
    watch = streaming_async(counter.watch_counters)


class AsyncSets(_AsyncGroup):
    """Sets in which an addition wins over a concurrent removal."""

    get = gathering_async(sets.list_elements, set)
    add = awaiting(sets.add_elements)
    remove = awaiting(sets.remove_elements)
    list = iterating_async(sets.list_sets)
    watch = streaming_async(sets.watch_sets)


class AsyncEvents(_AsyncGroup):
    """Events, published to the subscribers of all nodes."""

    publish = awaiting(event.publish_event)
    subscribe = streaming_async(event.subscribe_to_events)


class Cluster:
    """The node asked, and the cluster as it sees it."""

    status = blocking(cluster.get_status)
    members = gathering(cluster.list_members, list)
    explain = blocking(cluster.explain_member)
    set_tags = blocking(cluster.set_tags)
    forget = blocking(cluster.forget_member)
    ping = blocking(cluster.ping_member)
    watch = streaming(cluster.watch_members)
    backup = streaming(cluster.backup)


class AsyncCluster:
    """The node asked, and the cluster as it sees it."""

    status = awaiting(cluster.get_status)
    members = gathering_async(cluster.list_members, list)
    explain = awaiting(cluster.explain_member)
    set_tags = awaiting(cluster.set_tags)
    forget = awaiting(cluster.forget_member)
    ping = awaiting(cluster.ping_member)
    watch = streaming_async(cluster.watch_members)
    backup = streaming_async(cluster.backup)
