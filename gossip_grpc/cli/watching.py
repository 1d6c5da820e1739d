"""What `watch` of kv, counter and set, and `event subscribe`, have in common.

A line an event for people, an object a line for programs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import not_empty
from gossip_grpc.errors import GossipError

if TYPE_CHECKING:
    from gossip_grpc.client import Dot

_LONGEST = 60
"""Letters of a value on a terminal."""

_COLORS = {
    "put": "green",
    "added": "green",
    "event": "green",
    "shown": "green",
    "changed": "green",
    "deleted": "red",
    "removed": "red",
    "expired": "yellow",
    "hidden": "yellow",
    "reset": "yellow",
}

F = TypeVar("F", bound=Callable[..., Any])


class _Event(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def dot(self) -> Dot | None: ...
    @property
    def clock(self) -> int: ...
    @property
    def cause(self) -> str: ...
    @property
    def token(self) -> str: ...


E = TypeVar("E", bound=_Event)


def resume_option(function: F) -> F:
    """Adds `--resume`."""
    return click.option(
        "--resume", metavar="TOKEN", default="", callback=not_empty, help="Go on after the event with this token."
    )(function)


def watch_options(function: F) -> F:
    """Adds PREFIX and `--resume`."""
    return click.argument("prefix", default="")(resume_option(function))


def follow(
    events: Iterable[E], *, as_json: bool, about: Callable[[E], str], facts: Callable[[E], dict[str, object]]
) -> None:
    """Prints events until they end.

    Args:
        events: what a client's watch gives.
        as_json: for programs.
        about: what has become of what, in words.
        facts: the same for programs.
    """
    token = ""
    try:
        for event in events:
            token = event.token
            if as_json:
                click.echo(json.dumps({"kind": event.kind, **facts(event), **_rest(event)}))
            else:
                click.echo(_line(event, about(event)))
    except GossipError as error:
        if not token:
            raise
        raise type(error)(f"{error} (to go on from there: --resume {token})", reason=error.reason) from error


def _line(event: _Event, about: str) -> str:
    word = click.style(f"{event.kind:8}", fg=_COLORS.get(event.kind))
    by = "" if event.dot is None else click.style(f"  ({event.dot.origin}, clock {event.clock})", dim=True)
    return f"{datetime.now().astimezone():%H:%M:%S}  {word}  {event.cause or about}{by}"


def value(given: str | bytes) -> str:
    """A value within a line; on a terminal a long one is cut off."""
    text = show.cell(given) if isinstance(given, bytes) else show.cell(json.dumps(given, ensure_ascii=False))
    return f"{text[: _LONGEST - 1]}…" if len(text) > _LONGEST and sys.stdout.isatty() else text


def _rest(event: _Event) -> dict[str, object]:
    dot = event.dot
    return {
        "clock": event.clock,
        "dot": None if dot is None else {"origin": str(dot.origin), "sequence": dot.sequence},
        "cause": event.cause,
        "token": event.token,
    }
