"""What the demo shows: steps, nodes and the result. The story writes it, views read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gossip_grpc.client import Status
from gossip_grpc.demo.agreement import State, leading


class Progress(StrEnum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "ok"
    FAILED = "FAILED"


class Life(StrEnum):
    """What a node is to the demo."""

    STARTING = "starting"
    UP = "up"
    CATCHING_UP = "catching up"
    KILLED = "killed"
    ENDED = "ended"
    """By itself, or by somebody else."""


@dataclass(slots=True)
class Step:
    """One step of the story.

    Attributes:
        name: one word, for tables.
        title: what is done.
        progress: how far it is.
        done: pieces of work done.
        total: pieces of work there are.
        detail: what is being done, apart from the pieces; at the end, what came of it if nothing is wrong.
        seconds: how long it took, agreement included.
        agreed: node -> seconds from the last write until it agreed with the others; empty if the step waits for none.
        problems: what is not as it should be.
    """

    name: str
    title: str
    progress: Progress = Progress.WAITING
    done: int = 0
    total: int = 0
    detail: str = ""
    seconds: float = 0.0
    agreed: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """What came of it, in one line."""
        if not self.problems:
            return self.detail
        more = f" (and {len(self.problems) - 1:,} more)" if len(self.problems) > 1 else ""
        return self.problems[0].partition("\n")[0] + more


@dataclass(slots=True)
class Row:
    """One node."""

    node: str
    life: Life = Life.STARTING
    address: str = ""
    status: Status | None = None
    counter: int = 0


@dataclass(slots=True)
class Tally:
    """What the demo did, for the summary."""

    writes: int = 0
    reads: int = 0
    kills: int = 0
    messages: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Board:
    """Everything there is to see."""

    rows: dict[str, Row]
    steps: list[Step] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    counter: int = 0
    """The sum of all additions taken."""

    def problems(self) -> list[str]:
        """All that went wrong, and what was not reached; empty only if every step was done and right."""
        wrong = [f"{step.name}: {problem}" for step in self.steps for problem in step.problems]
        missing = [step.name for step in self.steps if step.progress in (Progress.WAITING, Progress.RUNNING)]
        return [*wrong, *([f"not reached: {', '.join(missing)}"] if missing else [])]

    def verdict(self) -> str:
        """One sentence."""
        if self.problems():
            return "Not everything agreed."
        return f"All {len(self.rows)} nodes agree, and hold what they should."

    def totals(self) -> dict[str, str]:
        """The summary: what was done, by name."""
        tally = self.tally
        return {
            "writes": f"{tally.writes:,}",
            "reads compared": f"{tally.reads:,}",
            "counter": f"{self.counter:,}",
            "kills": f"{tally.kills}",
            "messages between nodes": f"{tally.messages:,} ({tally.bytes / 1e6:.1f} MB)",
        }

    def timed(self) -> list[Step]:
        """The steps after which nodes came to agree."""
        return [step for step in self.steps if step.agreed]

    def states(self) -> dict[str, State]:
        """What the nodes that answer have told of themselves."""
        return {row.node: State.of(row.status) for row in self.rows.values() if row.status is not None}

    def leading(self) -> State | None:
        """The state that most nodes share, if there is one."""
        return leading(self.states().values())


def duration(seconds: float) -> str:
    """Milliseconds below a second, else seconds with a tenth."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
