"""Drives the engine: wakes it when it asks, carries out its calls, resolves the seeds' names.

The only place with tasks and timers. Everything runs on one event loop, and every input of the engine is one step of
it, so no lock is needed; no `await` ever stands between reading and changing its state.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from gossip_grpc import addresses
from gossip_grpc.channels import HEARTBEAT, PROBE, Channels
from gossip_grpc.core.engine import Engine
from gossip_grpc.core.membership import Change
from gossip_grpc.core.messages import Call, HeartbeatRequest, Notice, ProbeRequest, PushRequest, Renewed
from gossip_grpc.core.store import member_of
from gossip_grpc.errors import ProtocolError, Reason
from gossip_grpc.logs import get_logger
from gossip_grpc.peering import FETCH_TIMEOUT, Fetch, Peering, Probe
from gossip_grpc.storage.writer import Storage

HOUSEKEEPING_INTERVAL = 30.0
"""Seconds between looks for idle channels."""

FAST_RESOLVE = 0.5
"""Seconds between attempts to resolve seeds while none has ever been resolved."""

MAX_KNOWN = 32
"""Members known from the disk that are taken for seeds."""

_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""Status codes that mean that nobody answered. With any other one a peer refused."""

_LOG_AGAIN = 30.0
"""Seconds until the same refusal by the same peer is logged again."""


class Scheduler:
    """The driver of one engine.

    Args:
        engine: the state machine.
        cluster: the cluster's name, sent with every message.
        address: where peers reach this node, HOST:PORT.
        seeds: names of peers, HOST:PORT; resolved again every `seed_interval` seconds, for ever.
        seed_interval: see seeds.
        timeout: seconds that a peer may take to answer.
        ready: called once when the engine becomes ready.
        changed: called when a member becomes something else.
        applied: called after every input of the engine.
        step_down: called with the reason when this node must stop.
        storage: what follows the engine on disk; its store keeps a journal then.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        cluster: str,
        address: str,
        seeds: tuple[str, ...],
        seed_interval: float,
        timeout: float,
        ready: Callable[[], None],
        changed: Callable[[Change], None],
        applied: Callable[[], None],
        step_down: Callable[[str], None],
        storage: Storage | None = None,
    ) -> None:
        self.engine = engine
        self._storage = storage
        self._known: dict[str, str] = {}
        self.peering = Peering(engine, cluster=cluster, address=address)
        self._seeds = seeds
        self._seed_interval = seed_interval
        self._timeout = timeout
        self._ready = ready
        self._changed = changed
        self._applied = applied
        self._step_down = step_down
        self.on_input: Callable[[], None] | None = None
        """Called after every input of the engine, while somebody waits for what an input may bring."""
        self._was_ready = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._outcome = asyncio.Event()
        self._channels = Channels(engine.counters, timeout)
        self._addresses: dict[str, str] = {}  # of each member, as of its last change
        self._resolved: dict[str, list[str]] = {}
        self._logged: dict[tuple[str, str], float] = {}
        self._log = get_logger(node_id=engine.store.origin.node_id)

    def set_wall_clock(self) -> None:
        """Tell the engine how far Unix time is from its clock. Only what people read depends on it."""
        self.engine.wall_offset = time.time() - self.now()

    def start(self) -> None:
        """Begin. The seeds are asked as soon as each of their names is resolved."""
        self.set_wall_clock()
        for seed in self._seeds:
            self._spawn(self._resolve_for_ever(seed))
        if self._storage is not None:
            self._remember_members()
        self._spawn(self._keep_house())
        self.pump()

    async def stop(self) -> None:
        """Make no more calls; those on their way are broken off."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channels.close()

    def now(self) -> float:
        """Seconds on the clock that the engine is given."""
        return self._loop.time()

    def pump(self) -> None:
        """Carry out the engine's effects and set its timer. To be called after every input."""
        self.record()
        self._applied()
        if self._stopped:
            return
        for effect in self.engine.effects():
            if isinstance(effect, Call):
                self._spawn(self._run(effect))
            elif isinstance(effect, Notice):
                self._notice(effect)
            elif isinstance(effect, Change):
                self._follow(effect.node_id)
                self._changed(effect)
            elif isinstance(effect, Renewed):
                self.peering.identify()
            else:
                self._step_down(effect.reason)
        if self.engine.ready and not self._was_ready:
            self._was_ready = True
            self._ready()
        if self.on_input is not None:
            self.on_input()
        deadline = self.engine.deadline()
        if self._timer is None or self._due != deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._due = deadline  # kept here: uvloop's handles do not tell
            self._timer = self._loop.call_at(deadline, self._tick)

    def record(self) -> None:
        """Hand to the disk what has changed."""
        if self._storage is not None:
            changes = self.engine.store.take_changes()
            if changes is not None:
                self._storage.submit(changes, self.engine.wall_offset)

    def check_room(self) -> None:
        """Refuse what a peer sends while the disk is too far behind."""
        if self._storage is not None:
            self._storage.check_room()

    async def may_show(self) -> None:
        """Wait until peers may see what this node knows: what it has written itself is on disk.

        Raises:
            LocalError: the disk fails, or takes too long.
        """
        if self._storage is not None:
            await self._storage.own_saved()

    async def progress(self, timeout: float) -> bool:  # noqa: ASYNC109  the caller goes on with other things then
        """Wait until a call has had its outcome, for at most `timeout` seconds; returns whether one had."""
        self._outcome.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._outcome.wait()
        except TimeoutError:
            return False
        return True

    def complain(self, event: str, who: str, error: str, **facts: object) -> None:
        """Log a refusal, but not the same one of the same peer again and again."""
        now = self.now()
        if now - self._logged.get((who, error), float("-inf")) < _LOG_AGAIN:
            return
        if len(self._logged) > 1_000:
            self._logged.clear()
        self._logged[who, error] = now
        self._log.warning(event, peer=who, error=error, **facts)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.engine.tick(self.now())
        finally:
            self.pump()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("task failed", error=repr(task.exception()))

    # Calls

    async def _run(self, call: Call) -> None:
        """Make a call and report its outcome to the engine, exactly once."""
        error, answered, foreign, own = "", False, False, False
        try:
            await self._exchange(call)
        except grpc.aio.AioRpcError as failure:
            answered = failure.code() not in _SILENT
            error = f"{failure.code().name}: {failure.details()}"
            foreign = failure.code() is grpc.StatusCode.FAILED_PRECONDITION
        except TimeoutError as failure:
            error = str(failure)
        except (ProtocolError, DecodeError) as failure:
            error, answered = str(failure), True
            own = isinstance(failure, ProtocolError) and failure.reason is Reason.DISK_FAILED
        except Exception as failure:  # noqa: BLE001  a bug of ours must not leave the round open for ever
            self._log.error("call failed", error=repr(failure), exc_info=failure)
            error, answered = repr(failure), True
        if error:
            if answered and not own:
                self.complain("a peer refused, or answered what it must not", call.peer.address, error)
            self.peering.failed(call, error, self.now(), answered=answered, foreign=foreign)
        self._outcome.set()
        self.pump()

    async def _exchange(self, call: Call) -> None:
        if self._storage is not None and not isinstance(call.request, HeartbeatRequest | ProbeRequest):
            self._storage.check_room()
            await self._storage.own_saved(patience=None)
        exchange = self.peering.begin(call)
        address = call.peer.address
        if isinstance(call.request, PushRequest):
            while (raw := exchange.request()) is not None:
                exchange.response(await self._channels.push(address, raw, self.now()), self.now())
        elif isinstance(call.request, HeartbeatRequest | ProbeRequest):
            method = HEARTBEAT if isinstance(call.request, HeartbeatRequest) else PROBE
            timeout = call.timeout or self._timeout
            raw = await self._channels.sign(method, address, exchange.request() or b"", self.now(), timeout=timeout)
            exchange.response(raw, self.now())
        else:
            # A large delta may take long, as long as it does not go silent.
            timeout = FETCH_TIMEOUT if isinstance(exchange, Fetch) else self._timeout
            message = exchange.request() or b""
            async with contextlib.aclosing(
                self._channels.pull(address, message, self.now(), timeout=timeout)
            ) as responses:
                async for raw in responses:
                    exchange.response(raw, self.now())
                    self.record()
                    if exchange.done:
                        break
                    await asyncio.sleep(0)  # others wait for the loop too, some of them for several of its turns
        exchange.end(self.now())

    async def probe(self, exchange: Probe) -> bool:
        """Carry out a probe for somebody else; returns whether the target was reached."""
        call = exchange.call
        timeout = call.timeout or self._timeout
        try:
            raw = await self._channels.sign(
                PROBE, call.peer.address, exchange.request() or b"", self.now(), timeout=timeout
            )
            exchange.response(raw, self.now())
            exchange.end(self.now())
        except (grpc.aio.AioRpcError, ProtocolError, DecodeError):
            return False
        return exchange.reached

    def _follow(self, node_id: str) -> None:
        """Close the channel to where a member was, if it is somewhere else now, or forgotten."""
        if node_id in self._known and node_id not in self.engine.store.members():
            del self._known[node_id]
            self._set_seeds()
        former, address = self._addresses.get(node_id), self.engine.membership.address(node_id)
        if former == address:
            return
        if address is None:
            del self._addresses[node_id]
        else:
            self._addresses[node_id] = address
        if former is not None:
            self._spawn(self._channels.abandon(former))

    # Seeds

    async def _resolve_for_ever(self, seed: str) -> None:
        while True:
            await self._resolve(seed)
            known = seed in self._resolved
            await asyncio.sleep(self._seed_interval if known else min(FAST_RESOLVE, self._seed_interval))

    async def _resolve(self, seed: str) -> None:
        """Look up a seed's name and tell the engine. What was found before is kept while a name server is down."""
        host, port = addresses.parse(seed)
        try:
            found = await _look_up(host, port)
        except OSError as error:
            self.complain("a seed's name cannot be resolved; trying again", seed, str(error))
            return
        news = self._resolved.get(seed) != found
        self._resolved[seed] = found
        if news:
            self._set_seeds()
            self.pump()

    def _remember_members(self) -> None:
        """Take the members known from the disk for seeds too: the names of all seeds may be gone by now."""
        own = self.engine.store.origin.node_id
        found = {name: member_of(record).peer_address for name, record in self.engine.store.members().items()}
        found.pop(own, None)
        self._known = dict(random.sample(sorted(found.items()), min(len(found), MAX_KNOWN)))
        self._set_seeds()

    def _set_seeds(self) -> None:
        resolved = [address for known in self._resolved.values() for address in known]
        self.engine.set_seeds(dict.fromkeys([*resolved, *self._known.values()]), self.now())

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
            await self._channels.close_idle(self.now())
            self.set_wall_clock()

    def _notice(self, notice: Notice) -> None:
        getattr(self._log, notice.level)(notice.event, **notice.facts)


async def _look_up(host: str, port: int) -> list[str]:
    """All addresses of a name, HOST:PORT.

    In a thread of its own that nobody waits for: asyncio's own look-up holds up the end of the process for as long as
    a name server does not answer.

    Raises:
        OSError: the name cannot be resolved.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str], error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def work() -> None:
        found, error = [], None
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(addresses.join(str(entry[4][0]), port) for entry in entries))
        except OSError as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found, error)

    threading.Thread(target=work, name=f"look up {host}", daemon=True).start()
    return await answer
