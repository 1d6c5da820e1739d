"""Running schedules under all checkers: one, or many seeds over several processes."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from time import process_time

from gossip_grpc.sim import faults
from gossip_grpc.sim.checkers import check, check_end
from gossip_grpc.sim.generate import generate
from gossip_grpc.sim.monitor import Monitor
from gossip_grpc.sim.schedule import Schedule, format_action, parse
from gossip_grpc.sim.world import World

_BATCH = 25
"""Seeds that a process is given at a time."""


_STEP = 0.25
"""Virtual seconds between looks at whether all have agreed."""

_STEPS = 200
"""Parts of a run that are told of, one by one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one schedule.

    Attributes:
        seed: of the network and the nodes.
        text: the schedule.
        violations: what went wrong, in the order in which it was seen; each begins with the name of its check.
        virtual_seconds: how long the schedule is.
        messages: how many messages were sent.
        writes: how many writes were acknowledged.
    """

    seed: int
    text: str
    violations: tuple[str, ...]
    virtual_seconds: float = 0.0
    messages: int = 0
    writes: int = 0

    @property
    def failed(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.violations)

    @property
    def kinds(self) -> set[str]:
        """The names of the checks that found something."""
        return {violation.partition(":")[0] for violation in self.violations}


def run(text: str, seed: int) -> Outcome:
    """Run one schedule; every checker looks at each `check` and `agree` of it, and at its end.

    Raises:
        ScheduleError: the text is no schedule.
    """
    schedule = parse(text)
    world = World(schedule, seed)
    monitor = Monitor(world)
    try:
        _run_to_the_end(world, schedule)
    except Exception as error:  # noqa: BLE001  a crash of the core is a finding like any other
        violations = [f"crash: {type(error).__name__}: {error}"]
    else:
        violations = [*world.failures, *judge(world, monitor)]
    return Outcome(
        seed,
        text,
        tuple(dict.fromkeys(violations)),
        world.now,
        world.stats.messages,
        sum(write.acknowledged for write in world.history.writes),
    )


def judge(world: World, monitor: Monitor) -> list[str]:
    """What is wrong with a world at its end, by all checkers; if all agree, by those too that this calls for."""
    at_the_end = check_end if world.agreed() else check
    return [*monitor.look(), *at_the_end(world), *_unseen(world)]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: a world is millions of objects that live to its end, and makes no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _unseen(world: World) -> Iterator[str]:
    """What a schedule expects beyond its end: nobody has seen whether it comes about."""
    end = world.schedule.end
    for action in world.schedule.actions:
        due = action.time + (action.args[0] if action.verb == "agree" else 0.0)
        if action.verb in ("agree", "check") and due > end and not (action.time <= end and world.agreed()):
            yield f"end: `{format_action(action)}` at {action.time:g} s looks at {due:g} s, and all ends at {end:g} s"


def watched(world: World, tell: Callable[[float], object]) -> None:
    """Run a world to its end under all checkers; what they find is among its `failures`.

    Args:
        world: one that has not begun.
        tell: called now and then with the virtual time, so that somebody can watch.
    """
    monitor = Monitor(world)
    end = world.schedule.end
    with _uncollected():
        for step in range(1, _STEPS + 1):
            world.run_until(end * step / _STEPS)
            tell(world.now)
        for problem in judge(world, monitor):
            world.expect(problem)


def _run_to_the_end(world: World, schedule: Schedule) -> None:
    """Run a schedule; after its last line only until all have agreed, for nothing happens any more."""
    last = max([0.0, *(action.time for action in schedule.actions), *(repeat.until for repeat in schedule.repeats)])
    world.run_until(min(last, schedule.end))
    while world.now < schedule.end and not world.agreed():
        world.run_until(min(world.now + _STEP, schedule.end))


def run_seed(seed: int) -> Outcome:
    """Run the schedule that a seed makes."""
    return run(generate(seed), seed)


def with_plant(name: str | None) -> AbstractContextManager[None]:
    """A planted fault, or nothing."""
    return nullcontext() if name is None else faults.planted(name)


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of some seeds.

    Attributes:
        seeds: how many were run.
        failures: the outcomes of those that failed.
        cpu_seconds: what it took one process.
    """

    seeds: int
    failures: tuple[Outcome, ...]
    virtual_seconds: float
    messages: int
    writes: int
    cpu_seconds: float


def run_batch(seeds: Sequence[int], plant: str | None = None) -> Batch:
    """Run some seeds in this process, with a planted fault if one is named."""
    start = process_time()
    with with_plant(plant):
        outcomes = [run_seed(seed) for seed in seeds]
    return Batch(
        len(outcomes),
        tuple(outcome for outcome in outcomes if outcome.failed),
        sum(outcome.virtual_seconds for outcome in outcomes),
        sum(outcome.messages for outcome in outcomes),
        sum(outcome.writes for outcome in outcomes),
        process_time() - start,
    )


def run_seeds(seeds: range, jobs: int | None = None, plant: str | None = None) -> Generator[Batch, None, None]:
    """Run seeds in so many processes (default: one a core), a batch at a time, as they are done.

    Closing the iterator, or interrupting it, ends the processes at once.
    """
    batches = [seeds[start : start + _BATCH] for start in range(0, len(seeds), _BATCH)]
    jobs = min(jobs or os.cpu_count() or 1, len(batches))
    if jobs <= 1:
        yield from (run_batch(batch, plant) for batch in batches)
        return
    others = set(active_children())
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            yield from _completed(pool, batches, jobs, plant)
        except BaseException:
            for process in set(active_children()) - others:
                process.terminate()
            raise


def _completed(pool: ProcessPoolExecutor, batches: Iterable[range], jobs: int, plant: str | None) -> Iterator[Batch]:
    """Keep every process busy with one batch more than it works at, and no more, so that stopping is quick."""
    rest = iter(batches)
    pending: set[Future[Batch]] = set()
    while True:
        while len(pending) < 2 * jobs and (batch := next(rest, None)) is not None:
            with _uninterrupted():  # submitting may start a process
                pending.add(pool.submit(run_batch, batch, plant))
        if not pending:
            return
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


def _end_with_parent() -> None:
    """In a process of the pool: end when the one that started it has ended, however that was, and not wait for ever."""
    parent = parent_process()
    if parent is None:
        return

    def wait_for_it() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait_for_it, name="end with parent", daemon=True).start()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait. Processes started meanwhile never hear of it: they are ended by this one, without tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
