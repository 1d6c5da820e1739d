"""The order of large sets' elements, for those that are read page by page.

A small set is sorted for each page. The order of a large one is made when its second page, or a later one, could come,
kept up to date from then on, and let go of when other sets are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gossip_grpc.core.keys import SortedItems
from gossip_grpc.core.records import Value, value_order

LARGE = 1_000
"""Elements up to which a set is sorted anew each time."""

MAX_ORDERS = 8
"""Sets of which the order is kept: those read last."""

Place = tuple[int, bytes]
"""Where an element stands in the order of its set (`value_order`)."""


class Orders:
    """The orders of the sets that are read."""

    def __init__(self) -> None:
        self._orders: dict[str, SortedItems[Place]] = {}  # the one read last comes last

    def added(self, key: str, element: Value) -> None:
        """A set has got an element."""
        order = self._orders.get(key)
        if order is not None:
            order.add(value_order(element))

    def removed(self, key: str, element: Value) -> None:
        """A set has lost an element."""
        order = self._orders.get(key)
        if order is not None:
            order.discard(value_order(element))

    def after(self, key: str, elements: Iterable[Value], size: int, last: Place | None) -> Iterator[Place]:
        """The places of a set's elements that come after `last`, in order. The set must not change meanwhile."""
        if size <= LARGE and key not in self._orders:
            places = sorted(map(value_order, elements))
            return (place for place in places if last is None or place > last)
        return self._order(key, elements).items(last=last)

    def settle(self, key: str, elements: Iterable[Value], size: int, most: int) -> bool:
        """Sort in up to so many elements of a large set; returns whether that was all (see keys.py)."""
        return size <= LARGE or self._order(key, elements).settle(most)

    def _order(self, key: str, elements: Iterable[Value]) -> SortedItems[Place]:
        order = self._orders.pop(key, None)
        if order is None:
            order = SortedItems()
            for element in elements:
                order.add(value_order(element))
        self._orders[key] = order
        if len(self._orders) > MAX_ORDERS:
            del self._orders[next(iter(self._orders))]
        return order


def element_at(place: Place) -> Value:
    """The element that stands there."""
    kind, data = place
    return data.decode() if kind == 0 else data
