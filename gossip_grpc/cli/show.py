"""How results are shown: JSON for programs, tables for people.

On a terminal a table fits its width. Into a pipe it is plain columns under a header: nothing is cut off or coloured,
an empty cell is `-`, and long listings flow while they are read. Either way a cell is one line without control
characters, whatever somebody has stored; bytes are shown in base64.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Literal

import click

_MEASURED = 1000
"""Rows that the widths of plain columns are measured from; the rest flows."""

_WIDE = 30
"""Columns up to this width are not narrowed for the last one."""

STYLES = {"alive": "green", "unreachable": "yellow", "suspect": "yellow", "dead": "red", "left": "dim"}
"""Cells that are words of a status stand out."""


def as_json(document: object) -> None:
    """Prints a document."""
    click.echo(json.dumps(document, indent=2))


def as_json_array(items: Iterable[object]) -> None:
    """Prints an array, one item a line, while the items come."""
    separator = "["
    for item in items:
        click.echo(f"{separator}\n  {json.dumps(item)}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def as_it_is(content: bytes) -> None:
    """Prints bytes, all of them: with PYTHONUNBUFFERED a single write may take only some, and not complain."""
    stream = sys.stdout.buffer
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


def value_as_json(value: str | bytes) -> object:
    """Text as it is, bytes as an object that names the encoding."""
    return value if isinstance(value, str) else {"base64": b64encode(value).decode()}


def cell(value: str | bytes) -> str:
    """A value as one printable line."""
    if isinstance(value, bytes):
        return f"base64:{b64encode(value).decode()}"
    if value.isprintable():
        return value
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in value)


def pairs(rows: Mapping[str, str]) -> None:
    """Prints names and what they stand for."""
    width = max(map(len, rows))
    for name, text in rows.items():
        click.echo(f"{name:{width}}  {text}")


def duration(seconds: float) -> str:
    """The two greatest units that matter, such as `3 h 12 min`; below a minute seconds with a tenth."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), cut: bool = False
) -> None:
    """Prints a table.

    Args:
        columns: their names.
        rows: a printable cell for each of them; empty for nothing.
        right: the names of the columns that are aligned to the right.
        cut: whether the last column may be cut off on a terminal, rather than take several lines.
    """
    if sys.stdout.isatty():
        _for_people(columns, rows, right, cut)
    else:
        _plain(columns, rows, right)


def _plain(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str]) -> None:
    every: Iterator[Sequence[str]] = ([text or "-" for text in row] for row in rows)
    measured = [[name.upper() for name in columns], *islice(every, _MEASURED)]
    widths = [max(map(len, column)) for column in zip(*measured, strict=True)]
    for row in chain(measured, every):
        padded = (
            text.rjust(width) if name in right else text.ljust(width)
            for name, text, width in zip(columns, row, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _for_people(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str], cut: bool) -> None:
    from rich import box  # noqa: PLC0415 - heavy, and of no use to whoever pipes
    from rich.cells import cell_len  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    listed = list(rows)
    if not listed:
        click.echo("(none)")
        return
    console = Console()
    view = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    filled = [index for index, _ in enumerate(columns) if any(row[index] for row in listed)]
    *others, last = filled
    left = console.width - 1  # older rich pads the last column too
    for index in others:
        view.add_column(columns[index], justify=_side(columns[index], right), overflow="fold")
        widest = max(cell_len(columns[index]), *(cell_len(row[index]) for row in listed))
        left -= min(widest, _WIDE) + 2
    # The last column gives way to the others.
    view.add_column(
        columns[last],
        justify=_side(columns[last], right),
        max_width=max(left, cell_len(columns[last])),
        no_wrap=cut,
        overflow="ellipsis" if cut else "fold",
    )
    for row in listed:
        view.add_row(*(Text(row[index], style=STYLES.get(row[index], "")) for index in filled))
    console.print(view)


def _side(name: str, right: Sequence[str]) -> Literal["left", "right"]:
    return "right" if name in right else "left"
