"""A sorted set, for listings by prefix and page.

What is added or taken out is only noted; it is sorted in when somebody lists. So a node that never lists pays nothing
but the note, and what comes and goes in between costs one look-up. What is sorted lies in short lists, so that a note
moves a few hundred keys and not a million, and a page costs what changed since the one before, not what there is.

After a bulk load the first listing finds a million notes. `settle` works them off in pieces: who must not stand still
for long calls it until it says that all is done, and does other things in between.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Any)

_LOAD = 512
"""Items in one of the short lists; it is cut in two at twice as many."""


class SortedItems(Generic[T]):
    """A set that can be read in order."""

    __slots__ = ("_added", "_chunks", "_lasts", "_removed", "_sorted")

    def __init__(self) -> None:
        self._chunks: list[list[T]] = []  # in order, none of them empty
        self._lasts: list[T] = []  # the last item of each
        self._sorted = 0
        self._added: set[T] = set()
        self._removed: set[T] = set()

    def add(self, item: T) -> None:
        """Add an item that is not in the set."""
        if item in self._removed:
            self._removed.discard(item)
        else:
            self._added.add(item)

    def update(self, items: list[T]) -> None:
        """Add items that are not in the set."""
        if self._removed:
            for item in items:
                self.add(item)
        else:
            self._added.update(items)

    def discard(self, item: T) -> None:
        """Take out an item that is in the set."""
        if item in self._added:
            self._added.discard(item)
        else:
            self._removed.add(item)

    def settle(self, most: int) -> bool:
        """Sort in up to so many of what was noted; returns whether that was all."""
        for _ in range(min(most, len(self._removed))):
            self._take_out(self._removed.pop())
            most -= 1
        if len(self._added) > most:
            self._sort_in(sorted([self._added.pop() for _ in range(most)]))
            return False
        if self._added:
            self._sort_in(sorted(self._added))
            self._added = set()  # a new one: one that was large once would stay large
        return not self._removed

    def items(self, first: T | None = None, last: T | None = None) -> Iterator[T]:
        """The items from `first` on that come after `last`, in order. The set must not change meanwhile."""
        self.settle(len(self._added) + len(self._removed))
        index = offset = 0
        if first is not None:
            index, offset = self._place(first, bisect_left)
        if last is not None:
            index, offset = max((index, offset), self._place(last, bisect_right))
        for number in range(index, len(self._chunks)):
            yield from self._chunks[number][offset:]
            offset = 0

    def __len__(self) -> int:
        return self._sorted + len(self._added) - len(self._removed)

    def _place(self, item: T, side: Callable[[list[T], T], int]) -> tuple[int, int]:
        """Where an item stands, or would stand: the number of the short list, and the place in it."""
        index = side(self._lasts, item)
        return index, side(self._chunks[index], item) if index < len(self._chunks) else 0

    def _sort_in(self, batch: list[T]) -> None:
        """Insert items, in order, that are not there."""
        if not batch:
            return
        chunks, lasts = self._chunks, self._lasts
        self._sorted += len(batch)
        if not chunks or batch[0] > lasts[-1]:
            if chunks and len(chunks[-1]) < _LOAD:  # else writes in order would leave a chunk for each listing
                lasts.pop()
                batch = chunks.pop() + batch
            for start in range(0, len(batch), _LOAD):
                chunk = batch[start : start + _LOAD]
                chunks.append(chunk)
                lasts.append(chunk[-1])
            return
        for item in batch:
            index = bisect_left(lasts, item)
            if index == len(chunks):
                index -= 1
                lasts[index] = item
            chunk = chunks[index]
            insort(chunk, item)
            if len(chunk) > 2 * _LOAD:
                chunks.insert(index, chunk[:_LOAD])
                lasts.insert(index, chunk[_LOAD - 1])
                del chunk[:_LOAD]

    def _take_out(self, item: T) -> None:
        index = bisect_left(self._lasts, item)
        chunk = self._chunks[index]
        del chunk[bisect_left(chunk, item)]
        self._sorted -= 1
        if chunk:
            self._lasts[index] = chunk[-1]
        else:
            del self._chunks[index], self._lasts[index]


class SortedKeys(SortedItems[str]):
    """A set of strings that can be read in order of code points."""

    __slots__ = ()

    def after(self, prefix: str, last: str | None = None) -> Iterator[str]:
        """The keys that begin with the prefix and come after `last`, in order. The set must not change meanwhile."""
        for key in self.items(prefix, last):
            if not key.startswith(prefix):
                return
            yield key
