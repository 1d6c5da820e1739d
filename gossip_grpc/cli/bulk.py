"""`gossip-grpc kv load` and `kv dump`: many registers as lines of JSON."""

from __future__ import annotations

import binascii
import json
import re
import sys
import time
from array import array
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Command, Settings, fail, node_options
from gossip_grpc.errors import InvalidArgumentError

if TYPE_CHECKING:
    from gossip_grpc.client import Item

_FIELDS = {"key", "value", "ttl", "expires_at", "ephemeral"}
_IGNORED = {"clock", "dot"}
"""What `kv get` and `kv list` print beside, so that their output can be loaded too."""

_PROGRESS = 0.2
"""Seconds between two lines of progress."""

_SOON = 0.001
"""Seconds that a value is granted whose end has passed."""

_PLACE = re.compile(r"entries\[(\d+)\]\.?")


@click.command(cls=Command)
@click.argument("file", type=click.File("rb"))
@node_options()
@click.pass_obj
def load(settings: Settings, file: IO[bytes]) -> None:
    """Write many keys, from lines of JSON in FILE, or `-` for standard input.

    Each line is an object with key and value: text, or {"base64": "..."} for bytes. Beside, ttl (seconds for which it
    is to be seen) or expires_at (Unix time in seconds), and ephemeral (true). Empty lines are skipped. They are written
    in order, in batches of up to 1,000, each whole or not at all; at the first line that is wrong it stops, and says
    what was written.

    Examples:
      gossip-grpc kv load entries.jsonl
      gossip-grpc kv dump --address 10.0.0.7:7947 | gossip-grpc kv load -
    """
    lines = _Lines(file)
    with settings.client() as client:
        try:
            written = client.kv.put_many(lines.items())
        except InvalidArgumentError as error:
            place = _PLACE.search(str(error))
            if place is None:
                raise
            about = _PLACE.sub("", str(error), count=1)
            number = lines.numbers[int(place[1])]
            fail(f"line {number}: {about}; {_count(error.metadata['written'])} written", code=USAGE)
        finally:
            lines.end()
    if lines.wrong is not None:
        fail(f"{lines.wrong}; {_count(written.count)} written", code=USAGE)
    if settings.json:
        show.as_json({"written": written.count, "clock": written.session.clock})
    else:
        click.echo(f"{_count(written.count)} written")


@click.command(cls=Command)
@click.argument("prefix", default="")
@node_options()
@click.pass_obj
def dump(settings: Settings, prefix: str) -> None:
    """Print the keys that begin with PREFIX, or all, as lines of JSON that `kv load` reads.

    Examples:
      gossip-grpc kv dump > entries.jsonl
    """
    with settings.client() as client:
        for entry in client.kv.list(prefix, 10_000):
            line = {"key": entry.key, "value": show.value_as_json(entry.value)}
            if entry.expires_at is not None:
                line["expires_at"] = entry.expires_at
            if entry.ephemeral:
                line["ephemeral"] = True
            click.echo(json.dumps(line, ensure_ascii=False))


class _Lines:
    """The lines of a file as entries, up to the first that is wrong.

    Attributes:
        numbers: the number of each entry's line.
        wrong: what is wrong with the line after the last one.
    """

    def __init__(self, file: Iterable[bytes]) -> None:
        self.numbers = array("L")
        self.wrong: str | None = None
        self._file = file
        self._shown = time.monotonic() if sys.stderr.isatty() else float("inf")

    def items(self) -> Iterator[Item]:
        """The entries."""
        for number, line in enumerate(self._file, 1):
            if not line.strip():
                continue
            try:
                item = _item(line)
            except ValueError as error:
                self.wrong = f"line {number}: {error}"
                return
            self.numbers.append(number)
            self._show()
            yield item

    def end(self) -> None:
        """Take the progress away."""
        if self._shown != float("inf"):
            click.echo("\r\033[K", nl=False, err=True)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= _PROGRESS:
            self._shown = now
            click.echo(f"\r{_count(len(self.numbers))} read", nl=False, err=True)


def _item(line: bytes) -> Item:
    """The entry of a line.

    Raises:
        ValueError: what is wrong with it, in words.
    """
    from gossip_grpc.client import Item  # noqa: PLC0415 - heavy; see base.py

    try:
        found = json.loads(line.rstrip())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg.lower()} at column {error.colno}") from None
    if not isinstance(found, dict):
        raise ValueError('it must be an object such as {"key": "a", "value": "b"}')
    unknown = found.keys() - _FIELDS - _IGNORED
    if unknown:
        raise ValueError(f"{min(unknown)!r} is no field; there are {', '.join(sorted(_FIELDS))}")
    if not isinstance(key := found.get("key"), str):
        raise ValueError("key must be text")
    if not isinstance(ephemeral := found.get("ephemeral", False), bool):
        raise ValueError("ephemeral must be true or false")
    ttl = _seconds("ttl", found.get("ttl", 0))
    if found.get("expires_at") is not None:
        if ttl:
            raise ValueError("it has ttl and expires_at; give one of them")
        ttl = max(_seconds("expires_at", found["expires_at"]) - time.time(), _SOON)
    return Item(key, _value(found.get("value")), ttl, ephemeral)


def _seconds(name: str, given: Any) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given < float("inf"):
        raise ValueError(f"{name} must be a number of seconds")
    return float(given)


def _value(given: Any) -> str | bytes:
    if isinstance(given, str):
        return given
    if isinstance(given, dict) and given.keys() == {"base64"} and isinstance(given["base64"], str):
        try:
            return b64decode(given["base64"], validate=True)
        except binascii.Error:
            raise ValueError("value.base64 is not base64") from None
    raise ValueError('value must be text, or {"base64": "..."} for bytes')


def _count(number: int | str) -> str:
    count = int(number)
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
