"""The simulated world: nodes with the real engine, a network of bytes, virtual time, and what happens to them.

One seed decides everything: the same schedule and seed make the same trace, byte for byte. Each part has its own
stream of randomness, named after the part, so that leaving out one action does not reshuffle all the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nextafter
from typing import Any, ClassVar

from xxhash import xxh3_64_intdigest

from gossip_grpc.core.engine import DIVERGED, Engine
from gossip_grpc.core.membership import Change
from gossip_grpc.core.messages import Call, Notice, Renewed
from gossip_grpc.core.records import Kind, Record
from gossip_grpc.core.store import Store
from gossip_grpc.errors import ProtocolError
from gossip_grpc.sim.calls import Calls
from gossip_grpc.sim.disk import Disk
from gossip_grpc.sim.events import EventQueue
from gossip_grpc.sim.history import ACKNOWLEDGED, DOWN, PAUSED, History, Write
from gossip_grpc.sim.host import NEVER, Host, address_of
from gossip_grpc.sim.links import Network
from gossip_grpc.sim.memo import Memo
from gossip_grpc.sim.schedule import ANY, CLIENT_VERBS, Action, ClusterSpec, Repeat, Schedule, Start, format_action
from gossip_grpc.sim.sessions import Clients, Told
from gossip_grpc.sim.stats import Stats
from gossip_grpc.sim.trace import Trace

SEEDS = 3
"""So many nodes of a cluster are everybody's seeds."""

PRELOAD = "preload/"
"""What the keys of preloaded registers begin with."""

AGREE_INTERVAL = 0.01
"""Seconds between two looks at whether an expected agreement has come."""

LEAVE_ACKS, LEAVE_RETRY, LEAVE_TIMEOUT = 2, 0.3, 3.0
"""As of a node (see node.py, `Config.leave_timeout`): which waits for so many, asks again, and gives up."""


class World:
    """All of it.

    Args:
        schedule: what it is made of and what happens.
        seed: decides everything else.
        trace: where each event is noted, or None.

    Attributes:
        now: virtual seconds from the beginning.
        hosts: the nodes by name, those that are down too.
        history: what clients did.
        stats: what it cost.
        notices: the warnings and errors of engines, with time and node.
        failures: expectations that were not met, a line each.
        after_input: called with the host after every input of its engine, and when it starts.
        after_heal: called with the host and its notice when it finds that fingerprints differ at equal coverage.
        after_load: called with a host that is down and the store that its disk has, before it starts.
        after_call: called with the host and what it told a client with a session.
        after_change: called with the host and what has become of a member in its view.
        checker: what a line `check` asks; by default `checkers.check`.
    """

    def __init__(self, schedule: Schedule, seed: int, *, trace: Trace | None = None) -> None:
        self.schedule = schedule
        self.seed = seed
        self.trace = trace
        self.events = EventQueue()
        self.network = Network(schedule.network)
        self.hosts: dict[str, Host] = {}
        self.history = History()
        self.stats = Stats()
        self.notices: list[tuple[float, str, Notice]] = []
        self.failures: list[str] = []
        self.after_input: list[Callable[[Host], object]] = []
        self.after_heal: list[Callable[[Host, Notice], object]] = []
        self.after_load: list[Callable[[Host, Store], object]] = []
        self.after_call: list[Callable[[Host, Told], object]] = []
        self.after_change: list[Callable[[Host, Change], object]] = []
        self.checker: Callable[[World], list[str]] | None = None
        self._memo = Memo()
        self._clients = Clients(self)
        self._specs = {spec.name: spec for spec in schedule.clusters}
        self._places = {name: place for place, name in enumerate(self._specs)}
        self._clusters: dict[str, list[Host]] = {spec.name: [] for spec in schedule.clusters}
        self._at_address: dict[str, Host] = {}
        self._kept = {
            action.nodes[0]
            for action in schedule.actions
            if action.verb == "snapshot" or (action.verb == "crash" and action.args[0])
        }
        self._calls = Calls(self.events, self.network, self.stats, trace, self._at_address, self._pump)
        self._ended = [0, 0, 0]  # rounds of lives that have ended: begun, agreed, failed
        for spec in schedule.clusters:
            self._build(spec)
        for action in schedule.actions:
            self.events.at(action.time, self.apply, action)
        for repeat in schedule.repeats:
            self.events.at(repeat.action.time, self._repeat, repeat, 1)
        self._sample_at(1)

    @property
    def now(self) -> float:
        """Virtual seconds from the beginning."""
        return self.events.now

    @property
    def largest_message(self) -> int:
        """Bytes of the largest message sent, its sender and all."""
        return self.stats.largest

    def run(self) -> list[str]:
        """Run to the schedule's end; returns the expectations that were not met."""
        self.run_until(self.schedule.end)
        return self.failures

    def run_until(self, time: float) -> None:
        """Let everything happen up to this virtual time."""
        self.events.run_until(time)

    def at(self, time: float, callback: Callable[[], object]) -> None:
        """Call the harness's own code at a virtual time."""
        self.events.at(time, callback)

    def live(self, cluster: str | None = None) -> list[Host]:
        """The hosts that are up, paused ones too, in the order in which they came; of one cluster, or of all."""
        return [host for host in self.hosts.values() if host.up and cluster in (None, host.cluster)]

    def agreed(self) -> bool:
        """Whether in each cluster all hosts that are up have equal digest hashes."""
        return all(self._agree(hosts) for hosts in self._clusters.values())

    def expect(self, problem: str) -> None:
        """Note an expectation that was not met. The problem begins with the name of what was looked at."""
        self.failures.append(f"{problem} (at {self.now:.3f} s)")
        if self.trace is not None:
            self.trace.add(self.now, "unmet", what=problem)

    # The beginning

    def _build(self, spec: ClusterSpec) -> None:
        hosts = [self._add(spec, number, self._seeds(spec)) for number in range(1, spec.nodes + 1)]
        formed = spec.start is Start.FORMED
        stores = self._formed(spec, hosts) if formed else None
        for index, host in enumerate(hosts):
            self._start(host, stores[index] if stores else None, ready=formed)

    def _formed(self, spec: ClusterSpec, hosts: list[Host]) -> list[Store]:
        """Stores as if restored from disk: all know all, and the first node's writes before the beginning."""
        stores = [Store(host.new_origin(0.0)) for host in hosts]
        for host, store in zip(hosts, stores, strict=True):
            store.write(Kind.MEMBER, host.name, host.member()._replace(incarnation=1), 0.0)
        records = [record for store in stores for record in store.records()]
        if spec.preload:
            self.history.preloaded[spec.name] = spec.preload
            first = stores[0]
            records += [
                first.write(Kind.REGISTER, f"{PRELOAD}{number}", f"value of {number}, as it was before", 0.0)
                for number in range(1, spec.preload + 1)
            ]
        context = {store.origin: store.coverage.sequence(store.origin) for store in stores}
        for store in stores:
            store.merge(records, 0.0)
            store.learn_context(context)
        return stores

    def _seeds(self, spec: ClusterSpec) -> list[str]:
        return [address_of(self._places[spec.name], number) for number in range(1, min(spec.nodes, SEEDS) + 1)]

    def _add(self, spec: ClusterSpec, number: int, seeds: list[str]) -> Host:
        address = address_of(self._places[spec.name], number)
        host = Host(f"{spec.name}{number}", number, spec, address, seeds, self.seed)
        if host.name in self._kept:
            host.disk = Disk()
        self.hosts[host.name] = host
        self._clusters[host.cluster].append(host)
        self._at_address[host.address] = host
        return host

    def _start(self, host: Host, store: Store | None = None, *, ready: bool = False, restored: bool = False) -> None:
        host.start(self.now, self._memo, self.history.folds, store=store, ready=ready, restored=restored)
        if self.trace is not None:
            how = "from a backup" if restored else "as from disk" if store is not None else "empty"
            self.trace.add(self.now, "start", host.name, what=f"{host.store.origin} at {host.address}, {how}")
        self.history.lives.append(host.life)
        self.stats.came(host, {other.name for other in self._clusters[host.cluster]})
        self._pump(host, self._engine(host))

    # Time

    def pump(self, host: Host) -> None:
        """Carry out what the engine of a host that is up asks for."""
        self._pump(host, self._engine(host))

    def _pump(self, host: Host, engine: Engine) -> None:
        """Carry out what the engine asks for after an input, and let the others know."""
        for effect in engine.effects():
            if isinstance(effect, Call):
                self._calls.make(host, engine, effect)
            elif isinstance(effect, Change):
                self._change(host, effect)
            elif isinstance(effect, Notice):
                self._notice(host, effect)
            elif isinstance(effect, Renewed):
                host.peering.identify()
            else:
                self.events.at(self.now, self._step_down, host, engine)
        due = host.when(engine.deadline())
        if due < host.timer:
            host.timer = due
            self.events.at(due, self._timer, host, engine, due)
        version = host.store.version
        if version != host.version:
            host.version = version
            if host.disk is not None and host.up:
                host.save()
            if host.lacks:
                self.stats.changed(host, self.events.now)
            if engine.counters.purged:
                self.history.purged = True
        for hook in self.after_input:
            hook(host)

    def _timer(self, host: Host, engine: Engine, due: float) -> None:
        if host.engine is not engine or host.timer != due:
            return
        if host.hindered:
            self._calls.wait(host, self._tick, host, engine)
        else:
            self._tick(host, engine)

    def _tick(self, host: Host, engine: Engine) -> None:
        if host.engine is not engine:
            return
        host.timer = NEVER
        deadline = engine.deadline()
        now = host.clock(self.events.now)
        host.follow_wall_clock(self.events.now)
        if host.when(deadline) <= self.events.now:
            engine.tick(max(now, deadline))
        self._pump(host, engine)

    def _step_down(self, host: Host, engine: Engine) -> None:
        if host.engine is engine:
            self._stop(host, "superseded")

    def _change(self, host: Host, change: Change) -> None:
        for hook in self.after_change:
            hook(host, change)
        if self.trace is not None:
            words = f"{change.node_id} {change.before or 'unknown'} > {change.after or 'forgotten'}: {change.cause}"
            self.trace.add(self.now, "member", host.name, what=words)

    def _notice(self, host: Host, notice: Notice) -> None:
        if notice.event == DIVERGED:
            self.history.heals += 1
            for hook in self.after_heal:
                hook(host, notice)
        if notice.level in ("error", "warning"):
            self.notices.append((self.now, host.name, notice))
        if self.trace is not None:
            facts = " ".join(f"{name}={value}" for name, value in notice.facts.items())
            self.trace.add(self.now, "notice", host.name, what=f"{notice.event} {facts}".rstrip())

    @staticmethod
    def _engine(host: Host) -> Engine:
        assert host.engine is not None  # noqa: S101 - the host is up
        return host.engine

    # What happens

    def apply(self, action: Action) -> None:
        """Do one action now, whatever its time. What makes no sense now, a crash of what is down, does nothing."""
        if self.trace is not None and action.verb not in CLIENT_VERBS:
            self.trace.add(self.now, "action", what=format_action(action))
        if action.verb in CLIENT_VERBS:
            self._client(action)
        else:
            self._actions[action.verb](self, action)

    def _host(self, name: str) -> Host | None:
        """A host that is up, or None."""
        host = self.hosts.get(name)
        return host if host is not None and host.up else None

    def _repeat(self, repeat: Repeat, count: int) -> None:
        action = repeat.action
        args = tuple(arg.replace("{i}", str(count)) if isinstance(arg, str) else arg for arg in action.args)
        self.apply(action._replace(time=self.now, args=args))
        following = action.time + count * repeat.every  # not summed up, so that no error is
        if following <= repeat.until:
            self.events.at(following, self._repeat, repeat, count + 1)

    def _client(self, action: Action) -> None:
        name = action.nodes[0]
        if name == ANY:
            host = self._any(action)
            if host is None:
                return
            name = host.name
        if action.session:
            self._clients.call(action.session, name, action.verb, action.args)
        elif action.verb == "fill":
            prefix, count = action.args
            for number in range(1, count + 1):
                self.write(name, "put", f"{prefix}{number}", str(number))
        else:
            self.write(name, action.verb, *action.args)

    def _any(self, action: Action) -> Host | None:
        """A host that is up and takes writes, by the seed and what is to be done there."""
        able = [
            host
            for host in self.hosts.values()
            if host.engine is not None and host.engine.ready and not host.engine.leaving and not host.paused
        ]
        if not able:
            return None
        text = f"{self.seed} {self.now!r} {action.verb} {action.args!r}"
        return able[xxh3_64_intdigest(text.encode()) % len(able)]

    def write(self, name: str, verb: str, *args: Any) -> Write:
        """Let a client write at a node now."""
        host = self._host(name)
        writer = (host.store.origin, host.store.coverage) if host is not None else None
        write = self.history.open(self.now, name, verb, args, writer)
        if host is None:
            self.history.close(write, DOWN)
        elif host.paused:
            self.history.close(write, PAUSED)
        else:
            self._write(host, write)
        if self.trace is not None:
            dots = " ".join(str(dot.sequence) for dot in write.dots)
            words = " ".join(map(str, (verb, *args)))
            self.trace.add(self.now, "write", name, what=f"{words}: {write.outcome} {dots}".rstrip())
        if host is not None and not host.paused:
            self._pump(host, self._engine(host))
        return write

    def _write(self, host: Host, write: Write) -> None:
        engine = self._engine(host)
        try:
            records = _written(engine, write.verb, write.args, host.clock(self.now))
        except ProtocolError as error:
            self.history.close(write, str(error.reason))
            return
        self.history.close(write, ACKNOWLEDGED, records)
        if records:
            self.stats.written(host, records[-1].dot, self.live(host.cluster), self.now)

    def _crash(self, action: Action) -> None:
        host = self._host(action.nodes[0])
        if host is not None:
            (disk,) = action.args
            self._stop(host, "crash disk" if disk else "crash")

    def _stop(self, host: Host, how: str) -> None:
        counters = self._engine(host).counters
        for index, count in enumerate((counters.rounds, counters.rounds_agreed, counters.rounds_failed)):
            self._ended[index] += count
        if self.trace is not None:
            self.trace.add(self.now, "stop", host.name, what=how)
        if how == "crash disk":
            host.save()
        host.stop(self.now, how)
        self.stats.gone(host, self.now)

    def _restart(self, action: Action) -> None:
        host = self.hosts.get(action.nodes[0])
        if host is not None and not host.up:
            store = None
            if host.life.ended == "crash disk":
                store = host.load(self.now)
                for hook in self.after_load:
                    hook(host, store)
            self._start(host, store)

    def _snapshot(self, action: Action) -> None:
        host = self._host(action.nodes[0])
        if host is not None:
            host.save()
            host.backup = None if host.disk is None else host.disk.copy()

    def _restore(self, action: Action) -> None:
        host = self.hosts.get(action.nodes[0])
        if host is None or host.up or host.backup is None:
            return
        (unmarked,) = action.args
        host.disk = host.backup.copy()
        before = host.disk.origin
        assert before is not None  # noqa: S101 - a snapshot is of a node
        # What is restored by the command is marked, and begins a new generation; a directory that is put back is not.
        generation = max(host.new_origin(self.now).generation, before.generation + 1)
        origin = before if unmarked else before._replace(generation=generation)
        store = host.load(self.now, origin)
        if unmarked:
            self.history.revert(origin, store.coverage.sequence(origin))
        self._start(host, store, restored=True)

    def _pause(self, action: Action) -> None:
        host = self._host(action.nodes[0])
        if host is not None:
            host.paused = host.hindered = True

    def _resume(self, action: Action) -> None:
        host = self._host(action.nodes[0])
        if host is None or not host.paused:
            return
        host.paused = False
        host.adjusted = self.now
        host.hindered = host.slow > 0 or host.busy > self.now
        waiting = list(host.waiting)
        host.waiting.clear()
        for callback, args in waiting:
            callback(*args)

    def _cut(self, action: Action) -> None:
        one_way, *groups = action.args
        self.network.cut(groups, one_way=one_way)

    def _heal(self, _: Action) -> None:
        self.network.heal()

    def _link(self, action: Action) -> None:
        one_way, changes = action.args
        link = replace(self.network.default, **dict(changes))
        if len(action.nodes) == 1:
            self.network.set_node(action.nodes[0], link)
            return
        here, there = action.nodes
        self.network.set_link(here, there, link)
        if not one_way:
            self.network.set_link(there, here, link)

    def _slow(self, action: Action) -> None:
        host = self.hosts.get(action.nodes[0])
        if host is not None:
            (host.slow,) = action.args
            host.adjusted = self.now
            # What waits already comes first.
            host.hindered = host.paused or host.slow > 0 or host.busy > self.now

    def _skew(self, action: Action) -> None:
        host = self.hosts.get(action.nodes[0])
        if host is None:
            return
        host.skew(action.args[0], self.now)
        if host.engine is not None:
            self._pump(host, host.engine)

    def _drift(self, action: Action) -> None:
        host = self.hosts.get(action.nodes[0])
        if host is None:
            return
        host.drift(action.args[0], self.now)
        if host.engine is not None:
            self._pump(host, host.engine)

    def _join(self, action: Action) -> None:
        name = action.nodes[0]
        cluster = name.rstrip("0123456789")
        spec = self._specs.get(cluster)
        if spec is None or name in self.hosts:
            return
        given = [self.hosts[seed].address for seed in action.args if seed in self.hosts]
        self._start(self._add(spec, int(name.removeprefix(cluster)), given or self._seeds(spec)))

    def _leave(self, action: Action) -> None:
        host = self._host(action.nodes[0])
        if host is not None and not host.paused:
            engine = self._engine(host)
            engine.leave(host.clock(self.now))
            self._pump(host, engine)
            self.events.at(self.now + LEAVE_RETRY, self._leaving, host, engine, self.now + LEAVE_TIMEOUT)

    def _leaving(self, host: Host, engine: Engine, end: float) -> None:
        """As `Node.leave`: until some peers have it, or for long enough."""
        if host.engine is not engine:
            return
        wanted = min(LEAVE_ACKS, len(engine.membership.reachable_peers()))
        if len(engine.leave_acks) >= wanted or self.now >= end:
            self._stop(host, "leave")
            host.left = True
            return
        if not host.paused:
            engine.spread_leave(host.clock(self.now))
            self._pump(host, engine)
        self.events.at(self.now + LEAVE_RETRY, self._leaving, host, engine, end)

    def _rot(self, action: Action) -> None:
        host = self._host(action.nodes[0])
        (key,) = action.args
        if host is not None and host.store.get(Kind.REGISTER, key) is not None:
            # What the store forgets stays covered: just what a damaged disk would claim.
            host.store.forget(Kind.REGISTER, key)
            self.history.rots.append((self.now, host.name, key))
            self._pump(host, self._engine(host))

    def _swap(self, action: Action) -> None:
        here, there = (self.hosts.get(name) for name in action.nodes)
        if here is None or there is None:
            return
        here.address, there.address = there.address, here.address
        self._at_address[here.address] = here
        self._at_address[there.address] = there

    # Expectations

    def _agree_within(self, action: Action) -> None:
        self._look(self.now, self.now + action.args[0])

    def _look(self, since: float, end: float) -> None:
        if self.agreed():
            if self.trace is not None:
                self.trace.add(self.now, "agreed", what=f"after {self.now - since:.3f} s")
            return
        if self.now >= end:
            lines = "; ".join(filter(None, map(self._disagreement, self._clusters.values())))
            self.expect(f"agreement: none within {end - since:g} s: {lines}")
            return
        self.events.at(min(self.now + AGREE_INTERVAL, end), self._look, since, end)

    def _check(self, _: Action) -> None:
        from gossip_grpc.sim import checkers  # noqa: PLC0415 - they import this module

        for problem in (self.checker or checkers.check)(self):
            self.expect(problem)

    def _agree(self, hosts: list[Host]) -> bool:
        live = [host.engine for host in hosts if host.engine is not None]
        if not live:
            return True
        fingerprint = live[0].store.fingerprint
        if any(engine.store.fingerprint != fingerprint for engine in live):
            return False
        digest_hash = live[0].digest()[1]
        return all(engine.digest()[1] == digest_hash for engine in live)

    def _disagreement(self, hosts: list[Host]) -> str:
        groups: dict[int, list[str]] = {}
        for host in hosts:
            if host.engine is not None:
                groups.setdefault(host.engine.digest()[1], []).append(host.name)
        if len(groups) < 2:
            return ""
        sizes = sorted(groups.values(), key=len, reverse=True)
        return " | ".join(
            " ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") for names in sizes[:4]
        )

    def _sample_at(self, second: int) -> None:
        # Just before what happens at the full second: a write of that moment is not one that nobody has yet.
        self.events.at(nextafter(second, 0.0), self._sample, second)

    def _sample(self, second: int) -> None:
        counters = [host.engine.counters for host in self.hosts.values() if host.engine is not None]
        begun, agreed, failed = self._ended
        totals = (
            begun + sum(count.rounds for count in counters),
            agreed + sum(count.rounds_agreed for count in counters),
            failed + sum(count.rounds_failed for count in counters),
        )
        self.stats.sample(float(second), self.hosts.values(), totals)
        self._sample_at(second + 1)

    # What `apply` does, by verb.
    _actions: ClassVar[dict[str, Callable[[World, Action], None]]] = {
        "crash": _crash,
        "restart": _restart,
        "snapshot": _snapshot,
        "restore": _restore,
        "pause": _pause,
        "resume": _resume,
        "cut": _cut,
        "heal": _heal,
        "link": _link,
        "slow": _slow,
        "skew": _skew,
        "drift": _drift,
        "join": _join,
        "leave": _leave,
        "rot": _rot,
        "swap": _swap,
        "agree": _agree_within,
        "check": _check,
    }


def _written(engine: Engine, verb: str, args: tuple[Any, ...], now: float) -> list[Record]:
    """Do a client's verb, its arguments checked as the API does; returns the records written."""
    limits = engine.settings.limits
    limits.check_key(args[0])
    record: Record | None
    if verb == "put":
        limits.check_value(args[1])
        ttl, ephemeral = args[2:] or (0.0, False)
        return [engine.put(args[0], args[1], now, ttl=round(ttl * 1000), ephemeral=ephemeral)]
    if verb == "reset":
        return engine.reset(args[0], now)
    if verb == "delete":
        record = engine.delete(args[0], now)
        return [] if record is None else [record]
    if verb == "add":
        return _added(engine, args, now)
    for element in args[1:]:
        limits.check_element(element)
    change = engine.set_add if verb == "set-add" else engine.set_remove
    return change(args[0], list(args[1:]), now)


def _added(engine: Engine, args: tuple[Any, ...], now: float) -> list[Record]:
    """Do as the node's counters do: a request that was counted before changes nothing."""
    key, amount, *request = args
    request_id = request[0] if request else ""
    if engine.counted(key, amount, request_id) is not None:
        return []
    record = engine.add(key, amount, now, request_id=request_id)
    receipt = engine.store.get(Kind.COUNTER_RECEIPT, (key, request_id, engine.store.origin))
    return [one for one in (receipt, record) if one is not None]
