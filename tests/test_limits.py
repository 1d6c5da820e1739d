"""Limits are counted in bytes, and each refusal names its field and what is allowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.limits import DEFAULT_PAGE, MAX_PAGE, Limits, is_name
from gossip_grpc.errors import LocalError, Reason

SMALL = Limits(max_key_bytes=8, max_value_bytes=8, max_element_bytes=8)

CHECKS: dict[str, Callable[[str], None]] = {
    "key": SMALL.check_key,
    "prefix": SMALL.check_prefix,
    "value": SMALL.check_value,
    "element": SMALL.check_element,
}


@pytest.mark.parametrize("field", CHECKS)
@given(text=st.text(alphabet="aä€\U0001f600", min_size=1, max_size=12))
def test_sizes_are_those_of_utf_8(field: str, text: str) -> None:
    size = len(text.encode())
    if size <= 8:
        CHECKS[field](text)
        return
    with pytest.raises(LocalError) as caught:
        CHECKS[field](text)
    assert str(caught.value) == f"{field} has {size} bytes; at most 8 are allowed"
    assert (caught.value.field, caught.value.reason) == (field, Reason.INVALID_ARGUMENT)


@pytest.mark.parametrize("check", [SMALL.check_value, SMALL.check_element])
def test_raw_data_is_counted_as_it_is(check: Callable[[bytes], None]) -> None:
    check(b"\xff" * 8)
    with pytest.raises(LocalError, match="has 9 bytes"):
        check(b"\xff" * 9)


@pytest.mark.parametrize(("check", "field"), [(SMALL.check_key, "key"), (SMALL.check_element, "element")])
def test_a_key_and_an_element_must_not_be_empty(check: Callable[[str], None], field: str) -> None:
    with pytest.raises(LocalError, match=f"{field} is empty; give 1 to 8 bytes") as caught:
        check("")
    assert caught.value.field == field


def test_a_value_and_a_prefix_may_be_empty() -> None:
    SMALL.check_value("")
    SMALL.check_value(b"")
    SMALL.check_prefix("")


def test_the_field_named_is_the_one_given() -> None:
    with pytest.raises(LocalError, match=r"elements\[3\] is empty") as caught:
        SMALL.check_element("", "elements[3]")
    assert caught.value.field == "elements[3]"


def test_defaults_are_those_of_the_documentation() -> None:
    limits = Limits()
    limits.check_key("k" * 512)
    limits.check_value(b"v" * (1 << 20))
    limits.check_element(b"e" * (64 << 10))
    with pytest.raises(LocalError, match="key has 513 bytes; at most 512 are allowed"):
        limits.check_key("k" * 513)
    with pytest.raises(LocalError, match="value has 1048577 bytes; at most 1048576 are allowed"):
        limits.check_value(b"v" * ((1 << 20) + 1))
    with pytest.raises(LocalError, match="element has 65537 bytes; at most 65536 are allowed"):
        limits.check_element(b"e" * ((64 << 10) + 1))
    assert (limits.max_records, limits.max_inbound_syncs, limits.chunk_bytes) == (2_000_000, 16, 1 << 20)


@pytest.mark.parametrize(("given_size", "used"), [(0, DEFAULT_PAGE), (1, 1), (MAX_PAGE, MAX_PAGE)])
def test_a_page_has_the_size_asked_for_or_the_default(given_size: int, used: int) -> None:
    assert Limits().page_size(given_size) == used


@pytest.mark.parametrize("given_size", [-1, MAX_PAGE + 1])
def test_a_page_size_out_of_range_is_refused(given_size: int) -> None:
    with pytest.raises(LocalError, match="give 1 to 10000, or 0 for the default of 1000") as caught:
        Limits().page_size(given_size)
    assert caught.value.field == "page_size"


@pytest.mark.parametrize("name", ["a", "node-1.zone_b", "0", "A" * 128])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "A" * 129, "a b", "a\n", "ä", "a/b", "a:1", "\0"])
def test_no_names(name: str) -> None:
    assert not is_name(name)
