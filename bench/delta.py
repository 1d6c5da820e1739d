"""What a round costs that finds a little to send: digest, its hash, and the delta for a peer that lacks ten records."""

from __future__ import annotations

from bench import data
from bench.results import Benchmark, Measurement, at_most
from bench.timing import timed
from gossip_grpc import wire
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.records import Kind, Origin
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest

RECORDS = 100_000
DIFFERENT = 10
ORIGINS = 20
_EACH = RECORDS // ORIGINS
_REPEATS = 20


def stores() -> tuple[Store, Digest]:
    """A store of records of twenty origins, and the digest of a peer that lacks the last write of ten of them."""
    store = Store(Origin("here", 1))
    behind = Digest()
    for last in (False, True):
        for number in range(ORIGINS):
            if last and number >= DIFFERENT:
                break
            writer = Store(Origin(f"n{number:02}", 1))
            writer.coverage = store.coverage.copy()
            writer.clock.witness(store.clock.time)
            if last:
                written = [writer.write(Kind.REGISTER, data.key(number * _EACH), "changed", 0.0)]
            else:
                data.fill(writer, _EACH, first=number * _EACH)
                written = list(writer.records())
            store.merge(written, 0.0)
        if not last:
            behind = store.digest()
    return store, behind


def exchange(store: Store, theirs: Digest) -> int:
    """One side's work; returns the number of records sent."""
    store.digest().hash()
    delta = store.delta(theirs)
    for chunk in wire.encode_delta(delta, Limits().chunk_bytes):
        chunk.SerializeToString()
    return len(delta.records)


def run(runs: int) -> list[Measurement]:
    store, theirs = stores()
    if (sent := exchange(store, theirs)) != DIFFERENT or store.live != RECORDS:
        raise RuntimeError(f"the delta has {sent} records of {store.live}")
    times = []
    for _ in range(runs):
        with timed() as took:
            for _ in range(_REPEATS):
                exchange(store, theirs)
        times.append(took.wall / _REPEATS * 1000)
    details = {"records": RECORDS, "different": DIFFERENT, "origins": ORIGINS}
    return [Measurement("digest and delta", "ms", times, at_most(2), details=details)]


BENCHMARK = Benchmark("delta", f"digest plus delta of {RECORDS:,} records of which {DIFFERENT} differ", run)
