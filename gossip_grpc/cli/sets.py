"""`gossip-grpc set`: sets in which an addition wins over a concurrent removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gossip_grpc.cli import show, watching
from gossip_grpc.cli.base import Group, Settings, durability_option, node_options, session_option

if TYPE_CHECKING:
    from gossip_grpc.client import Client, SetEvent


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


@sets.command()
@watching.watch_options
@node_options()
@session_option()
@click.pass_obj
def watch(settings: Settings, prefix: str, resume: str) -> None:
    """Show the elements of the sets whose keys begin with PREFIX, or of all, and then those that come and go.

    Until Ctrl-C, a line an event: the set, the element, and the write, by its origin and Lamport clock. In JSON an
    object a line; each bears a token, with which --resume goes on after it, with the same PREFIX.

    Examples:
      gossip-grpc set watch
      gossip-grpc set watch colours --output json
    """
    with settings.client() as client:
        watching.follow(
            client.set.watch(prefix, resume, **settings.watch), as_json=settings.json, about=_about, facts=_facts
        )


def _about(event: SetEvent) -> str:
    return "" if event.element is None else f"{show.cell(event.key)}: {watching.value(event.element)}"


def _facts(event: SetEvent) -> dict[str, object]:
    return {"key": event.key, "element": None if event.element is None else show.value_as_json(event.element)}


def _print(settings: Settings, key: str, verb: str, count: int, client: Client) -> None:
    if settings.json:
        show.as_json({"key": key, verb: count, "session": str(client.session)})
    else:
        click.echo(count)
