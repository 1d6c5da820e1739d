"""Receiving a delta: every chunk is checked whole, and only the end takes over what the sender covers."""

from __future__ import annotations

import pytest

from gossip_grpc.core.clock import MAX_CLOCK, MAX_LEAD
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.records import Kind
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta, Digest
from gossip_grpc.core.transfer import MAX_EXAMPLE, InboundDelta, check_records
from gossip_grpc.errors import Reason, RemoteError
from tests.samples import A, B, C, D, register


def sender_of(count: int) -> Store:
    """A store with registers k0, k1, ..., the first of them written twice."""
    store = Store(B)
    for number in range(count):
        store.write(Kind.REGISTER, f"k{number}", "1", 0.0)
    store.write(Kind.REGISTER, "k0", "2", 0.0)
    return store


def test_an_interrupted_delta_covers_what_came_and_no_more() -> None:
    sender, here = sender_of(4), Store(A)
    delta = sender.delta(here.digest())
    InboundDelta(here, delta).merge(delta.records[:2], 0.0, synced=True)
    assert here.coverage == Coverage.of(record.dot for record in delta.records[:2])


def test_an_interrupted_delta_resumes_with_what_did_not_come() -> None:
    sender, here = sender_of(4), Store(A)
    delta = sender.delta(here.digest())
    InboundDelta(here, delta).merge(delta.records[:2], 0.0, synced=True)
    rest = sender.delta(here.digest())
    assert rest.records == delta.records[2:]
    inbound = InboundDelta(here, rest)
    inbound.merge(rest.records, 0.0, synced=True)
    inbound.complete()
    assert here.coverage == sender.coverage
    assert here.fingerprint == sender.fingerprint


def test_an_interrupted_full_delta_drops_nothing_and_the_next_sync_leaves_no_hole() -> None:
    sender, other, here = sender_of(3), Store(C), Store(A)
    here.merge(sender.delta(Digest()).records, 0.0)
    other.complete(Delta(Digest(), sender.digest()))  # covers all the sender covers
    other.merge(sender.delta(Digest()).records, 0.0, repair=True)
    sender.write(Kind.REGISTER, "k1", None, 0.0)
    sender.purge(1.0, 0.0)

    delta = sender.delta(here.digest())
    assert delta.full
    InboundDelta(here, delta).merge(delta.records[:1], 0.0, synced=True)
    assert here.register("k1") is not None
    assert not here.coverage.includes(sender.coverage)

    delta = other.delta(here.digest())
    inbound = InboundDelta(here, delta)
    inbound.merge(delta.records, 0.0, synced=True)
    inbound.complete()
    assert not here.coverage.covers(B, 5), "the deletion, which nobody but the sender covers"
    assert sender.delta(here.digest()).full


def test_it_counts_what_was_new_what_was_not_and_what_was_dropped() -> None:
    sender, here = sender_of(3), Store(A)
    ghost = register("ghost", "1", B, 1)
    here.merge([ghost, sender.delta(Digest()).records[0]], 0.0)
    sender.floor = {B: 4}
    delta = sender.delta(here.digest())
    inbound = InboundDelta(here, delta)
    inbound.merge(delta.records, 0.0, synced=True)
    inbound.complete()
    assert (inbound.merged, inbound.ignored, inbound.dropped) == (2, 0, 1)
    inbound.merge(delta.records, 0.0, synced=True)
    assert inbound.ignored == 2


def test_of_a_full_delta_without_a_list_of_what_is_held_all_that_comes_is() -> None:
    here = Store(A)
    kept, ghost = register("x", "1", B, 1), register("y", "1", B, 2)
    here.merge([kept, ghost], 0.0)
    inbound = InboundDelta(here, Delta(Digest(), Digest(Coverage({B: 2})), full=True))
    inbound.merge([kept], 0.0, synced=True)
    inbound.complete()
    assert here.register("x") == kept
    assert here.register("y") is None


def test_superseded_records_do_not_count_as_held() -> None:
    here = Store(A)
    held = register("x", "1", B, 1)
    here.merge([held], 0.0)
    header = Delta(Digest(), Digest(Coverage({B: 1})), full=True)
    inbound = InboundDelta(here, header)
    inbound.merge([held], 0.0, synced=True, superseded=True)
    inbound.complete()
    assert here.register("x") is None
    assert inbound.dropped == 1


def test_a_repair_is_merged_whatever_is_covered() -> None:
    sender, here = sender_of(2), Store(A)
    here.complete(Delta(Digest(), sender.digest()))  # covers all, holds nothing
    delta = sender.delta(here.digest(), repair=True)
    inbound = InboundDelta(here, delta)
    inbound.merge(delta.records, 0.0, synced=True)
    inbound.complete()
    assert here.fingerprint == sender.fingerprint
    assert inbound.merged == 2


def test_a_delta_made_for_another_state_of_ours_is_refused() -> None:
    here = Store(A)
    header = Delta(Digest(Coverage({B: 1})), Digest(Coverage({B: 5})))
    with pytest.raises(RemoteError, match="compare digests again") as caught:
        InboundDelta(here, header)
    assert (caught.value.reason, caught.value.field) == (Reason.BROKEN_TRANSFER, "delta.header.base")


@pytest.mark.parametrize(("clock", "synced"), [(MAX_CLOCK + 1, False), (MAX_LEAD + 10, True)])
@pytest.mark.parametrize("superseded", [False, True])
def test_a_poisonous_chunk_is_refused_whole(clock: int, synced: bool, superseded: bool) -> None:
    here = Store(A)
    inbound = InboundDelta(here, Delta(Digest(), Digest(Coverage({B: 2})), full=True))
    chunk = [register("x", "1", B, 1), register("y", "1", B, 2, clock=clock)]
    with pytest.raises(RemoteError) as caught:
        inbound.merge(chunk, 0.0, synced=synced, superseded=superseded)
    assert caught.value.reason is Reason.CLOCK_POISON
    assert here.coverage == Coverage()
    assert here.clock.time == 0
    assert list(here.records()) == []
    assert inbound.merged == inbound.ignored == 0


def test_a_repair_is_refused_once_tombstones_were_purged_since_the_comparison() -> None:
    here, there = Store(A), Store(B)
    added = there.write(Kind.REGISTER, "x", "1", 0.0)
    here.merge([added], 0.0)
    repair = InboundDelta(here, there.delta(here.digest(), repair=True))
    here.write(Kind.REGISTER, "x", None, 1.0)
    repair.merge([added], 2.0, synced=True)
    assert here.register("x") is None, "the tombstone is there and wins"
    here.learn_context({B: 1})
    assert here.purge(10.0, 5.0) == 1
    with pytest.raises(RemoteError, match="compare them again") as caught:
        repair.merge([added], 11.0, synced=True)
    assert caught.value.reason is Reason.BROKEN_TRANSFER
    assert here.register("x") is None


@pytest.mark.parametrize(("clock", "synced"), [(MAX_CLOCK + 1, False), (MAX_LEAD + 10, True)])
def test_a_delta_of_a_poisonous_clock_is_refused_before_anything_is_merged(clock: int, synced: bool) -> None:
    header = Delta(Digest(), Digest(Coverage({B: 2})), clock=clock)
    with pytest.raises(RemoteError) as caught:
        InboundDelta(Store(A), header, synced=synced)
    assert caught.value.reason is Reason.CLOCK_POISON


def test_no_records_have_no_poison() -> None:
    check_records(Store(A), [], synced=True)


def test_nobody_may_tell_us_of_our_own_writes_that_we_have_not_made() -> None:
    here = Store(A)
    mine = here.write(Kind.REGISTER, "k", "1", 0.0)
    check_records(here, [mine], synced=True)
    with pytest.raises(RemoteError, match="has not made"):
        check_records(here, [register("x", "1", A, 2)], synced=True)
    with pytest.raises(RemoteError, match="has not made") as caught:
        InboundDelta(here, Delta(Digest(), Digest(Coverage({A: 2}))))
    assert caught.value.field == "delta.header.snapshot"


@pytest.mark.parametrize("generation", [1, 2, 2**64 - 1])
def test_nobody_may_fold_our_own_life(generation: int) -> None:
    here = Store(A)
    here.write(Kind.REGISTER, "k", "1", 0.0)
    with pytest.raises(RemoteError, match="has not made") as caught:
        InboundDelta(here, Delta(Digest(), Digest(Coverage(folded={"a": generation}))))
    assert caught.value.field == "delta.header.snapshot"
    InboundDelta(here, Delta(Digest(), Digest(Coverage(folded={"a": 0})))).complete()
    assert here.coverage.folded == {"a": 0}


def test_a_repair_says_what_it_found() -> None:
    here, there = Store(A), Store(B)
    same, other = register("same", "v", C, 1), register("other", "new", C, 2, clock=5)
    there.merge(
        [
            same,
            other,
            register("missing", "v", C, 3),
            register("gone", "v", C, 5),
            register("lost", "old", C, 4, clock=1),
        ],
        0.0,
    )
    here.merge([same, register("other", "old", C, 2, clock=1), register("lost", "new", C, 4, clock=9)], 0.0)
    here.complete(Delta(Digest(), Digest(there.coverage.copy())))
    repair = InboundDelta(here, there.delta(here.digest(), repair=True))
    repair.merge(there.delta(Digest()).records, 1.0, synced=True)
    assert (repair.missing, repair.older, repair.example) == (2, 1, "REGISTER other")
    repair.merge([], 1.0, synced=True)
    repair.merge([register("superseded", None, D, 1)], 1.0, synced=True, superseded=True)
    assert (repair.missing, repair.older) == (2, 1)
    plain = InboundDelta(here, there.delta(here.digest()))
    plain.merge([register("new", "v", C, 9)], 1.0, synced=True)
    assert (plain.missing, plain.older, plain.example) == (0, 0, "")


def test_an_example_is_no_longer_than_a_line() -> None:
    here, there = Store(A), Store(B)
    there.write(Kind.REGISTER, "k" * 500, "v", 0.0)
    here.complete(Delta(Digest(), there.digest()))
    repair = InboundDelta(here, there.delta(here.digest(), repair=True))
    repair.merge(there.delta(Digest()).records, 1.0, synced=True)
    assert len(repair.example) == MAX_EXAMPLE


def test_a_repair_says_what_may_have_called_for_it() -> None:
    here, there = Store(A), Store(B)
    record = register("x", "v", C, 1)
    here.merge([record], 0.0)
    there.merge([record], 0.0)

    def cause() -> str:
        repair = InboundDelta(here, there.delta(here.digest(), repair=True))
        repair.merge(repair.header.records, 1.0, synced=True)
        return repair.cause

    assert cause() == "nothing was missing here"
    here.forget(Kind.REGISTER, "x")
    assert cause() == "something is corrupt"
    here.forget(Kind.REGISTER, "x")
    here.floor[D] = 3
    assert cause() == "a write met a tombstone that was purged already, or something is corrupt"
    here.forget(Kind.REGISTER, "x")
    here.coverage.fold({C.node_id: C.generation})
    assert cause() == "a life was folded of which the peer knew more"
