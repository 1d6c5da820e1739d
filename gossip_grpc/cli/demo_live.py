"""The demo on a terminal: steps with ticks above a table of the nodes, redrawn while it happens.

Green is what agrees with most nodes, yellow what does not (yet), red what is down or wrong. Nothing is said by colour
alone. Imports rich, so import this module only when there is a terminal to draw on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gossip_grpc.demo.agreement import State
from gossip_grpc.demo.board import Board, Life, Progress, Row, Step, duration

FRAME = 0.1
"""Seconds between two frames."""

HOLD = 0.5
"""Seconds that the end of a step stays before the next one begins, so that it can be read."""

WIDE = 100
"""Columns of a terminal from which on there is room for everything."""

_MARKS = {Progress.WAITING: ("·", "dim"), Progress.DONE: ("✓", "bold green"), Progress.FAILED: ("✗", "bold red")}
_LIVES = {
    Life.STARTING: "yellow",
    Life.UP: "green",
    Life.CATCHING_UP: "yellow",
    Life.KILLED: "bold red",
    Life.ENDED: "bold red",
}


class LiveView:
    """Frames for people."""

    def __init__(self, headline: str, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._headline = headline
        self._spinner = Spinner("dots", style="cyan")

    @asynccontextmanager
    async def showing(self, board: Board, *, steps: bool = True) -> AsyncIterator[None]:
        """Draw the board until the end of the block; the last frame stays."""
        with Live(console=self._console, auto_refresh=False) as live:
            painter = asyncio.create_task(self._paint(live, board, steps))
            try:
                yield
            finally:
                painter.cancel()
                await asyncio.gather(painter, return_exceptions=True)
                live.update(self._frame(board, steps, whole=True), refresh=True)

    async def tell(self, step: Step) -> None:  # noqa: ARG002 - the frame shows it
        """Let the end of a step be seen."""
        await asyncio.sleep(HOLD)

    def summarize(self, board: Board) -> None:
        """Times to agreement, totals, verdict."""
        steps = board.timed()
        times = _table()
        times.add_column("agreed after")
        for step in steps:
            times.add_column(step.name, justify="right")
        for node in board.rows:
            cells = (duration(step.agreed[node]) if node in step.agreed else "-" for step in steps)
            times.add_row(node, *cells)
        totals = Table.grid(padding=(0, 2))
        for name, text in board.totals().items():
            totals.add_row(Text(name, style="dim"), text)
        problems = board.problems()
        mark, style = _MARKS[Progress.FAILED if problems else Progress.DONE]
        self._console.print()
        self._console.print(times)
        self._console.print()
        self._console.print(totals)
        self._console.print()
        self._console.print(Text(f"{mark} {board.verdict()}", style=style))

    async def _paint(self, live: Live, board: Board, steps: bool) -> None:
        while True:
            live.update(self._frame(board, steps), refresh=True)
            await asyncio.sleep(FRAME)

    def _frame(self, board: Board, steps: bool, *, whole: bool = False) -> RenderableType:
        parts: list[RenderableType] = []
        if steps:
            parts += [Text(self._headline, style="bold"), "", self._steps(board), ""]
        above = len(board.steps) + 4 + len(self._headline) // self._console.width if steps else 0
        room = len(board.rows) if whole else max(3, self._console.height - above - 3)
        current = [step for step in board.steps if step.progress is not Progress.WAITING][-1:] if steps else []
        parts.append(self._nodes(board, current, room))
        return Group(*parts)

    def _steps(self, board: Board) -> Table:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=1)
        grid.add_column(no_wrap=True)
        # Wide enough for all that comes, so that nothing moves.
        grid.add_column(min_width=min(45, self._console.width - 36))
        grid.add_column(justify="right", no_wrap=True, min_width=6)
        for step in board.steps:
            if step.progress is Progress.RUNNING:
                grid.add_row(self._spinner, Text(step.title, style="bold"), _progress(step), "")
                continue
            mark, style = _MARKS[step.progress]
            title = Text(step.title, style="dim" if step.progress is Progress.WAITING else "")
            took = duration(step.seconds) if step.seconds else ""
            grid.add_row(
                Text(mark, style=style),
                title,
                Text(step.outcome, style="red" if step.problems else ""),
                Text(took, style="dim"),
            )
        return grid

    def _nodes(self, board: Board, current: list[Step], room: int) -> Table:
        wide = self._console.width >= WIDE
        table = _table()
        table.add_column("node")
        table.add_column("status", min_width=13)
        if wide:
            table.add_column("client address", min_width=15)
        table.add_column("records", justify="right")
        table.add_column("fingerprint", min_width=16 if wide else 8)
        table.add_column("counter", justify="right")
        table.add_column("last round", min_width=13)
        table.add_column("agreed", justify="right", min_width=8)
        leading = board.leading()
        rows = list(board.rows.values())
        shown = rows if len(rows) <= room else rows[: room - 1]
        agreed = current[0].agreed if current else {}
        for row in shown:
            table.add_row(*_cells(row, leading, agreed, wide=wide))
        if len(shown) < len(rows):
            table.add_row("...", Text(f"{len(rows) - len(shown)} more", style="dim"))
        return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")


def _progress(step: Step) -> RenderableType:
    if step.detail or not step.total:
        return Text(step.detail, style="yellow")
    bar = Table.grid(padding=(0, 1, 0, 0))
    bar.add_row(ProgressBar(step.total, step.done, width=20), Text(f"{step.done:,} of {step.total:,}", style="dim"))
    return bar


def _cells(row: Row, leading: State | None, agreed: Mapping[str, float], *, wide: bool) -> list[Text]:
    status = row.status
    agrees = status is not None and State.of(status) == leading
    style = "green" if agrees else "yellow"
    address = [Text(row.address, style="dim")] if wide else []
    life = Text(f"● {row.life}", style=_LIVES[row.life])
    if status is None:
        return [Text(row.node, style="bold"), life, *address, *(Text("-", style="dim") for _ in range(5))]
    last = "none yet"
    if status.last_round_age_seconds is not None:
        last = f"{status.last_round_age_seconds:.1f} s, {status.last_round_peer}"
    since = duration(agreed[row.node]) if row.node in agreed else "yes"
    return [
        Text(row.node, style="bold"),
        life,
        *address,
        Text(f"{status.records:,}", style=style),
        Text(status.fingerprint if wide else status.fingerprint[:8], style=style),
        Text(f"{row.counter:,}", style=style),
        Text(last, style="dim"),
        Text(since if agrees else "...", style=style),
    ]
