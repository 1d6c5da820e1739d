"""`gossip-grpc kv`: registers."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import click

from gossip_grpc.cli import bulk, show, watching
from gossip_grpc.cli.base import Group, Settings, durability_option, node_options, session_option

if TYPE_CHECKING:
    from gossip_grpc.client import Client, Entry, KeyValueEvent, Session


_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _seconds(ctx: click.Context, parameter: click.Parameter, given: str | None) -> float:
    """A number of seconds, or of the unit behind it."""
    if given is None:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", given, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not seconds:
        raise click.BadParameter(f"{given!r} is not a time such as 30s, 5m, 12h or 7d", ctx, parameter)
    return seconds


def session_as_json(session: Session, client: Client) -> dict[str, Any]:
    """The clock and the dots of a write, and the token of the session that it belongs to."""
    dots = [{"origin": str(dot.origin), "sequence": dot.sequence} for dot in session.dots]
    return {"clock": session.clock, "dots": dots, "session": str(client.session)}


def read_content(given: str | None, file: IO[bytes] | None, name: str) -> str | bytes:
    """What a command is to send: an argument of this name, standard input if that is `-`, or a file."""
    if (given is None) == (file is None):
        raise click.UsageError(f"Give either {name} or --file PATH.")
    if file is not None:
        return file.read()
    if given != "-":
        return str(given)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError("Standard input is not UTF-8; write it as bytes with `--file -`.") from error


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
    clock and dot, the write that the value comes from, and expires_at (Unix time in seconds) and ephemeral; bytes are
    {"base64": "..."} there. Exit code 1 if the node holds no value for the key.

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
@click.option("--ttl", metavar="TIME", callback=_seconds, help="How long it is visible, such as 30s, 5m, 12h or 7d.")
@click.option("--ephemeral", is_flag=True, help="Visible only while the node that is asked is a live member.")
@durability_option
@node_options()
@session_option()
@click.pass_obj
def put(
    settings: Settings,
    key: str,
    value: str | None,
    file: IO[bytes] | None,
    ttl: float,
    ephemeral: bool,
    durability: str | None,
) -> None:
    """Write a key.

    VALUE is text; `-` reads it from standard input, where it must be UTF-8 and is taken with all its newlines. Bytes
    come from --file; `--file -` is standard input. A VALUE that begins with a dash and is no number goes behind `--`.

    With --ttl the value ends by itself, unless it is put again in time. With --ephemeral it stands for the node that is
    asked: it is hidden while that is dead or has left, and gone once that is forgotten.

    Examples:
      gossip-grpc kv put greeting hello
      gossip-grpc kv put temperature -5
      gossip-grpc kv put motd - < motd.txt
      gossip-grpc kv put logo --file logo.png
      gossip-grpc kv put flag -- --verbose
      gossip-grpc kv put services/web/a 10.0.0.7:80 --ttl 30s --ephemeral
    """
    content = read_content(value, file, "VALUE")
    with settings.client() as client:
        session = client.kv.put(key, content, ttl=ttl, ephemeral=ephemeral, durability=durability)
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

    Ends says when a value ends, by the clock of the node that wrote it; ephemeral, that it goes with that node. On a
    terminal long values are cut off; into a pipe and in JSON they are whole.

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
            rows = ((show.cell(entry.key), _end(entry), show.cell(entry.value)) for entry in entries)
            show.table(["key", "ends", "value"], rows, cut=True)


@kv.command()
@watching.watch_options
@node_options()
@session_option()
@click.pass_obj
def watch(settings: Settings, prefix: str, resume: str) -> None:
    """Show the entries whose keys begin with PREFIX, or all, and then what happens to them, until Ctrl-C.

    A line an event: the key with its old value, if it had one, and the new one; and the write, by its origin and
    Lamport clock. On a terminal long values are cut off. In JSON an object a line; each bears a token, with which
    --resume goes on after it, with the same PREFIX: with what came since, if the node still has it, else anew.

    Examples:
      gossip-grpc kv watch
      gossip-grpc kv watch services/
      gossip-grpc kv watch services/ --output json | jq -r .kind
    """
    with settings.client() as client:
        watching.follow(
            client.kv.watch(prefix, resume, **settings.watch), as_json=settings.json, about=_about, facts=_facts
        )


def _about(event: KeyValueEvent) -> str:
    key = show.cell(event.key)
    old = "" if event.old_value is None else watching.value(event.old_value)
    if event.entry is None:
        return f"{key}: {old}"
    end = _end(event.entry)
    new = watching.value(event.entry.value) + (f", {end}" if end else "")
    return f"{key}: {old} -> {new}" if old else f"{key}: {new}"


def _facts(event: KeyValueEvent) -> dict[str, object]:
    return {
        "key": event.key,
        "entry": None if event.entry is None else _as_json(event.entry),
        "old_value": None if event.old_value is None else show.value_as_json(event.old_value),
    }


def _end(entry: Entry) -> str:
    """When and with what an entry ends, in words; empty if it does not."""
    words = ["ephemeral"] if entry.ephemeral else []
    if entry.expires_at is not None:
        words.append(f"{datetime.fromtimestamp(entry.expires_at).astimezone():%Y-%m-%d %H:%M:%S}")
    return " ".join(reversed(words))


kv.add_command(bulk.load)
kv.add_command(bulk.dump)


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "value": show.value_as_json(entry.value),
        "clock": entry.clock,
        "dot": {"origin": str(entry.dot.origin), "sequence": entry.dot.sequence},
        "expires_at": entry.expires_at,
        "ephemeral": entry.ephemeral,
    }
