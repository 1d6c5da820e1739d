"""A sorted set of keys lists as a sorted list does, whatever is written between its pages."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core import keys as module
from gossip_grpc.core.keys import SortedItems, SortedKeys

names = st.text(alphabet="abä\U0001f600", max_size=4)
# A name to toggle, None to list, which sorts in what was noted, or so many notes to sort in.
steps = st.lists(st.one_of(st.none(), st.integers(0, 3), names), max_size=60)


@pytest.fixture(autouse=True, scope="module")
def short_lists() -> Iterator[None]:
    """Lists so short that a few names need several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LOAD", 2)
        yield


@given(steps, names, st.one_of(st.none(), names))
def test_lists_what_begins_with_the_prefix_after_the_last_in_order(
    steps: list[str | int | None], prefix: str, last: str | None
) -> None:
    keys, plain = SortedKeys(), set[str]()
    for step in steps:
        if step is None:
            assert list(keys.after("")) == sorted(plain)
        elif isinstance(step, int):
            keys.settle(step)
        elif step in plain:
            keys.discard(step)
            plain.remove(step)
        else:
            keys.add(step)
            plain.add(step)
        assert len(keys) == len(plain)
    expected = [name for name in sorted(plain) if name.startswith(prefix) and (last is None or name > last)]
    assert list(keys.after(prefix, last)) == expected


def test_pages_meet_without_loss_or_repeat() -> None:
    keys = SortedKeys()
    for number in range(10):
        keys.add(f"k{number}")
    listed, last = [], None
    while page := [key for key, _ in zip(keys.after("k", last), range(3), strict=False)]:
        listed += page
        last = page[-1]
    assert listed == [f"k{number}" for number in range(10)]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_there_throughout_is_listed_once_whatever_is_written_between_the_pages(seed: int) -> None:
    rng = random.Random(seed)
    keys, others = SortedKeys(), set[str]()
    lasting = [f"{number:03}" for number in range(0, 200, 2)]
    for key in lasting:
        keys.add(key)
    listed: list[str] = []
    while page := [key for key, _ in zip(keys.after("", listed[-1] if listed else None), range(7), strict=False)]:
        listed += page
        for _ in range(30):
            key = f"{rng.randrange(1, 200, 2):03}{rng.choice('abc')}"
            (keys.discard if key in others else keys.add)(key)
            others ^= {key}
    assert [key for key in listed if key in set(lasting)] == lasting
    assert listed == sorted(set(listed))


def test_notes_are_worked_off_in_pieces() -> None:
    keys = SortedItems[int]()
    for number in range(10):
        keys.add(number)
    assert [keys.settle(4) for _ in range(3)] == [False, False, True]
    keys.discard(3)
    keys.discard(4)
    keys.add(10)
    assert [keys.settle(1) for _ in range(3)] == [False, False, True]
    assert list(keys.items()) == [0, 1, 2, 5, 6, 7, 8, 9, 10]


def test_many_are_added_as_if_one_by_one() -> None:
    keys = SortedItems[int]()
    keys.update([3, 1, 2])
    assert list(keys.items()) == [1, 2, 3]
    keys.discard(2)
    keys.update([2, 4])
    assert list(keys.items()) == [1, 2, 3, 4]


def test_a_page_costs_what_changed_and_not_what_there_is() -> None:
    class Item(int):
        compared = 0

        def __lt__(self, other: int) -> bool:
            Item.compared += 1
            return int(self) < int(other)

        __hash__ = int.__hash__

    keys = SortedItems[Item]()
    for number in range(20_000):
        keys.add(Item(2 * number))
    assert next(keys.items()) == 0
    Item.compared = 0
    for number in range(50):
        keys.add(Item(2 * number * 397 % 40_000 + 1))
    assert len([item for item, _ in zip(keys.items(Item(100)), range(100), strict=False)]) == 100
    assert Item.compared < 50 * 60


def test_a_listing_goes_on_after_a_key_that_is_gone() -> None:
    keys = SortedKeys()
    for name in ("a", "b", "c"):
        keys.add(name)
    assert next(keys.after("")) == "a"
    keys.discard("b")
    assert list(keys.after("", "b")) == ["c"]


def test_a_last_key_before_the_prefix_leaves_out_nothing() -> None:
    keys = SortedKeys()
    keys.add("b1")
    assert list(keys.after("b", "a")) == ["b1"]
