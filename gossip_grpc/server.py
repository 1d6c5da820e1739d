"""The servicers of both listeners; what they raise becomes a status in edge.py.

A servicer's method waits for the request's session, checks the request, calls one verb of the engine and builds the
response. It never awaits between reading and changing state: a missed deadline cancels the handler at its awaits, and
only there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from gossip_grpc import __version__, bulk, members, wire
from gossip_grpc.changes import KeyView
from gossip_grpc.core.elements import Place, element_at
from gossip_grpc.core.events import event_of
from gossip_grpc.core.leases import lease_of
from gossip_grpc.core.limits import MAX_ELEMENTS, MAX_TOPICS
from gossip_grpc.core.membership import Peer
from gossip_grpc.core.membership import Status as MemberState
from gossip_grpc.core.messages import Call, ProbeRequest
from gossip_grpc.core.records import Kind, Record, Value
from gossip_grpc.core.store import Store, member_of
from gossip_grpc.errors import LocalError, NotFoundError, Reason
from gossip_grpc.event_view import EventView
from gossip_grpc.gen.gossip.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    common_pb2,
    counter_pb2,
    counter_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    kv_pb2,
    kv_pb2_grpc,
    peer_pb2,
    peer_pb2_grpc,
    set_pb2,
    set_pb2_grpc,
)
from gossip_grpc.key_views import CounterView, KeyValueView, SetView
from gossip_grpc.peering import Probe
from gossip_grpc.storage.schema import FORMAT
from gossip_grpc.usage import limit_uses

PING_TIMEOUT = 2.0
"""Seconds that a member may take to answer Ping."""

if TYPE_CHECKING:
    from gossip_grpc.node import Node

PAGE_BYTES = 1 << 20
"""A page ends before it grows beyond this, unless it has one item only."""

SORTED_AT_ONCE = 2_000
"""New keys that a listing sorts in before others have the loop."""

LISTED_AT_ONCE = 500
"""Items that a listing reads before others have the loop."""

K = TypeVar("K")
M = TypeVar("M", bound=Message)


# Node to node


class PeerServicer(peer_pb2_grpc.PeerServiceServicer):
    """Push and Pull for peers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Push(self, request: peer_pb2.PushRequest, context: Any) -> peer_pb2.PushResponse:
        scheduler = self._node.scheduler
        scheduler.check_room()
        try:
            response = scheduler.peering.push(request, scheduler.now())
        finally:
            scheduler.pump()  # what is refused may have had an effect all the same
        if response.HasField("digest"):
            await scheduler.may_show()
        return response

    async def Pull(self, request: peer_pb2.PullRequest, context: Any) -> AsyncIterator[peer_pb2.PullResponse]:
        scheduler = self._node.scheduler
        try:
            responses = scheduler.peering.pull(request)
        finally:
            scheduler.pump()
        await scheduler.may_show()
        with contextlib.closing(responses):
            for response in responses:
                yield response
                await asyncio.sleep(0)  # let others have the loop between chunks

    async def Heartbeat(self, request: peer_pb2.HeartbeatRequest, context: Any) -> peer_pb2.HeartbeatResponse:
        scheduler = self._node.scheduler
        response = scheduler.peering.heartbeat(request, scheduler.now())
        scheduler.pump()
        return response

    async def Probe(self, request: peer_pb2.ProbeRequest, context: Any) -> peer_pb2.ProbeResponse:
        scheduler = self._node.scheduler
        found = scheduler.peering.probe(request)
        if isinstance(found, Probe):
            return scheduler.peering.probed(reached=await scheduler.probe(found))
        return found


# Clients


class KeyValueServicer(kv_pb2_grpc.KeyValueServiceServicer):
    """Registers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Get(self, request: kv_pb2.KeyValueServiceGetRequest, context: Any) -> kv_pb2.KeyValueServiceGetResponse:
        await self._node.sessions.reach(request, context)
        key = request.key
        self._node.limits.check_key(key)
        record = self._node.engine.store.register(key)
        if record is None:
            deleted = self._node.engine.store.get(Kind.REGISTER, key)
            metadata = {} if deleted is None else {"session": wire.encode_token(deleted)}
            raise NotFoundError(f"there is no value for {key!r} at this node", metadata=metadata)
        return kv_pb2.KeyValueServiceGetResponse(entry=wire.encode_entry(record))

    async def Put(self, request: kv_pb2.KeyValueServicePutRequest, context: Any) -> kv_pb2.KeyValueServicePutResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        key = request.key
        value = wire.decode_value(request.value)
        node.limits.check_key(key)
        node.limits.check_value(value)
        durability = node.promise(request.durability)
        ttl, ephemeral = request.ttl_milliseconds, request.ephemeral
        record = node.engine.put(key, value, node.scheduler.now(), ttl=ttl, ephemeral=ephemeral)
        node.scheduler.pump()
        await node.keep(durability)
        return kv_pb2.KeyValueServicePutResponse(
            session=wire.encode_session([record], record.clock),
            durability=durability,
            expires_at_unix_milliseconds=lease_of(record).expires_at if ttl else 0,
        )

    async def Delete(
        self, request: kv_pb2.KeyValueServiceDeleteRequest, context: Any
    ) -> kv_pb2.KeyValueServiceDeleteResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        node.limits.check_key(request.key)
        durability = node.promise(request.durability)
        record = node.engine.delete(request.key, node.scheduler.now())
        session = node.written([record] if record else [])
        await node.keep(durability)
        return kv_pb2.KeyValueServiceDeleteResponse(session=session, found=record is not None, durability=durability)

    async def List(
        self, request: kv_pb2.KeyValueServiceListRequest, context: Any
    ) -> kv_pb2.KeyValueServiceListResponse:
        await self._node.sessions.reach(request, context)
        store = self._node.engine.store

        def entries(prefix: str, last: str | None) -> Iterator[tuple[str, kv_pb2.Entry]]:
            for key in store.keys(prefix, last):
                record = store.register(key)
                if record is not None:
                    yield key, wire.encode_entry(record)

        items, token = await _page(self._node, "kv", request, entries)
        return kv_pb2.KeyValueServiceListResponse(entries=items, next_page_token=token)

    async def PutMany(
        self, requests: AsyncIterator[kv_pb2.KeyValueServicePutManyRequest], context: Any
    ) -> kv_pb2.KeyValueServicePutManyResponse:
        return await bulk.put_many(self._node, requests, context)

    def Watch(
        self, request: kv_pb2.KeyValueServiceWatchRequest, context: Any
    ) -> AsyncIterator[kv_pb2.KeyValueServiceWatchResponse]:
        return _watch(self._node, KeyValueView, request, context)


class CounterServicer(counter_pb2_grpc.CounterServiceServicer):
    """Counters."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Get(
        self, request: counter_pb2.CounterServiceGetRequest, context: Any
    ) -> counter_pb2.CounterServiceGetResponse:
        await self._node.sessions.reach(request, context)
        self._node.limits.check_key(request.key)
        session = wire.encode_reading(self._node.engine.store.counter_records(request.key))
        return counter_pb2.CounterServiceGetResponse(counter=self._counter(request.key), session=session)

    async def Add(
        self, request: counter_pb2.CounterServiceAddRequest, context: Any
    ) -> counter_pb2.CounterServiceAddResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        key, amount, request_id = request.key, request.amount, request.request_id
        node.limits.check_key(key)
        node.limits.check_request_id(request_id)
        durability = node.promise(request.durability)
        before = node.engine.counted(key, amount, request_id)
        if before is None:
            record = node.engine.add(key, amount, node.scheduler.now(), request_id=request_id)
            session = node.written([record] if record else [])
        else:
            session = wire.encode_counted(before, node.engine.store.clock.time)
        value = self._counter(key).value
        await node.keep(durability)
        return counter_pb2.CounterServiceAddResponse(
            session=session, value=value, durability=durability, repeated_request=before is not None
        )

    async def Reset(
        self, request: counter_pb2.CounterServiceResetRequest, context: Any
    ) -> counter_pb2.CounterServiceResetResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        node.limits.check_key(request.key)
        durability = node.promise(request.durability)
        session = node.written(node.engine.reset(request.key, node.scheduler.now()))
        await node.keep(durability)
        return counter_pb2.CounterServiceResetResponse(session=session, durability=durability)

    async def List(
        self, request: counter_pb2.CounterServiceListRequest, context: Any
    ) -> counter_pb2.CounterServiceListResponse:
        await self._node.sessions.reach(request, context)
        store = self._node.engine.store

        def counters(prefix: str, last: str | None) -> Iterator[tuple[str, counter_pb2.Counter]]:
            for key in store.counter_keys(prefix, last):
                yield key, self._counter(key)

        items, token = await _page(self._node, "counter", request, counters)
        return counter_pb2.CounterServiceListResponse(counters=items, next_page_token=token)

    def Watch(
        self, request: counter_pb2.CounterServiceWatchRequest, context: Any
    ) -> AsyncIterator[counter_pb2.CounterServiceWatchResponse]:
        return _watch(self._node, CounterView, request, context)

    def _counter(self, key: str) -> counter_pb2.Counter:
        return wire.encode_counter(key, self._node.engine.store.counter(key))


class SetServicer(set_pb2_grpc.SetServiceServicer):
    """Sets."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Get(self, request: set_pb2.SetServiceGetRequest, context: Any) -> set_pb2.SetServiceGetResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        node.limits.check_key(request.key)
        limit = node.limits.page_size(request.page_size)
        scope = f"set {request.key}"
        token = wire.decode_page_token(scope, request.page_token)
        store = node.engine.store

        read: list[Record] = []

        def places(last: Place | None) -> Iterator[tuple[Place, common_pb2.Value]]:
            for place in store.places(request.key, last):
                element = element_at(place)
                read.extend(store.additions(request.key, element))
                yield place, wire.encode_value(element)

        await _sort_in(store, request.key)
        last = (token[0], token[1:]) if token else None
        page, more = await _fill(places, last, limit)
        following = ""
        if more:
            kind, data = page[-1][0]
            following = wire.encode_page_token(scope, bytes([kind]) + data)
        return set_pb2.SetServiceGetResponse(
            elements=[value for _, value in page],
            next_page_token=following,
            size=len(store.elements(request.key)),
            session=wire.encode_reading(read),
        )

    async def Add(self, request: set_pb2.SetServiceAddRequest, context: Any) -> set_pb2.SetServiceAddResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        elements = self._elements(request)
        durability = node.promise(request.durability)
        held = node.engine.store.elements(request.key)
        added = sum(element not in held for element in elements)
        session = node.written(node.engine.set_add(request.key, elements, node.scheduler.now()))
        await node.keep(durability)
        return set_pb2.SetServiceAddResponse(session=session, added=added, durability=durability)

    async def Remove(self, request: set_pb2.SetServiceRemoveRequest, context: Any) -> set_pb2.SetServiceRemoveResponse:
        await self._node.sessions.reach(request, context)
        node = self._node
        elements = self._elements(request)
        durability = node.promise(request.durability)
        held = node.engine.store.elements(request.key)
        removed = sum(element in held for element in elements)
        session = node.written(node.engine.set_remove(request.key, elements, node.scheduler.now()))
        await node.keep(durability)
        return set_pb2.SetServiceRemoveResponse(session=session, removed=removed, durability=durability)

    async def List(self, request: set_pb2.SetServiceListRequest, context: Any) -> set_pb2.SetServiceListResponse:
        await self._node.sessions.reach(request, context)
        store = self._node.engine.store

        def sets(prefix: str, last: str | None) -> Iterator[tuple[str, set_pb2.SetSummary]]:
            for key in store.set_keys(prefix, last):
                yield key, set_pb2.SetSummary(key=key, size=len(store.elements(key)))

        items, token = await _page(self._node, "sets", request, sets)
        return set_pb2.SetServiceListResponse(sets=items, next_page_token=token)

    def Watch(
        self, request: set_pb2.SetServiceWatchRequest, context: Any
    ) -> AsyncIterator[set_pb2.SetServiceWatchResponse]:
        return _watch(self._node, SetView, request, context)

    def _elements(self, request: set_pb2.SetServiceAddRequest | set_pb2.SetServiceRemoveRequest) -> list[Value]:
        limits = self._node.limits
        limits.check_key(request.key)
        if not 1 <= len(request.elements) <= MAX_ELEMENTS:
            raise LocalError(f"elements has {len(request.elements)} items; give 1 to {MAX_ELEMENTS}", field="elements")
        elements: dict[Value, None] = {}
        for index, message in enumerate(request.elements):
            path = f"elements[{index}]"
            element = wire.decode_value(message, path)
            limits.check_element(element, path)
            elements[element] = None
        return list(elements)


class EventServicer(event_pb2_grpc.EventServiceServicer):
    """Events."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Publish(
        self, request: event_pb2.EventServicePublishRequest, context: Any
    ) -> event_pb2.EventServicePublishResponse:
        await self._node.sessions.reach(request, context)
        node, limits = self._node, self._node.limits
        payload = wire.decode_value(request.payload, "payload")
        limits.check_topic(request.topic)
        limits.check_payload(payload)
        limits.check_prefix(request.ordering_key, "ordering_key")
        limits.check_request_id(request.request_id)
        before = node.engine.store.published(request.topic, request.request_id)
        if before is not None and event_of(before).payload != payload:
            raise LocalError(
                f"request_id {request.request_id!r} has published another payload to this topic; give each event an id "
                "of its own",
                field="request_id",
            )
        record = before or node.engine.publish_event(
            request.topic, payload, request.ordering_key, node.scheduler.now(), request_id=request.request_id
        )
        node.scheduler.pump()
        return event_pb2.EventServicePublishResponse(
            session=wire.encode_session([record], record.clock), repeated_request=before is not None
        )

    async def Subscribe(
        self, request: event_pb2.EventServiceSubscribeRequest, context: Any
    ) -> AsyncIterator[event_pb2.EventServiceSubscribeResponse]:
        await self._node.sessions.reach(request, context)
        node = self._node
        if not 1 <= len(request.topics) <= MAX_TOPICS:
            raise LocalError(f"topics has {len(request.topics)} items; give 1 to {MAX_TOPICS}", field="topics")
        for index, topic in enumerate(request.topics):
            node.limits.check_pattern(topic, f"topics[{index}]")
        if request.start not in event_pb2.SubscriptionStart.values():
            raise LocalError(f"start is {request.start}; give NOW (1) or RETAINED (2)", field="start")
        retained = request.start == event_pb2.SUBSCRIPTION_START_RETAINED
        view = EventView(node.engine.store, request.topics, retained=retained or request.resume_token != "")
        async with contextlib.aclosing(node.changes.watch(view, request.resume_token)) as responses:
            async for response in responses:
                yield response


class ClusterServicer(cluster_pb2_grpc.ClusterServiceServicer):
    """The node and its cluster."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def GetStatus(
        self, request: cluster_pb2.ClusterServiceGetStatusRequest, context: Any
    ) -> cluster_pb2.ClusterServiceGetStatusResponse:
        node = self._node
        engine, store = node.engine, node.engine.store
        now = node.scheduler.now()
        coverage = [
            cluster_pb2.OriginCoverage(
                origin=wire.encode_origin(origin),
                sequence=store.coverage.sequence(origin),
                above=[
                    common_pb2.SequenceRange(first=first, last=last) for first, last in store.coverage.above(origin)
                ],
            )
            for origin in sorted(store.coverage.origins())
        ]
        records = store.members().values()
        counters = engine.counters
        last = engine.last_round
        return cluster_pb2.ClusterServiceGetStatusResponse(
            node_id=store.origin.node_id,
            generation=store.origin.generation,
            cluster=node.config.cluster,
            ready=engine.ready and not engine.leaving,
            clock=store.clock.time,
            fingerprint=f"{store.fingerprint:016x}",
            records=store.live,
            tombstones=store.tombstones,
            coverage=coverage,
            uptime_seconds=round(now - node.started, 3),
            version=__version__,
            strategy=str(node.config.strategy),
            selector=str(node.config.selector),
            peer_address=node.peer_address,
            client_address=node.client_address,
            members=sum(engine.membership.status(record.origin.node_id) is MemberState.ALIVE for record in records),
            gossip=cluster_pb2.GossipCounters(**{name: getattr(counters, name) for name in counters.__slots__}),
            last_round_age_seconds=round(now - last[0], 3) if last else None,
            last_round_peer=last[1] if last else "",
            limits=limit_uses(node),
            storage=self._storage_status(),
            folded=[
                common_pb2.Origin(node_id=node_id, generation=generation)
                for node_id, generation in sorted(store.coverage.folded.items())
            ],
            tombstones_blocked=store.purge_blocked,
        )

    def _storage_status(self) -> cluster_pb2.StorageStatus:
        storage = self._node.storage
        if storage is None:
            return cluster_pb2.StorageStatus(default_durability=common_pb2.DURABILITY_MEMORY)
        return cluster_pb2.StorageStatus(
            default_durability=common_pb2.DURABILITY_DISK,
            file_bytes=storage.file_bytes,
            pending_changes=storage.pending,
            error=storage.error,
            commits=storage.commits,
            format_version=FORMAT,
        )

    async def Backup(
        self, request: cluster_pb2.ClusterServiceBackupRequest, context: Any
    ) -> AsyncIterator[cluster_pb2.ClusterServiceBackupResponse]:
        copying = asyncio.create_task(self._node.copy())
        try:
            path = await asyncio.shield(copying)
        except asyncio.CancelledError:
            copying.add_done_callback(_discard)  # the thread goes on, and nobody takes what it makes
            raise
        try:
            with path.open("rb") as file:
                while data := await asyncio.to_thread(file.read, PAGE_BYTES):
                    yield cluster_pb2.ClusterServiceBackupResponse(data=data)
        finally:
            path.unlink(missing_ok=True)

    async def ListMembers(
        self, request: cluster_pb2.ClusterServiceListMembersRequest, context: Any
    ) -> cluster_pb2.ClusterServiceListMembersResponse:
        node = self._node
        wanted = members.Filter(request)
        records = node.engine.store.members()
        now = node.scheduler.now()

        def found(_: str, last: str | None) -> Iterator[tuple[str, cluster_pb2.Member]]:
            for name in sorted(records):
                if (last is None or name > last) and wanted.takes(node.engine, records[name]):
                    yield name, members.encode(node.engine, records[name], now)

        items, token = await _page(node, wanted.listing, request, found)
        return cluster_pb2.ClusterServiceListMembersResponse(members=items, next_page_token=token)

    async def ExplainMember(
        self, request: cluster_pb2.ClusterServiceExplainMemberRequest, context: Any
    ) -> cluster_pb2.ClusterServiceExplainMemberResponse:
        return members.explain(self._node.engine, request.node_id, self._node.scheduler.now())

    async def WatchMembers(
        self, request: cluster_pb2.ClusterServiceWatchMembersRequest, context: Any
    ) -> AsyncIterator[cluster_pb2.ClusterServiceWatchMembersResponse]:
        self._node.scheduler.pump()  # what has happened is in the log before the snapshot is taken
        async with contextlib.aclosing(self._node.events.watch(request.resume_token)) as responses:
            async for response in responses:
                yield response

    async def SetTags(
        self, request: cluster_pb2.ClusterServiceSetTagsRequest, context: Any
    ) -> cluster_pb2.ClusterServiceSetTagsResponse:
        node = self._node
        node.engine.set_tags(members.check_tags(request.tags, node.limits.max_tags_bytes), node.scheduler.now())
        node.scheduler.pump()
        return cluster_pb2.ClusterServiceSetTagsResponse()

    async def ForgetMember(
        self, request: cluster_pb2.ClusterServiceForgetMemberRequest, context: Any
    ) -> cluster_pb2.ClusterServiceForgetMemberResponse:
        node = self._node
        members.find(node.engine, request.node_id)
        node.engine.vigil.forget_member(request.node_id, node.scheduler.now())
        node.scheduler.pump()
        return cluster_pb2.ClusterServiceForgetMemberResponse()

    async def Ping(
        self, request: cluster_pb2.ClusterServicePingRequest, context: Any
    ) -> cluster_pb2.ClusterServicePingResponse:
        node, name = self._node, request.node_id
        scheduler = node.scheduler
        record = members.find(node.engine, name)
        address = member_of(record).peer_address
        probe = ProbeRequest(record.origin)
        call = Call(Peer(address, name), probe, timeout=PING_TIMEOUT)
        begun = time.perf_counter()  # the loop's own clock stands still between two of its steps
        if not await scheduler.probe(Probe(scheduler.peering, call, probe, relayed=True)):
            raise LocalError(
                f"{name} did not answer a probe at {address} within {PING_TIMEOUT:g} s, or refused it; is it running, "
                "and can this node reach it there?",
                reason=Reason.MEMBER_UNREACHABLE,
            )
        milliseconds = round((time.perf_counter() - begun) * 1000, 3)
        return cluster_pb2.ClusterServicePingResponse(round_trip_milliseconds=milliseconds, address=address)

    async def Leave(
        self, request: cluster_pb2.ClusterServiceLeaveRequest, context: Any
    ) -> cluster_pb2.ClusterServiceLeaveResponse:
        peers = await self._node.leave()
        self._node.request_stop("asked to leave by a client")
        return cluster_pb2.ClusterServiceLeaveResponse(peers=peers)


async def _watch(node: Node, view: Callable[[Store, str], KeyView[M]], request: Any, context: Any) -> AsyncIterator[M]:
    """What a watcher of keys is told."""
    node.limits.check_prefix(request.prefix)
    await node.sessions.reach(request, context)
    await _sort_in(node.engine.store)
    responses = node.changes.watch(view(node.engine.store, request.prefix), request.resume_token)
    async with contextlib.aclosing(responses):
        async for response in responses:
            yield response


def _discard(copying: asyncio.Task[Path]) -> None:
    if not copying.cancelled() and copying.exception() is None:
        copying.result().unlink(missing_ok=True)


async def _sort_in(store: Store, set_key: str | None = None) -> None:
    """Have all that is new sorted in, a piece at a time."""
    while True:
        if store.sort_in(SORTED_AT_ONCE, set_key):
            return
        await asyncio.sleep(0)  # let others have the loop between pieces


async def _page(
    node: Node, listing: str, request: Any, items: Callable[[str, str | None], Iterator[tuple[str, Any]]]
) -> tuple[list[Any], str]:
    """One page of a listing by keys: its messages and the token of the next."""
    prefix: str = getattr(request, "prefix", "")
    node.limits.check_prefix(prefix)
    limit = node.limits.page_size(request.page_size)
    scope = f"{listing} {prefix}"
    token = wire.decode_page_token(scope, request.page_token)
    try:
        last = token.decode() if token is not None else None
    except UnicodeDecodeError:
        raise LocalError("page_token is not one of this listing", field="page_token") from None
    await _sort_in(node.engine.store)
    page, more = await _fill(partial(items, prefix), last, limit)
    following = wire.encode_page_token(scope, page[-1][0].encode()) if more else ""
    return [message for _, message in page], following


async def _fill(
    items: Callable[[K | None], Iterator[tuple[K, M]]], last: K | None, limit: int
) -> tuple[list[tuple[K, M]], bool]:
    """As many items as fit a page, at most `limit` and `PAGE_BYTES` but at least one; and whether there are more.

    Others have the loop now and then, and may write. What is there throughout is met once, as items come in order.
    """
    page: list[tuple[K, M]] = []
    size = 0
    while True:
        for number, item in enumerate(items(last), 1):
            size += item[1].ByteSize()
            if page and (len(page) == limit or size > PAGE_BYTES):
                return page, True
            page.append(item)
            if number == LISTED_AT_ONCE:
                break
        else:
            return page, False
        last = page[-1][0]
        await asyncio.sleep(0)
