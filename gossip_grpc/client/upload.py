"""How many entries become calls of PutMany. Nothing here calls anything.

Entries are packed into batches, and some batches into a call, of which each has its own deadline. So an upload may take
as long as it likes, while a node that goes silent is found out; and where it ends early, it is known how far it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.calls import Call, Requests
from gossip_grpc.client.results import Item, Session, Value, Written
from gossip_grpc.errors import GossipError
from gossip_grpc.gen.gossip.v1 import kv_pb2

BATCH, BATCH_BYTES = 1_000, 1 << 20
"""Entries and bytes of a batch: a node checks and writes one without a pause."""

BATCHES = 8
"""Batches in one call."""

_INDEX = re.compile(r"entries\[(\d+)\]")

Entries: TypeAlias = Mapping[str, Value] | Iterable[tuple[str, Value] | Item]
"""Keys and their values."""


def entries_of(given: Entries) -> Iterable[tuple[str, Value] | Item]:
    """The pairs of key and value."""
    return given.items() if isinstance(given, Mapping) else given


class Upload:
    """Entries on their way.

    Attributes:
        written: what the calls so far have written.
    """

    def __init__(self, durability: str | None = None, timeout: float | None = None) -> None:
        self._timeout = checked.timeout(timeout)
        self._durability = checked.durability(durability)
        self.written = Written(0, Session(0, ()))
        self._batches: list[kv_pb2.KeyValueServicePutManyRequest] = []
        self._batch = kv_pb2.KeyValueServicePutManyRequest(durability=self._durability)
        self._size = 0
        self._taken = 0

    def add(self, entry: object) -> Call[Written] | None:
        """Take an entry; returns the call that is to be made before the next one.

        Raises:
            InvalidArgumentError: it is no pair of key and value. What was taken before and not sent is given up.
        """
        path = f"entries[{self._taken}]"
        try:
            key, value, ttl, ephemeral = _item(path, entry)
            message = kv_pb2.PutManyEntry(
                key=checked.text(f"{path}.key", key),
                value=checked.value(f"{path}.value", value),
                ttl_milliseconds=checked.milliseconds(f"{path}.ttl", ttl),
                ephemeral=ephemeral,
            )
        except GossipError as error:
            error.metadata["written"] = str(self.written.count)
            raise
        size = message.ByteSize()
        call = None
        if self._batch.entries and (len(self._batch.entries) == BATCH or self._size + size > BATCH_BYTES):
            self._close()
            if len(self._batches) == BATCHES:
                call = self._call()
        self._batch.entries.append(message)
        self._size += size
        self._taken += 1
        return call

    def rest(self) -> Call[Written] | None:
        """The last call; None if all has been sent."""
        if self._batch.entries:
            self._close()
        return self._call() if self._batches else None

    def failed(self, error: GossipError) -> None:
        """Have an error of a call say how many entries were written for certain, and count them as the caller does."""
        written = self.written.count + int(error.metadata.get("written", 0))
        error.metadata["written"] = str(written)

        def count_all(text: str) -> str:
            return _INDEX.sub(lambda found: f"entries[{written + int(found[1])}]", text)

        error.args = (count_all(str(error)),)
        error.fields = {count_all(field): count_all(text) for field, text in error.fields.items()}

    def _close(self) -> None:
        self._batches.append(self._batch)
        self._batch, self._size = kv_pb2.KeyValueServicePutManyRequest(durability=self._durability), 0

    def _call(self) -> Call[Written]:
        batches, self._batches = self._batches, []
        return Call(
            lambda stubs: stubs.kv.PutMany,
            Requests(batches),
            self._read,
            lambda _, written: written.session,
            self._timeout,
        )

    def _read(self, response: kv_pb2.KeyValueServicePutManyResponse) -> Written:
        session = Session.from_message(response.session)
        self.written = Written(self.written.count + response.written, session)
        return self.written


def _item(path: str, entry: object) -> Item:
    if isinstance(entry, Item):
        return entry
    if isinstance(entry, tuple) and len(entry) == 2:
        return Item(*entry)
    raise checked.refused(path, f"must be a pair of key and value, or an Item, not {type(entry).__name__}")
