"""The table for people: by rich on a terminal, in plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.results import Measurement, number

_HEAD = ("benchmark", "median", "spread", "target", "met", "")


def show(found: Mapping[str, list[Measurement]], facts: Mapping[str, Any]) -> None:
    """Print one line for each measurement, by the name of its benchmark."""
    rows = [_row(name, line) for name, lines in found.items() for line in lines]
    console = Console()
    if console.is_terminal:
        table = Table(*_HEAD)
        for row in rows:
            table.add_row(*row, style={"yes": "green", "no": "red"}.get(row[4]))
        console.print(table)
    else:
        widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
        for row in (_HEAD, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


def _row(name: str, line: Measurement) -> tuple[str, ...]:
    return (
        f"{name}: {line.what}",
        f"{number(line.median)} {line.unit}".rstrip(),
        line.spread(),
        str(line.target or ""),
        {True: "yes", False: "no", None: ""}[line.met],
        line.note,
    )
