"""A sorted set of keys, for listings by prefix and page.

Insertions are only noted; they are sorted in when somebody lists. Timsort takes one pass over two sorted runs, so a
million keys loaded at once cost one sort, and a node that never lists pays nothing but the note.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class SortedKeys:
    """A set of strings that can be read in order of code points."""

    __slots__ = ("_added", "_keys", "_removed")

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def add(self, key: str) -> None:
        """Add a key that is not in the set."""
        if key in self._removed:
            self._removed.discard(key)
        else:
            self._added.add(key)

    def discard(self, key: str) -> None:
        """Take out a key that is in the set."""
        if key in self._added:
            self._added.discard(key)
        else:
            self._removed.add(key)

    def after(self, prefix: str, last: str | None = None) -> Iterator[str]:
        """The keys that begin with the prefix and come after `last`, in order. The set must not change meanwhile."""
        self._settle()
        keys = self._keys
        start = bisect_left(keys, prefix)
        if last is not None:
            start = max(start, bisect_right(keys, last))
        for index in range(start, len(keys)):
            if not keys[index].startswith(prefix):
                return
            yield keys[index]

    def __len__(self) -> int:
        return len(self._keys) + len(self._added) - len(self._removed)

    def _settle(self) -> None:
        if self._removed:
            self._keys = [key for key in self._keys if key not in self._removed]
            self._removed.clear()
        if self._added:
            self._keys.extend(sorted(self._added))
            self._keys.sort()
            self._added.clear()
