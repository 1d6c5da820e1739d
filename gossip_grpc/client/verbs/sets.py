"""Sets in which an addition wins over a concurrent removal."""

from __future__ import annotations

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.calls import DEFAULT_RECONNECT, Call, Listing, Stream, call, listing, stream
from gossip_grpc.client.results import (
    Session,
    SetEvent,
    SetEventKind,
    SetSummary,
    Value,
)
from gossip_grpc.client.verbs.reading import read_dot, read_value
from gossip_grpc.gen.gossip.v1 import set_pb2

_SET_EVENTS: dict[int, SetEventKind] = {
    set_pb2.SetEventKind.Value(f"SET_EVENT_KIND_{kind.name}"): kind
    for kind in SetEventKind
    if kind is not SetEventKind.UNKNOWN
}


def list_elements(key: str, *, timeout: float | None = None) -> Listing[Value]:
    """Returns the elements of a set; empty if nobody ever added to it.

    A large set comes in pages, which are no snapshot: writes made meanwhile may or may not appear.
    """
    key = checked.text("key", key)
    return listing(
        lambda stubs: stubs.set.Get,
        lambda token: set_pb2.SetServiceGetRequest(key=key, page_token=token),
        lambda response: map(read_value, response.elements),
        lambda response, _: Session.from_message(response.session),
        timeout=timeout,
    )


def add_elements(key: str, *elements: Value, durability: str | None = None, timeout: float | None = None) -> Call[int]:
    """Adds elements to a set, all or none; returns how many of them the node did not hold before.

    Not repeated once it may have been received: that could bring back what somebody has removed in between.
    """
    return call(
        lambda stubs: stubs.set.Add,
        set_pb2.SetServiceAddRequest(
            key=checked.text("key", key), elements=checked.elements(elements), durability=checked.durability(durability)
        ),
        lambda response: response.added,
        lambda response, _: Session.from_message(response.session),
        timeout=timeout,
    )


def remove_elements(
    key: str, *elements: Value, durability: str | None = None, timeout: float | None = None
) -> Call[int]:
    """Removes elements from a set; returns how many of them the node held.

    Not repeated once it may have been received: that could remove what somebody has added in between.
    """
    return call(
        lambda stubs: stubs.set.Remove,
        set_pb2.SetServiceRemoveRequest(
            key=checked.text("key", key), elements=checked.elements(elements), durability=checked.durability(durability)
        ),
        lambda response: response.removed,
        lambda response, _: Session.from_message(response.session),
        timeout=timeout,
    )


def list_sets(prefix: str = "", page_size: int = 0, *, timeout: float | None = None) -> Listing[SetSummary]:
    """Iterates over the sets that have elements and whose keys begin with the prefix, in order of the keys."""
    prefix, page_size = checked.text("prefix", prefix), checked.page_size(page_size)
    return listing(
        lambda stubs: stubs.set.List,
        lambda token: set_pb2.SetServiceListRequest(prefix=prefix, page_size=page_size, page_token=token),
        lambda response: (SetSummary(summary.key, summary.size) for summary in response.sets),
        timeout=timeout,
    )


def watch_sets(prefix: str = "", token: str = "", *, reconnect: float = DEFAULT_RECONNECT) -> Stream[SetEvent]:
    """Iterates over all elements of sets with the prefix, and then for ever over those that come and go there.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew,
    and RESET says so first. When the connection is lost it goes on by itself, as the members' watch does.
    """
    return stream(
        lambda stubs: stubs.set.Watch,
        set_pb2.SetServiceWatchRequest(
            prefix=checked.text("prefix", prefix), resume_token=checked.text("token", token)
        ),
        _read_set_event,
        _reset,
        reconnect=reconnect,
    )


def _read_set_event(response: set_pb2.SetServiceWatchResponse) -> SetEvent:
    return SetEvent(
        kind=_SET_EVENTS.get(response.kind, SetEventKind.UNKNOWN),
        key=response.key,
        element=read_value(response.element) if response.HasField("element") else None,
        dot=read_dot(response.dot) if response.HasField("dot") else None,
        clock=response.clock,
        token=response.resume_token,
        cause=response.cause,
    )


def _reset(cause: str) -> SetEvent:
    return SetEvent(SetEventKind.RESET, "", None, None, 0, "", cause)
