"""`gossip-grpc kv`: registers."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

import click

from gossip_grpc.cli import bulk, show
from gossip_grpc.cli.base import Group, Settings, durability_option, node_options, session_option

if TYPE_CHECKING:
    from gossip_grpc.client import Client, Entry, Session


def session_as_json(session: Session, client: Client) -> dict[str, Any]:
    """The clock and the dots of a write, and the token of the session that it belongs to."""
    dots = [{"origin": str(dot.origin), "sequence": dot.sequence} for dot in session.dots]
    return {"clock": session.clock, "dots": dots, "session": str(client.session)}


@click.group(cls=Group)
@node_options(hidden=True)
def kv() -> None:
    """Read and write registers, one value a key.

    Of two writes to a key the later one wins. Text and bytes are different values: bytes are shown in base64, in JSON
    as {"base64": "..."}.
    """


@kv.command()
@click.argument("key")
@node_options()
@session_option()
@click.pass_obj
def get(settings: Settings, key: str) -> None:
    """Print the value of a key.

    Prints the value itself: text and a newline, or bytes as they are. With --output json an object with key, value,
    clock and dot, the write that the value comes from; bytes are {"base64": "..."} there. Exit code 1 if the node
    holds no value for the key.

    Examples:
      gossip-grpc kv get greeting
      gossip-grpc kv get logo > logo.png
      gossip-grpc kv get greeting --output json
    """
    with settings.client() as client:
        entry = client.kv.get(key)
    if settings.json:
        show.as_json(_as_json(entry))
    elif isinstance(entry.value, str):
        show.as_it_is(entry.value.encode() + b"\n")
    else:
        show.as_it_is(entry.value)


@kv.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", type=click.File("rb"), metavar="PATH", help="Write the content of a file, as bytes.")
@durability_option
@node_options()
@session_option()
@click.pass_obj
def put(settings: Settings, key: str, value: str | None, file: IO[bytes] | None, durability: str | None) -> None:
    """Write a key.

    VALUE is text; `-` reads it from standard input, where it must be UTF-8 and is taken with all its newlines. Bytes
    come from --file; `--file -` is standard input. A VALUE that begins with a dash and is no number goes behind `--`.

    Examples:
      gossip-grpc kv put greeting hello
      gossip-grpc kv put temperature -5
      gossip-grpc kv put motd - < motd.txt
      gossip-grpc kv put logo --file logo.png
      gossip-grpc kv put flag -- --verbose
    """
    if (value is None) == (file is None):
        raise click.UsageError("Give either VALUE or --file PATH.")
    content: str | bytes
    if file is not None:
        content = file.read()
    elif value == "-":
        try:
            content = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise click.UsageError("Standard input is not UTF-8; write it as bytes with `--file -`.") from error
    else:
        content = str(value)
    with settings.client() as client:
        session = client.kv.put(key, content, durability=durability)
    if settings.json:
        show.as_json({"key": key, **session_as_json(session, client)})


@kv.command()
@click.argument("key")
@durability_option
@node_options()
@session_option()
@click.pass_obj
def delete(settings: Settings, key: str, durability: str | None) -> None:
    """Delete a key everywhere.

    Says whether the node held a value for it; to delete what is not there is no failure.

    Examples:
      gossip-grpc kv delete greeting
    """
    with settings.client() as client:
        deletion = client.kv.delete(key, durability=durability)
    if settings.json:
        show.as_json({"key": key, "found": deletion.found, **session_as_json(deletion.session, client)})
    else:
        click.echo("deleted" if deletion else "nothing to delete")


@kv.command("list")
@click.argument("prefix", default="")
@node_options()
@session_option()
@click.pass_obj
def list_entries(settings: Settings, prefix: str) -> None:
    """List the keys that begin with PREFIX, or all, with their values.

    On a terminal long values are cut off; into a pipe and in JSON they are whole.

    Examples:
      gossip-grpc kv list
      gossip-grpc kv list user/
      gossip-grpc kv list --output json | jq -r '.[].key'
    """
    with settings.client() as client:
        entries = client.kv.list(prefix)
        if settings.json:
            show.as_json_array(map(_as_json, entries))
        else:
            rows = ((show.cell(entry.key), show.cell(entry.value)) for entry in entries)
            show.table(["key", "value"], rows, cut=True)


kv.add_command(bulk.load)
kv.add_command(bulk.dump)


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "value": show.value_as_json(entry.value),
        "clock": entry.clock,
        "dot": {"origin": str(entry.dot.origin), "sequence": entry.dot.sequence},
    }
