"""The command line. Commands are modules that are imported when they are asked for, so that start-up stays quick."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

PROGRAM = "gossip-grpc"
INTERRUPTED = 128 + 2
"""The exit code that shells give to a process ended by SIGINT."""


def _stand_in() -> None:
    """Stands in for streams that are closed, of which Python makes None: output fails as on a full disk, errors do not.

    Else a command would break where it looks whether it writes to a terminal, or lose its output without a word.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def main() -> None:
    """Runs the command line and exits."""
    try:
        _stand_in()
        # A character that the terminal cannot show is no reason to fail.
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        # Not before: whoever presses Ctrl-C while Python still imports deserves no traceback either.
        from gossip_grpc.cli.root import root  # noqa: PLC0415

        root.main(prog_name=PROGRAM)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
