"""Membership: who there is, where it is reached, and whom it is worth calling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core import membership as module
from gossip_grpc.core.membership import Membership, Peer, Status
from gossip_grpc.core.records import Kind, Origin, Record
from gossip_grpc.core.selection import Candidate
from gossip_grpc.core.store import Store
from tests.samples import A, B, C, D, member

B2 = Origin("b", 2)


def make(*records: Record) -> Membership:
    """Membership at node a, of the members given."""
    store = Store(A)
    store.merge(records, 0.0)
    return Membership(store, "a:1")


def names(candidates: Iterable[Candidate]) -> list[str]:
    return [candidate.node_id for candidate in candidates]


def test_peers_are_the_other_members_that_have_not_left_in_order() -> None:
    membership = make(member(C, zone="z"), member(B), member(A), member(D, left=True))
    assert membership.node_id == "a"
    assert membership.peers() == (Candidate("b"), Candidate("c", "z"))


def test_status_is_left_if_the_owner_said_so_and_else_alive() -> None:
    membership = make()
    assert membership.status(member(B)) is Status.ALIVE
    assert membership.status(member(B, left=True)) is Status.LEFT


# Where a node is reached


def test_a_member_is_reached_where_its_record_says() -> None:
    membership = make(member(B, address="new:1"))
    membership.heard(B, "old:1")
    assert membership.address("b") == "new:1"
    assert membership.peer("b") == Peer("new:1", "b")


def test_a_node_that_spoke_to_us_is_a_peer_before_its_record_arrives() -> None:
    membership = make()
    membership.heard(B, "b:7")
    assert membership.peers() == (Candidate("b"),)
    assert membership.peer("b") == Peer("b:7", "b")


def test_a_newer_life_that_spoke_to_us_is_reached_where_it_said() -> None:
    membership = make(member(B, address="old:1", zone="z"))
    membership.heard(B2, "new:1")
    assert membership.address("b") == "new:1"
    assert membership.peers() == (Candidate("b", "z"),)


def test_a_newer_life_of_a_member_that_left_is_a_peer_again() -> None:
    membership = make(member(B, left=True))
    assert membership.peers() == ()
    membership.heard(B, "b:1")
    assert membership.peers() == (), "its farewell calls do not bring it back"
    membership.heard(B2, "b:1")
    assert membership.peers() == (Candidate("b"),)


def test_an_older_life_cannot_speak_for_a_newer_one() -> None:
    membership = make()
    membership.heard(B2, "new:1")
    membership.heard(B, "old:1")
    assert membership.address("b") == "new:1"


def test_nobody_knows_where_a_stranger_is() -> None:
    membership = make()
    assert membership.address("nobody") is None
    with pytest.raises(KeyError):
        membership.peer("nobody")


def test_we_are_no_peer_of_ourselves() -> None:
    membership = make(member(A))
    membership.heard(A, "a:1")
    membership.heard(Origin("a", 9), "elsewhere:1")
    assert membership.peers() == ()


def test_strangers_cannot_fill_our_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STRANGERS", 3)
    membership = make(member(B))
    for number in range(10):
        membership.heard(Origin(f"s{number}", 1), "s:1")
    assert names(membership.peers()) == ["b", "s0", "s1", "s2"]
    membership.heard(Origin("s1", 2), "moved:1")
    assert membership.address("s1") == "moved:1", "those known are still heard"
    membership.failed(Peer("b:1", "b"))
    membership.failed(Peer("b:1", "b"))
    membership.heard(B, "b:1")
    assert membership.reachable("b"), "and so are members"


# Who is worth calling


def test_one_lost_call_is_forgiven_two_in_a_row_are_not() -> None:
    membership = make(member(B), member(C))
    membership.failed(Peer("b:1", "b"))
    assert membership.reachable("b")
    membership.failed(Peer("b:1", "b"))
    assert not membership.reachable("b")
    assert names(membership.reachable_peers()) == ["c"]
    assert membership.unreachable_peers() == ["b"]
    assert names(membership.peers()) == ["b", "c"]


@pytest.mark.parametrize("records", [[member(B)], []], ids=["a member", "a node without a record"])
def test_a_word_from_it_makes_a_peer_worth_calling_again(records: list[Record]) -> None:
    membership = make(*records)
    membership.heard(B, "b:1")
    for _ in range(5):
        membership.failed(Peer("b:1", "b"))
    assert membership.reachable_peers() == ()
    membership.heard(B, "b:1")
    assert membership.reachable("b")
    assert names(membership.reachable_peers()) == ["b"]
    membership.failed(Peer("b:1", "b"))
    assert membership.reachable("b"), "the failures before do not count"
    membership.failed(Peer("b:1", "b"))
    assert not membership.reachable("b")


def test_an_older_life_is_no_sign_of_life() -> None:
    membership = make(member(B2))
    for _ in range(2):
        membership.failed(Peer("b:1", "b"))
    membership.heard(B, "b:1")
    assert not membership.reachable("b")


def test_who_was_never_called_is_worth_it() -> None:
    assert make().reachable("anybody")


def test_a_call_that_failed_does_not_change_where_a_newer_record_says_the_node_is() -> None:
    membership = make(member(B2, address="new:1"))
    membership.failed(Peer("old:1", "b"))
    assert membership.address("b") == "new:1"


def test_a_seed_that_failed_is_nobodys_failure() -> None:
    membership = make(member(B))
    for _ in range(3):
        membership.failed(Peer("b:1"))
    assert membership.reachable("b")


def test_a_node_without_a_record_can_become_unreachable_too() -> None:
    membership = make()
    for _ in range(2):
        membership.failed(Peer("b:1", "b"))
    assert membership.unreachable_peers() == ["b"]


# Seeds


def test_seeds_are_unreached_until_a_peer_worth_calling_has_their_address() -> None:
    membership = make(member(B))
    membership.set_seeds(["b:1", "c:1", "c:1"])
    assert membership.unreached_seeds() == ["c:1"]
    membership.heard(C, "c:1")
    assert membership.unreached_seeds() == []
    for _ in range(2):
        membership.failed(Peer("b:1", "b"))
    assert membership.unreached_seeds() == ["b:1"]


def test_our_own_address_is_no_seed() -> None:
    membership = make()
    membership.set_seeds(["a:1", "b:1"])
    assert membership.unreached_seeds() == ["b:1"]


def test_a_name_that_led_back_to_us_is_no_seed() -> None:
    membership = make()
    membership.set_seeds(["alias:1", "b:1"])
    membership.heard(A, "a:1", called="alias:1")
    assert membership.unreached_seeds() == ["b:1"]


def test_another_life_under_our_name_is_not_us() -> None:
    membership = make()
    membership.set_seeds(["alias:1"])
    membership.heard(Origin("a", 9), "a:1", called="alias:1")
    assert membership.unreached_seeds() == ["alias:1"]


def test_seeds_are_replaced_as_names_resolve_anew() -> None:
    membership = make()
    membership.set_seeds(["old:1"])
    membership.set_seeds(["new:1"])
    assert membership.unreached_seeds() == ["new:1"]


# What is kept until something changes

few_origins = st.builds(Origin, st.sampled_from(["b", "c"]), st.integers(1, 3))
few_addresses = st.sampled_from(["b:1", "c:1", "seed:1"])
few_records = st.builds(
    member,
    few_origins,
    st.integers(1, 5),
    address=few_addresses,
    zone=st.sampled_from(["", "z"]),
    left=st.booleans(),
    incarnation=st.integers(1, 3),
)

Event = Callable[[Membership], object]


def records_arrive(*records: Record) -> Event:
    return lambda membership: membership._store.merge(records, 0.0)


def a_record_goes(name: str) -> Event:
    return lambda membership: membership._store.forget(Kind.MEMBER, name)


def is_heard(origin: Origin, address: str) -> Event:
    return lambda membership: membership.heard(origin, address)


def fails(name: str, address: str) -> Event:
    return lambda membership: membership.failed(Peer(address, name))


def are_seeds(addresses: list[str]) -> Event:
    return lambda membership: membership.set_seeds(addresses)


events = st.one_of(
    st.builds(records_arrive, few_records),
    st.builds(a_record_goes, st.just("b")),
    st.builds(is_heard, few_origins, few_addresses),
    st.builds(fails, st.sampled_from(["b", "c"]), few_addresses),
    st.builds(are_seeds, st.lists(few_addresses)),
)


def seen(membership: Membership) -> tuple[object, ...]:
    return (
        membership.peers(),
        membership.reachable_peers(),
        membership.unreachable_peers(),
        membership.unreached_seeds(),
        membership.ring().names,
    )


@given(st.lists(events, max_size=30))
def test_what_is_kept_is_what_would_be_found_anew(history: list[Event]) -> None:
    membership = make(member(B))
    for event in history:
        event(membership)
        anew = copy.copy(membership)
        anew._view = None
        assert seen(membership) == seen(anew)


def test_peers_are_the_same_tuple_until_they_change() -> None:
    membership = make(member(B), member(C))
    membership.failed(Peer("c:1", "c"))
    peers, reachable, ring = membership.peers(), membership.reachable_peers(), membership.ring()
    membership.heard(B, "b:1")
    membership.heard(C, "c:1")
    membership.failed(Peer("b:1", "b"))
    membership._store.write(Kind.REGISTER, "k", "v", 0.0)
    assert membership.peers() is peers
    assert membership.reachable_peers() is reachable
    membership.failed(Peer("b:1", "b"))
    assert membership.peers() is peers
    assert membership.ring() is ring
    assert membership.reachable_peers() == (Candidate("c"),)


def test_who_speaks_to_us_as_its_record_says_takes_no_memory() -> None:
    membership = make(member(B))
    membership.failed(Peer("b:1", "b"))
    membership.heard(B, "b:1")
    membership.heard(C, "c:1")
    membership._store.merge([member(C)], 0.0)
    membership.heard(C, "c:1")
    assert membership._contacts == {}


# Our own record


def test_incarnations_count_our_records_within_this_life() -> None:
    membership = make()
    assert membership.incarnation() == 1
    assert membership.own() is None
    membership = make(member(A, incarnation=4, zone="z"))
    assert membership.incarnation() == 5
    own = membership.own()
    assert own is not None
    assert own.zone == "z"


def test_the_record_of_an_earlier_life_is_not_ours() -> None:
    membership = make(member(Origin("a", 0), incarnation=4))
    assert membership.incarnation() == 1
    assert membership.own() is None
