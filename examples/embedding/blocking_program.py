"""A node beside blocking code: it runs in a thread, and the program uses it from as many threads as it has.

    python blocking_program.py
    python blocking_program.py --node-id b --peer-listen 127.0.0.1:8946 --client-listen 127.0.0.1:8947 \
        --join 127.0.0.1:7946

Ctrl-C or SIGTERM ends it: the node leaves its cluster, so that nobody takes it for dead.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from gossip_grpc import BlockingNode, Config, ConfigError


def job(node: BlockingNode) -> int:
    """What blocks: here it only counts."""
    return node.counter.add("jobs", 1)


def main(config: Config) -> None:
    with BlockingNode(config) as node, ThreadPoolExecutor(4) as pool:  # the pool ends before the node
        print(f"clients may ask {node.client_address}", flush=True)
        node.wait_ready()
        while True:
            total = max(pool.map(job, [node] * 4))
            print(f"{total} jobs done, by all workers together", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A worker with a node inside.")
    parser.add_argument("--node-id", default="a")
    parser.add_argument("--peer-listen", default="127.0.0.1:7946")
    parser.add_argument("--client-listen", default="127.0.0.1:7947")
    parser.add_argument("--join", action="append", default=[], help="the peer address of a node to begin with")
    given = parser.parse_args()
    # SIGTERM would end the process at once; as an exception it leaves the `with`, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        main(
            Config(
                node_id=given.node_id,
                peer_listen=given.peer_listen,
                client_listen=given.client_listen,
                join=tuple(given.join),
            )
        )
    except ConfigError as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, SystemExit):
        print("left the cluster", flush=True)
