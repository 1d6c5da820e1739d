"""Membership: who there is, where it is reached, and whom it is worth calling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core import membership as module
from gossip_grpc.core.membership import MAX_INCARNATION, STRANGE_FAILURES, Change, Membership, Peer, Status
from gossip_grpc.core.monitors import Monitors
from gossip_grpc.core.records import Kind, Origin, Record
from gossip_grpc.core.selection import Candidate
from gossip_grpc.core.store import Store
from tests.samples import A, B, C, D, accusation, member

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
    membership.heard(B, "b:1")
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


# Status: what follows from the records

E = Origin("e", 1)
NEVER = float("inf")


def judged(*records: Record, now: float = 0.0) -> Membership:
    """Membership at a of a, b, c, d and e, and what else the records say."""
    membership = make(*map(member, (A, B, C, D, E)), *records)
    membership.refresh(now)
    return membership


def small(*records: Record, now: float = 0.0) -> Membership:
    """Membership at a of a and b: a is b's only monitor."""
    membership = make(member(A), member(B), *records)
    membership.refresh(now)
    return membership


def learn(membership: Membership, *records: Record, now: float = 0.0) -> list[Change]:
    membership._store.merge(records, 0.0)
    return membership.refresh(now)


@pytest.mark.parametrize(
    ("others", "accusers", "status"),
    [
        ((A,), (), Status.ALIVE),
        ((A,), (A,), Status.SUSPECT),
        ((A, C), (), Status.ALIVE),
        ((A, C), (C,), Status.SUSPECT),
        ((A, C), (A, C), Status.DEAD),
        ((A, C, D), (), Status.ALIVE),
        ((A, C, D), (D,), Status.SUSPECT),
        ((A, C, D), (C, D), Status.DEAD),
        ((A, C, D), (A, C, D), Status.DEAD),
    ],
)
def test_more_than_half_of_the_monitors_must_accuse_a_member_that_is_to_be_dead(
    monkeypatch: pytest.MonkeyPatch, others: tuple[Origin, ...], accusers: tuple[Origin, ...], status: Status
) -> None:
    monkeypatch.setattr(Monitors, "of", lambda self, name: [other.node_id for other in others])
    membership = make(member(B), *map(member, others), *(accusation(B, accuser) for accuser in accusers))
    membership.refresh(0.0)
    assert membership.status("b") is status
    assert sorted(membership.accusations("b")) == [accuser.node_id for accuser in accusers]


def test_an_accusation_counts_whoever_made_it() -> None:
    stranger = Origin("z", 1)
    assert judged(accusation(B, stranger)).status("b") is Status.SUSPECT


@pytest.mark.parametrize(
    "said",
    [
        accusation(B, C, withdrawn=True),
        accusation(B, C, forget=True),
        accusation(B, C, incarnation=0),
        accusation(B, C, incarnation=2),
        accusation(B, C, incarnation=2**64 - 1),
        accusation(Origin("b", 0), C),
        accusation(Origin("b", 2), C),
    ],
    ids=["withdrawn", "a wish", "before", "after", "far after", "of an older life", "of a newer life"],
)
def test_only_the_present_incarnation_can_be_accused(said: Record) -> None:
    membership = judged(said)
    assert membership.status("b") is Status.ALIVE
    assert membership.accusations("b") == {}


def test_who_left_has_left_whoever_accuses_it() -> None:
    membership = make(member(A), member(C), member(D), member(B, left=True), accusation(B, C), accusation(B, D))
    membership.refresh(0.0)
    assert membership.status("b") is Status.LEFT
    assert membership.deadline() == NEVER


def test_a_member_whose_only_monitor_accuses_it_is_dead_once_that_has_lasted() -> None:
    membership = small(accusation(B, A), now=10.0)
    assert (membership.status("b"), membership.deadline()) == (Status.SUSPECT, 13.0)
    assert membership.refresh(12.9) == []
    assert membership.refresh(13.0) == [Change("b", Status.SUSPECT, Status.DEAD, False, "accused by a")]
    assert membership.deadline() == NEVER


def test_a_member_that_nobody_is_left_to_monitor_is_dead_once_an_accusation_has_lasted() -> None:
    membership = make(member(A, left=True), member(B), accusation(B, C))
    membership.refresh(10.0)
    assert (membership.status("b"), membership.deadline()) == (Status.SUSPECT, 13.0)
    membership.refresh(13.0)
    assert membership.status("b") is Status.DEAD


def test_a_second_accusation_later_does_not_begin_the_time_anew_nor_does_one_that_was_void() -> None:
    membership = small(accusation(B, A), now=10.0)
    learn(membership, accusation(B, A, 3), now=12.0)
    assert membership.deadline() == 13.0
    learn(membership, accusation(B, A, 4, withdrawn=True), now=12.5)
    assert membership.deadline() == NEVER
    learn(membership, accusation(B, A, 5), now=20.0)
    assert membership.deadline() == 23.0


def test_a_node_is_never_suspect_to_itself() -> None:
    membership = judged(accusation(A, B), accusation(A, C))
    assert membership.status("a") is Status.ALIVE
    assert "a" in membership.monitors


def test_every_change_has_its_cause() -> None:
    membership = judged()
    assert learn(membership, accusation(B, C)) == [Change("b", Status.ALIVE, Status.SUSPECT, False, "accused by c")]
    assert learn(membership, accusation(B, D)) == [Change("b", Status.SUSPECT, Status.DEAD, False, "accused by c, d")]
    assert learn(membership, accusation(B, C, 3, withdrawn=True)) == [], "one is enough for the dead to stay so"
    assert learn(membership, accusation(B, D, 3, withdrawn=True)) == [
        Change("b", Status.DEAD, Status.ALIVE, False, "it is heard again")
    ]
    learn(membership, accusation(B, C, 4), accusation(B, D, 4))
    assert learn(membership, member(B, 2, incarnation=2)) == [
        Change("b", Status.DEAD, Status.ALIVE, True, "it refuted what was said of it")
    ]
    assert learn(membership, member(B, 3, incarnation=3, zone="z")) == [
        Change("b", Status.ALIVE, Status.ALIVE, True, "it says so")
    ]
    assert learn(membership, member(B, 4, incarnation=4, left=True)) == [
        Change("b", Status.ALIVE, Status.LEFT, True, "it says that it leaves")
    ]
    membership._store.forget(Kind.MEMBER, "b")
    assert membership.refresh(0.0) == [Change("b", Status.LEFT, None, False, "it was forgotten")]
    assert learn(membership, member(Origin("x", 1))) == [Change("x", None, Status.ALIVE, True, "it is heard")]


def test_the_dead_and_the_gone_are_no_peers_and_only_the_dead_are_tried_again() -> None:
    membership = judged(member(C, 3, left=True, incarnation=2))
    learn(membership, accusation(B, D), accusation(B, E))
    assert names(membership.peers()) == ["d", "e"]
    assert membership.unreachable_peers() == ["b"]
    membership.heard(B2, "new:1")
    assert names(membership.peers()) == ["b", "d", "e"], "a newer life is another matter"


def test_the_suspect_stay_monitored_and_the_dead_do_not() -> None:
    membership = small()
    assert membership.monitored() == ["b"]
    learn(membership, accusation(B, C))
    assert membership.monitored() == ["b"]
    membership.refresh(3.0)
    assert (membership.status("b"), membership.monitored()) == (Status.DEAD, [])


def test_who_has_left_monitors_nobody() -> None:
    membership = make(member(A, left=True), member(B))
    membership.refresh(0.0)
    assert membership.monitored() == []


def test_what_a_store_from_disk_knows_is_judged_anew() -> None:
    store = judged(accusation(B, C))._store
    again = Membership(store, "a:1")
    assert [change.node_id for change in again.refresh(0.0)] == ["a", "b", "c", "d", "e"]
    assert again.status("b") is Status.SUSPECT


def test_an_accusation_of_a_stranger_leaves_what_is_known_of_it() -> None:
    membership = judged()
    membership.heard(Origin("z", 1), "z:1")
    assert learn(membership, accusation(Origin("z", 1), B)) == []
    assert membership.address("z") == "z:1"


# Refuting


def test_what_a_node_must_refute_is_the_highest_incarnation_named_of_this_life() -> None:
    membership = make(member(A, incarnation=5))
    assert membership.accused_incarnation() is None
    learn(
        membership,
        accusation(A, B, incarnation=4),
        accusation(A, C, incarnation=5, withdrawn=True),
        accusation(Origin("a", 0), D, incarnation=9),
        accusation(A, E, incarnation=2**64 - 1),
    )
    assert membership.accused_incarnation() is None
    learn(membership, accusation(A, B, 3, incarnation=5), accusation(A, C, 3, incarnation=7, forget=True))
    assert membership.accused_incarnation() == 7


def test_a_node_without_a_record_of_its_own_has_nothing_to_refute() -> None:
    assert make(accusation(A, B)).accused_incarnation() is None


def test_a_wish_that_could_not_be_refuted_is_void() -> None:
    membership = make(member(A), member(B), accusation(A, C, forget=True, incarnation=MAX_INCARNATION + 1))
    learned = accusation(B, C, forget=True, incarnation=MAX_INCARNATION + 1)
    membership._store.merge([learned], 0.0)
    assert membership.to_forget() == []
    assert membership.accused_incarnation() is None
    membership._store.merge([accusation(B, D, forget=True, incarnation=MAX_INCARNATION)], 0.0)
    assert membership.to_forget() == ["b"]


@pytest.mark.parametrize(
    ("said", "forgotten"),
    [
        (accusation(B, C, forget=True), ["b"]),
        (accusation(B, C, forget=True, incarnation=9), ["b"]),
        (accusation(B, C, forget=True, incarnation=0), []),
        (accusation(Origin("b", 9), C, forget=True), []),
        (accusation(Origin("b", 0), C, forget=True), []),
        (accusation(B, C), []),
        (accusation(A, C, forget=True), []),
        (accusation(Origin("x", 1), C, forget=True), []),
    ],
    ids=["this", "all up to it", "an earlier one", "a newer life", "an older life", "no wish", "itself", "a stranger"],
)
def test_a_wish_to_forget_is_about_one_life_and_its_incarnations_so_far(said: Record, forgotten: list[str]) -> None:
    assert make(member(A), member(B), said).to_forget() == forgotten


# Reaping

DAY = 86_400.0


def reaped(membership: Membership, now: float) -> list[str]:
    return membership.expired(now, DAY)


WALL = 1_700_000_000.0


def test_the_dead_are_reaped_a_day_after_the_last_accusation_by_its_own_time() -> None:
    membership = make(*map(member, (A, B, C, D)), accusation(B, C, at=WALL - 1000.0), accusation(B, D, at=WALL - 900.0))
    membership.refresh(0.0, WALL)
    assert reaped(membership, DAY - 900.0) == []
    assert reaped(membership, DAY - 899.0) == ["b"]


def test_a_wall_clock_that_jumps_later_reaps_nobody() -> None:
    membership = make(*map(member, (A, B, C, D)), accusation(B, C, at=WALL), accusation(B, D, at=WALL))
    membership.refresh(0.0, WALL)
    learn(membership, accusation(B, E, at=WALL))
    membership.refresh(10.0, WALL + 10 * DAY)
    assert reaped(membership, 10.0) == []


def test_an_accuser_whose_clock_is_ahead_keeps_nobody_for_ever() -> None:
    membership = judged(accusation(B, C, at=1e11), accusation(B, D, at=1e11), now=0.0)
    assert reaped(membership, DAY) == []
    assert reaped(membership, DAY + 1.0) == ["b"]


def test_who_left_is_reaped_a_day_after_that_by_its_own_time_whenever_this_node_heard_of_it() -> None:
    left = member(C, 2, left=True, left_at=WALL - 1000.0, incarnation=2)
    membership = make(*map(member, (A, D, E)), left, accusation(D, E))
    membership.refresh(5.0, WALL - 5.0)
    assert reaped(membership, DAY - 995.0) == []
    assert reaped(membership, DAY - 994.0) == ["c"]


def test_who_left_and_did_not_say_when_is_reaped_a_day_after_that_was_heard() -> None:
    membership = judged(member(C, 2, left=True, incarnation=2), now=5.0)
    assert reaped(membership, DAY + 5.0) == []
    assert reaped(membership, DAY + 6.0) == ["c"]


def test_who_comes_back_is_not_reaped() -> None:
    membership = judged(accusation(B, C), accusation(B, D))
    learn(membership, member(B, 2, incarnation=2))
    assert reaped(membership, 2 * DAY) == []


# Who is newer


def test_a_newer_life_is_known_by_its_record_and_not_because_somebody_says_to_be_one() -> None:
    membership = make(member(B2))
    assert membership.newer(B) == 2
    assert membership.newer(B2) == 0
    membership.heard(Origin("b", 3), "b:1")
    assert membership.newer(B) == 2
    assert membership.newer(C) == 0


# What is kept of accusations


def test_accusations_that_count_for_nothing_are_outdated_a_day_after_that_was_seen_whatever_time_they_say() -> None:
    membership = judged(
        accusation(B, C, at=1e11),
        accusation(B, D, at=1e11, withdrawn=True),
        accusation(Origin("unknown", 1), E, at=1e11),
        accusation(C, D, 3, incarnation=0),
    )
    assert membership.outdated(10.0, DAY) == []
    learn(membership, accusation(C, E, 3, incarnation=0, forget=True))
    assert membership.outdated(11.0, DAY) == []
    assert membership.outdated(DAY + 10.0, DAY) == []
    assert sorted(membership.outdated(DAY + 10.5, DAY)) == [("b", "d"), ("c", "d"), ("unknown", "e")]


def test_accusations_of_nobody_that_is_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossip_grpc.core.membership.MAX_STRANGERS", 3)
    membership = judged(accusation(B, C, incarnation=0))
    learn(membership, *(accusation(Origin(f"x{number}", 1), E, 2 + number) for number in range(3)))
    assert membership.outdated(1.0, DAY) == []
    learn(membership, *(accusation(Origin(f"y{number}", 1), E, 9 + number) for number in range(2)))
    assert membership.outdated(2.0, DAY) == [("x0", "e"), ("x1", "e")]


# Who starts again


def test_who_starts_again_before_it_is_missed_is_alive_since_then() -> None:
    membership = judged()
    assert learn(membership, member(B2, address="new:1"), now=9.0) == [
        Change("b", Status.ALIVE, Status.ALIVE, True, "it has started again, at new:1")
    ]
    standing = membership.standing("b")
    assert standing is not None
    assert (standing.since, standing.cause) == (9.0, "it has started again, at new:1")


# Who accuses


def test_the_accused_alone_kill_nobody_at_once() -> None:
    """Two that were cut off together accuse everybody, and those they accuse hold both for dead."""
    membership = judged(accusation(C, A, 2), accusation(D, A, 3), accusation(C, B, 2), accusation(D, B, 3))
    assert [membership.status(name) for name in "cd"] == [Status.DEAD] * 2
    learn(membership, accusation(B, C, 2), accusation(E, C, 3), accusation(B, D, 2), accusation(E, D, 3))
    assert [membership.status(name) for name in "bcde"] == [Status.SUSPECT, Status.DEAD, Status.DEAD, Status.SUSPECT]


def test_the_accused_together_are_right_if_nobody_refutes_them_in_time() -> None:
    membership = judged(accusation(B, C), accusation(C, E), now=10.0)
    assert membership.deadline() == NEVER
    learn(membership, accusation(B, D), now=11.0)
    assert (membership.status("b"), membership.deadline()) == (Status.SUSPECT, 13.0)
    membership.refresh(13.0)
    assert membership.status("b") is Status.DEAD


def test_the_dead_stay_dead_when_another_monitor_joins() -> None:
    membership = small(accusation(B, A), now=0.0)
    membership.refresh(3.0)
    learn(membership, member(C), member(D), now=4.0)
    assert membership.status("b") is Status.DEAD


def test_a_later_incarnation_that_is_accused_too_is_suspected_anew() -> None:
    membership = small(accusation(B, A), now=10.0)
    assert learn(membership, member(B, 2, incarnation=2), accusation(B, C, 3, incarnation=2), now=12.0) == [
        Change("b", Status.SUSPECT, Status.SUSPECT, True, "it says so")
    ]
    assert membership.deadline() == 15.0


def test_a_node_that_stood_still_gives_the_suspects_the_time_they_did_not_have() -> None:
    membership = small(accusation(B, A), now=10.0)
    membership.awake(60.0)
    assert membership.deadline() == 73.0
    assert membership.refresh(72.9) == []
    membership.refresh(73.0)
    assert membership.status("b") is Status.DEAD
    membership.awake(60.0)
    assert membership.deadline() == NEVER


# Those without a record


def test_a_call_to_one_that_was_forgotten_meanwhile_leaves_nothing_behind() -> None:
    membership = judged()
    for _ in range(20):
        membership.failed(Peer("x:1", "x"))
    assert "x" not in names(membership.peers())
    assert "x" not in membership.unreachable()


def test_one_that_spoke_once_and_never_answers_is_no_peer_for_ever() -> None:
    membership = judged()
    membership.heard(Origin("x", 1), "x:1")
    assert "x" in names(membership.peers())
    for _ in range(STRANGE_FAILURES):
        membership.failed(Peer("x:1", "x"))
    assert "x" not in names(membership.peers())
    assert "x" not in membership.unreachable()
    membership.heard(Origin("x", 1), "x:1")
    assert "x" in names(membership.peers())


def test_a_life_is_forgotten_if_its_first_words_are_covered_and_not_held() -> None:
    membership = judged()
    assert not membership.forgotten(B)
    assert not membership.forgotten(Origin("x", 1)), "it has not been heard yet"
    membership._store.forget(Kind.MEMBER, "b")
    assert membership.forgotten(B)
