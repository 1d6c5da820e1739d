"""The root of the command line: which commands there are."""

from __future__ import annotations

import click

from gossip_grpc import __version__
from gossip_grpc.cli import PROGRAM
from gossip_grpc.cli.base import RootGroup, node_options

COMMANDS = {
    "node": ("gossip_grpc.cli.node:node", "Run a node until it is stopped."),
    "demo": ("gossip_grpc.cli.demo:demo", "Run a cluster on this machine and watch it."),
    "kv": ("gossip_grpc.cli.kv:kv", "Read and write registers, one value a key."),
    "counter": ("gossip_grpc.cli.counter:counter", "Add to counters that never lose an addition."),
    "set": ("gossip_grpc.cli.sets:sets", "Add to and remove from sets."),
    "event": ("gossip_grpc.cli.event:event", "Publish events, and subscribe to them."),
    "members": ("gossip_grpc.cli.members:members", "List the members of the cluster."),
    "status": ("gossip_grpc.cli.cluster:status", "Show what the node is and how it does."),
    "leave": ("gossip_grpc.cli.cluster:leave", "Make the node leave its cluster and stop."),
    "backup": ("gossip_grpc.cli.disk:backup", "Write all that a node holds into FILE, as of one moment."),
    "restore": (
        "gossip_grpc.cli.disk:restore",
        "Make a data directory of a backup, for a node that is started with it.",
    ),
    "inspect": ("gossip_grpc.cli.disk:inspect", "Show what is in a data directory, or in a backup."),
    "simulate": ("gossip_grpc.cli.simulate:simulate", "Watch gossip spread, without a cluster."),
    "config": ("gossip_grpc.cli.config:config", "Check and print a node's configuration."),
    "completion": ("gossip_grpc.cli.completion:completion", "Print a script that completes commands in your shell."),
}


@click.group(
    cls=RootGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 not found, 2 wrong usage, 3 the node is unreachable, not ready or too slow, "
    "4 any other failure.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@node_options()
def root() -> None:
    """Membership and shared state for small clusters, over gRPC.

    Start a node, and talk to it from another terminal:
      gossip-grpc node
      gossip-grpc kv put greeting hello
      gossip-grpc kv get greeting
      gossip-grpc members --output json

    The options below may stand before a command or after it.
    """
