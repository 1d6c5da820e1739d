"""The log: one event, one line on stderr, JSON for machines or plain text for people.

What is logged may come from a peer, so nothing in it is trusted: values are turned into text that cannot raise, are
clipped, and cannot end the line or steer a terminal. The standard library's logging (grpc, asyncio) takes the same
way. The C core of grpc writes to stderr by itself and is not reached from here.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

if TYPE_CHECKING:
    from gossip_grpc.config import LogFormat, LogLevel

MAX_TEXT = 500
"""Most characters of one value."""

MAX_TRACEBACK = 8000
"""Most characters of a traceback; its end, which names the error, is kept."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31;1m"}
_RESET = "\x1b[0m"

Plain = str | int | float | bool | None
"""What both forms can show."""


def configure(format: LogFormat, level: LogLevel) -> None:  # noqa: A002 - the word that users know from log_format
    """Set up the log of the process; may be called again.

    Loggers in use keep the level they have, so configure before the first event.

    Args:
        format: auto is console if stderr is a terminal, else json.
        level: the least important events that are logged, those of the standard library included.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()  # pythonw and some daemons have no stderr
    if format == "json" or (format == "auto" and not terminal):
        _Line.render = staticmethod(_json)
    else:
        _Line.render = staticmethod(_coloured if terminal and not os.environ.get("NO_COLOR") else _console)
    structlog.configure(
        processors=[structlog.processors.add_log_level, _to_line],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
        logger_factory=_Line,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler())
    root.setLevel(_LEVELS[level])


def get_logger(**bound: object) -> FilteringBoundLogger:
    """A logger whose events all carry what is bound, such as `node_id`.

    In a process whose log nobody has set up (a node embedded in a program) events go to the standard library's logger
    `gossip_grpc`, as text, and are up to the program. So `configure` first.
    """
    if structlog.is_configured():
        return cast("FilteringBoundLogger", structlog.get_logger(**bound).bind())
    return cast(
        "FilteringBoundLogger",
        structlog.wrap_logger(
            logging.getLogger("gossip_grpc"),
            processors=[structlog.stdlib.filter_by_level, _to_message],
            wrapper_class=structlog.stdlib.BoundLogger,
        ).bind(**bound),
    )


class _Line:
    """Takes finished lines; what structlog calls a logger."""

    render: Callable[[Mapping[str, Plain]], str]

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        """Write one line in one piece. A log that nobody can take must not stop the node."""
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):  # there is none, its reader has gone, it is closed
            return

    debug = info = warning = error = critical = exception = fatal = log = msg


class _Handler(logging.Handler):
    """Takes the events of the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the text raise what they like
            text = f"{_plain(record.msg)} {_plain(record.args)}"
        event = {"level": record.levelname.lower(), "event": text, "logger": record.name, "exc_info": record.exc_info}
        when = datetime.fromtimestamp(record.created, UTC)
        _Line().msg(_Line.render(_plain_event(event, when)))


def _to_line(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """The last processor of structlog."""
    return _Line.render(_plain_event(event, datetime.now(UTC)))


def _to_message(_: object, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """The last processor for the standard library's logger, which adds time and level itself."""
    exc_info = event.pop("exc_info", None)
    text = _text(_plain_event(event, datetime.now(UTC)))
    return (text,), {"exc_info": exc_info}


def _plain_event(event: MutableMapping[str, Any], when: datetime) -> dict[str, Plain]:
    """The event in order: timestamp, level, event, and then all else as it came."""
    result: dict[str, Plain] = {
        "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": event.pop("level", ""),
        "event": _plain(event.pop("event", "")),
    }
    error = event.pop("exc_info", None)
    for name, value in event.items():
        # A field cannot pose as one of the line's own.
        key = _clip(name)
        result[f"{key}_" if key in result else key] = _plain(value)
    if error and (text := _traceback(error)):
        result["exception"] = text
    return result


def _plain(value: object) -> Plain:
    """The value, or a text for it, of bounded length."""
    kind = type(value)
    if value is None or kind is bool:
        return cast("Plain", value)
    if kind is str:
        return _clip(cast("str", value))
    if kind is int:
        number = cast("int", value)
        return number if number.bit_length() <= 64 else _clip(hex(number))
    if kind is float:
        return cast("float", value) if math.isfinite(cast("float", value)) else str(value)
    try:
        if isinstance(value, bytes | bytearray):
            return _clip(repr(bytes(value[:MAX_TEXT])))
        return _clip(f"{kind.__name__}: {value}" if isinstance(value, BaseException) else str(value))
    except Exception:  # noqa: BLE001 - a value that cannot be shown raises what it likes
        return f"<{kind.__name__}>"


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _traceback(error: object) -> str:
    """What `exc_info` stands for: an exception, a triple, or anything true for the exception being handled."""
    if isinstance(error, tuple) and len(error) == 3:
        error = error[1]
    elif not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return ""
    text = "".join(traceback.format_exception(error)).rstrip()
    return text if len(text) <= MAX_TRACEBACK else f"...{text[-MAX_TRACEBACK:]}"


def _json(event: Mapping[str, Plain]) -> str:
    """The event as JSON, in ASCII, which has no line breaks nor control characters."""
    return json.dumps(event)


def _console(event: Mapping[str, Plain]) -> str:
    """The event as text: what is not plain is quoted or escaped, so that no value looks like another field."""
    timestamp, level, *_ = (str(value) for value in event.values())
    return f"{timestamp} {level:<8} {_text(event)}"


def _text(event: Mapping[str, Plain]) -> str:
    """The event's name and its fields."""
    text = str(event["event"])
    fields = "".join(f" {_word(name)}={_word(value)}" for name, value in list(event.items())[3:])
    return f"{_word(text) if '=' in text else _escaped(text)}{fields}"


def _coloured(event: Mapping[str, Plain]) -> str:
    line = _console(event)
    colour = _COLOURS.get(str(event["level"]))
    return f"{colour}{line}{_RESET}" if colour else line


def _word(value: Plain) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if text.isprintable() and text and not any(mark in text for mark in ' "='):
        return text
    inner = _escaped(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{inner}"'


def _escaped(text: str) -> str:
    """The text without control characters, line breaks and marks that turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
