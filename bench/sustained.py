"""What five nodes take for a minute, with and without a disk, and how soon they agree after the last write."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, one_node
from bench.results import Benchmark, Measurement
from gossip_grpc.client import AsyncClient, Durability
from gossip_grpc.node import run_loop

NODES = 5
CLIENTS = 10
VALUE = "v" * 100
SECONDS = float(os.environ.get("GOSSIP_BENCH_SUSTAINED_SECONDS", "60"))

OVERWRITES = 200_000
KEYS = 1_000
BATCH = 1_000


async def _sustained(disk: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gossip-bench-") as directory:
        settings = {"data_dir": f"{directory}/{{node_id}}"} if disk else {}
        async with Cluster(NODES, settings) as cluster:
            clients = [
                AsyncClient(cluster.nodes[number % NODES].client_address, timeout=60.0) for number in range(CLIENTS)
            ]
            end = time.monotonic() + SECONDS
            before = [node.cpu_seconds() for node in cluster.nodes]
            own = time.process_time()
            counts = await asyncio.gather(*(_write(client, number, end) for number, client in enumerate(clients)))
            last = time.monotonic()
            used = [node.cpu_seconds() - spent for node, spent in zip(cluster.nodes, before, strict=True)]
            own = time.process_time() - own
            while len({(s.fingerprint, s.records) for s in await cluster.statuses()}) > 1:  # noqa: ASYNC110  nodes tell nobody
                await asyncio.sleep(0.01)
            agreed = time.monotonic() - last
            for client in clients:
                await client.close()
    writes = sum(counts)
    return {
        "writes": writes,
        "writes_per_second": writes / SECONDS,
        "agreed_seconds": agreed,
        "node_cores": sum(used) / SECONDS,
        "client_cores": own / SECONDS,
        "writes_per_core_second": writes / (sum(used) + own),
    }


async def _write(client: AsyncClient, number: int, end: float) -> int:
    count = 0
    while time.monotonic() < end:
        await client.kv.put(f"client-{number}/{count}", VALUE)
        count += 1
    return count


async def _disk_growth() -> dict[str, float]:
    """Bytes in a node's directory after the keys were written twice, and at most and at the end of the overwrites."""
    with tempfile.TemporaryDirectory(prefix="gossip-bench-") as directory:
        async with one_node({"data_dir": f"{directory}/{{node_id}}"}) as node:
            await node.client.kv.put_many(_entries(2 * KEYS), durability=Durability.DISK)
            first = peak = _size(Path(directory))
            for _ in range(OVERWRITES // (10 * KEYS)):
                await node.client.kv.put_many(_entries(10 * KEYS), durability=Durability.DISK)
                peak = max(peak, _size(Path(directory)))
            return {"first": first, "peak": peak, "last": _size(Path(directory))}


def _entries(count: int) -> Iterator[tuple[str, str]]:
    return ((f"key-{number % KEYS:04}", VALUE) for number in range(count))


def _size(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def run(runs: int) -> list[Measurement]:
    lines = []
    for word, disk in (("MEMORY", False), ("DISK", True)):
        found = [run_loop(_sustained(disk)) for _ in range(runs)]
        lines += [
            Measurement(
                f"{NODES} nodes, {CLIENTS} clients, {SECONDS:g} s of writes with {word}",
                "writes/s",
                [one["writes_per_second"] for one in found],
                note="; ".join(
                    f"{one['writes_per_core_second']:.0f} a second of a core, nodes {one['node_cores']:.2f} and "
                    f"clients {one['client_cores']:.2f} cores"
                    for one in found
                ),
                details={"runs": found},
            ),
            Measurement("... until all agree after the last", "s", [one["agreed_seconds"] for one in found]),
        ]
    grown = [run_loop(_disk_growth()) for _ in range(runs)]
    lines.append(
        Measurement(
            f"directory after {OVERWRITES:,} overwrites of {KEYS:,} keys, at most",
            "MB",
            [one["peak"] / 1e6 for one in grown],
            note="; ".join(f"{one['first'] / 1e6:.1f} before, {one['last'] / 1e6:.1f} at the end" for one in grown),
            details={"runs": grown},
        )
    )
    return lines


BENCHMARK = Benchmark("sustained", "what nodes take for a minute, with and without a disk", run)
