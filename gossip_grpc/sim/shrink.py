"""Shrinking: from a schedule that fails to a short one that fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002) over
the timed lines, then over the cluster's size and its settings, again and again until nothing more can be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from gossip_grpc.sim.check import run

MAX_RUNS = 2_000
"""Runs after which the best so far has to do."""

_HEAD = ("cluster ", "network ")


def shrink(text: str, seed: int, kinds: set[str], progress: Callable[[int, int], None] | None = None) -> str:
    """The shortest schedule found in which one of the same checks finds something.

    Args:
        text: a schedule that fails.
        seed: the seed it fails with.
        kinds: names of the checks; see `Outcome.kinds`.
        progress: called with the number of runs so far and that of timed lines left in the shortest so far.
    """
    return _Shrinker(seed, kinds, progress).shrink(text)


def timed_lines(lines: Iterable[str]) -> int:
    """How many of the lines say what happens at some time."""
    return sum(line.startswith(("at ", "every ")) for line in lines)


class _Shrinker:
    def __init__(self, seed: int, kinds: set[str], progress: Callable[[int, int], None] | None) -> None:
        self._seed = seed
        self._kinds = kinds
        self._progress = progress
        self._runs = 0
        self._left = 0

    def shrink(self, text: str) -> str:
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self._left = timed_lines(lines)
        while True:
            before = list(lines)
            lines = self._fewer_lines(lines)
            lines = self._simpler_lines(lines)
            if lines == before or self._runs >= MAX_RUNS:
                return "\n".join(lines) + "\n"

    def _fails(self, lines: list[str]) -> bool:
        if self._runs >= MAX_RUNS:
            return False
        self._runs += 1
        if self._progress is not None:
            self._progress(self._runs, self._left)
        try:
            outcome = run("\n".join(lines) + "\n", self._seed)
        except ValueError:  # a line speaks of a node that is not there any more
            return False
        if not outcome.kinds & self._kinds:
            return False
        self._left = timed_lines(lines)
        return True

    def _fewer_lines(self, lines: list[str]) -> list[str]:
        """Leave out half of the timed lines, a quarter, ... one."""
        size = len(lines)
        while size >= 1:
            start = 0
            while start < len(lines):
                part = lines[start : start + size]
                before, after = lines[:start], lines[start + size :]
                rest = [*before, *(line for line in part if _needed(line, before, after)), *after]
                if len(rest) < len(lines) and self._fails(rest):
                    lines = rest
                else:
                    start += size
            size //= 2
        return lines

    def _simpler_lines(self, lines: list[str]) -> list[str]:
        """Leave out settings one by one, and the nodes that nothing is said of."""
        for index, line in enumerate(lines):
            for simpler in _simpler(line):
                changed = [*lines[:index], simpler, *lines[index + 1 :]]
                if self._fails(changed):
                    lines = changed
                    break
        return lines


_MENDED_BY = {
    r"heal$": r"(cut|link) ",
    r"resume (\w+)$": r"pause {0}$",
    r"(?:restart|restore) (\w+)( unmarked)?$": r"crash {0}( disk)?$",
    r"slow (\w+) 0ms$": r"slow {0} (?!0ms)",
    r"link (\w+) loss=0%$": r"link {0} loss=(?!0%)",
}
"""Lines that mend, and what they mend. Left out alone, a fault would last, and that would be all that fails."""


def _needed(line: str, before: list[str], after: list[str]) -> bool:
    """Whether a line must not be left out while others before and after it are there."""
    if not line.startswith("at "):
        return line.startswith(("cluster ", "end "))
    verb = _what(line)
    if verb.startswith("agree "):
        return True
    for mending, fault in _MENDED_BY.items():
        if found := re.match(mending, verb):
            lasts = any(re.match(fault.format(*found.groups()), _what(other)) for other in before)
            return lasts and all(_what(other) != verb for other in after)
    return False


def _what(line: str) -> str:
    """What happens, without the time."""
    return line.split(maxsplit=2)[-1] if line.startswith("at ") else ""


def _simpler(line: str) -> Iterator[str]:
    """Simpler forms of a line, the simplest first."""
    if not line.startswith(_HEAD):
        return
    if found := re.match(r"cluster (?:[A-Z] )?(\d+)", line):
        count = int(found.group(1))
        for smaller in range(2, count):
            yield line[: found.start(1)] + str(smaller) + line[found.end(1) :]
    settings = [word for word in line.split() if "=" in word]
    for setting in settings:
        rest = line.replace(f" {setting}", "", 1)
        if "=" in rest or line.startswith("cluster "):
            yield rest
