"""What a benchmark hands in: what was measured, how often, and what it ought to be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the median."""

    bound: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {number(self.bound)}"


@dataclass(slots=True)
class Measurement:
    """One line of the table. `details` is what stands beside it in the JSON, and in `note` for people."""

    what: str
    unit: str
    values: Sequence[float]
    target: Target | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """None if there is no target."""
        return self.target.met(self.median) if self.target else None

    def spread(self) -> str:
        """From the lowest to the highest value; of many values, the middle 80 %."""
        values = sorted(self.values)
        if len(values) == 1:
            return ""
        if len(values) >= 20:
            deciles = statistics.quantiles(values, n=10)
            return f"p10 {number(deciles[0])}, p90 {number(deciles[-1])}, max {number(values[-1])}"
        return f"{number(values[0])} to {number(values[-1])}, {len(values)} runs"

    def as_json(self) -> dict[str, Any]:
        target = {"bound": self.target.bound, "at_least": self.target.at_least} if self.target else None
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "target": target,
            "met": self.met,
            "note": self.note,
            "details": self.details,
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark by name; `run` is told how often to measure."""

    name: str
    summary: str
    run: Callable[[int], list[Measurement]]


def at_least(bound: float) -> Target:
    return Target(bound, at_least=True)


def at_most(bound: float) -> Target:
    return Target(bound, at_least=False)


def number(value: float) -> str:
    """About three digits."""
    size = abs(value)
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
