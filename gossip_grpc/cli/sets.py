"""`gossip-grpc set`: sets in which an addition wins over a concurrent removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import Group, Settings, durability_option, node_options, session_option

if TYPE_CHECKING:
    from gossip_grpc.client import Client


@click.group("set", cls=Group)
@node_options(hidden=True)
def sets() -> None:
    """Add to and remove from sets.

    A removal takes away what it has seen; an element added elsewhere at the same time stays. Elements given here are
    text.
    """


@sets.command()
@click.argument("key")
@click.argument("elements", nargs=-1, required=True)
@durability_option
@node_options()
@session_option()
@click.pass_obj
def add(settings: Settings, key: str, elements: tuple[str, ...], durability: str | None) -> None:
    """Add elements to a set and print how many are new.

    Examples:
      gossip-grpc set add colours red green blue
    """
    with settings.client() as client:
        _print(settings, key, "added", client.set.add(key, *elements, durability=durability), client)


@sets.command()
@click.argument("key")
@click.argument("elements", nargs=-1, required=True)
@durability_option
@node_options()
@session_option()
@click.pass_obj
def remove(settings: Settings, key: str, elements: tuple[str, ...], durability: str | None) -> None:
    """Remove elements from a set and print how many it held.

    Examples:
      gossip-grpc set remove colours red
    """
    with settings.client() as client:
        _print(settings, key, "removed", client.set.remove(key, *elements, durability=durability), client)


@sets.command()
@click.argument("key")
@node_options()
@session_option()
@click.pass_obj
def get(settings: Settings, key: str) -> None:
    """Print the elements of a set, one a line, in order.

    An element that is bytes is shown as base64:..., in JSON as {"base64": "..."}; control characters are escaped, so
    that each element is one line.

    Examples:
      gossip-grpc set get colours
      gossip-grpc set get colours --output json
    """
    with settings.client() as client:
        found = client.set.get(key)
    ordered: list[str | bytes] = [
        *sorted(element for element in found if isinstance(element, str)),
        *sorted(element for element in found if isinstance(element, bytes)),
    ]
    if settings.json:
        show.as_json({"key": key, "elements": [show.value_as_json(element) for element in ordered]})
    else:
        for element in ordered:
            click.echo(show.cell(element))


@sets.command("list")
@click.argument("prefix", default="")
@node_options()
@session_option()
@click.pass_obj
def list_sets(settings: Settings, prefix: str) -> None:
    """List the sets whose keys begin with PREFIX, or all, with their sizes.

    Examples:
      gossip-grpc set list
    """
    with settings.client() as client:
        found = client.set.list(prefix)
        if settings.json:
            show.as_json_array({"key": item.key, "size": item.size} for item in found)
        else:
            show.table(["key", "size"], ((show.cell(item.key), str(item.size)) for item in found), right=["size"])


def _print(settings: Settings, key: str, verb: str, count: int, client: Client) -> None:
    if settings.json:
        show.as_json({"key": key, verb: count, "session": str(client.session)})
    else:
        click.echo(count)
