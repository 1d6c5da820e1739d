"""Tokens: joined and shortened they ask for no less than before, and for no more where there is room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.client import Dot as ClientDot
from gossip_grpc.client import InvalidArgumentError
from gossip_grpc.client import Origin as ClientOrigin
from gossip_grpc.client import Session as ClientSession
from gossip_grpc.core.clock import LamportClock
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Dot, Kind, Origin
from gossip_grpc.core.sessions import MAX_LENT, Gate, Session
from gossip_grpc.core.store import Store
from gossip_grpc.errors import LocalError, Reason
from gossip_grpc.tokens import EXACT, MAX_ENTRIES, join
from tests.samples import A, B, C

origins = st.sampled_from([A, B, C])
dots = st.builds(Dot, origins, st.integers(1, 8))
tokens = st.builds(
    Session, st.integers(0, 9), st.lists(dots, max_size=12).map(tuple), st.lists(dots, max_size=4).map(tuple)
)
coverages = st.lists(dots, max_size=24).map(Coverage.of)
PLENTY = 100


def asked(token: Session) -> set[Dot]:
    """Every write that a token asks for."""
    whole = {Dot(end.origin, number) for end in token.complete for number in range(1, end.sequence + 1)}
    return whole | set(token.dots)


@given(tokens, tokens, st.integers(0, 4))
def test_joined_tokens_ask_for_no_less_than_both(one: Session, other: Session, exact: int) -> None:
    joined = one.merge(other, exact)
    assert asked(joined) >= asked(one) | asked(other)
    assert joined.clock == max(one.clock, other.clock)
    assert len(joined.dots) <= exact
    assert len({end.origin for end in joined.complete}) == len(joined.complete)


@given(tokens, tokens)
def test_where_there_is_room_joined_tokens_ask_for_no_more(one: Session, other: Session) -> None:
    assert asked(one.merge(other, PLENTY)) == asked(one) | asked(other)


@given(tokens, tokens, tokens)
def test_the_order_of_joining_does_not_matter_nor_how_often(one: Session, two: Session, three: Session) -> None:
    merged = one.merge(two, PLENTY)
    assert asked(merged) == asked(two.merge(one, PLENTY)) == asked(merged.merge(two, PLENTY))
    assert asked(merged.merge(three, PLENTY)) == asked(one.merge(two.merge(three, PLENTY), PLENTY))


@given(tokens, coverages)
def test_a_token_is_met_where_all_that_it_asks_for_is_covered(token: Session, coverage: Coverage) -> None:
    lacking = {dot for dot in asked(token) if not coverage.covers(*dot)}
    missing = token.missing(coverage)
    assert token.met(coverage) == (not lacking) == (not missing.dots and not missing.complete)
    assert lacking <= asked(missing) <= asked(token)


@given(st.lists(st.integers(1, 30), max_size=40))
def test_the_latest_writes_stay_exact(sequences: list[int]) -> None:
    token = Session()
    for sequence in sequences:
        token = token.merge(Session(0, (Dot(A, sequence),)))
    whole = max((end.sequence for end in token.complete), default=0)
    latest = list(dict.fromkeys(reversed(sequences)))[:1]
    assert all(sequence <= whole or Dot(A, sequence) in token.dots for sequence in latest)
    assert len(token.dots) <= EXACT


def test_writes_without_a_hole_are_one_entry() -> None:
    dots = [Dot(A, number) for number in (3, 1, 2, 4)]
    assert join(dots, ()) == ((), (Dot(A, 4),))
    assert join(dots, (Dot(B, 2),)) == ((), (Dot(B, 2), Dot(A, 4)))


def test_of_too_many_origins_those_longest_not_seen_are_let_go() -> None:
    ends = [Dot(Origin(f"n{number}", 1), 1) for number in range(MAX_ENTRIES + 1)]
    _, complete = join((), [*ends, Dot(ends[0].origin, 2)])
    assert len(complete) == MAX_ENTRIES
    assert complete[-1] == Dot(ends[0].origin, 2)
    assert ends[1] not in complete


def test_what_is_missing_has_names() -> None:
    assert Session(1, (Dot(A, 3),), (Dot(B, 2),)).names() == ["a/1:3", "b/1:1-2"]


# The gate


def store_at(time: int) -> Store:
    store = Store(A)
    store.clock = LamportClock(time)
    return store


def test_a_write_after_the_gate_wins_over_what_the_session_has_written() -> None:
    store = store_at(5)
    Gate(store).enter(Session(70))
    assert store.write(Kind.REGISTER, "k", "v", 0.0).clock == 71


def test_a_clock_that_is_behind_moves_nothing() -> None:
    store, gate = (made := store_at(5)), Gate(made)
    gate.enter(Session(5))
    assert (store.clock.time, gate.lent) == (5, 0)


def test_a_clock_is_lent_so_far_and_no_further_in_however_many_steps() -> None:
    store, gate = (made := store_at(5)), Gate(made)
    gate.enter(Session(5 + MAX_LENT // 2))
    gate.enter(Session(5 + MAX_LENT))
    with pytest.raises(LocalError) as caught:
        gate.enter(Session(6 + MAX_LENT))
    assert caught.value.reason is Reason.CLOCK_POISON
    assert caught.value.field == "session.clock"
    assert store.clock.time == 5 + MAX_LENT


# As text

client_origins = st.builds(ClientOrigin, st.sampled_from(["a", "b-1.x"]), st.integers(0, 2**64 - 1))
client_dots = st.lists(st.builds(ClientDot, client_origins, st.integers(1, 2**64 - 1)), max_size=5).map(tuple)
client_tokens = st.builds(ClientSession, st.integers(0, 2**64 - 1), client_dots, client_dots)


@given(client_tokens)
def test_a_session_is_what_its_text_says(session: ClientSession) -> None:
    text = str(session)
    assert text.isascii()
    assert set(text).isdisjoint("+/= \n,;")
    assert ClientSession.parse(text) == session


@pytest.mark.parametrize("text", ["?", "AAAA", "ä", "Cg", "x" * 7])
def test_what_is_no_session_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ClientSession.parse(text)
    assert list(caught.value.fields) == ["session"]
