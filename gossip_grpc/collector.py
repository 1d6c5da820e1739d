"""Keeps the pauses of Python's cyclic garbage collector short in a node's process.

Every record is an object that the collector looks at, though none of them is ever part of a cycle. With a million of
them a full collection holds up the node for half a second, and while a million arrive there are dozens. So whenever a
full collection took long, what has survived it is taken out of the collector's sight: it is still freed when nobody
refers to it any more. Right then, because garbage has just been collected: nothing of it is kept but what becomes a
cycle later of what was in use at that moment, a call or two among a hundred thousand records.
"""

from __future__ import annotations

import gc
import time
from typing import Any

LONG = 0.008
"""Seconds that a full collection may take before what it found is not looked at again: some 50,000 objects."""

_OLDEST = 2


class _Watch:
    def __init__(self) -> None:
        self._begun = 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != _OLDEST:
            return
        if phase == "start":
            self._begun = time.perf_counter()
        elif time.perf_counter() - self._begun > LONG:
            gc.freeze()


def keep_pauses_short() -> None:
    """From now on, and for the whole process: so only a process that is a node and nothing else may call it."""
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_Watch())
