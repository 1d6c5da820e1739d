"""Which elements are in which sets, kept up to date as additions come into their slots and leave them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gossip_grpc.core.elements import Orders, Place
from gossip_grpc.core.keys import SortedKeys
from gossip_grpc.core.records import Origin, Record, Value


class Sets:
    """The sets of one store."""

    def __init__(self) -> None:
        self.keys = SortedKeys()
        self.orders = Orders()
        self._sets: dict[str, dict[Value, tuple[Origin, ...]]] = {}

    def elements(self, key: str) -> dict[Value, tuple[Origin, ...]]:
        """Elements of a set, each with the origins whose additions hold it there. Not to be changed."""
        return self._sets.get(key, {})

    def places(self, key: str, last: Place | None) -> Iterator[Place]:
        """Where the elements of a set stand that come after `last`, in order (see elements.py)."""
        held = self.elements(key)
        return self.orders.after(key, held, len(held), last)

    def settle(self, key: str, most: int) -> bool:
        """Sort in up to so many elements of a set; returns whether that was all."""
        held = self.elements(key)
        return self.orders.settle(key, held, len(held), most)

    def enter(self, record: Record) -> None:
        """An addition has come into its slot."""
        slot: Any = record.slot
        key, element, origin = slot
        elements = self._sets.get(key)
        if elements is None:
            elements = self._sets[key] = {}
            self.keys.add(key)
        others = elements.get(element, ())
        elements[element] = (*others, origin)
        if not others:
            self.orders.added(key, element)

    def leave(self, record: Record) -> None:
        """An addition has left its slot."""
        slot: Any = record.slot
        key, element, origin = slot
        elements = self._sets[key]
        rest = tuple(other for other in elements[element] if other != origin)
        if rest:
            elements[element] = rest
            return
        del elements[element]
        self.orders.removed(key, element)
        if not elements:
            del self._sets[key]
            self.keys.discard(key)
