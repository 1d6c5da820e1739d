"""When nodes agree: equal fingerprint and equal coverage, and how long each of them took to get there.

Pure: it is handed what was seen and when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gossip_grpc.client import Origin, Status

Ranges: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class State:
    """What must be equal on nodes that agree."""

    fingerprint: str
    coverage: frozenset[tuple[Origin, int]]
    above: frozenset[tuple[Origin, Ranges]]
    members: int

    @classmethod
    def of(cls, status: Status) -> State:
        """The state that a node has told of itself."""
        return cls(
            status.fingerprint,
            frozenset(status.coverage.items()),
            frozenset(status.coverage_above.items()),
            status.members,
        )


def leading(states: Collection[State]) -> State | None:
    """The state that more than half of several nodes share, if there is one."""
    state, count = next(iter(Counter(states).most_common(1)), (None, 0))
    return state if count > max(1, len(states) // 2) else None


class Agreement:
    """Watches nodes until all of them tell the same state.

    Args:
        nodes: who has to agree.
        members: how many members each of them has to know.
    """

    def __init__(self, nodes: Iterable[str], members: int) -> None:
        self.nodes = tuple(nodes)
        self.members = members
        self._since: dict[str, tuple[State, float]] = {}
        self._latest: Mapping[str, State] = {}

    def observe(self, states: Mapping[str, State], at: float) -> bool:
        """Take one look at all nodes, `at` seconds after the last write; true if they agree."""
        for node, state in states.items():
            if node not in self._since or self._since[node][0] != state:
                self._since[node] = (state, at)
        self._latest = states
        return not self.problems()

    def times(self) -> dict[str, float]:
        """Once they agree: how long each node took, which is when it was first seen in the state of all."""
        return {node: self._since[node][1] for node in self.nodes}

    def problems(self) -> list[str]:
        """Who does not agree, at the latest look."""
        silent = [node for node in self.nodes if node not in self._latest]
        told = {node: self._latest[node] for node in self.nodes if node not in silent}
        problems = [f"{node} does not answer" for node in silent]
        if not told:
            return problems
        common = Counter(told.values()).most_common(1)[0][0]
        example = next(node for node, state in told.items() if state == common)
        for node, state in told.items():
            if state.fingerprint != common.fingerprint:
                problems.append(f"{node} has fingerprint {state.fingerprint}, {example} has {common.fingerprint}")
            elif (state.coverage, state.above) != (common.coverage, common.above):
                problems.append(f"{node} and {example} have equal fingerprints, but do not cover the same writes")
            if state.members != self.members:
                problems.append(f"{node} knows {state.members} members, not {self.members}")
        return problems
