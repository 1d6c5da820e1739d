"""Records: each kind's winner rule makes a merge order-free, and fingerprints tell records apart."""

from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gossip_grpc.core.records import Dot, Kind, Member, Origin, Record, fingerprint, wins
from tests import samples
from tests.samples import A, B, addition, lease, member, register, removal, reset, share


def is_of_the_set_slot(record: Record) -> bool:
    return record.slot == ("k", "e", A)


# Records of one slot, one strategy a kind.
KEY = st.just("k")
SLOTS = {
    Kind.REGISTER: samples.registers(keys=KEY) | samples.leases(keys=KEY),
    Kind.COUNTER_SHARE: samples.shares(keys=KEY, origins=st.just(A)),
    Kind.COUNTER_RESET: samples.resets(keys=KEY, about=st.just(B)),
    Kind.SET_ELEMENT: samples.elements(keys=KEY, values=st.just("e"), about=st.just(A)).filter(is_of_the_set_slot),
    Kind.COUNTER_RECEIPT: samples.receipts(keys=KEY, origins=st.just(A), requests=st.just("r")),
    Kind.COUNTER_VOID: samples.voids(keys=KEY, about=st.just(B), sums=st.just((2, 2))),
    Kind.MEMBER: samples.members(
        origins=st.builds(Origin, st.just("a"), samples.few_numbers), contents=samples.few_members
    ),
}
one_slot = st.sampled_from(sorted(SLOTS)).flatmap(lambda kind: st.lists(SLOTS[kind], min_size=3, max_size=3))
anything = st.one_of(samples.registers(), samples.shares(), samples.resets(), samples.elements(), samples.voids())


def merge(one: Record, other: Record) -> Record:
    return other if wins(other, one) else one


@given(one_slot)
def test_merging_is_commutative_associative_and_idempotent(records: list[Record]) -> None:
    a, b, c = records
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(one_slot)
def test_of_two_different_records_of_a_slot_exactly_one_wins(records: list[Record]) -> None:
    a, b, _ = records
    assert wins(a, b) + wins(b, a) == (a != b)


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (register("k", "a", A, 1, clock=2), register("k", "z", B, 9, clock=1)),
        (register("k", "a", B, 1, clock=1), register("k", "z", A, 9, clock=1)),
        (register("k", "a", Origin("a", 2), 1, clock=1), register("k", "z", Origin("a", 1), 9, clock=1)),
        (register("k", "b", A, 1, clock=1), register("k", "a", A, 9, clock=1)),
        (register("k", b"a", A, 1, clock=1), register("k", "z", A, 9, clock=1)),
        (register("k", None, A, 1, clock=1), register("k", b"z", A, 9, clock=1)),
        (register("k", None, A, 1, clock=2), register("k", "z", B, 1, clock=1)),
        (register("k", "z", B, 1, clock=2), register("k", None, A, 1, clock=1)),
        (lease("k", "a", A, 1, clock=2, ephemeral=True), register("k", None, B, 1, clock=1)),
        (register("k", None, A, 1, clock=2), lease("k", "z", B, 1, clock=1, ephemeral=True)),
        (lease("k", "b", A, 1, clock=1, expires_at=5), lease("k", "a", A, 1, clock=1, expires_at=9)),
        (lease("k", "a", A, 1, clock=1, expires_at=9), lease("k", "a", A, 1, clock=1, expires_at=5)),
        (lease("k", "a", A, 1, clock=1, expires_at=9), register("k", "a", A, 2, clock=1)),
        (share("k", 1, 0, sequence=2), share("k", 9, 9, sequence=1)),
        (member(A, incarnation=2), member(A, 9, incarnation=1)),
        (member(Origin("a", 2), incarnation=1), member(Origin("a", 1), 9, incarnation=7)),
    ],
    ids=repr,
)
def test_who_wins(winner: Record, loser: Record) -> None:
    assert wins(winner, loser)
    assert not wins(loser, winner)


def test_a_removal_wins_over_the_addition_it_names_but_not_over_a_later_one() -> None:
    first, second = addition("s", "e", A, 1), addition("s", "e", A, 3)
    remove = removal("s", "e", first, B, 9)
    assert wins(remove, first)
    assert wins(second, remove)


@given(st.lists(samples.few_sums, min_size=1, max_size=5), st.data())
def test_the_winning_reset_is_the_element_wise_maximum_of_what_was_seen(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    # A share only grows, so what resets see of it are some of its running sums.
    sums = list(itertools.accumulate(steps, lambda old, step: (old[0] + step[0], old[1] + step[1])))
    seen = data.draw(st.lists(st.sampled_from(sums), min_size=1, max_size=6))
    resets = [reset("k", B, pair, Origin(f"n{i}", 1)) for i, pair in enumerate(data.draw(st.permutations(seen)))]
    winner = resets[0]
    for other in resets[1:]:
        winner = merge(winner, other)
    assert winner.content == (max(added for added, _ in seen), max(subtracted for _, subtracted in seen))


@given(anything, anything)
def test_different_records_have_different_fingerprints(one: Record, other: Record) -> None:
    assume(not one.is_tombstone and not other.is_tombstone)
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_no_key_makes_a_register_look_like_a_counter() -> None:
    # What was hashed of a register did not begin with its kind. So its clock 2 could be read as the kind of a share,
    # its sequence as the clock ..., the length of its key, 500, as a name, and its key as the length and head of one.
    key = f"{'x' * 496}Tv"
    slot = f"{len(key)} {'x' * 496}"
    fake = register(slot, "v 0 1 n 5 6", Origin("3", 4), sequence=3, clock=2)
    real = Record(Kind.COUNTER_SHARE, (key, Origin("n", 0)), Origin("500", 1), 4, 3, (5, 6))
    assert fingerprint(fake) != fingerprint(real)


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (register("k", "v"), "46dd4bad3288906e"),
        (register("k", b"v"), "a2d762c5b41e1289"),
        (share("k", 5, 2), "08c8954519c8878d"),
        (reset("k", B, (5, 2)), "d166a1ee528fa028"),
        (addition("s", "e"), "c90591316578e7d7"),
        (addition("s", b"e"), "c82900684694807b"),
    ],
)
def test_fingerprints_are_the_same_on_every_machine(record: Record, known: str) -> None:
    assert f"{fingerprint(record):016x}" == known


def test_tombstones_are_deleted_registers_and_removed_elements() -> None:
    added = addition("s", "e")
    assert register("k", None).is_tombstone
    assert removal("s", "e", added).is_tombstone
    for record in (register("k", ""), register("k", b""), added, share("k", 0), reset("k", A, (0, 0)), member()):
        assert not record.is_tombstone


def test_records_are_equal_by_all_their_parts() -> None:
    record = register("k", "v", A, 2, clock=3)
    assert copy.copy(record) == record
    assert hash(copy.copy(record)) == hash(record)
    for name, other in (("slot", "l"), ("origin", B), ("sequence", 9), ("clock", 9), ("content", b"v"), ("kind", 4)):
        changed = copy.copy(record)
        setattr(changed, name, other)
        assert changed != record
    assert record != "k"


def test_text_and_bytes_are_different_values() -> None:
    assert register("k", "v") != register("k", b"v")


def test_they_read_well_in_logs() -> None:
    record = register("k", "v", A, 2, clock=3)
    assert repr(record) == "Record(REGISTER, 'k', a/1:2, clock=3, 'v')"
    assert str(record.dot) == "a/1:2"
    assert record.dot == Dot(A, 2)
    assert str(Origin("a", 7)) == "a/7"


def test_a_members_tags_do_not_depend_on_their_order() -> None:
    one, other = member(tags={"x": "1", "y": "2"}), member(tags={"y": "2", "x": "1"})
    assert one == other
    assert not wins(one, other)
    assert isinstance(one.content, Member)


def test_a_lease_is_in_no_fingerprint_for_when_it_ends_is_a_matter_of_clocks() -> None:
    assert fingerprint(lease("k", "v", expires_at=5)) == 0
    assert fingerprint(register("k", "v")) != 0
