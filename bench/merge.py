"""How fast a node takes in what is new to it: a delta of 100,000 records from the bytes of its chunks to its end."""

from __future__ import annotations

import statistics

from bench import data
from bench.results import Benchmark, Measurement, at_least
from bench.timing import timed
from gossip_grpc import wire
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.records import Origin
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest
from gossip_grpc.core.transfer import InboundDelta
from gossip_grpc.gen.gossip.v1 import peer_pb2

RECORDS = 100_000


def chunks() -> list[bytes]:
    """The delta as it comes over the wire."""
    delta = data.filled("sender", RECORDS).delta(Digest())
    return [chunk.SerializeToString() for chunk in wire.encode_delta(delta, Limits().chunk_bytes)]


def receive(raws: list[bytes], store: Store) -> None:
    """What a node does with the chunks, without the network and the loop."""
    inbound: InboundDelta | None = None
    for raw in raws:
        chunk = wire.decode_delta(peer_pb2.Delta.FromString(raw))
        if chunk.header is not None:
            inbound = InboundDelta(store, chunk.header)
        if inbound is None:
            raise RuntimeError("the first chunk has no header")
        inbound.merge(chunk.records, 0.0, synced=True, superseded=chunk.superseded)
        if chunk.complete:
            inbound.complete()
    if store.live != RECORDS:
        raise RuntimeError(f"{store.live} records arrived of {RECORDS}")


def run(runs: int) -> list[Measurement]:
    raws = chunks()
    rates, cpu_rates = [], []
    for _ in range(runs + 1):  # the first one warms up
        store = Store(Origin("receiver", 1))
        with timed() as took:
            receive(raws, store)
        rates.append(RECORDS / took.wall)
        cpu_rates.append(RECORDS / took.cpu)
    details = {
        "records": RECORDS,
        "bytes": sum(map(len, raws)),
        "chunks": len(raws),
        "per_cpu_second": statistics.median(cpu_rates[1:]),
    }
    return [Measurement("merge of new records", "records/s", rates[1:], at_least(200_000), details=details)]


BENCHMARK = Benchmark("merge", f"merging a delta of {RECORDS:,} new records from its bytes", run)
