"""A large transfer: cut in the middle it resumes, and cut again and again it still ends.

And what a store takes in quickly is no other than what it takes in one by one.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.membership import Peer
from gossip_grpc.core.messages import Call, PullRequest, PushRequest, Round
from gossip_grpc.core.records import Member, Origin, Record
from gossip_grpc.core.rumor import MAX_PENDING
from gossip_grpc.core.store import Store
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.peering import Peering
from tests import samples

RECORDS = 3_000
CUTS = 100


def peering(name: str) -> Peering:
    settings = Settings(limits=Limits(chunk_bytes=1024))
    engine = Engine(Origin(name, 1), Member(0, f"{name}:1"), settings, random.Random(1), 0.0)
    return Peering(engine, cluster="c", address=f"{name}:1")


def filled() -> Peering:
    node = peering("full")
    for number in range(RECORDS):
        node.engine.put(f"k{number}", "v" * 50, 0.0)
    for number in range(0, RECORDS, 10):
        node.engine.delete(f"k{number}", 0.0)
    return node


def fetch(here: Peering, there: Peering, chunks: int | None = None) -> int:
    """Fetch what is missing, or only its first chunks; returns the number of records that came."""
    digest = here.engine.digest()[0]
    peer = Peer(there.sender.address, there.sender.node_id)
    call = Call(peer, PullRequest(digest=digest), Round(peer, fetches=True, sends=False, sent=digest.coverage))
    exchange = here.begin(call)
    raw = exchange.request()
    assert raw is not None
    came = 0
    answers = there.pull(peer_pb2.PullRequest.FromString(raw))
    for number, answer in enumerate(answers):
        if number == chunks:
            answers.close()
            here.failed(call, "cut", 0.0, answered=False)
            return came
        delta = answer.delta
        came += len(delta.columns.keys) + len(delta.registers) + len(delta.members)
        exchange.response(answer.SerializeToString(), 0.0)
    exchange.end(0.0)
    return came


def push(here: Peering, there: Peering, chunks: int | None = None) -> None:
    """Push what the other side lacks, or only its first chunks."""
    peer = Peer(there.sender.address, there.sender.node_id)
    delta = here.engine.store.delta(there.engine.digest()[0])
    call = Call(peer, PushRequest(delta=delta), Round(peer, fetches=False, sends=True, sent=delta.snapshot.coverage))
    exchange = here.begin(call)
    number = 0
    while (raw := exchange.request()) is not None:
        if number == chunks:
            here.failed(call, "cut", 0.0, answered=False)
            return
        exchange.response(there.push(peer_pb2.PushRequest.FromString(raw), 0.0).SerializeToString(), 0.0)
        number += 1
    exchange.end(0.0)


def state(node: Peering) -> tuple[object, ...]:
    store = node.engine.store
    values = {key: store.register(key).content for key in store.keys()}  # type: ignore[union-attr]
    return values, store.live, store.tombstones, store.fingerprint


def test_a_transfer_that_was_cut_goes_on_where_it_stopped() -> None:
    here, there = peering("empty"), filled()
    whole = fetch(peering("other"), there)
    first = fetch(here, there, chunks=100)
    covered = here.engine.store.coverage.copy()
    assert 0 < first < whole
    assert not covered.includes(there.engine.store.coverage), "what did not come is not covered"
    assert fetch(here, there) == whole - first, "nothing is sent twice"
    assert here.engine.counters.records_ignored == 0
    assert state(here) == state(there)
    assert here.engine.store.coverage.includes(there.engine.store.coverage)


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_cuts_in_a_row_still_end_while_writes_go_on(seed: int) -> None:
    rng = random.Random(seed)
    here, there = peering("empty"), filled()
    held = 0
    for number in range(CUTS):
        chunks = rng.randrange(4)
        fetch(here, there, chunks)
        there.engine.put(f"k{rng.randrange(RECORDS)}", f"later {number}", 0.0)
        now_held = len(list(here.engine.store.records()))
        assert now_held > held or chunks == 0, "each attempt that brings a chunk comes further"
        held = now_held
    fetch(here, there)
    assert state(here) == state(there)


def test_a_push_that_is_cut_a_hundred_times_still_ends() -> None:
    rng = random.Random(1)
    here, there = filled(), peering("empty")
    for _ in range(CUTS):
        push(here, there, rng.randrange(4))
    push(here, there)
    assert state(there) == state(here)


def test_a_transfer_cut_before_its_last_chunk_takes_over_no_coverage_of_what_has_no_record() -> None:
    here, there = peering("empty"), filled()
    there.engine.put("k1", "again", 0.0)  # the write before it is superseded, and is in no chunk
    digest = here.engine.digest()[0]
    chunks = len(list(there.pull(peer_pb2.PullRequest(sender=here.sender, digest=peer_pb2.Digest()))))
    fetch(here, there, chunks - 1)
    origin = there.engine.store.origin
    assert here.engine.store.coverage.sequence(origin) < there.engine.store.coverage.sequence(origin)
    assert digest.coverage.sequence(origin) == 0


# The quick way in


def slot(record: Record) -> object:
    return record.kind, record.slot


kinds = samples.registers() | samples.elements() | samples.shares()
batches = st.lists(st.lists(kinds, max_size=6, unique_by=slot), max_size=6)


@given(batches, st.booleans())
def test_values_are_taken_in_quickly_as_they_are_one_by_one(sent: list[list[Record]], journal: bool) -> None:
    quick, slow = Store(Origin("here", 1)), Store(Origin("here", 1))
    slow.feed(on=True)  # who is watched takes in each record by itself
    for store in (quick, slow):
        if journal:
            store.keep_journal()
    for batch in sent:
        assert quick.merge(batch, 0.0) == slow.merge(batch, 0.0)
        assert list(quick.keys()) == list(slow.keys())
        if journal:
            assert quick.take_changes() == slow.take_changes()
    assert quick.fingerprint == slow.fingerprint
    assert (quick.live, quick.tombstones, quick.guarded) == (slow.live, slow.tombstones, slow.guarded)
    assert list(quick.records()) == list(slow.records())
    lacking = Store(Origin("other", 1)).digest()
    assert quick.delta(lacking).records == slow.delta(lacking).records
    assert quick.delta(lacking).superseded == slow.delta(lacking).superseded


@pytest.mark.parametrize("watched", [False, True])
def test_a_value_for_an_empty_slot_that_a_superseded_deletion_guards_is_not_shown(watched: bool) -> None:
    store = Store(Origin("here", 1))
    store.feed(on=watched)
    store.merge_superseded([samples.register("k", None, sequence=5, clock=5)], 0.0)
    assert store.register("k") is None
    deleted = samples.register("k", "dead", samples.B, sequence=1, clock=2)
    assert store.merge([deleted, samples.register("other", "v", samples.B, sequence=2, clock=3)], 0.0)
    assert store.coverage.covers(samples.B, 1)
    assert list(store.keys()) == ["other"]
    assert store.live == 1


# Memory


def test_overwrites_leave_nothing_behind_beyond_a_bound() -> None:
    """5,000 overwrites of 100 keys at one of two nodes that sync now and then."""
    here, there = filled_keys(), peering("b")
    for number in range(5_000):
        here.engine.put(f"k{number % 100}", f"{number}", 0.0)
        if number % 500 == 0:
            fetch(there, here)
            fetch(here, there)
    fetch(there, here)
    fetch(here, there)
    for node in (here, there):
        store = node.engine.store
        assert store.live == 100
        assert store.guarded == 0
        assert len(list(store.records())) == 102, "the members too"
        assert sum(len(log.entries) for log in store._logs.values()) <= 2 * 100 + 64 + 1
        assert not store._aside.graves
        assert not any(log.entries for log in store._aside.logs.values())
        assert len(store._keys._added) + len(store._keys._removed) <= 100
        assert len(node.engine._rumors._pending) <= MAX_PENDING
        assert not node.engine._recent
        assert sum(len(store.coverage.above(origin)) for origin in store.coverage.origins()) == 0


def filled_keys() -> Peering:
    node = peering("a")
    for number in range(100):
        node.engine.put(f"k{number}", "v", 0.0)
    return node
