"""How arguments become parts of requests: only what would not become a request at all is refused here.

Rules about values and limits are the node's, which knows its configuration. Each function names the field at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from math import ceil

from gossip_grpc.client.results import Durability
from gossip_grpc.errors import InvalidArgumentError, Reason
from gossip_grpc.gen.gossip.v1 import common_pb2

MAX_SECONDS = 2**53
"""What fits a request; what a node grants is its own matter."""

_DURABILITIES: dict[str, common_pb2.Durability.ValueType] = {
    Durability.MEMORY: common_pb2.DURABILITY_MEMORY,
    Durability.DISK: common_pb2.DURABILITY_DISK,
}


def refused(field: str, problem: str) -> InvalidArgumentError:
    """The error about a field."""
    return InvalidArgumentError(f"{field} {problem}", reason=Reason.INVALID_ARGUMENT, fields={field: problem})


def text(field: str, given: object) -> str:
    """Text that a message can hold."""
    if not isinstance(given, str):
        raise refused(field, f"must be str, not {type(given).__name__}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise refused(field, "must be text that UTF-8 can encode, without lone surrogates") from error
    return given


def value(field: str, given: object) -> common_pb2.Value:
    """A value: text or bytes."""
    if isinstance(given, bytes):
        return common_pb2.Value(data=given)
    if not isinstance(given, str):
        raise refused(field, f"must be str or bytes, not {type(given).__name__}")
    return common_pb2.Value(text=text(field, given))


def elements(given: tuple[object, ...]) -> list[common_pb2.Value]:
    """Elements of a set."""
    return [value(f"elements[{index}]", element) for index, element in enumerate(given)]


def integer(field: str, given: object, bits: int) -> int:
    """A number of so many bits."""
    # True is an int to Python, but as an amount it is a mistake.
    if not isinstance(given, int) or isinstance(given, bool):
        raise refused(field, f"must be int, not {type(given).__name__}")
    if not -(2 ** (bits - 1)) <= given < 2 ** (bits - 1):
        raise refused(field, f"must be between -2^{bits - 1} and 2^{bits - 1} - 1, not {given}")
    return given


def durability(given: object) -> common_pb2.Durability.ValueType:
    """What an acknowledgement is to mean."""
    if given is None:
        return common_pb2.DURABILITY_UNSPECIFIED
    if not isinstance(given, str) or given not in _DURABILITIES:
        raise refused("durability", f"must be one of {', '.join(_DURABILITIES)}, not {given!r}")
    return _DURABILITIES[given]


def milliseconds(field: str, given: object) -> int:
    """Of seconds, or of a timedelta; at least one of what is more than nothing."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < MAX_SECONDS:
        raise refused(field, f"must be a number of seconds or a timedelta, 0 for ever, not {given!r}")
    return ceil(seconds * 1000)


def flag(field: str, given: object) -> bool:
    """True or False."""
    if not isinstance(given, bool):
        raise refused(field, f"must be True or False, not {type(given).__name__}")
    return given


def tags(given: object) -> dict[str, str]:
    """Names and texts of tags."""
    if not isinstance(given, Mapping):
        raise refused("tags", f"must be a mapping, not {type(given).__name__}")
    return {text("tags", name): text(f"tags[{name!r}]", content) for name, content in given.items()}


def page_size(given: object) -> int:
    """Items of a page; 0 leaves it to the node."""
    return integer("page_size", given, 32)


def timeout(given: object) -> float | None:
    """Seconds that a call may take; None leaves it to the client."""
    if given is None:
        return None
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < float("inf"):
        raise refused("timeout", f"must be a number of seconds above 0, not {given!r}")
    return given


def reconnect(given: object) -> float:
    """Seconds for which a stream looks for a node that goes on with it."""
    if not isinstance(given, int | float) or isinstance(given, bool) or not given >= 0:
        raise refused("reconnect", f"must be a number of seconds, 0 not to reconnect, not {given!r}")
    return given


def request_id(given: object) -> str:
    """What names an addition or an event; empty if the client is to make it."""
    return "" if given is None else text("request_id", given)
