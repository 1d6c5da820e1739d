"""The demo without a terminal: a line for each step as it ends, and a table at the end. No colours, no redrawing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from gossip_grpc.cli import show
from gossip_grpc.demo.board import Board, Step, duration


class PlainView:
    """Lines for logs and pipes."""

    def __init__(self, headline: str) -> None:
        click.echo(headline)

    @asynccontextmanager
    async def showing(self, board: Board, *, steps: bool = True) -> AsyncIterator[None]:  # noqa: ARG002 - as LiveView
        """Nothing to prepare: lines come as steps end."""
        yield

    async def tell(self, step: Step) -> None:
        """One line: what was done, what came of it, and when each node agreed."""
        line = f"{step.progress:7} {step.title}"
        line += f": {step.outcome}" if step.outcome else ""
        line += f" ({duration(step.seconds)})"
        if step.agreed:
            line += f"; agreed after: {', '.join(f'{node} {duration(at)}' for node, at in step.agreed.items())}"
        click.echo(line)

    def summarize(self, board: Board) -> None:
        """The table of the nodes, the totals, the verdict."""
        steps = board.timed()
        rows = (
            (
                row.node,
                row.life,
                f"{row.status.records:,}" if row.status else "",
                row.status.fingerprint if row.status else "",
                f"{row.counter:,}",
                *(duration(step.agreed[row.node]) if row.node in step.agreed else "" for step in steps),
            )
            for row in board.rows.values()
        )
        names = [step.name for step in steps]
        click.echo()
        show.table(
            ["node", "status", "records", "fingerprint", "counter", *names], rows, right=["records", "counter", *names]
        )
        click.echo()
        click.echo(", ".join(f"{name} {text}" for name, text in board.totals().items()))
        click.echo(board.verdict())
