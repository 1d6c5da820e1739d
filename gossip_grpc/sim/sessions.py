"""Clients that go from node to node with a session, as ours do: each does one thing at a time, and waits if it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gossip_grpc.core.engine import Engine
from gossip_grpc.core.records import Kind, Record
from gossip_grpc.core.sessions import Gate, Session
from gossip_grpc.errors import ProtocolError
from gossip_grpc.sim.host import Host

if TYPE_CHECKING:
    from gossip_grpc.sim.world import World

PATIENCE = 3.0
"""Virtual seconds after which a client gives up."""

LOOK = 0.02
"""Virtual seconds between looks at whether a node covers a session."""

EXACT = 2
"""Single writes that a session keeps, fewer than those of our clients: so that short schedules come to shorten some."""


class Told(NamedTuple):
    """What a node told a client with a session.

    Attributes:
        session: its name.
        key: of the register that was read or written; None of other kinds.
        records: what was written, or the record that was read, a tombstone too; none if there was nothing.
        wrote: whether it was a write.
    """

    session: str
    key: str | None
    records: tuple[Record, ...]
    wrote: bool


class Clients:
    """The clients of one world that have sessions, by name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sessions: dict[str, Session] = {}
        self._busy: set[str] = set()

    def call(self, name: str, node: str, verb: str, args: tuple[Any, ...]) -> None:
        """Let a client ask a node; nothing if it still waits for another, or the node does not answer."""
        host = self._world.hosts.get(node)
        if name in self._busy or host is None or host.engine is None or host.paused:
            return
        self._busy.add(name)
        self._try(name, host, host.engine, verb, args, self._world.now + PATIENCE)

    def _try(self, name: str, host: Host, engine: Engine, verb: str, args: tuple[Any, ...], end: float) -> None:
        world = self._world
        session = self._sessions.get(name, Session())
        missing = session.missing(host.store.coverage)
        if host.engine is engine and (host.paused or missing.dots or missing.complete) and world.now < end:
            if not host.paused:
                self._ask(host, engine, missing)
            world.events.at(world.now + LOOK, self._try, name, host, engine, verb, args, end)
            return
        self._busy.discard(name)
        if host.engine is not engine or host.paused or missing.dots or missing.complete:
            if world.trace is not None:
                world.trace.add(world.now, "behind", host.name, what=f"{name}: {' '.join(missing.names())}".rstrip())
            return
        try:
            Gate(host.store).enter(session)
        except ProtocolError as error:
            world.expect(f"sessions: {name} was refused by {host.name}: {error}")
            return
        records = self._read(name, host, args[0]) if verb == "get" else world.write(host.name, verb, *args).records
        if records:
            token = Session(records[-1].clock, tuple(record.dot for record in records))
            self._sessions[name] = session.merge(token, EXACT)
        told = Told(name, args[0] if verb in ("get", "put", "delete") else None, records, verb != "get")
        for hook in world.after_call:
            hook(host, told)

    def _ask(self, host: Host, engine: Engine, missing: Session) -> None:
        """As a node does: it compares with who wrote what is missing."""
        writer = (missing.dots or missing.complete)[0].origin.node_id
        membership = engine.membership
        if writer != host.name and membership.address(writer) is not None and membership.reachable(writer):
            engine.compare_with(membership.peer(writer), fetch=True)
            self._world.pump(host)

    def _read(self, name: str, host: Host, key: str) -> tuple[Record, ...]:
        record = host.store.get(Kind.REGISTER, key)
        if self._world.trace is not None:
            shown = "nothing" if record is None or record.is_tombstone else repr(record.content)
            self._world.trace.add(self._world.now, "read", host.name, what=f"{name}: {key} is {shown}")
        return () if record is None else (record,)
