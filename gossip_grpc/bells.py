"""Who waits for changes of which keys: a change wakes those whose prefix its key has, and nobody else.

A thousand watchers of a thousand prefixes would otherwise look at every change, each of them, to find nothing.
"""

from __future__ import annotations

import asyncio


class _Bell:
    """What all who wait for the same hear."""

    __slots__ = ("event", "number", "waiting")

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.number = 0
        self.waiting = 0


class Bells:
    """The bells, by kind, length of the prefix, and prefix."""

    def __init__(self) -> None:
        self._bells: dict[object, dict[int, dict[str, _Bell]]] = {}

    def __len__(self) -> int:
        return sum(len(bells) for lengths in self._bells.values() for bells in lengths.values())

    async def wait(self, kind: object, prefix: str) -> int:
        """Wait for a change of a key with that prefix; returns its number."""
        bells = self._bells.setdefault(kind, {}).setdefault(len(prefix), {})
        bell = bells.get(prefix)
        if bell is None:
            bell = bells[prefix] = _Bell()
        bell.waiting += 1
        try:
            await bell.event.wait()
        finally:
            bell.waiting -= 1
            if not bell.waiting and bells.get(prefix) is bell:
                self._take_down(kind, prefix)
        return bell.number

    def ring(self, kind: object, key: str, number: int) -> None:
        """Wake those who wait for a change of a key of that kind."""
        lengths = self._bells.get(kind)
        if lengths:
            for length in [length for length, bells in lengths.items() if key[:length] in bells]:
                self._ring(kind, key[:length], number)

    def ring_all(self) -> None:
        """Wake all."""
        for kind, lengths in list(self._bells.items()):
            for prefix in [prefix for bells in lengths.values() for prefix in bells]:
                self._ring(kind, prefix, 0)

    def _ring(self, kind: object, prefix: str, number: int) -> None:
        bell = self._take_down(kind, prefix)  # who comes from now on waits for the next change
        bell.number = number
        bell.event.set()

    def _take_down(self, kind: object, prefix: str) -> _Bell:
        lengths = self._bells[kind]
        bell = lengths[len(prefix)].pop(prefix)
        if not lengths[len(prefix)]:
            del lengths[len(prefix)]
        return bell
