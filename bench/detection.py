"""How soon a killed node is DEAD to all others, and whether a busy machine makes anybody DEAD who is not.

Real nodes. First some of them are killed one after another and started again. Then all run while other processes keep
every core busy, and each death that a node logs is a false one: GOSSIP_BENCH_BUSY_SECONDS (600) tells for how long.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.cluster import Cluster, NodeProcess
from bench.results import Benchmark, Measurement, at_most
from gossip_grpc.client.results import MemberStatus

NODES = 30
KILLS_PER_RUN = 2
LOOK = 5.0
"""Seconds between looks at a busy cluster: a member that is dead is so for longer, and looking costs the nodes."""

GIVE_UP = 60.0


async def _dead_to_all(cluster: Cluster, node_id: str) -> None:
    waiting = [node for node in cluster.nodes if node.node_id != node_id]
    async with asyncio.timeout(GIVE_UP):
        while waiting:
            waiting = [node for node in waiting if (await _statuses(node)).get(node_id) is not MemberStatus.DEAD]


async def _statuses(node: NodeProcess) -> dict[str, MemberStatus]:
    return {member.node_id: member.status for member in await node.client.members()}


async def _kills(cluster: Cluster, count: int) -> list[float]:
    times = []
    for number in range(count):
        victim = cluster.nodes.pop()
        start = time.perf_counter()
        await victim.kill()
        await _dead_to_all(cluster, victim.node_id)
        times.append(time.perf_counter() - start)
        following = NodeProcess(f"again{number}", [cluster.nodes[0].peer_address])
        cluster.nodes.insert(1, following)
        await following.start()
    return times


@asynccontextmanager
async def _busy_machine() -> AsyncIterator[None]:
    """As many processes as there are cores that never rest."""
    spin = (sys.executable, "-c", "while True: pass")
    spinners = [await asyncio.create_subprocess_exec(*spin) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            await spinner.wait()


async def _deaths_while_busy(cluster: Cluster, seconds: float) -> tuple[int, int]:
    """How many members were ever DEAD, and SUSPECT, to any node when looked at; all of them run."""
    gone = {name for name, status in (await _statuses(cluster.nodes[0])).items() if status is not MemberStatus.ALIVE}
    found: dict[MemberStatus, set[tuple[str, str]]] = {MemberStatus.DEAD: set(), MemberStatus.SUSPECT: set()}
    end = time.monotonic() + seconds
    async with _busy_machine():
        while time.monotonic() < end:
            await asyncio.sleep(LOOK)
            for node in cluster.nodes:
                for name, status in (await _statuses(node)).items():
                    if status in found and name not in gone:
                        found[status].add((node.node_id, name))
    return len(found[MemberStatus.DEAD]), len(found[MemberStatus.SUSPECT])


async def _measure(runs: int) -> list[Measurement]:
    seconds = float(os.environ.get("GOSSIP_BENCH_BUSY_SECONDS", "600"))
    async with Cluster(NODES) as cluster:
        times = await _kills(cluster, KILLS_PER_RUN * runs)
        deaths, suspicions = await _deaths_while_busy(cluster, seconds)
    spread = f"{statistics.mean(times):.1f} s on average"
    note = f"{suspicions} times a node was SUSPECT to another"
    return [
        Measurement(f"SIGKILL until DEAD at all of {NODES - 1} others", "s", times, at_most(4), spread),
        Measurement(
            f"false deaths in {seconds:g} s of {NODES} nodes on a busy machine", "", [deaths], at_most(0), note
        ),
    ]


def run(runs: int) -> list[Measurement]:
    return asyncio.run(_measure(runs))


BENCHMARK = Benchmark("detection", f"{NODES} real nodes: SIGKILL until DEAD, and false deaths on a busy machine", run)
