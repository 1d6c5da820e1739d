"""A node: engine, driver and listeners wired together, started and stopped in order.

Start: bind both ports, make the engine (it announces the addresses bound), serve peers, begin gossip, serve clients.
Stop: report not serving, say that we leave and wait until some peers have it, stop gossip, close the listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc.aio

from gossip_grpc import __version__, addresses, wire
from gossip_grpc.changes import Changes
from gossip_grpc.client.calls import Call, Stream
from gossip_grpc.client.failures import error_for
from gossip_grpc.client.groups import AsyncCluster, AsyncCounters, AsyncEvents, AsyncKeyValue, AsyncSets
from gossip_grpc.client.results import Session
from gossip_grpc.collector import keep_pauses_short
from gossip_grpc.config import Config
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.membership import Change
from gossip_grpc.core.membership import Status as MemberState
from gossip_grpc.core.records import Member, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.edge import STATUS, Edge
from gossip_grpc.errors import (
    ConfigError,
    DeadlineError,
    GossipError,
    LocalError,
    ProtocolError,
    Reason,
    RemoteError,
    UnavailableError,
)
from gossip_grpc.gen.gossip.v1 import (
    cluster_pb2_grpc,
    common_pb2,
    counter_pb2_grpc,
    event_pb2_grpc,
    kv_pb2_grpc,
    peer_pb2_grpc,
    set_pb2_grpc,
)
from gossip_grpc.listeners import CLIENT_SERVICES, PEER_SERVICES, Common, client_options, peer_options
from gossip_grpc.logs import configure, get_logger
from gossip_grpc.member_events import MemberEvents
from gossip_grpc.scheduler import Scheduler
from gossip_grpc.server import (
    ClusterServicer,
    CounterServicer,
    EventServicer,
    KeyValueServicer,
    PeerServicer,
    SetServicer,
)
from gossip_grpc.sessions import DEFAULT_PATIENCE, Sessions
from gossip_grpc.storage.copies import write_snapshot
from gossip_grpc.storage.writer import Contents, Storage
from gossip_grpc.watching import Watchers

T = TypeVar("T")

LEAVE_ACKS = 2
"""Peers that must hold the leave record before a leaving node stops; all of them if there are fewer."""

LEAVE_RETRY = 0.3
"""Seconds between pushes of the leave record."""

STOP_GRACE = 0.5
"""Seconds that calls in progress get to end when a listener closes."""

STALLED = 30.0
"""Seconds after which a client that takes nothing of what it watches is cut off."""


class Node(AsyncCluster):
    """A node of a cluster, embedded in a program: `async with Node(Config(...)) as node: ...`.

    It has the verbs of `AsyncClient` (`kv`, `counter`, `set`, `event`, `members`, `watch`, `status`, `leave` and so
    on), with the same results and exceptions, and makes them without a network in between.

    Raises:
        ConfigError: on start, if an address cannot be listened on.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.limits = config.limits
        self.started = 0.0
        self.peer_address = ""
        self.client_address = ""
        self.kv = AsyncKeyValue(self)
        self.counter = AsyncCounters(self)
        self.set = AsyncSets(self)
        self.event = AsyncEvents(self)
        self.engine: Engine
        self.watchers: Watchers
        self.events: MemberEvents
        self.changes: Changes
        self.scheduler: Scheduler
        self.storage: Storage | None = None
        self._contents: Contents
        self.sessions: Sessions
        self._services = _Services(self)
        self._servers: list[grpc.aio.Server] = []
        self._common: list[Common] = []
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._stopped = False
        self.failure: str | None = None
        self._leave_end: float | None = None
        self._log = get_logger(node_id=config.node_id)

    async def start(self) -> None:
        """Bind, announce, serve."""
        config = self.config
        loop = asyncio.get_running_loop()
        self.started = loop.time()
        origin, store = self._open_storage()
        peer_server, peer_port = self._listen("peer_listen", self._peer_edge(), peer_options())
        client_server, client_port = self._listen("client_listen", self._client_edge(), client_options(config))
        self.peer_address = config.peer_address(peer_port)
        self.client_address = config.client_address(client_port)
        if self.storage is not None:
            self.storage.start()
        settings = self._settings(store)
        self.engine = Engine(origin, self._member(), settings, random.Random(), self.started, store)  # noqa: S311  peers are not chosen in secret
        self._follow_with_disk(store)
        self.watchers = Watchers(self.limits.max_watchers, secrets.randbits(63))
        self.events = MemberEvents(self.engine, self.watchers)
        self.changes = Changes(self.engine, self.watchers)
        self.scheduler = Scheduler(
            self.engine,
            cluster=config.cluster,
            address=self.peer_address,
            seeds=config.join,
            seed_interval=config.seed_interval,
            timeout=config.exchange_timeout,
            ready=self._became_ready,
            changed=self._member_changed,
            applied=self.changes.refresh,
            step_down=self._step_down,
            storage=self.storage,
        )
        self.sessions = Sessions(self.scheduler)
        self._register(peer_server, client_server)
        for_peers, for_clients = self._common
        await for_peers.set_serving(serving=True)  # it is by peers that the node becomes ready
        await for_clients.set_serving(serving=False)
        await peer_server.start()
        await client_server.start()
        self._log.info(
            "node started",
            cluster=config.cluster,
            generation=origin.generation,
            peer_address=self.peer_address,
            client_address=self.client_address,
            version=__version__,
            storage=self._storage_in_words(),
        )
        self.scheduler.start()

    async def stop(self) -> None:
        """Leave in order. Stopping twice does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self.request_stop("stopping")
        await self._end_serving()
        peers = await self.leave() if self.failure is None else 0
        await self.scheduler.stop()
        self.sessions.close()
        self.events.log.close()  # servers wait for calls, and these have no end of their own
        self.changes.close()
        await asyncio.gather(*(server.stop(STOP_GRACE) for server in self._servers))
        if self.storage is not None:
            self.scheduler.record()
            await self.storage.close()
        self._log.info("node stopped", told=peers)

    async def leave(self) -> int:
        """Say that this node leaves; returns how many peers hold the record. The node takes no more writes."""
        engine, scheduler = self.engine, self.scheduler
        if self._leave_end is None:
            self._leave_end = scheduler.now() + self.config.leave_timeout
            await self._end_serving()
        engine.leave(scheduler.now())
        scheduler.pump()
        while len(engine.leave_acks) < min(LEAVE_ACKS, len(engine.membership.reachable_peers())):
            left = self._leave_end - scheduler.now()
            if left <= 0:
                break
            if not await scheduler.progress(min(LEAVE_RETRY, left)):
                engine.spread_leave(scheduler.now())
                scheduler.pump()
        return len(engine.leave_acks)

    def request_stop(self, why: str) -> None:
        """Let `wait` return, so that whoever runs the node stops it."""
        if not self._stop.is_set():
            self._log.info("stop requested", why=why)
            self._stop.set()

    async def wait(self) -> None:
        """Wait until somebody asks the node to stop: a signal, or `Leave` of the API."""
        await self._stop.wait()

    async def wait_ready(self) -> None:
        """Wait until the node takes writes."""
        await self._ready.wait()

    async def run(self, call: Call[T], /) -> T:
        """Execute one call of the clients' table here; the groups' methods come here."""
        self._check_started()
        deadline = asyncio.timeout(call.timeout)
        try:
            async with deadline:
                response = await call.method(self._services)(call.sending(), None)  # type: ignore[arg-type]  # servicers have the stubs' methods
        except ProtocolError as error:
            raise _for_users(error) from error
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise DeadlineError(f"this node took more than {call.timeout:g} s") from error
        return call.read(response)

    async def stream(self, stream: Stream[T], /) -> AsyncGenerator[T, None]:
        """Execute one streaming call of the clients' table here."""
        self._check_started()
        responses = stream.method(self._services)(stream.request, None)  # type: ignore[arg-type]  # as above
        try:
            async with contextlib.aclosing(responses):
                async for response in responses:
                    yield stream.read(response)
        except ProtocolError as error:
            raise _for_users(error) from error

    def promise(self, asked: common_pb2.Durability.ValueType) -> common_pb2.Durability.ValueType:
        """What the acknowledgement of a write is to mean, from what its request says.

        Raises:
            LocalError: this node has no disk.
        """
        if asked == common_pb2.DURABILITY_MEMORY:
            return asked
        if self.storage is not None:
            return common_pb2.DURABILITY_DISK
        if asked == common_pb2.DURABILITY_UNSPECIFIED:
            return common_pb2.DURABILITY_MEMORY
        raise LocalError(
            "durability is DISK, and this node keeps its state in memory only; start it with --data-dir, or ask for "
            "MEMORY",
            reason=Reason.NO_DISK,
            field="durability",
        )

    async def keep(self, promised: common_pb2.Durability.ValueType) -> None:
        """Wait until what was written so far is where an acknowledgement says.

        Raises:
            LocalError: the disk fails; the write stands in memory.
        """
        if self.storage is not None and promised == common_pb2.DURABILITY_DISK:
            await self.storage.saved(self.storage.ticket)

    async def copy(self) -> Path:
        """Write a copy of all that this node holds into a file, for the caller to delete; returns its path."""
        if self.storage is not None:
            return await self.storage.backup()
        store = self.engine.store
        return await asyncio.to_thread(write_snapshot, self.config.cluster, store.snapshot(), store.wall_offset)

    async def reach(self, session: Session, *, patience: float = DEFAULT_PATIENCE) -> None:
        """Wait until this node has what a session has written or seen elsewhere; its own writes it has at once.

        Raises:
            DeadlineError: it has not after so many seconds; `metadata["missing"]` names what is missing.
        """
        self._check_started()
        message = common_pb2.Session.FromString(session.to_bytes())
        try:
            await self.sessions.wait(wire.decode_session(message), patience)
        except ProtocolError as error:
            raise _for_users(error) from error

    def written(self, records: Sequence[Record]) -> common_pb2.Session:
        """Send on its way what a verb has written; returns its token."""
        self.scheduler.pump()
        return wire.encode_session(records, self.engine.store.clock.time)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await asyncio.gather(*(server.stop(None) for server in self._servers))
            if self.storage is not None:
                await self.storage.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # Parts

    def _check_started(self) -> None:
        if not self.started:
            raise UnavailableError("the node has not been started; use it inside of `async with Node(...) as node:`")

    def _listen(self, name: str, edge: Edge, options: Sequence[tuple[str, int]]) -> tuple[grpc.aio.Server, int]:
        address: str = getattr(self.config, name)
        server = grpc.aio.server(interceptors=[edge], options=options)
        self._servers.insert(0, server)  # clients' before peers', when they are stopped
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(f"{name}: cannot listen on {address}: {_why_not(address)}") from error
        return server, port

    def _client_edge(self) -> Edge:
        limits = ", ".join(
            f"{name} is {getattr(self.limits, name):,}"
            for name in ("max_value_bytes", "max_element_bytes", "max_event_bytes")
        )
        return Edge(
            f"the client listener of a gossip-grpc node of version {__version__}",
            f"{limits}; make several calls of many elements or entries",
            seen=_ignore,
            refused=_ignore,
            patience=STALLED,
        )

    def _peer_edge(self) -> Edge:
        def seen(received: int, sent: int) -> None:
            self.engine.counters.bytes_received += received
            self.engine.counters.bytes_sent += sent

        def refused(who: str, error: ProtocolError) -> None:
            if isinstance(error, RemoteError):
                self.engine.counters.refused += 1
                host = who.rpartition(":")[0]
                self.scheduler.complain("refused a peer's message", host, str(error), reason=str(error.reason))

        return Edge(
            f"the peer listener of a gossip-grpc node of version {__version__}", "send smaller chunks", seen, refused
        )

    def _register(self, peer_server: grpc.aio.Server, client_server: grpc.aio.Server) -> None:
        services = self._services
        peer_pb2_grpc.add_PeerServiceServicer_to_server(PeerServicer(self), peer_server)
        kv_pb2_grpc.add_KeyValueServiceServicer_to_server(services.kv, client_server)
        counter_pb2_grpc.add_CounterServiceServicer_to_server(services.counter, client_server)
        set_pb2_grpc.add_SetServiceServicer_to_server(services.set, client_server)
        event_pb2_grpc.add_EventServiceServicer_to_server(services.event, client_server)
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server(services.cluster, client_server)
        self._common = [
            Common(peer_server, PEER_SERVICES),
            Common(client_server, CLIENT_SERVICES, channelz_on=self.config.channelz == "on"),
        ]

    def _open_storage(self) -> tuple[Origin, Store | None]:
        """Who this node is, and what a former run has left on its disk, if it has one."""
        config, now = self.config, self.started
        generation = time.time_ns() // 1_000_000
        if not config.data_dir:
            return Origin(config.node_id, generation), None
        wall_offset = time.time() - now
        storage = Storage(config.data_dir, config.cluster, config.node_id)
        self._contents = storage.open(generation, wall_offset)
        self.storage = storage
        origin, clock, kept, origins, folded, reserved, fresh = self._contents
        if fresh:
            return origin, None
        store = Store.load(origin, clock, kept, origins, folded, now)
        store.wall_offset = wall_offset
        store.reserved = reserved
        store.keep_journal(known=True)
        kept.clear()
        return origin, store

    def _follow_with_disk(self, store: Store | None) -> None:
        storage = self.storage
        if storage is None:
            return
        if store is None:
            self.engine.store.keep_journal()

        def guard() -> None:
            store = self.engine.store
            storage.check_writable(store.origin, store.next_sequence)

        self.engine.guard = guard

    def _storage_in_words(self) -> str:
        if self.storage is None:
            return "memory only: this node's state is lost when it stops, and comes back from its peers"
        return f"{self.config.data_dir}: {'new' if self._contents.fresh else 'as it was left'}"

    def _member(self) -> Member:
        config = self.config
        return Member(
            incarnation=0,
            peer_address=self.peer_address,
            client_address=self.client_address,
            zone=config.zone,
            tags=dict(config.tags),
            version=__version__,
        )

    def _settings(self, store: Store | None) -> Settings:
        config = self.config
        # Whoever it knows from its disk may hold what it lacks, so it asks before it takes writes.
        others = store is not None and any(name != config.node_id for name in store.members())
        return Settings(
            strategy=config.strategy,
            selector=config.selector,
            fanout=config.fanout,
            gossip_interval=config.gossip_interval,
            rumor_interval=config.rumor_interval,
            bootstrap_window=config.bootstrap_window,
            tombstone_retention=config.tombstone_retention,
            event_retention=config.event_retention,
            request_retention=config.request_retention,
            has_seeds=bool(config.join) or others,
            limits=self.limits,
            detector=config.detector,
        )

    def _became_ready(self) -> None:
        self._ready.set()
        self._serving = asyncio.create_task(self._serve())  # the loop itself would not keep it

    def _member_changed(self, change: Change) -> None:
        self.events.add(change, self.scheduler.now())
        own = change.node_id == self.config.node_id
        if own or change.before is change.after:
            return
        facts = {"member": change.node_id, "cause": change.cause}
        if change.after is None:
            self._log.info("member forgotten", **facts)
        elif change.after is MemberState.ALIVE and change.before is None:
            self._log.info("member joined", member=change.node_id)
        else:
            level = self._log.warning if change.after in (MemberState.SUSPECT, MemberState.DEAD) else self._log.info
            level(
                "member has left" if change.after is MemberState.LEFT else f"member is {change.after.lower()}", **facts
            )

    def _step_down(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
            self._log.error("stepping down", error=reason)
            self.request_stop("superseded by a newer node of the same id")

    async def _serve(self) -> None:
        _, for_clients = self._common
        await for_clients.set_serving(serving=True)

    async def _end_serving(self) -> None:
        for common in self._common:
            await common.end()


class _Services:
    """The client services' servicers, named as the clients' stubs."""

    def __init__(self, node: Node) -> None:
        self.kv = KeyValueServicer(node)
        self.counter = CounterServicer(node)
        self.set = SetServicer(node)
        self.event = EventServicer(node)
        self.cluster = ClusterServicer(node)


def _for_users(error: ProtocolError) -> GossipError:
    """What a client would raise."""
    fields = {error.field: str(error)} if error.field else {}
    return error_for(STATUS[error.reason], str(error), reason=error.reason, fields=fields, metadata=error.metadata)


def _ignore(*_: object) -> None:
    """What clients send is neither counted nor logged: each gets its answer."""


def run(config: Config) -> int:
    """Run a node until SIGTERM, Ctrl-C or `Leave`; returns the exit code: 0, 2 wrong usage, 4 it had to step down."""
    configure(config.log_format, config.log_level)
    try:
        failure = run_loop(_main(config))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0 if failure is None else 4


async def _main(config: Config) -> str | None:
    loop = asyncio.get_running_loop()
    async with Node(config) as node:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, node.request_stop, signal.Signals(number).name)
        keep_pauses_short()
        await node.wait()
    return node.failure


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop if it is installed."""
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _why_not(address: str) -> str:
    """Why an address cannot be bound: gRPC does not say."""
    host, port = addresses.parse(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
    except OSError as error:
        return f"{error.strerror or error}; give another address, or stop what uses this one"
    return "gRPC refused it; is another process listening there?"
