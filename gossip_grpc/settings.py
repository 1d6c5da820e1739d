"""What a value of the configuration may be: one rule a kind of value.

A rule knows nothing of the setting it is for, nor where a value came from. It has two doors: `check` takes a value
that already has a type (TOML, keyword arguments) and is strict about it; `parse` takes text (environment, command
line). Both give back the value as `Config` keeps it, or raise ValueError with a clause that says what is wrong, empty
if `allowed` says it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gossip_grpc import addresses


class Rule(Protocol):
    """What a value may be."""

    @property
    def allowed(self) -> str:
        """What is allowed, to be put behind "allowed is"."""
        ...

    def check(self, value: object) -> object:
        """The value as it is kept. Raises ValueError if it is not allowed or not of the type."""
        ...

    def parse(self, text: str) -> object:
        """The value that the text means. Raises ValueError as `check` does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of one setting; the `setting` in its field's metadata.

    Attributes:
        rule: what its value may be.
        help: one sentence: what it is.
        trade_off: what goes wrong if it is too low or too high, or is chosen badly.
        flag: its flag of `gossip-grpc node`; empty if it has none.
        default: how its default reads, if that is not the value itself.
    """

    rule: Rule
    help: str
    trade_off: str
    flag: str = ""
    default: str = ""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A finite number within bounds, both allowed. Integers serve as floats, booleans as neither."""

    kind: type[int] | type[float]
    low: float
    high: float
    unit: str = ""

    @property
    def allowed(self) -> str:
        """What is allowed."""
        article = "an integer" if self.kind is int else "a number"
        return f"{article} from {self.low:,} to {self.high:,}{self.unit and ' ' + self.unit}"

    def check(self, value: object) -> object:
        """Refuse other types, and what is out of bounds; NaN is never within."""
        if type(value) is not int and type(value) is not self.kind:
            raise ValueError(f"its type is {type(value).__name__}")
        # Compared before it is converted: an integer may be too big for a float.
        if not self.low <= value <= self.high:
            raise ValueError
        return self.kind(value)

    def parse(self, text: str) -> object:
        """Read a decimal number."""
        if not text.isascii():
            raise ValueError
        try:
            number = self.kind(text)
        except ValueError:
            raise ValueError from None
        return self.check(number)


@dataclass(frozen=True, kw_only=True)
class Text:
    """Text of a form."""

    accepts: Callable[[str], bool]
    allowed: str

    def check(self, value: object) -> object:
        """Refuse other types and what does not match."""
        text = _string(value)
        # `isprintable` keeps out control characters, and with them the lone surrogates that no message can carry.
        if not text.isprintable() or not self.accepts(text):
            raise ValueError
        return text

    def parse(self, text: str) -> object:
        """The text itself."""
        return self.check(text)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some words, kept as a member of the enumeration if there is one."""

    words: tuple[str, ...]
    enum: type[StrEnum] | None = None

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return f"one of {', '.join(self.words)}"

    def check(self, value: object) -> object:
        """Refuse any other word."""
        text = _string(value)
        if text not in self.words:
            raise ValueError
        return self.enum(text) if self.enum else text

    def parse(self, text: str) -> object:
        """The word itself."""
        return self.check(text)


@dataclass(frozen=True, kw_only=True)
class AddressText:
    """HOST:PORT, kept as it was written."""

    empty: bool = False
    wildcard: bool = False
    port_zero: bool = False

    @property
    def allowed(self) -> str:
        """What is allowed."""
        port = "0 to 65535" if self.port_zero else "1 to 65535"
        host = "" if self.wildcard else " that can be called"
        return f"{'empty or ' if self.empty else ''}HOST:PORT with a host{host} and a port from {port}"

    def check(self, value: object) -> object:
        """Refuse what is not an address, or not one that serves here."""
        text = _string(value)
        if self.empty and not text:
            return text
        address = addresses.parse(text)
        if address.is_wildcard and not self.wildcard:
            raise ValueError(f"nobody can call {address.host}, it stands for all interfaces")
        if not address.port and not self.port_zero:
            raise ValueError("nobody can call port 0")
        return text

    def parse(self, text: str) -> object:
        """The text itself."""
        return self.check(text)


@dataclass(frozen=True)
class AddressList:
    """Any number of addresses that can be called."""

    allowed: str = "HOST:PORT, any number of them, each with a host that can be called and a port from 1 to 65535"

    def check(self, value: object) -> object:
        """Refuse a list with anything but addresses in it."""
        if not isinstance(value, list | tuple):
            raise ValueError(f"its type is {type(value).__name__}")
        one = AddressText()
        result: dict[str, None] = {}
        for item in value:
            try:
                result[_string(one.check(item))] = None
            except ValueError as error:
                raise ValueError(f"{shown(item)}: {error}") from None
        return tuple(result)

    def parse(self, text: str) -> object:
        """Read addresses set apart by commas; spaces around them do not count."""
        return self.check([item.strip() for item in text.split(",") if item.strip()])


@dataclass(frozen=True)
class Tags:
    """Names with values."""

    allowed: str = "tags of the form NAME=VALUE, each name once, not empty and without =, all characters printable"

    def check(self, value: object) -> object:
        """Refuse a mapping with anything but printable text in it."""
        if not isinstance(value, Mapping):
            raise ValueError(f"its type is {type(value).__name__}")
        for name, content in value.items():
            for text in (name, content):
                if not isinstance(text, str) or not text.isprintable():
                    raise ValueError(f"{shown(text)} is not printable text")
            if not name or "=" in name:
                raise ValueError(f"{shown(name)} is not a name")
        return dict(value)

    def parse(self, text: str) -> object:
        """Read tags set apart by commas, which values therefore cannot hold; spaces around them do not count."""
        return self.parse_each(item.strip() for item in text.split(",") if item.strip())

    def parse_each(self, items: Iterable[str]) -> object:
        """Read tags one by one."""
        tags: dict[str, str] = {}
        for item in items:
            name, sign, content = item.partition("=")
            if not sign:
                raise ValueError(f"{shown(item)} has no =")
            if name in tags:
                raise ValueError(f"{shown(name)} is given twice")
            tags[name] = content
        return self.check(tags)


def shown(value: object) -> str:
    """The value for a message: on one line, and clipped if it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python is willing to print
        text = f"{type(value).__name__} of too many digits to show"
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text):,} characters)"


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its type is {type(value).__name__}")
    return value
