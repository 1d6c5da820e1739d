"""The elements of a set are read in order, page by page, whether the set is small or large and whatever is written."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from gossip_grpc.core import elements as module
from gossip_grpc.core.elements import MAX_ORDERS, element_at
from gossip_grpc.core.records import Kind, Origin, Value, value_order
from gossip_grpc.core.store import Store


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 5)


def store_of(*elements: Value) -> Store:
    store = Store(Origin("a", 1))
    for element in elements:
        add(store, element)
    return store


def add(store: Store, element: Value, key: str = "s") -> None:
    sequence = store.coverage.sequence(store.origin) + 1
    store.write(Kind.SET_ELEMENT, (key, element, store.origin), (sequence, False), 0.0)


def remove(store: Store, element: Value) -> None:
    store.write(Kind.SET_ELEMENT, ("s", element, store.origin), (1, True), 0.0)


def listed(store: Store, size: int = 3) -> list[Value]:
    found: list[Value] = []
    while page := list(islice(store.places("s", value_order(found[-1]) if found else None), size)):
        found += map(element_at, page)
    return found


@pytest.mark.parametrize("count", [0, 5, 6, 40])
def test_text_comes_before_bytes_each_in_order(count: int) -> None:
    texts = [f"ä{number:02}" for number in range(count // 2)]
    raw = [bytes([0xFF, number]) for number in range(count - count // 2)]
    assert listed(store_of(*reversed(raw), *reversed(texts))) == texts + raw


@pytest.mark.parametrize("count", [4, 40])
def test_what_is_there_throughout_is_listed_once_whatever_is_written_between_the_pages(count: int) -> None:
    rng = random.Random(count)
    lasting: list[Value] = [f"{number:02}" for number in range(count)]
    store = store_of(*lasting)
    found: list[Value] = []
    others: set[Value] = set()
    while page := list(islice(store.places("s", value_order(found[-1]) if found else None), 3)):
        found += map(element_at, page)
        for _ in range(10):
            element = f"{rng.randrange(count):02}{rng.choice('ab')}"
            (remove if element in others else add)(store, element)
            others ^= {element}
    assert [element for element in found if element in set(lasting)] == lasting
    assert len(found) == len(set(found))


def test_the_order_of_a_large_set_is_sorted_in_by_pieces() -> None:
    store = store_of(*(f"{number:02}" for number in range(10)))
    assert [store.sort_in(4, "s") for _ in range(3)] == [False, False, True]
    add(store, "new")
    remove(store, "03")
    assert listed(store) == sorted(store.elements("s"), key=value_order)


def test_a_small_set_needs_no_order() -> None:
    store = store_of("a", "b")
    assert store.sort_in(0, "s")


def test_a_second_addition_of_an_element_by_another_origin_lists_it_once() -> None:
    store = store_of(*(f"{number:02}" for number in range(10)))
    assert len(listed(store)) == 10
    other = Store(Origin("b", 1))
    store.merge([other.write(Kind.SET_ELEMENT, ("s", "03", other.origin), (1, False), 0.0)], 0.0)
    assert listed(store) == [f"{number:02}" for number in range(10)]
    remove(store, "03")
    assert "03" in listed(store), "the other addition holds it there"


def test_the_orders_of_the_sets_read_last_are_kept() -> None:
    store = Store(Origin("a", 1))
    keys = [f"s{number}" for number in range(MAX_ORDERS + 1)]
    for key in keys:
        for number in range(10):
            add(store, f"{number}", key)
    for key in keys:
        assert len(list(store.places(key))) == 10
    assert list(store._sets.orders._orders) == keys[1:]
    assert len(list(store.places(keys[0]))) == 10
