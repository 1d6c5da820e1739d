"""`gossip-grpc demo`: runs a cluster on this machine, lets it be watched, and ends it whatever happens."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from gossip_grpc.cli.base import Command, fail

if TYPE_CHECKING:
    from gossip_grpc.demo.board import Board, Step
    from gossip_grpc.demo.nodes import NodeProcesses
    from gossip_grpc.demo.services import Services
    from gossip_grpc.demo.story import Story

DISAGREED = 1

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(cls=Command)
@click.option("--nodes", type=click.IntRange(3, 20), default=5, show_default=True, help="How many nodes to run.")
@click.option(
    "--services",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="What to register, in the form of services(5).  [default: /etc/services, or a bundled list]",
)
@click.option("--seed", type=int, help="Decides who writes what, what is deleted and who is killed.  [default: random]")
@click.option("--keep", is_flag=True, help="Keep the cluster running at the end, until Ctrl-C.")
def demo(nodes: int, services: Path | None, seed: int | None, keep: bool) -> None:
    """Run a cluster on this machine and watch it.

    Starts nodes as processes of their own, registers the machine's network services at them, counts, deletes, kills
    one of them and starts it again, and checks after each step that all nodes hold the same, and the right thing.

    Exit code 0 if everything agreed, 1 with a list of what did not.

    Examples:
      gossip-grpc demo
      gossip-grpc demo --nodes 9 --keep
      gossip-grpc demo | cat
    """
    # Not before: whoever asks for help alone need not wait for gRPC.
    from gossip_grpc.demo.services import load  # noqa: PLC0415

    found = load(services)
    if not found.items:
        fail(f"{found.source}: there is no service in it; services(5) has the form", code=DISAGREED)
    chosen = random.randrange(10_000) if seed is None else seed  # noqa: S311 - no secret
    sys.exit(asyncio.run(_demo(nodes, found, chosen, keep)))


class _View(Protocol):
    def showing(self, board: Board, *, steps: bool = True) -> AbstractAsyncContextManager[None]: ...

    async def tell(self, step: Step) -> None: ...

    def summarize(self, board: Board) -> None: ...


class _Interruption:
    """What signals do: the first ends the demo, or the holding of the cluster; each later one kills the nodes at once.

    Attributes:
        number: the signal that cut the demo short.
        held: set while the cluster is only held; then the signal is the expected end.
    """

    def __init__(self, cluster: NodeProcesses) -> None:
        self.number: signal.Signals | None = None
        self.held: asyncio.Event | None = None
        self._asked = False
        self._cluster = cluster
        self._task = asyncio.current_task()

    def take(self, number: signal.Signals) -> None:
        """A signal has come."""
        if self._asked:
            self._cluster.kill_all()
        elif self.held is not None:
            self.held.set()
        elif self._task is not None:
            self.number = number
            self._task.cancel()
        self._asked = True


@contextmanager
def _signals(interruption: _Interruption) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    # A signal that whoever started us has turned off (nohup) stays off.
    taken = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, interruption.take, number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


async def _demo(nodes: int, services: Services, seed: int, keep: bool) -> int:
    """Run the demo; returns the exit code."""
    from gossip_grpc.demo.nodes import NodeProcesses  # noqa: PLC0415 - gRPC comes with it

    cluster = NodeProcesses(nodes)
    interruption = _Interruption(cluster)
    try:
        with _signals(interruption):
            async with cluster:
                return await _show(cluster, services, seed, interruption if keep else None)
    except (asyncio.CancelledError, OSError):
        # OSError: the terminal has gone, and there is nothing to write to any more.
        if interruption.number is None:
            raise
    with suppress(OSError):
        click.echo(f"{interruption.number.name}: stopped; no node is left behind", err=True)
    return 128 + interruption.number


async def _show(cluster: NodeProcesses, services: Services, seed: int, keep: _Interruption | None) -> int:
    from gossip_grpc.cli.demo_suggestions import suggestions  # noqa: PLC0415 - as above
    from gossip_grpc.demo.story import Story  # noqa: PLC0415

    view = _view(_headline(cluster, services, seed))
    story = Story(cluster, services, random.Random(seed), view.tell)  # noqa: S311 - no secret
    async with view.showing(story.board):
        await story.run()
    view.summarize(story.board)
    problems = story.board.problems()
    if problems:
        cluster.keep_logs = True
        click.echo("\n".join(f"  {line}" for problem in problems for line in problem.splitlines()))
        click.echo(f"The logs of the nodes are kept in {cluster.logs}")
    if keep:
        keep.held = asyncio.Event()
        running = {row.node: row.address for row in story.board.rows.values() if row.status is not None}
        for line in suggestions(cluster, running, story.expected):
            click.echo(line)
        await _hold(story, view, keep.held)
    return DISAGREED if problems else 0


async def _hold(story: Story, view: _View, asked: asyncio.Event) -> None:
    """Let the cluster run until somebody asks for the end, or every node has left."""
    async with view.showing(story.board, steps=False):
        tasks = [asyncio.create_task(story.watch()), asyncio.create_task(asked.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _view(headline: str) -> _View:
    """Frames on a terminal that can show them, else lines."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and encoding == "utf8":
        from gossip_grpc.cli.demo_live import LiveView  # noqa: PLC0415 - rich comes with it

        return LiveView(headline)
    from gossip_grpc.cli.demo_plain import PlainView  # noqa: PLC0415 - only one of the two is needed

    return PlainView(headline)


def _headline(cluster: NodeProcesses, services: Services, seed: int) -> str:
    skipped = [f"{services.odd} odd"] if services.odd else []
    skipped += [f"{services.repeated} repeated"] if services.repeated else []
    count = services.odd + services.repeated
    note = f" ({' and '.join(skipped)} {'line' if count == 1 else 'lines'} skipped)" if skipped else ""
    items = f"{len(services.items):,} {'service' if len(services.items) == 1 else 'services'}"
    nodes = f"{len(cluster.names)} nodes ({cluster.cluster})"
    return f"gossip-grpc demo: {nodes}, {items} of {services.source}{note}, seed {seed}"
