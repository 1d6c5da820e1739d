"""`gossip-grpc simulate replay`: runs a saved trace again and compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gossip_grpc import __version__
from gossip_grpc.cli.base import USAGE, Command, fail
from gossip_grpc.cli.simulate import progress

if TYPE_CHECKING:
    from gossip_grpc.sim.trace import Event

DIFFERENT = 1
"""The exit code if something went another way."""


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--trace", "traced", is_flag=True, help="Print every event while it happens.")
def replay(file: Path, traced: bool) -> None:
    """Run a saved trace again, and compare event by event.

    FILE was written by `simulate cluster --save-trace`. Its schedule and seed make the same world; the first event
    that differs is shown as it was and as it is.

    Exit code 0 if nothing differs, 1 if something does.

    Examples:
      gossip-grpc simulate cluster --scenario loss-25 --save-trace loss.trace
      gossip-grpc simulate replay loss.trace
    """
    from gossip_grpc.sim.check import watched  # noqa: PLC0415 - not needed for help
    from gossip_grpc.sim.schedule import ScheduleError  # noqa: PLC0415 - likewise
    from gossip_grpc.sim.trace import (  # noqa: PLC0415 - likewise
        Comparison,
        CutOffError,
        Difference,
        Trace,
        TraceError,
        read_header,
        readable,
    )
    from gossip_grpc.sim.world import World  # noqa: PLC0415 - likewise

    with file.open("rb") as lines:
        comparison = Comparison(lines)
        sinks: list[Callable[[Event], object]] = [comparison]
        if traced:
            sinks.insert(0, lambda event: click.echo(readable(event)))
        version = __version__
        try:
            header = read_header(lines.readline().decode(), str(file))
            version = header.version
            with progress(header.schedule.end, "replaying") as tell:
                world = World(header.schedule, header.seed, trace=Trace(*sinks))
                watched(world, tell)
            comparison.finish()
        except CutOffError as end:
            saved_by = (
                "" if version == __version__ else f"; it was saved by version {version}, and this is {__version__}"
            )
            fail(f"{file} is cut off: it ends in line {end.line}, and the replay goes on{saved_by}", code=USAGE)
        except (TraceError, ScheduleError) as error:
            fail(str(error), code=USAGE)
        except UnicodeDecodeError:
            fail(f"{file} is no trace: it is not a text in UTF-8", code=USAGE)
        except Difference as difference:
            click.echo(f"{file}, line {difference.line}: the replay goes another way")
            click.echo(f"  saved:    {difference.saved}")
            click.echo(f"  replayed: {difference.replayed or '(nothing more happens)'}")
            if version != __version__:
                click.echo(f"It was saved by version {version}; this is {__version__}.")
            raise click.exceptions.Exit(DIFFERENT) from None
    click.echo(f"{comparison.events:,} events, all as saved")
