"""Timing work inside this process, with the collector in the state that it has in a node."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Took:
    """Seconds that a block took: by the clock, and of this process on a core, which a busy machine stretches less."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def timed() -> Iterator[Took]:
    """Time a block. What was there before is out of the collector's sight, as `gossip-grpc node` arranges it too."""
    took = Took()
    gc.collect()
    gc.freeze()
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        yield took
        took.wall, took.cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        gc.unfreeze()
