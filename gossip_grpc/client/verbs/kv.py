"""Registers: one value a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.calls import DEFAULT_RECONNECT, Call, Listing, Stream, call, listing, stream
from gossip_grpc.client.results import (
    Deletion,
    Dot,
    Entry,
    KeyValueEvent,
    KeyValueEventKind,
    Origin,
    Session,
    Value,
)
from gossip_grpc.client.verbs.reading import read_dot, read_value
from gossip_grpc.gen.gossip.v1 import kv_pb2

_KEY_VALUE_EVENTS: dict[int, KeyValueEventKind] = {
    kv_pb2.KeyValueEventKind.Value(f"KEY_VALUE_EVENT_KIND_{kind.name}"): kind
    for kind in KeyValueEventKind
    if kind is not KeyValueEventKind.UNKNOWN
}


def get_entry(key: str, *, timeout: float | None = None) -> Call[Entry]:
    """Reads one key. KeyNotFoundError if the node holds no value for it."""
    return call(
        lambda stubs: stubs.kv.Get,
        kv_pb2.KeyValueServiceGetRequest(key=checked.text("key", key)),
        lambda response: _read_entry(response.entry),
        lambda _, entry: _seen([entry]),
        timeout=timeout,
    )


def put_entry(
    key: str,
    value: Value,
    *,
    ttl: float | timedelta = 0.0,
    ephemeral: bool = False,
    durability: str | None = None,
    timeout: float | None = None,
) -> Call[Session]:
    """Writes one key. UnavailableError until the node has synced once with its cluster.

    Not repeated once it may have been received: that could overwrite what somebody else has written in between.

    With a `ttl`, in seconds or as a timedelta, it is visible for so long, by the node's clock; another put of the key
    begins anew, with its own. What is `ephemeral` is visible only while the node asked is a live member.

    The answer means that the write is in the node's memory, or on its `disk`: what `durability` says, or without it the
    best that the node has. So it is for all that write.
    """
    return call(
        lambda stubs: stubs.kv.Put,
        kv_pb2.KeyValueServicePutRequest(
            key=checked.text("key", key),
            value=checked.value("value", value),
            ttl_milliseconds=checked.milliseconds("ttl", ttl),
            ephemeral=checked.flag("ephemeral", ephemeral),
            durability=checked.durability(durability),
        ),
        lambda response: Session.from_message(response.session),
        lambda _, session: session,
        timeout=timeout,
    )


def delete_entry(key: str, *, durability: str | None = None, timeout: float | None = None) -> Call[Deletion]:
    """Deletes one key everywhere. The answer is false if the node held no value for it; that is no error.

    Not repeated once it may have been received: that could delete what somebody has written in between.
    """
    return call(
        lambda stubs: stubs.kv.Delete,
        kv_pb2.KeyValueServiceDeleteRequest(key=checked.text("key", key), durability=checked.durability(durability)),
        lambda response: Deletion(response.found, Session.from_message(response.session)),
        lambda _, deletion: deletion.session,
        timeout=timeout,
    )


def list_entries(prefix: str = "", page_size: int = 0, *, timeout: float | None = None) -> Listing[Entry]:
    """Iterates over the entries whose keys begin with the prefix, in order of the keys, page by page.

    The pages are no snapshot: writes made meanwhile may or may not appear.
    """
    prefix, page_size = checked.text("prefix", prefix), checked.page_size(page_size)
    return listing(
        lambda stubs: stubs.kv.List,
        lambda token: kv_pb2.KeyValueServiceListRequest(prefix=prefix, page_size=page_size, page_token=token),
        lambda response: map(_read_entry, response.entries),
        lambda _, entries: _seen(entries),
        timeout=timeout,
    )


def watch_entries(prefix: str = "", token: str = "", *, reconnect: float = DEFAULT_RECONNECT) -> Stream[KeyValueEvent]:
    """Iterates over all entries with the prefix, and then for ever over what happens to them at the node asked.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew,
    and RESET says so first. When the connection is lost it goes on by itself, as the members' watch does.
    """
    return stream(
        lambda stubs: stubs.kv.Watch,
        kv_pb2.KeyValueServiceWatchRequest(
            prefix=checked.text("prefix", prefix), resume_token=checked.text("token", token)
        ),
        _read_kv_event,
        _reset,
        reconnect=reconnect,
    )


def _seen(entries: Sequence[Entry]) -> Session:
    """The token of entries that were read: of each origin the last write, with all before it where there are more."""
    clock = max((entry.clock for entry in entries), default=0)
    if len(entries) == 1:
        return Session(clock, (entries[0].dot,))
    last: dict[Origin, Dot] = {}
    for entry in entries:
        dot = entry.dot
        if dot.origin not in last or last[dot.origin].sequence < dot.sequence:
            last[dot.origin] = dot
    return Session(clock, (), tuple(last.values()))


def _read_entry(entry: kv_pb2.Entry) -> Entry:
    end = entry.expires_at_unix_milliseconds
    return Entry(
        entry.key,
        read_value(entry.value),
        read_dot(entry.dot),
        entry.clock,
        end / 1000 if end else None,
        entry.ephemeral,
    )


def _read_kv_event(response: kv_pb2.KeyValueServiceWatchResponse) -> KeyValueEvent:
    return KeyValueEvent(
        kind=_KEY_VALUE_EVENTS.get(response.kind, KeyValueEventKind.UNKNOWN),
        key=response.key,
        entry=_read_entry(response.entry) if response.HasField("entry") else None,
        old_value=read_value(response.old_value) if response.HasField("old_value") else None,
        dot=read_dot(response.dot) if response.HasField("dot") else None,
        clock=response.clock,
        token=response.resume_token,
        cause=response.cause,
    )


def _reset(cause: str) -> KeyValueEvent:
    return KeyValueEvent(KeyValueEventKind.RESET, "", None, None, None, 0, "", cause)
