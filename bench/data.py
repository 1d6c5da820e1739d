"""The records that the benchmarks use: registers of short keys with 100 bytes of text."""

from __future__ import annotations

from gossip_grpc.core.records import Kind, Origin
from gossip_grpc.core.store import Store

VALUE_BYTES = 100


def key(number: int) -> str:
    return f"key/{number}"


def value(number: int) -> str:
    return f"{number} ".ljust(VALUE_BYTES, "x")


def payload_bytes(count: int) -> int:
    """Bytes of the keys and values of the first `count` records."""
    return sum(len(key(number)) + VALUE_BYTES for number in range(count))


def fill(store: Store, count: int, *, first: int = 0) -> None:
    """Write registers into a store, past all else that a node does for a write."""
    for number in range(first, first + count):
        store.write(Kind.REGISTER, key(number), value(number), 0.0)


def filled(node_id: str, count: int, *, first: int = 0) -> Store:
    store = Store(Origin(node_id, 1))
    fill(store, count, first=first)
    return store
