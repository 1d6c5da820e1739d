"""A node inside of an asyncio program: a worker that counts its jobs together with all the others.

    python asyncio_program.py --client-listen 127.0.0.1:7947
    python asyncio_program.py --node-id b --peer-listen 127.0.0.1:8946 --client-listen 127.0.0.1:8947 \
        --join 127.0.0.1:7946

Ctrl-C or SIGTERM ends it: the node leaves its cluster, so that nobody takes it for dead.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from gossip_grpc import Config, ConfigError, Node


async def work(node: Node) -> None:
    """What the program is there for."""
    while True:
        total = await node.counter.add("jobs", 1)
        print(f"{total} jobs done, by all workers together", flush=True)
        await asyncio.sleep(1)


async def main(config: Config) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Node(config) as node:  # starts it; raises ConfigError if it cannot listen
        print(f"clients may ask {node.client_address}", flush=True)
        await node.wait_ready()  # before that it takes no writes
        working = asyncio.create_task(work(node))
        await stopped.wait()
        working.cancel()  # before the node stops: it would be refused
    print("left the cluster", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A worker with a node inside.")
    parser.add_argument("--node-id", default="a")
    parser.add_argument("--peer-listen", default="127.0.0.1:7946")
    parser.add_argument("--client-listen", default="127.0.0.1:7947")
    parser.add_argument("--join", action="append", default=[], help="the peer address of a node to begin with")
    given = parser.parse_args()
    try:
        asyncio.run(
            main(
                Config(
                    node_id=given.node_id,
                    peer_listen=given.peer_listen,
                    client_listen=given.client_listen,
                    join=tuple(given.join),
                )
            )
        )
    except ConfigError as error:
        sys.exit(str(error))
