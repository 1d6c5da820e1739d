"""Digests, their comparison, and the split of superseded records into layers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Record
from gossip_grpc.core.sync import Comparison, Digest, Strategy, compare, layers
from tests import samples
from tests.samples import A, B, addition, register

SOME, MORE, OTHER = Coverage({A: 1}), Coverage({A: 2}), Coverage({B: 1})


def test_which_way_records_flow() -> None:
    assert [(strategy.value, strategy.fetches, strategy.sends) for strategy in Strategy] == [
        ("push", False, True),
        ("pull", True, False),
        ("push-pull", True, True),
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (Digest(SOME), Digest(SOME), Comparison(we_lack=False, they_lack=False, diverged=False)),
        (Digest(SOME), Digest(MORE), Comparison(we_lack=True, they_lack=False, diverged=False)),
        (Digest(MORE), Digest(SOME), Comparison(we_lack=False, they_lack=True, diverged=False)),
        (Digest(SOME), Digest(OTHER), Comparison(we_lack=True, they_lack=True, diverged=False)),
        (
            Digest(SOME, fingerprint=1),
            Digest(SOME, fingerprint=2),
            Comparison(we_lack=False, they_lack=False, diverged=True),
        ),
        (
            Digest(SOME, fingerprint=1),
            Digest(MORE, fingerprint=2),
            Comparison(we_lack=True, they_lack=False, diverged=False),
        ),
        (
            Digest(MORE, fingerprint=1),
            Digest(SOME, fingerprint=2),
            Comparison(we_lack=False, they_lack=True, diverged=False),
        ),
    ],
)
def test_what_two_digests_say_of_each_other(ours: Digest, theirs: Digest, verdict: Comparison) -> None:
    assert compare(ours, theirs) == verdict
    assert verdict.agreed == (not (verdict.we_lack or verdict.they_lack or verdict.diverged))


def test_the_hash_is_of_coverage_and_fingerprint_only() -> None:
    digest = Digest(SOME, fingerprint=1)
    assert digest.hash() == Digest(SOME.copy(), {A: 1}, {A: 1}, 1).hash()
    assert digest.hash() != Digest(MORE, fingerprint=1).hash()
    assert digest.hash() != Digest(SOME, fingerprint=2).hash()


@given(st.lists(samples.registers() | samples.leases() | samples.elements(), max_size=20))
def test_layers_hold_no_slot_twice_lose_nothing_and_keep_the_order(records: list[Record]) -> None:
    split = layers(records)
    for layer in split:
        slots = [(record.kind, record.slot) for record in layer]
        assert len(set(slots)) == len(slots) > 0
    for slot in {(record.kind, record.slot) for record in records}:
        of_slot = [record for record in records if (record.kind, record.slot) == slot]
        assert [record for layer in split for record in layer if (record.kind, record.slot) == slot] == of_slot
    assert len(split) == max((sum(r.slot == s.slot and r.kind == s.kind for r in records) for s in records), default=0)


def test_slots_of_different_kinds_share_a_layer() -> None:
    assert len(layers([register("x", "1"), addition("x", "1")])) == 1
