"""A sorted set of keys lists as a sorted list does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.keys import SortedKeys

names = st.text(alphabet="abä\U0001f600", max_size=4)
# A name to toggle, or None to list, which sorts in what was noted.
steps = st.lists(st.one_of(st.none(), names), max_size=40)


@given(steps, names, st.one_of(st.none(), names))
def test_lists_what_begins_with_the_prefix_after_the_last_in_order(
    steps: list[str | None], prefix: str, last: str | None
) -> None:
    keys, plain = SortedKeys(), set[str]()
    for name in steps:
        if name is None:
            assert list(keys.after("")) == sorted(plain)
        elif name in plain:
            keys.discard(name)
            plain.remove(name)
        else:
            keys.add(name)
            plain.add(name)
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
