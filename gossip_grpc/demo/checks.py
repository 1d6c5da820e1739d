"""The verdict: what each node holds, held against what was written.

Pure, so that a test can hand it every kind of failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gossip_grpc.client import Value

MAX_LINES = 5
"""Most lines about one kind of failure at one node; the rest is counted."""


@dataclass(slots=True)
class Expected:
    """What every node must hold, and what none may hold any more."""

    values: dict[str, Value] = field(default_factory=dict)
    sets: dict[str, frozenset[Value]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    counter: int = 0

    def put(self, key: str, value: Value) -> None:
        """A register was written."""
        self.values[key] = value
        self.deleted.discard(key)

    def delete(self, key: str) -> None:
        """A register was deleted."""
        del self.values[key]
        self.deleted.add(key)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one node holds.

    Attributes:
        node: its name.
        values: all registers that it lists.
        sets: all sets that it lists, with their elements.
        counter: the value of the demo's counter.
        answered: deleted keys that it still answers when it is asked for them one by one.
    """

    node: str
    values: Mapping[str, Value]
    sets: Mapping[str, frozenset[Value]]
    counter: int
    answered: frozenset[str] = frozenset()


def problems(expected: Expected, sightings: Iterable[Sighting]) -> list[str]:
    """All that is not as it should be, a line each; empty if everything is right."""
    return [line for seen in sightings for kind in _kinds(expected, seen) for line in _shortened(seen.node, kind)]


def wrong_value(key: str, expected: Value, found: Value | None) -> str | None:
    """What is wrong with a register that was read; None if nothing is."""
    if found is None:
        return f"{key} is missing, it should be {expected!r}"
    if found != expected:
        return f"{key} is {found!r}, it should be {expected!r}"
    return None


def wrong_set(key: str, expected: frozenset[Value], found: frozenset[Value]) -> str | None:
    """What is wrong with a set that was read; None if nothing is."""
    return None if found == expected else f"{key} holds {_elements(found)}, it should hold {_elements(expected)}"


def wrong_counter(expected: int, found: int) -> str | None:
    """What is wrong with the counter; None if nothing is."""
    return None if found == expected else f"the counter is {found:,}, it should be {expected:,}"


def _kinds(expected: Expected, seen: Sighting) -> Iterator[list[str]]:
    """Lists of problems, a list for each kind."""
    counter = wrong_counter(expected.counter, seen.counter)
    yield [counter] if counter else []
    wrong = (wrong_value(key, value, seen.values.get(key)) for key, value in expected.values.items())
    yield [line for line in wrong if line]
    back = seen.answered | (seen.values.keys() & expected.deleted)
    yield [f"{key} was deleted and is readable again" for key in sorted(back)]
    yield [f"{key} is there, and nobody wrote it" for key in sorted(seen.values.keys() - expected.values.keys() - back)]
    keys = sorted(expected.sets.keys() | seen.sets.keys())
    sets = (wrong_set(key, expected.sets.get(key, frozenset()), seen.sets.get(key, frozenset())) for key in keys)
    yield [line for line in sets if line]


def _elements(elements: frozenset[Value]) -> str:
    return ", ".join(sorted(map(repr, elements))) or "nothing"


def _shortened(node: str, lines: list[str]) -> Iterator[str]:
    for line in lines[:MAX_LINES]:
        yield f"{node}: {line}"
    if len(lines) > MAX_LINES:
        yield f"{node}: and {len(lines) - MAX_LINES:,} more like this"
