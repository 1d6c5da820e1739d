"""Addresses as text: what reads as one, and that reading and writing are inverse."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc import addresses
from gossip_grpc.addresses import Address

labels = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())
hosts = names | st.ip_addresses().map(str)


@given(hosts, st.integers(0, 65535))
def test_an_address_survives_being_written_and_read(host: str, port: int) -> None:
    address = Address(host, port)
    assert addresses.parse(str(address)) == address


@given(st.text(alphabet=string.printable) | st.text(alphabet="[]:.%0a1f-"))
def test_what_is_read_as_an_address_reads_the_same_once_written(text: str) -> None:
    try:
        address = addresses.parse(text)
    except ValueError:
        return
    assert addresses.parse(str(address)) == address
    assert str(address).isprintable()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Node-1.Example:7946", ("node-1.example", 7946)),
        ("[0:0:0:0:0:0:0:1]:1", ("::1", 1)),
        ("[FE80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("a_b.c.:1", ("a_b.c.", 1)),
        ("10.0.0.1:00080", ("10.0.0.1", 80)),
    ],
)
def test_spellings_of_one_address_are_one(text: str, address: tuple[str, int]) -> None:
    assert addresses.parse(text) == address


@pytest.mark.parametrize(
    ("host", "wildcard"),
    [("::", True), ("0::0", True), ("::ffff:0.0.0.0", True), ("::1", False), ("10.0.0.0", False), ("node", False)],
)
def test_wildcards_are_told_from_addresses_that_can_be_called(host: str, wildcard: bool) -> None:
    assert addresses.is_wildcard(host) == wildcard
    assert Address(host, 1).is_wildcard == wildcard


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "::1:1", "[::1]", "[::1]1", "[a]:1", "a:65536", "1.2.3:1", "a..b:1"]
)
def test_what_is_no_address_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(the|what|an) "):
        addresses.parse(text)
