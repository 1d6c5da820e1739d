"""Events, published to the subscribers of all nodes."""

from __future__ import annotations

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.calls import DEFAULT_RECONNECT, Call, Stream, call, stream
from gossip_grpc.client.results import (
    Event,
    Session,
    SubscriptionEvent,
    SubscriptionEventKind,
    Value,
)
from gossip_grpc.client.verbs.reading import read_dot, read_value
from gossip_grpc.gen.gossip.v1 import event_pb2

_SUBSCRIPTION_EVENTS: dict[int, SubscriptionEventKind] = {
    event_pb2.SubscriptionEventKind.Value(f"SUBSCRIPTION_EVENT_KIND_{kind.name}"): kind
    for kind in SubscriptionEventKind
    if kind is not SubscriptionEventKind.UNKNOWN
}


def publish_event(
    topic: str,
    payload: Value,
    ordering_key: str = "",
    *,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[Session]:
    """Publishes an event to the subscribers of all nodes. Its dot is the only one of the session that is returned.

    A `request_id`, at most 128 bytes, names the event within its topic: calls with the same one publish one event, at
    whichever nodes, as long as these keep it. Without one the client makes one for each call, and repeats that until
    its deadline. An empty one is none: then the call is not repeated once it may have been received. UnavailableError
    until the node has synced once with its cluster.
    """
    return call(
        lambda stubs: stubs.event.Publish,
        event_pb2.EventServicePublishRequest(
            topic=checked.text("topic", topic),
            payload=checked.value("payload", payload),
            ordering_key=checked.text("ordering_key", ordering_key),
            request_id=checked.request_id(request_id),
        ),
        lambda response: Session.from_message(response.session),
        lambda _, session: session,
        timeout=timeout,
        unnamed=request_id is None,
    )


def subscribe_to_events(
    *topics: str, retained: bool = False, token: str = "", reconnect: float = DEFAULT_RECONNECT
) -> Stream[SubscriptionEvent]:
    """Iterates for ever over the events of these topics; one that ends in `*` stands for all that begin so.

    From now on, which begins with CURRENT, or if `retained` is true first over those that the node still keeps. With
    the token of the last event that was received: over what came after it, if the node still has it, else over all that
    it keeps, and RESET says so first. Events of one origin come in order, each once. When the connection is lost it
    goes on by itself, as the members' watch does; of what the next node tells once more, the last 10,000 events that
    were told are left out.
    """
    start = (
        event_pb2.SUBSCRIPTION_START_RETAINED
        if checked.flag("retained", retained)
        else event_pb2.SUBSCRIPTION_START_NOW
    )
    return stream(
        lambda stubs: stubs.event.Subscribe,
        event_pb2.EventServiceSubscribeRequest(
            topics=[checked.text(f"topics[{index}]", topic) for index, topic in enumerate(topics)],
            start=start,
            resume_token=checked.text("token", token),
        ),
        _read_subscription_event,
        _reset,
        reconnect=reconnect,
        is_snapshot=False,
    )


def _read_subscription_event(response: event_pb2.EventServiceSubscribeResponse) -> SubscriptionEvent:
    return SubscriptionEvent(
        kind=_SUBSCRIPTION_EVENTS.get(response.kind, SubscriptionEventKind.UNKNOWN),
        event=_read_published(response.event) if response.HasField("event") else None,
        token=response.resume_token,
        cause=response.cause,
    )


def _read_published(event: event_pb2.Event) -> Event:
    return Event(
        topic=event.topic,
        payload=read_value(event.payload),
        ordering_key=event.ordering_key,
        published_at=event.published_at_unix_milliseconds / 1000,
        dot=read_dot(event.dot),
        clock=event.clock,
        request_id=event.request_id,
    )


def _reset(cause: str) -> SubscriptionEvent:
    return SubscriptionEvent(SubscriptionEventKind.RESET, None, "", cause)
