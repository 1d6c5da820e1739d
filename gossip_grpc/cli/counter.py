"""`gossip-grpc counter`: counters that every node adds to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gossip_grpc.cli import show, watching
from gossip_grpc.cli.base import Group, Settings, durability_option, node_options, request_id_option, session_option
from gossip_grpc.cli.kv import session_as_json

if TYPE_CHECKING:
    from gossip_grpc.client import CounterEvent


@click.group(cls=Group)
@node_options(hidden=True)
def counter() -> None:
    """Add to counters that never lose an addition.

    Every node adds to its own share, and the value is the sum of all shares. A counter nobody added to is 0.
    """


@counter.command()
@click.argument("key")
@click.argument("amount", type=int, default=1)
@request_id_option
@durability_option
@node_options()
@session_option()
@click.pass_obj
def add(settings: Settings, key: str, amount: int, durability: str | None, request_id: str | None) -> None:
    """Add AMOUNT, or 1, to a counter and print its value.

    A negative amount subtracts. An addition whose answer was lost is repeated, and counted once. If it fails all the
    same, and says that it may have taken effect, look before you repeat it; with --request-id you may repeat it anyway.

    Examples:
      gossip-grpc counter add hits
      gossip-grpc counter add stock -5
    """
    with settings.client() as client:
        value = client.counter.add(key, amount, durability=durability, request_id=request_id)
        _print(settings, key, value, session=str(client.session))


@counter.command()
@click.argument("key")
@node_options()
@session_option()
@click.pass_obj
def get(settings: Settings, key: str) -> None:
    """Print the value of a counter.

    Examples:
      gossip-grpc counter get hits
    """
    with settings.client() as client:
        _print(settings, key, client.counter.get(key))


@counter.command()
@click.argument("key")
@durability_option
@node_options()
@session_option()
@click.pass_obj
def reset(settings: Settings, key: str, durability: str | None) -> None:
    """Set a counter back to 0.

    Additions that the node has not seen yet survive.

    Examples:
      gossip-grpc counter reset hits
    """
    with settings.client() as client:
        session = client.counter.reset(key, durability=durability)
    if settings.json:
        show.as_json({"key": key, **session_as_json(session, client)})


@counter.command("list")
@click.argument("prefix", default="")
@node_options()
@session_option()
@click.pass_obj
def list_counters(settings: Settings, prefix: str) -> None:
    """List the counters whose keys begin with PREFIX, or all.

    Examples:
      gossip-grpc counter list
      gossip-grpc counter list page/ --output json
    """
    with settings.client() as client:
        found = client.counter.list(prefix)
        if settings.json:
            show.as_json_array({"key": item.key, "value": item.value} for item in found)
        else:
            show.table(["key", "value"], ((show.cell(item.key), str(item.value)) for item in found), right=["value"])


@counter.command()
@watching.watch_options
@node_options()
@session_option()
@click.pass_obj
def watch(settings: Settings, prefix: str, resume: str) -> None:
    """Show the counters whose keys begin with PREFIX, or all, and then every change of a value, until Ctrl-C.

    A line an event: the key with its old and its new value; and the write, by its origin and Lamport clock. In JSON an
    object a line; each bears a token, with which --resume goes on after it, with the same PREFIX.

    Examples:
      gossip-grpc counter watch
      gossip-grpc counter watch page/ --output json
    """
    with settings.client() as client:
        watching.follow(
            client.counter.watch(prefix, resume, **settings.watch), as_json=settings.json, about=_about, facts=_facts
        )


def _about(event: CounterEvent) -> str:
    if event.counter is None:
        return ""
    old = f"{event.old_value} -> " if event.kind == "changed" else ""
    return f"{show.cell(event.counter.key)}: {old}{event.counter.value}"


def _facts(event: CounterEvent) -> dict[str, object]:
    if event.counter is None:
        return {"key": "", "value": None, "old_value": None}
    old = event.old_value if event.kind == "changed" else None
    return {"key": event.counter.key, "value": event.counter.value, "old_value": old}


def _print(settings: Settings, key: str, value: int, **more: str) -> None:
    if settings.json:
        show.as_json({"key": key, "value": value, **more})
    else:
        click.echo(value)
