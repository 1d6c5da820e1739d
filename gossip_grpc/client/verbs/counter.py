"""Counters that every node adds to."""

from __future__ import annotations

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.calls import DEFAULT_RECONNECT, Call, Listing, Stream, call, listing, stream
from gossip_grpc.client.results import (
    Counter,
    CounterEvent,
    CounterEventKind,
    Session,
)
from gossip_grpc.client.verbs.reading import read_dot
from gossip_grpc.gen.gossip.v1 import counter_pb2

_COUNTER_EVENTS: dict[int, CounterEventKind] = {
    counter_pb2.CounterEventKind.Value(f"COUNTER_EVENT_KIND_{kind.name}"): kind
    for kind in CounterEventKind
    if kind is not CounterEventKind.UNKNOWN
}


def get_counter(key: str, *, timeout: float | None = None) -> Call[int]:
    """Reads the value of a counter, as the node knows it; 0 if nobody ever added to it."""
    return call(
        lambda stubs: stubs.counter.Get,
        counter_pb2.CounterServiceGetRequest(key=checked.text("key", key)),
        lambda response: response.counter.value,
        lambda response, _: Session.from_message(response.session),
        timeout=timeout,
    )


def add_to_counter(
    key: str,
    amount: int,
    *,
    request_id: str | None = None,
    durability: str | None = None,
    timeout: float | None = None,
) -> Call[int]:
    """Adds to a counter, or subtracts; returns the value after it.

    A `request_id`, at most 128 bytes, names the addition to this key: calls with the same one count once, at whichever
    nodes. Without one the client makes one for each call, and repeats that until its deadline, so that it counts once.
    Give one to repeat a call that has failed. An empty one is none: then the call is not repeated once it may have been
    received.

    InvalidArgumentError (reason COUNTER_OVERFLOW) if the value would leave the range of int64.
    """
    return call(
        lambda stubs: stubs.counter.Add,
        counter_pb2.CounterServiceAddRequest(
            key=checked.text("key", key),
            amount=checked.integer("amount", amount, 64),
            durability=checked.durability(durability),
            request_id=checked.request_id(request_id),
        ),
        lambda response: response.value,
        lambda response, _: Session.from_message(response.session),
        timeout=timeout,
        unnamed=request_id is None,
    )


def reset_counter(key: str, *, durability: str | None = None, timeout: float | None = None) -> Call[Session]:
    """Sets what the node has seen of a counter back to 0. Additions it has not seen yet survive.

    Not repeated once it may have been received: that could take away what was added in between.
    """
    return call(
        lambda stubs: stubs.counter.Reset,
        counter_pb2.CounterServiceResetRequest(key=checked.text("key", key), durability=checked.durability(durability)),
        lambda response: Session.from_message(response.session),
        lambda _, session: session,
        timeout=timeout,
    )


def list_counters(prefix: str = "", page_size: int = 0, *, timeout: float | None = None) -> Listing[Counter]:
    """Iterates over the counters whose keys begin with the prefix, in order of the keys, page by page."""
    prefix, page_size = checked.text("prefix", prefix), checked.page_size(page_size)
    return listing(
        lambda stubs: stubs.counter.List,
        lambda token: counter_pb2.CounterServiceListRequest(prefix=prefix, page_size=page_size, page_token=token),
        lambda response: (Counter(counter.key, counter.value) for counter in response.counters),
        timeout=timeout,
    )


def watch_counters(prefix: str = "", token: str = "", *, reconnect: float = DEFAULT_RECONNECT) -> Stream[CounterEvent]:
    """Iterates over all counters with the prefix, and then for ever over their changes, as the node asked sees them.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew,
    and RESET says so first. When the connection is lost it goes on by itself, as the members' watch does.
    """
    return stream(
        lambda stubs: stubs.counter.Watch,
        counter_pb2.CounterServiceWatchRequest(
            prefix=checked.text("prefix", prefix), resume_token=checked.text("token", token)
        ),
        _read_counter_event,
        _reset,
        reconnect=reconnect,
    )


def _read_counter_event(response: counter_pb2.CounterServiceWatchResponse) -> CounterEvent:
    return CounterEvent(
        kind=_COUNTER_EVENTS.get(response.kind, CounterEventKind.UNKNOWN),
        counter=Counter(response.counter.key, response.counter.value) if response.HasField("counter") else None,
        old_value=response.old_value,
        dot=read_dot(response.dot) if response.HasField("dot") else None,
        clock=response.clock,
        token=response.resume_token,
        cause=response.cause,
    )


def _reset(cause: str) -> CounterEvent:
    return CounterEvent(CounterEventKind.RESET, None, 0, None, 0, "", cause)
