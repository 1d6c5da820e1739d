"""Reads a TOML file, and says where it is wrong if it is. What the keys mean is not known here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from gossip_grpc.errors import ConfigError

_ADVICE = "correct it or name another file"


def read(path: str) -> dict[str, Any]:
    """The file's keys and values.

    Raises:
        ConfigError: it cannot be read or is not TOML; one line with file, line and column.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the byte at {error.start} is not UTF-8, allowed is UTF-8; {_ADVICE}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: cannot be read ({reason}), allowed is a TOML file; name another file") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply, allowed is a table of settings; {_ADVICE}") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is what a number of too many digits raises
        what, position = _position(str(error), text)
        raise ConfigError(f"{path}{position}: is not TOML ({what}), allowed is TOML 1.0; {_ADVICE}") from None


def _position(message: str, text: str) -> tuple[str, str]:
    """What tomllib's message says, and the line and column it names, from 1; empty if it names none."""
    what, found, _ = message.partition(" (at end of document)")
    if found:
        return what, f", line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"
    if named := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        return message[: named.start()], f", line {named[1]}, column {named[2]}"
    return message, ""
