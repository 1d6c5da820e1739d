"""`gossip-grpc node`: runs a node in this process. Imports no more than a node needs, above all not rich."""

from __future__ import annotations

import sys

import click

from gossip_grpc.cli.base import Command
from gossip_grpc.cli.config import load_options, loaded_from


@click.command(cls=Command)
@load_options
def node(file: str | None, **flags: object) -> None:
    r"""Run a node until it is stopped.

    SIGTERM and Ctrl-C make it leave its cluster and stop. It logs to stderr. Flags go before environment variables
    (GOSSIP_ and the setting's name, such as GOSSIP_NODE_ID), those before the TOML file, that before the profile, and
    that before the defaults; `gossip-grpc config print` shows what comes of it, and the settings that have no flag.

    Examples:
      gossip-grpc node
      gossip-grpc node --node-id b --peer-listen 127.0.0.1:8946 \
          --client-listen 127.0.0.1:8947 --join 127.0.0.1:7946
      gossip-grpc node --config node.toml --log-format json
    """
    loaded = loaded_from(file, flags)
    # gRPC comes with it: not before the configuration is known to be right.
    from gossip_grpc.node import run  # noqa: PLC0415

    sys.exit(run(loaded.config))
