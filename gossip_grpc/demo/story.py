"""The story: what is done with the cluster, step by step, and what is checked after each step.

It writes to the board and prints nothing. What nodes must hold is noted when they have taken the write, in `expected`;
what they do hold is asked of them, and compared in checks.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from gossip_grpc.client import GossipError, KeyNotFoundError, Status, Value
from gossip_grpc.client.groups import AsyncCounters, AsyncKeyValue, AsyncSets
from gossip_grpc.demo import checks
from gossip_grpc.demo.agreement import Agreement, State
from gossip_grpc.demo.board import Board, Life, Progress, Row, Step, duration
from gossip_grpc.demo.checks import Expected, Sighting
from gossip_grpc.demo.nodes import NodeProcessError
from gossip_grpc.demo.services import Service, Services

COUNTER = "demo/additions"
ADDITIONS = 1000
"""Additions in all, from all nodes at once, each its share."""

MORE_ADDITIONS = 50
"""Additions at each node left while one is away."""

NEW_KEYS = 20
"""Registers that nobody has seen before, written while one node is away."""

AGREE_TIMEOUT = 30.0
"""Seconds after which nodes that do not agree are a failure. On loopback it takes milliseconds to a second or two."""

_IN_FLIGHT = 4
"""Calls at a time to each node."""

_LOOK = 0.02
"""Seconds between two looks at the nodes while they come to agree: the precision of the times shown."""

_END = 2.0
"""Seconds that a process which no longer answers gets to be seen as ended."""

_WATCH = 0.15
"""Seconds between two looks for the table."""


class Api(Protocol):
    """What is used of a client; `Node` has it too."""

    kv: AsyncKeyValue
    counter: AsyncCounters
    set: AsyncSets

    def status(self) -> Coroutine[Any, Any, Status]:
        """What the node is and how it does."""
        ...


class Cluster(Protocol):
    """The nodes, by name."""

    @property
    def names(self) -> Sequence[str]:
        """All of them."""
        ...

    async def start(self, node: str) -> str:
        """Start one that joins the others; returns its client address."""
        ...

    async def kill(self, node: str) -> None:
        """End one without a word."""
        ...

    def client(self, node: str) -> Api:
        """The client of one that was started."""
        ...

    def exit_code(self, node: str) -> int | None:
        """Of one that has ended by itself; None for all others."""
        ...


Job: TypeAlias = Callable[[Api], Awaitable[None]]
Work: TypeAlias = Callable[[Step], Awaitable[None]]
Tell: TypeAlias = Callable[[Step], Awaitable[None]]


class Story:
    """Everything the demo does.

    Args:
        cluster: the nodes, not started yet.
        services: the input.
        rng: decides who writes what, what is deleted and who is killed.
        tell: called with each step that has ended.
    """

    def __init__(self, cluster: Cluster, services: Services, rng: random.Random, tell: Tell) -> None:
        names = cluster.names
        self.expected = Expected()
        self.board = Board(rows={name: Row(name) for name in names})
        self._cluster = cluster
        self._services = services.items
        self._rng = rng
        self._tell = tell
        self._victim = rng.choice(names)
        self._registered_at: dict[Service, str] = {}
        self._work: list[tuple[Step, Work]] = []
        self._additions = ADDITIONS // len(names)
        tenth = _tenth(len(self._services))
        self._plan("start", f"Start {len(names)} nodes", self._start)
        self._plan("register", f"Register {len(self._services):,} services", self._register)
        self._plan("read back", "Read on other nodes", self._read_back)
        self._plan("count", f"Add {len(names)} x {self._additions} at once", self._count)
        self._plan("delete", f"Delete {tenth:,} services", self._delete)
        self._plan("kill", f"Kill {self._victim}, write on", self._kill)
        self._plan("rejoin", f"Start {self._victim} again, empty", self._rejoin)

    async def run(self) -> None:
        """Do it all. What goes wrong is on the board; a node that fails ends the story early."""
        watcher = asyncio.create_task(self.watch())
        try:
            for step, work in self._work:
                if not await self._run(step, work):
                    break
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        await self._look(self._running())
        for row in self.board.rows.values():
            self._tally_messages(row)

    async def watch(self) -> None:
        """Keep the table up to date until no node is left."""
        while any(row.life not in (Life.KILLED, Life.ENDED) for row in self.board.rows.values()):
            self._ended()
            await self._look(self._running())
            await asyncio.sleep(_WATCH)

    def _plan(self, name: str, title: str, work: Work) -> None:
        step = Step(name, title)
        self.board.steps.append(step)
        self._work.append((step, work))

    async def _run(self, step: Step, work: Work) -> bool:
        """Do one step; false if there is no point in going on."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        step.progress = Progress.RUNNING
        broken = False
        try:
            await work(step)
        except NodeProcessError as error:
            step.problems.append(str(error))
            broken = True
        except GossipError as error:
            step.problems += [str(error), *await self._ended_soon()]
            broken = True
        step.seconds = loop.time() - start
        step.progress = Progress.FAILED if step.problems else Progress.DONE
        await self._tell(step)
        return not broken

    # Steps

    async def _start(self, step: Step) -> None:
        first, *others = self._cluster.names
        step.total = len(others) + 1
        await self._start_node(step, first)
        await _together(self._start_node(step, node) for node in others)
        await self._agree(step, self._cluster.names)
        step.detail = f"each knows all {step.total}"

    async def _register(self, step: Step) -> None:
        services = list(self._services)
        self._rng.shuffle(services)
        jobs = self._no_jobs(self._cluster.names)
        for number, service in enumerate(services):
            node = self._cluster.names[number % len(jobs)]
            self._registered_at[service] = node
            jobs[node].append(partial(self._put, service.key, str(service.port)))
            if service.aliases:
                jobs[node].append(partial(self._add_set, service.alias_key, service.aliases))
        await self._do(step, jobs)
        await self._agree(step, self._cluster.names)
        step.detail = f"and {len(self.expected.sets):,} sets of aliases"

    async def _read_back(self, step: Step) -> None:
        jobs = self._no_jobs(self._cluster.names)
        for service, writer in self._registered_at.items():
            reader = self._rng.choice([node for node in self._cluster.names if node != writer])
            jobs[reader].append(partial(self._compare_key, step, service.key, reader))
            if service.aliases:
                jobs[reader].append(partial(self._compare_set, step, service.alias_key, reader))
        await self._do(step, jobs)
        step.detail = f"all {step.total:,} as written"

    async def _count(self, step: Step) -> None:
        await self._do(step, {node: [self._add] * self._additions for node in self._cluster.names})
        await self._agree(step, self._cluster.names)
        for node in self._cluster.names:
            value = await self._cluster.client(node).counter.get(COUNTER)
            self.board.tally.reads += 1
            wrong = checks.wrong_counter(self.expected.counter, value)
            step.problems += [f"{node}: {wrong}"] if wrong else []
        step.detail = f"{self.expected.counter:,} on each node"

    async def _delete(self, step: Step) -> None:
        jobs = self._no_jobs(self._cluster.names)
        for service in self._sample(_tenth(len(self._services))):
            self._deletion(service, jobs)
        await self._do(step, jobs)
        await self._agree(step, self._cluster.names)
        await self._inspect(step, self._cluster.names)
        step.detail = "readable nowhere"

    async def _kill(self, step: Step) -> None:
        row = self.board.rows[self._victim]
        await self._look([self._victim])
        self._tally_messages(row)
        row.life, row.status = Life.KILLED, None
        await self._cluster.kill(self._victim)
        self.board.tally.kills += 1
        left = [node for node in self._cluster.names if node != self._victim]
        jobs = self._no_jobs(left)
        tenth = _tenth(len(self._services))
        chosen = self._sample(2 * tenth)
        for service in chosen[:tenth]:
            self._deletion(service, jobs)
        for service in chosen[tenth:]:
            node = self._rng.choice(left)
            jobs[node].append(partial(self._put, service.key, f"{service.port}, written again at {node}"))
        for number in range(NEW_KEYS):
            jobs[self._rng.choice(left)].append(partial(self._put, f"missed/by-{self._victim}/{number}", "hello"))
        for node in left:
            jobs[node] += [self._add] * MORE_ADDITIONS
            self._rng.shuffle(jobs[node])
        await self._do(step, jobs)
        await self._agree(step, left)
        await self._inspect(step, left)
        puts, deletions = len(chosen[tenth:]) + NEW_KEYS, len(chosen[:tenth])
        step.detail = f"{puts:,} puts, {deletions:,} deletions, {len(left) * MORE_ADDITIONS:,} additions"

    async def _rejoin(self, step: Step) -> None:
        step.detail = "a new process, with nothing in memory"
        await self._start_node(step, self._victim, Life.CATCHING_UP)
        await self._agree(step, self._cluster.names)
        await self._inspect(step, self._cluster.names)
        if step.agreed:
            self.board.rows[self._victim].life = Life.UP
            step.detail = f"caught up in {duration(step.agreed[self._victim])}, nothing deleted is back"

    # Work at the nodes

    def _no_jobs(self, nodes: Iterable[str]) -> dict[str, list[Job]]:
        return {node: [] for node in nodes}

    def _sample(self, count: int) -> list[Service]:
        """Services that are still registered."""
        left = [service for service in self._services if service.key in self.expected.values]
        return self._rng.sample(left, min(count, len(left)))

    def _deletion(self, service: Service, jobs: dict[str, list[Job]]) -> None:
        """Have a service deleted at any of the nodes, and its aliases too."""
        node = self._rng.choice(list(jobs))
        jobs[node].append(partial(self._delete_key, service.key))
        if service.aliases:
            jobs[node].append(partial(self._remove_set, service.alias_key, service.aliases))

    async def _do(self, step: Step, jobs: Mapping[str, Sequence[Job]]) -> None:
        """Work off every node's jobs, all nodes at once and a few calls at a time at each."""
        step.detail = ""
        step.total = sum(map(len, jobs.values()))

        async def work(node: str, queue: Iterator[Job]) -> None:
            client = self._cluster.client(node)
            for job in queue:
                await job(client)
                step.done += 1

        queues = [(node, iter(queue)) for node, queue in jobs.items()]
        await _together(work(node, queue) for node, queue in queues for _ in range(_IN_FLIGHT))

    async def _put(self, key: str, value: Value, client: Api) -> None:
        await client.kv.put(key, value)
        self.expected.put(key, value)
        self.board.tally.writes += 1

    async def _delete_key(self, key: str, client: Api) -> None:
        await client.kv.delete(key)
        self.expected.delete(key)
        self.board.tally.writes += 1

    async def _add_set(self, key: str, elements: frozenset[str], client: Api) -> None:
        await client.set.add(key, *elements)
        self.expected.sets[key] = frozenset(elements)
        self.board.tally.writes += 1

    async def _remove_set(self, key: str, elements: frozenset[str], client: Api) -> None:
        await client.set.remove(key, *elements)
        del self.expected.sets[key]
        self.board.tally.writes += 1

    async def _add(self, client: Api) -> None:
        await client.counter.add(COUNTER, 1)
        self.expected.counter += 1
        self.board.counter = self.expected.counter
        self.board.tally.writes += 1

    async def _compare_key(self, step: Step, key: str, node: str, client: Api) -> None:
        wrong = checks.wrong_value(key, self.expected.values[key], await self._get(client, key))
        step.problems += [f"{node}: {wrong}"] if wrong else []

    async def _compare_set(self, step: Step, key: str, node: str, client: Api) -> None:
        self.board.tally.reads += 1
        wrong = checks.wrong_set(key, self.expected.sets[key], frozenset(await client.set.get(key)))
        step.problems += [f"{node}: {wrong}"] if wrong else []

    async def _get(self, client: Api, key: str) -> Value | None:
        self.board.tally.reads += 1
        try:
            return (await client.kv.get(key)).value
        except KeyNotFoundError:
            return None

    # Checks

    async def _inspect(self, step: Step, nodes: Sequence[str]) -> None:
        """Ask each node for all it holds, and compare."""
        step.detail = "checking what each node holds"
        sightings = await asyncio.gather(*(self._sighting(node) for node in nodes))
        step.problems += checks.problems(self.expected, sightings)

    async def _sighting(self, node: str) -> Sighting:
        client, tally = self._cluster.client(node), self.board.tally
        values = {entry.key: entry.value async for entry in client.kv.list()}
        keys = [summary.key async for summary in client.set.list()]
        sets = {key: frozenset(await client.set.get(key)) for key in keys}
        counter = await client.counter.get(COUNTER)
        tally.reads += len(values) + len(sets) + 1
        # A listing may hide what a read still finds.
        answered = [key for key in sorted(self.expected.deleted) if await self._get(client, key) is not None]
        return Sighting(node, values, sets, counter, frozenset(answered))

    async def _agree(self, step: Step, nodes: Sequence[str]) -> None:
        """Wait until the nodes agree; the time counts from now, when the last write has been taken."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        step.detail = "waiting until the nodes agree"
        agreement = Agreement(nodes, members=len(self._cluster.names))
        while not agreement.observe(await self._look(nodes), loop.time() - start):
            if ended := self._ended():
                raise NodeProcessError("\n".join(ended))
            if loop.time() - start > AGREE_TIMEOUT:
                step.problems += [f"no agreement within {AGREE_TIMEOUT:g} s: {line}" for line in agreement.problems()]
                return
            await asyncio.sleep(_LOOK)
        step.agreed = agreement.times()

    # Nodes

    def _running(self) -> list[str]:
        return [node for node, row in self.board.rows.items() if row.life in (Life.UP, Life.CATCHING_UP)]

    async def _start_node(self, step: Step, node: str, life: Life = Life.UP) -> None:
        row = self.board.rows[node]
        row.life = Life.STARTING
        row.address = await self._cluster.start(node)
        row.life = life
        step.done += 1

    async def _look(self, nodes: Iterable[str]) -> dict[str, State]:
        """Ask nodes how they are; who does not answer is left out."""
        asked = list(nodes)
        answers = await asyncio.gather(*(self._ask(node) for node in asked))
        # All rows at once: of different moments, nodes that agree would seem not to, and the other way round.
        for node, (status, counter) in zip(asked, answers, strict=True):
            row = self.board.rows[node]
            if row.life in (Life.UP, Life.CATCHING_UP):
                row.status, row.counter = status, counter
        told = zip(asked, answers, strict=True)
        return {node: State.of(status) for node, (status, _) in told if status is not None}

    async def _ask(self, node: str) -> tuple[Status | None, int]:
        client = self._cluster.client(node)
        try:
            status, counter = await asyncio.gather(client.status(), client.counter.get(COUNTER))
        except GossipError:
            return None, 0
        return status, counter

    def _ended(self) -> list[str]:
        """Nodes that have ended by themselves, a line each; the table shows them as such from now on."""
        codes = {node: self._cluster.exit_code(node) for node in self._cluster.names}
        ended = {node: code for node, code in codes.items() if code is not None}
        for node in ended:
            self.board.rows[node].life, self.board.rows[node].status = Life.ENDED, None
        return [f"{node} ended by itself, with exit code {code}" for node, code in ended.items()]

    async def _ended_soon(self) -> list[str]:
        """As `_ended`, after a call that failed: a process that dies cuts its connections before it is seen to end."""
        for _ in range(int(_END / _LOOK)):
            if ended := self._ended():
                return ended
            await asyncio.sleep(_LOOK)
        return []

    def _tally_messages(self, row: Row) -> None:
        if row.status is not None:
            gossip = row.status.gossip
            self.board.tally.messages += gossip.pushes_sent + gossip.pulls_sent
            self.board.tally.bytes += gossip.bytes_sent


async def _together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of them; the first failure cancels the others and is raised as it is."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tenth(count: int) -> int:
    return max(1, count // 10)
