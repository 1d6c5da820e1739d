"""The command line. Commands are modules that are imported when they are asked for, so that start-up stays quick."""

from __future__ import annotations

import sys
from io import TextIOWrapper

PROGRAM = "gossip-grpc"
INTERRUPTED = 128 + 2
"""The exit code that shells give to a process ended by SIGINT."""


def main() -> None:
    """Runs the command line and exits."""
    try:
        # A character that the terminal cannot show is no reason to fail.
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        # Not before: whoever presses Ctrl-C while Python still imports deserves no traceback either.
        from gossip_grpc.cli.root import root  # noqa: PLC0415

        root.main(prog_name=PROGRAM)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
