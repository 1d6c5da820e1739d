"""Coverage behaves as the plain set of dots it stands for, whatever its ranges look like inside."""

from __future__ import annotations

from typing import NamedTuple
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from gossip_grpc.core import coverage as module
from gossip_grpc.core.coverage import EVERYTHING, Coverage
from gossip_grpc.core.records import Dot, Origin

A, B, C = Origin("a", 1), Origin("a", 2), Origin("b", 1)
ORIGINS = [A, B, C]
LAST = 12

origins = st.sampled_from(ORIGINS)
sequences = st.integers(1, LAST)


class Span(NamedTuple):
    """One step: add the dots from first to last, one by one or as a range."""

    origin: Origin
    first: int
    last: int
    as_range: bool


spans = st.builds(
    lambda origin, first, length, as_range: Span(origin, first, first + length, as_range),
    origins,
    sequences,
    st.integers(0, 4),
    st.booleans(),
)
histories = st.lists(spans, max_size=30)


def extend(coverage: Coverage, span: Span) -> None:
    if span.as_range:
        coverage.add_range(span.origin, span.first, span.last)
    else:
        for sequence in range(span.first, span.last + 1):
            coverage.add(span.origin, sequence)


def build(history: list[Span]) -> tuple[Coverage, set[Dot]]:
    coverage, dots = Coverage(), set[Dot]()
    for origin, first, last, as_range in history:
        new = {Dot(origin, sequence) for sequence in range(first, last + 1)}
        if as_range:
            assert coverage.add_range(origin, first, last) == bool(new - dots)
        else:
            for dot in sorted(new, key=lambda dot: -dot.sequence if first % 2 else dot.sequence):
                assert coverage.add(*dot) == (dot not in dots)
        dots |= new
    return coverage, dots


@given(histories)
def test_holds_exactly_the_dots_added(history: list[Span]) -> None:
    coverage, dots = build(history)
    assert set(coverage.dots()) == dots
    assert list(coverage.dots()) == sorted(dots)
    for origin in ORIGINS:
        for sequence in range(1, LAST + 6):
            assert coverage.covers(origin, sequence) == (Dot(origin, sequence) in dots)
    assert coverage.origins() == {dot.origin for dot in dots}


@given(histories)
def test_sequence_is_where_the_first_hole_is_and_highest_the_last_dot(history: list[Span]) -> None:
    coverage, dots = build(history)
    for origin in ORIGINS:
        own = {dot.sequence for dot in dots if dot.origin == origin}
        assert coverage.sequence(origin) == next(n for n in range(LAST + 10) if n + 1 not in own)
        assert coverage.highest(origin) == max(own, default=0)


@given(histories)
def test_ranges_are_sorted_and_apart_from_each_other_and_from_the_sequence(history: list[Span]) -> None:
    coverage, _ = build(history)
    for origin in ORIGINS:
        last = coverage.sequence(origin)
        for first, end in coverage.above(origin):
            assert last + 1 < first <= end
            last = end


@given(histories, histories)
def test_merge_is_the_union(one: list[Span], other: list[Span]) -> None:
    (first, dots), (second, more) = build(one), build(other)
    before = second.copy()
    first.merge(second)
    assert set(first.dots()) == dots | more
    assert first == Coverage.of(dots | more)
    assert second == before


@given(histories, histories)
def test_includes_is_the_superset(one: list[Span], other: list[Span]) -> None:
    (first, dots), (second, more) = build(one), build(other)
    assert first.includes(second) == (dots >= more)
    first.merge(second)
    assert first.includes(second)


@given(histories, histories)
def test_equality_and_hash_are_of_the_dots_not_of_their_history(one: list[Span], other: list[Span]) -> None:
    (first, dots), (second, more) = build(one), build(other)
    assert (first == second) == (dots == more)
    assert (first.hash() == second.hash()) == (dots == more)
    assert Coverage.of(sorted(dots, reverse=True)) == first
    assert Coverage.of(sorted(dots, reverse=True)).hash() == first.hash()


class Step(NamedTuple):
    """Something that is done to a coverage whose hash has been asked for, or not."""

    do: str
    span: Span
    asked: bool


steps = st.lists(st.builds(Step, st.sampled_from(["span", "merge", "copy", "fold"]), spans, st.booleans()), max_size=20)


@given(steps)
def test_a_hash_that_was_kept_is_the_hash_made_from_scratch(history: list[Step]) -> None:
    coverage = Coverage()
    copies = []
    for do, span, asked in history:
        if asked:
            coverage.hash()
        if do == "span":
            extend(coverage, span)
        elif do == "merge":
            other, _ = build([span, span._replace(first=span.first + 7, last=span.last + 7)])
            other.hash()
            coverage.merge(other)
        elif do == "fold":
            coverage.fold({span.origin.node_id: span.origin.generation})
        else:
            copies.append(coverage)
            coverage = coverage.copy()
    for each in [coverage, *copies]:
        vector = {origin: each.sequence(origin) for origin in each.origins() if each.sequence(origin)}
        above = {origin: list(each.above(origin)) for origin in each.origins() if each.above(origin)}
        assert each.hash() == Coverage(vector, above, each.folded).hash()
        assert each.copy().hash() == each.hash()


@given(histories, origins, sequences)
def test_a_copy_is_independent(history: list[Span], origin: Origin, sequence: int) -> None:
    coverage, dots = build(history)
    before = coverage.hash()
    copy = coverage.copy()
    copy.add(origin, sequence)
    copy.add_range(origin, sequence, sequence + 20)
    assert set(coverage.dots()) == dots
    assert coverage.hash() == before


def test_a_filled_hole_folds_the_range_above_it_into_the_sequence() -> None:
    coverage = Coverage.of([(A, 1), (A, 3), (A, 4), (A, 7)])
    assert (coverage.sequence(A), coverage.above(A)) == (1, [(3, 4), (7, 7)])
    assert coverage.add(A, 2)
    assert (coverage.sequence(A), coverage.above(A)) == (4, [(7, 7)])


def test_a_merged_sequence_folds_the_ranges_that_it_reaches() -> None:
    coverage = Coverage.of([(A, 3), (A, 6)])
    coverage.merge(Coverage({A: 2}))
    assert (coverage.sequence(A), coverage.above(A)) == (3, [(6, 6)])


def test_a_sequence_is_included_by_a_range_only_if_it_starts_at_one() -> None:
    assert not Coverage.of([(A, 2), (A, 3)]).includes(Coverage({A: 3}))
    assert Coverage({A: 3}).includes(Coverage.of([(A, 2), (A, 3)]))


def test_nothing_is_covered_of_an_unknown_origin() -> None:
    coverage = Coverage()
    assert (coverage.sequence(A), coverage.above(A), coverage.highest(A)) == (0, [], 0)
    assert not coverage.covers(A, 1)


def test_a_kept_hash_costs_what_has_changed_since(monkeypatch: pytest.MonkeyPatch) -> None:
    coverage = Coverage({Origin(f"n{number}", 1): 5 for number in range(1000)})
    coverage.hash()
    parts = Mock(side_effect=xxh3_64_intdigest)
    monkeypatch.setattr(module, "xxh3_64_intdigest", parts)
    coverage.add(Origin("n7", 1), 6)
    coverage.add(Origin("n7", 1), 7)
    coverage.hash()
    coverage.hash()
    assert parts.call_count == 2


def test_hash_is_the_same_on_every_machine() -> None:
    assert f"{Coverage().hash():016x}" == "0000000000000000"
    assert f"{Coverage.of([(A, 1), (A, 3), (C, 2)]).hash():016x}" == "523f1c809b1e6351"


def test_hash_tells_names_apart_that_run_into_the_generation() -> None:
    assert Coverage.of([(Origin("a", 11), 1)]).hash() != Coverage.of([(Origin("a1", 1), 1)]).hash()


def test_reads_well_in_a_failing_test() -> None:
    assert repr(Coverage.of([(C, 1), (A, 1), (A, 3)])) == "Coverage(a/1: 1 [(3, 3)], b/1: 1 )"


def test_is_not_hashable_and_equals_no_other_type() -> None:
    assert Coverage() != {}
    with pytest.raises(TypeError, match="unhashable"):
        hash(Coverage())


# Lives that ended

folds = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 2), max_size=2)


def folded(history: list[Span], lives: dict[str, int]) -> tuple[Coverage, set[Dot]]:
    """A coverage of which some lives were folded in the middle, and what it covers: all of those, up to a point."""
    half = len(history) // 2
    coverage, dots = build(history[:half])
    assert coverage.fold(lives) == set(lives)
    for span in history[half:]:
        extend(coverage, span)
    dots = build(history)[1] | {Dot(o, n) for o in ORIGINS if is_among(o, lives) for n in range(1, LAST + 6)}
    return coverage, dots


def is_among(origin: Origin, lives: dict[str, int]) -> bool:
    return origin.generation <= lives.get(origin.node_id, -1)


@given(histories, folds)
def test_of_a_folded_life_everything_is_covered_and_of_others_what_was(
    history: list[Span], lives: dict[str, int]
) -> None:
    coverage, dots = folded(history, lives)
    for origin in ORIGINS:
        for sequence in range(1, LAST + 6):
            assert coverage.covers(origin, sequence) == (Dot(origin, sequence) in dots)
        if is_among(origin, lives):
            assert coverage.covers(origin, EVERYTHING)
            assert coverage.is_folded(origin)
            assert (coverage.sequence(origin), coverage.highest(origin), coverage.above(origin)) == (
                EVERYTHING, EVERYTHING, [],
            )  # fmt: skip
            assert not coverage.add(origin, LAST + 50)
            assert not coverage.add_range(origin, 1, LAST + 50)
    assert not any(is_among(origin, lives) for origin in coverage.origins())
    assert coverage.folded == lives


@given(histories, folds, histories, folds)
def test_inclusion_and_union_know_of_lives_that_ended(
    one: list[Span], ended: dict[str, int], other: list[Span], gone: dict[str, int]
) -> None:
    (first, dots), (second, more) = folded(one, ended), folded(other, gone)
    known = all(ended.get(node, -1) >= generation for node, generation in gone.items())
    assert first.includes(second) == (known and dots >= more)
    before = second.copy()
    news = {node for node, generation in gone.items() if generation > ended.get(node, -1)}
    assert first.merge(second) == news
    assert second == before
    assert first.includes(second)
    assert first.folded == {node: max(ended.get(node, -1), gone.get(node, -1)) for node in {*ended, *gone}}
    for origin in ORIGINS:
        for sequence in range(1, LAST + 6):
            assert first.covers(origin, sequence) == (Dot(origin, sequence) in dots | more)


@given(histories, folds, folds)
def test_equality_and_hash_tell_what_is_folded(
    history: list[Span], ended: dict[str, int], gone: dict[str, int]
) -> None:
    first, second = build(history)[0], build(history)[0]
    assert first.hash() == second.hash()
    first.fold(ended)
    second.fold(gone)
    assert (first == second) == (first.hash() == second.hash()) == (ended == gone)
    copy = first.copy()
    assert (copy, copy.hash()) == (first, first.hash())
    copy.fold({"z": 9})
    assert "z" not in first.folded


def test_a_fold_is_told_once_and_never_taken_back() -> None:
    coverage = Coverage({A: 3, B: 2, C: 5})
    coverage.changed = set()
    assert coverage.fold({"a": 1}) == {"a"}
    assert coverage.changed == {A}
    assert coverage.fold({"a": 1, "b": 0}) == {"b"}
    assert coverage.fold({"a": 0}) == set()
    assert coverage.changed == {A, Origin("b", 0)}
    assert repr(coverage) == "Coverage(a/2: 2 , b/1: 5 , a: all up to 1, b: all up to 0)"


def test_many_folds_cost_one_look_at_the_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Mock(return_value=set())
    monkeypatch.setattr(Coverage, "origins", looks)
    Coverage({}, {}, {f"n{number}": 1 for number in range(1000)})
    assert looks.call_count == 1


def test_the_hash_of_a_fold_is_the_same_on_every_machine() -> None:
    assert Coverage(folded={"b": 3}).hash() == xxh3_64_intdigest(b"1 b 3 folded")
