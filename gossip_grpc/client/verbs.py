"""The table of calls: for each verb of the clients its method, how its request is built and its response read.

Nothing here calls anything. A verb checks the types of its arguments and returns a `Call`, or a `Listing` where the
answer comes in pages; the clients execute them. Rules about values and limits are the node's, which knows its
configuration; here is only what would not become a request at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from math import ceil
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from gossip_grpc.client.results import (
    Counter,
    CounterEvent,
    CounterEventKind,
    Deletion,
    Dot,
    Durability,
    Entry,
    Event,
    Explanation,
    GossipCounters,
    KeyValueEvent,
    KeyValueEventKind,
    LimitUse,
    Member,
    MemberAccusation,
    MemberEvent,
    MemberEventKind,
    MemberStatus,
    Monitor,
    MonitorPhase,
    MonitorView,
    Origin,
    Session,
    SetEvent,
    SetEventKind,
    SetSummary,
    Status,
    StorageStatus,
    SubscriptionEvent,
    SubscriptionEventKind,
    Value,
)
from gossip_grpc.errors import InvalidArgumentError, Reason
from gossip_grpc.gen.gossip.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    common_pb2,
    counter_pb2,
    counter_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    kv_pb2,
    kv_pb2_grpc,
    set_pb2,
    set_pb2_grpc,
)

MAX_SECONDS = 2**53
"""What fits a request; what a node grants is its own matter."""

T = TypeVar("T")
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response")


class Stubs:
    """The generated stubs of one channel, blocking or asyncio's: both have the same methods."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        self.kv = kv_pb2_grpc.KeyValueServiceStub(channel)
        self.counter = counter_pb2_grpc.CounterServiceStub(channel)
        self.set = set_pb2_grpc.SetServiceStub(channel)
        self.event = event_pb2_grpc.EventServiceStub(channel)
        self.cluster = cluster_pb2_grpc.ClusterServiceStub(channel)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call with one response: with what request or requests, how it is read, and what it tells of a session.

    `token` is given the response and what was read of it; a call about no data tells nothing.
    """

    method: Callable[[Stubs], Callable[..., Any]]
    request: Message | Iterator[Message]
    read: Callable[[Any], T]
    token: Callable[[Any, T], Session | None] | None = None


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """One call that answers again and again, until either side ends it."""

    method: Callable[[Stubs], Callable[..., Any]]
    request: Message
    read: Callable[[Any], T]


class _Paged(Protocol):
    next_page_token: str


_Page = TypeVar("_Page", bound=_Paged)

Listing: TypeAlias = Callable[[str], Call[tuple[list[T], str]]]
"""Page token ("" for the first page) -> the call for that page, answered by its items and the next token or ""."""


def _call(
    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[_Request, _Response]],
    request: _Request,
    read: Callable[[_Response], T],
    token: Callable[[_Response, T], Session | None] | None = None,
) -> Call[T]:
    # A function rather than the class itself: so the type checker ties them together.
    return Call(method, request, read, token)


def _listing(
    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[_Request, _Page]],
    request: Callable[[str], _Request],
    read: Callable[[_Page], Iterable[T]],
    token: Callable[[_Page, list[T]], Session | None] | None = None,
) -> Listing[T]:
    def page(page_token: str) -> Call[tuple[list[T], str]]:
        return _call(
            method,
            request(page_token),
            lambda response: (list(read(response)), response.next_page_token),
            None if token is None else lambda response, found: token(response, found[0]),
        )

    return page


# --- registers ---


def get_entry(key: str) -> Call[Entry]:
    """Reads one key. KeyNotFoundError if the node holds no value for it."""
    return _call(
        lambda stubs: stubs.kv.Get,
        kv_pb2.KeyValueServiceGetRequest(key=_text("key", key)),
        lambda response: _read_entry(response.entry),
        lambda _, entry: _seen([entry]),
    )


def put_entry(
    key: str,
    value: Value,
    *,
    ttl: float | timedelta = 0.0,
    ephemeral: bool = False,
    durability: str | None = None,
) -> Call[Session]:
    """Writes one key. UnavailableError until the node has synced once with its cluster.

    With a `ttl`, in seconds or as a timedelta, it is visible for so long, by the node's clock; another put of the key
    begins anew, with its own. What is `ephemeral` is visible only while the node asked is a live member.

    The answer means that the write is in the node's memory, or on its `disk`: what `durability` says, or without it the
    best that the node has. So it is for all that write.
    """
    return _call(
        lambda stubs: stubs.kv.Put,
        kv_pb2.KeyValueServicePutRequest(
            key=_text("key", key),
            value=_value("value", value),
            ttl_milliseconds=_milliseconds("ttl", ttl),
            ephemeral=_flag("ephemeral", ephemeral),
            durability=_durability(durability),
        ),
        lambda response: Session.from_message(response.session),
        lambda _, session: session,
    )


def delete_entry(key: str, *, durability: str | None = None) -> Call[Deletion]:
    """Deletes one key everywhere. The answer is false if the node held no value for it; that is no error."""
    return _call(
        lambda stubs: stubs.kv.Delete,
        kv_pb2.KeyValueServiceDeleteRequest(key=_text("key", key), durability=_durability(durability)),
        lambda response: Deletion(response.found, Session.from_message(response.session)),
        lambda _, deletion: deletion.session,
    )


def list_entries(prefix: str = "", page_size: int = 0) -> Listing[Entry]:
    """Iterates over the entries whose keys begin with the prefix, in order of the keys, page by page.

    The pages are no snapshot: writes made meanwhile may or may not appear.
    """
    prefix, page_size = _text("prefix", prefix), _page_size(page_size)
    return _listing(
        lambda stubs: stubs.kv.List,
        lambda token: kv_pb2.KeyValueServiceListRequest(prefix=prefix, page_size=page_size, page_token=token),
        lambda response: map(_read_entry, response.entries),
        lambda _, entries: _seen(entries),
    )


def watch_entries(prefix: str = "", token: str = "") -> Stream[KeyValueEvent]:
    """Iterates over all entries with the prefix, and then for ever over what happens to them at the node asked.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew,
    and RESET says so first. Ends as the members' watch does, with the token in `metadata["resume_token"]` if it
    read too slowly; the client's timeout does not count.
    """
    return Stream(
        lambda stubs: stubs.kv.Watch,
        kv_pb2.KeyValueServiceWatchRequest(prefix=_text("prefix", prefix), resume_token=_text("token", token)),
        _read_kv_event,
    )


# --- counters ---


def get_counter(key: str) -> Call[int]:
    """Reads the value of a counter, as the node knows it; 0 if nobody ever added to it."""
    return _call(
        lambda stubs: stubs.counter.Get,
        counter_pb2.CounterServiceGetRequest(key=_text("key", key)),
        lambda response: response.counter.value,
        lambda response, _: Session.from_message(response.session),
    )


def add_to_counter(key: str, amount: int, *, durability: str | None = None) -> Call[int]:
    """Adds to a counter, or subtracts; returns the value after it. Not idempotent: do not retry blindly.

    InvalidArgumentError (reason COUNTER_OVERFLOW) if the value would leave the range of int64.
    """
    return _call(
        lambda stubs: stubs.counter.Add,
        counter_pb2.CounterServiceAddRequest(
            key=_text("key", key), amount=_integer("amount", amount, 64), durability=_durability(durability)
        ),
        lambda response: response.value,
        lambda response, _: Session.from_message(response.session),
    )


def reset_counter(key: str, *, durability: str | None = None) -> Call[Session]:
    """Sets what the node has seen of a counter back to 0. Additions it has not seen yet survive."""
    return _call(
        lambda stubs: stubs.counter.Reset,
        counter_pb2.CounterServiceResetRequest(key=_text("key", key), durability=_durability(durability)),
        lambda response: Session.from_message(response.session),
        lambda _, session: session,
    )


def list_counters(prefix: str = "", page_size: int = 0) -> Listing[Counter]:
    """Iterates over the counters whose keys begin with the prefix, in order of the keys, page by page."""
    prefix, page_size = _text("prefix", prefix), _page_size(page_size)
    return _listing(
        lambda stubs: stubs.counter.List,
        lambda token: counter_pb2.CounterServiceListRequest(prefix=prefix, page_size=page_size, page_token=token),
        lambda response: (Counter(counter.key, counter.value) for counter in response.counters),
    )


def watch_counters(prefix: str = "", token: str = "") -> Stream[CounterEvent]:
    """Iterates over all counters with the prefix, and then for ever over their changes, as the node asked sees them.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew,
    and RESET says so first. Ends as the members' watch does, with the token in `metadata["resume_token"]` if it
    read too slowly; the client's timeout does not count.
    """
    return Stream(
        lambda stubs: stubs.counter.Watch,
        counter_pb2.CounterServiceWatchRequest(prefix=_text("prefix", prefix), resume_token=_text("token", token)),
        _read_counter_event,
    )


# --- sets ---


def list_elements(key: str) -> Listing[Value]:
    """Returns the elements of a set; empty if nobody ever added to it.

    A large set comes in pages, which are no snapshot: writes made meanwhile may or may not appear.
    """
    key = _text("key", key)
    return _listing(
        lambda stubs: stubs.set.Get,
        lambda token: set_pb2.SetServiceGetRequest(key=key, page_token=token),
        lambda response: map(_read_value, response.elements),
        lambda response, _: Session.from_message(response.session),
    )


def add_elements(key: str, *elements: Value, durability: str | None = None) -> Call[int]:
    """Adds elements to a set, all or none; returns how many of them the node did not hold before."""
    return _call(
        lambda stubs: stubs.set.Add,
        set_pb2.SetServiceAddRequest(
            key=_text("key", key), elements=_elements(elements), durability=_durability(durability)
        ),
        lambda response: response.added,
        lambda response, _: Session.from_message(response.session),
    )


def remove_elements(key: str, *elements: Value, durability: str | None = None) -> Call[int]:
    """Removes elements from a set; returns how many of them the node held."""
    return _call(
        lambda stubs: stubs.set.Remove,
        set_pb2.SetServiceRemoveRequest(
            key=_text("key", key), elements=_elements(elements), durability=_durability(durability)
        ),
        lambda response: response.removed,
        lambda response, _: Session.from_message(response.session),
    )


def list_sets(prefix: str = "", page_size: int = 0) -> Listing[SetSummary]:
    """Iterates over the sets that have elements and whose keys begin with the prefix, in order of the keys."""
    prefix, page_size = _text("prefix", prefix), _page_size(page_size)
    return _listing(
        lambda stubs: stubs.set.List,
        lambda token: set_pb2.SetServiceListRequest(prefix=prefix, page_size=page_size, page_token=token),
        lambda response: (SetSummary(summary.key, summary.size) for summary in response.sets),
    )


def watch_sets(prefix: str = "", token: str = "") -> Stream[SetEvent]:
    """Iterates over all elements of sets with the prefix, and then for ever over those that come and go there.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew,
    and RESET says so first. Ends as the members' watch does, with the token in `metadata["resume_token"]` if it
    read too slowly; the client's timeout does not count.
    """
    return Stream(
        lambda stubs: stubs.set.Watch,
        set_pb2.SetServiceWatchRequest(prefix=_text("prefix", prefix), resume_token=_text("token", token)),
        _read_set_event,
    )


# --- events ---


def publish_event(topic: str, payload: Value, ordering_key: str = "") -> Call[Session]:
    """Publishes an event to the subscribers of all nodes. Its dot is the only one of the session that is returned.

    Each call publishes one event more: do not retry blindly. UnavailableError until the node has synced once with its
    cluster.
    """
    return _call(
        lambda stubs: stubs.event.Publish,
        event_pb2.EventServicePublishRequest(
            topic=_text("topic", topic),
            payload=_value("payload", payload),
            ordering_key=_text("ordering_key", ordering_key),
        ),
        lambda response: Session.from_message(response.session),
        lambda _, session: session,
    )


def subscribe_to_events(*topics: str, retained: bool = False, token: str = "") -> Stream[SubscriptionEvent]:
    """Iterates for ever over the events of these topics; one that ends in `*` stands for all that begin so.

    From now on, which begins with CURRENT, or if `retained` is true first over those that the node still keeps. With
    the token of the last event that was received: over what came after it, if the node still has it, else over all that
    it keeps, and RESET says so first. Events of one origin come in order, each once. Ends as the members' watch does,
    with the token in `metadata["resume_token"]` if it read too slowly; the client's timeout does not count.
    """
    start = event_pb2.SUBSCRIPTION_START_RETAINED if _flag("retained", retained) else event_pb2.SUBSCRIPTION_START_NOW
    return Stream(
        lambda stubs: stubs.event.Subscribe,
        event_pb2.EventServiceSubscribeRequest(
            topics=[_text(f"topics[{index}]", topic) for index, topic in enumerate(topics)],
            start=start,
            resume_token=_text("token", token),
        ),
        _read_subscription_event,
    )


# --- the node and its cluster ---


def get_status() -> Call[Status]:
    """Returns what the node is and how it does."""
    return _call(lambda stubs: stubs.cluster.GetStatus, cluster_pb2.ClusterServiceGetStatusRequest(), _read_status)


def list_members(
    *, statuses: Iterable[str] = (), zone: str | None = None, tags: Mapping[str, str] | None = None
) -> Listing[Member]:
    """Returns the members the node knows, itself among them, in order of node_id.

    All of them, or those that are one of `statuses`, of `zone` (empty: of none) and with all of these tags.
    """
    numbers = _statuses(statuses)
    zone = None if zone is None else _text("zone", zone)
    tags = _tags(tags or {})
    return _listing(
        lambda stubs: stubs.cluster.ListMembers,
        lambda token: cluster_pb2.ClusterServiceListMembersRequest(
            page_token=token, statuses=numbers, zone=zone, tags=tags
        ),
        lambda response: map(_read_member, response.members),
    )


def explain_member(node_id: str) -> Call[Explanation]:
    """Explains why a member is what it is to the node asked. MemberNotFoundError if it knows no such member.

    What a monitor hears is known to that monitor alone: ask each for its own.
    """
    return _call(
        lambda stubs: stubs.cluster.ExplainMember,
        cluster_pb2.ClusterServiceExplainMemberRequest(node_id=_text("node_id", node_id)),
        _read_explanation,
    )


def watch_members(token: str = "") -> Stream[MemberEvent]:
    """Iterates over all members, and then for ever over what happens to them, as the node sees it.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew.
    Ends with UnavailableError when the node stops or cannot be reached any more, with ResourceExhaustedError if it
    read too slowly (then `metadata` has the `resume_token`) or too many watch. The client's timeout does not count.
    """
    return Stream(
        lambda stubs: stubs.cluster.WatchMembers,
        cluster_pb2.ClusterServiceWatchMembersRequest(resume_token=_text("token", token)),
        _read_event,
    )


def set_tags(tags: Mapping[str, str]) -> Call[None]:
    """Replaces the tags of the node asked, all of them. InvalidArgumentError if they break its rules or its limit."""
    request = cluster_pb2.ClusterServiceSetTagsRequest(tags=_tags(tags))
    return _call(lambda stubs: stubs.cluster.SetTags, request, lambda _: None)


def forget_member(node_id: str) -> Call[None]:
    """Makes all nodes forget a member that is dead or has left; GossipError (reason MEMBER_ALIVE) if it is neither.

    MemberNotFoundError if the node knows no such member.
    """
    request = cluster_pb2.ClusterServiceForgetMemberRequest(node_id=_text("node_id", node_id))
    return _call(lambda stubs: stubs.cluster.ForgetMember, request, lambda _: None)


def ping_member(node_id: str) -> Call[float]:
    """Returns the milliseconds from the node asked to a member and back.

    UnavailableError (reason MEMBER_UNREACHABLE) if it does not answer, MemberNotFoundError if there is no such member.
    """
    return _call(
        lambda stubs: stubs.cluster.Ping,
        cluster_pb2.ClusterServicePingRequest(node_id=_text("node_id", node_id)),
        lambda response: response.round_trip_milliseconds,
    )


def leave() -> Call[int]:
    """Makes the node leave its cluster and stop; returns how many peers hold its leave record."""
    return _call(
        lambda stubs: stubs.cluster.Leave,
        cluster_pb2.ClusterServiceLeaveRequest(),
        lambda response: response.peers,
    )


def backup() -> Stream[bytes]:
    """Iterates over the bytes of a file that holds all that the node holds, as of one moment."""
    return Stream(
        lambda stubs: stubs.cluster.Backup,
        cluster_pb2.ClusterServiceBackupRequest(),
        lambda response: response.data,
    )


# --- arguments into requests ---


def _refused(field: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {problem}", reason=Reason.INVALID_ARGUMENT, fields={field: problem})


def _text(field: str, given: object) -> str:
    if not isinstance(given, str):
        raise _refused(field, f"must be str, not {type(given).__name__}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise _refused(field, "must be text that UTF-8 can encode, without lone surrogates") from error
    return given


def _value(field: str, given: object) -> common_pb2.Value:
    if isinstance(given, bytes):
        return common_pb2.Value(data=given)
    if not isinstance(given, str):
        raise _refused(field, f"must be str or bytes, not {type(given).__name__}")
    return common_pb2.Value(text=_text(field, given))


def _elements(given: tuple[object, ...]) -> list[common_pb2.Value]:
    return [_value(f"elements[{index}]", element) for index, element in enumerate(given)]


def _integer(field: str, given: object, bits: int) -> int:
    # True is an int to Python, but as an amount it is a mistake.
    if not isinstance(given, int) or isinstance(given, bool):
        raise _refused(field, f"must be int, not {type(given).__name__}")
    if not -(2 ** (bits - 1)) <= given < 2 ** (bits - 1):
        raise _refused(field, f"must be between -2^{bits - 1} and 2^{bits - 1} - 1, not {given}")
    return given


def _durability(given: object) -> common_pb2.Durability.ValueType:
    if given is None:
        return common_pb2.DURABILITY_UNSPECIFIED
    if not isinstance(given, str) or given not in _DURABILITIES:
        raise _refused("durability", f"must be one of {', '.join(_DURABILITIES)}, not {given!r}")
    return _DURABILITIES[given]


def _milliseconds(field: str, given: object) -> int:
    """Of seconds, or of a timedelta; at least one of what is more than nothing."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < MAX_SECONDS:
        raise _refused(field, f"must be a number of seconds or a timedelta, 0 for ever, not {given!r}")
    return ceil(seconds * 1000)


def _flag(field: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise _refused(field, f"must be True or False, not {type(given).__name__}")
    return given


def _statuses(given: Iterable[object]) -> list[cluster_pb2.MemberStatus.ValueType]:
    # One word alone is an iterable too, of its letters.
    words = [given] if isinstance(given, str) else list(given)
    for index, word in enumerate(words):
        if not isinstance(word, str) or word not in _NUMBERS:
            raise _refused(f"statuses[{index}]", f"must be one of {', '.join(_NUMBERS)}, not {str(word)!r}")
    return [_NUMBERS[str(word)] for word in words]


def _tags(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise _refused("tags", f"must be a mapping, not {type(given).__name__}")
    return {_text("tags", name): _text(f"tags[{name!r}]", text) for name, text in given.items()}


def _page_size(given: object) -> int:
    return _integer("page_size", given, 32)


# --- responses into results ---

_STATUSES: dict[cluster_pb2.MemberStatus.ValueType, MemberStatus] = {
    cluster_pb2.MEMBER_STATUS_ALIVE: MemberStatus.ALIVE,
    cluster_pb2.MEMBER_STATUS_SUSPECT: MemberStatus.SUSPECT,
    cluster_pb2.MEMBER_STATUS_DEAD: MemberStatus.DEAD,
    cluster_pb2.MEMBER_STATUS_LEFT: MemberStatus.LEFT,
}
_PHASES: dict[int, MonitorPhase] = {
    cluster_pb2.MONITOR_PHASE_LISTENING: MonitorPhase.LISTENING,
    cluster_pb2.MONITOR_PHASE_PINGING: MonitorPhase.PINGING,
    cluster_pb2.MONITOR_PHASE_ASKING: MonitorPhase.ASKING,
    cluster_pb2.MONITOR_PHASE_ACCUSING: MonitorPhase.ACCUSING,
}
_EVENTS: dict[int, MemberEventKind] = {
    cluster_pb2.MemberEventKind.Value(f"MEMBER_EVENT_KIND_{kind.name}"): kind
    for kind in MemberEventKind
    if kind is not MemberEventKind.UNKNOWN
}
_KEY_VALUE_EVENTS: dict[int, KeyValueEventKind] = {
    kv_pb2.KeyValueEventKind.Value(f"KEY_VALUE_EVENT_KIND_{kind.name}"): kind
    for kind in KeyValueEventKind
    if kind is not KeyValueEventKind.UNKNOWN
}
_COUNTER_EVENTS: dict[int, CounterEventKind] = {
    counter_pb2.CounterEventKind.Value(f"COUNTER_EVENT_KIND_{kind.name}"): kind
    for kind in CounterEventKind
    if kind is not CounterEventKind.UNKNOWN
}
_SET_EVENTS: dict[int, SetEventKind] = {
    set_pb2.SetEventKind.Value(f"SET_EVENT_KIND_{kind.name}"): kind
    for kind in SetEventKind
    if kind is not SetEventKind.UNKNOWN
}
_SUBSCRIPTION_EVENTS: dict[int, SubscriptionEventKind] = {
    event_pb2.SubscriptionEventKind.Value(f"SUBSCRIPTION_EVENT_KIND_{kind.name}"): kind
    for kind in SubscriptionEventKind
    if kind is not SubscriptionEventKind.UNKNOWN
}
_NUMBERS = {str(status): number for number, status in _STATUSES.items()}
_DURABILITIES: dict[str, common_pb2.Durability.ValueType] = {
    Durability.MEMORY: common_pb2.DURABILITY_MEMORY,
    Durability.DISK: common_pb2.DURABILITY_DISK,
}
_COUNTERS = tuple(field.name for field in fields(GossipCounters))


def _read_value(value: common_pb2.Value) -> Value:
    return value.data if value.WhichOneof("kind") == "data" else value.text


def _read_origin(origin: common_pb2.Origin) -> Origin:
    return Origin(origin.node_id, origin.generation)


def _read_dot(dot: common_pb2.Dot) -> Dot:
    return Dot(_read_origin(dot.origin), dot.sequence)


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
        _read_value(entry.value),
        _read_dot(entry.dot),
        entry.clock,
        end / 1000 if end else None,
        entry.ephemeral,
    )


def _read_kv_event(response: kv_pb2.KeyValueServiceWatchResponse) -> KeyValueEvent:
    return KeyValueEvent(
        kind=_KEY_VALUE_EVENTS.get(response.kind, KeyValueEventKind.UNKNOWN),
        key=response.key,
        entry=_read_entry(response.entry) if response.HasField("entry") else None,
        old_value=_read_value(response.old_value) if response.HasField("old_value") else None,
        dot=_read_dot(response.dot) if response.HasField("dot") else None,
        clock=response.clock,
        token=response.resume_token,
        cause=response.cause,
    )


def _read_counter_event(response: counter_pb2.CounterServiceWatchResponse) -> CounterEvent:
    return CounterEvent(
        kind=_COUNTER_EVENTS.get(response.kind, CounterEventKind.UNKNOWN),
        counter=Counter(response.counter.key, response.counter.value) if response.HasField("counter") else None,
        old_value=response.old_value,
        dot=_read_dot(response.dot) if response.HasField("dot") else None,
        clock=response.clock,
        token=response.resume_token,
        cause=response.cause,
    )


def _read_set_event(response: set_pb2.SetServiceWatchResponse) -> SetEvent:
    return SetEvent(
        kind=_SET_EVENTS.get(response.kind, SetEventKind.UNKNOWN),
        key=response.key,
        element=_read_value(response.element) if response.HasField("element") else None,
        dot=_read_dot(response.dot) if response.HasField("dot") else None,
        clock=response.clock,
        token=response.resume_token,
        cause=response.cause,
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
        payload=_read_value(event.payload),
        ordering_key=event.ordering_key,
        published_at=event.published_at_unix_milliseconds / 1000,
        dot=_read_dot(event.dot),
        clock=event.clock,
    )


def _read_member(member: cluster_pb2.Member) -> Member:
    return Member(
        node_id=member.node_id,
        generation=member.generation,
        incarnation=member.incarnation,
        peer_address=member.peer_address,
        client_address=member.client_address,
        zone=member.zone,
        tags=dict(member.tags),
        version=member.version,
        status=_STATUSES.get(member.status, MemberStatus.UNKNOWN),
        reachable=member.reachable,
        phi=member.phi if member.HasField("phi") else None,
        status_age_seconds=member.status_age_seconds,
        cause=member.cause,
    )


def _read_view(view: cluster_pb2.MonitorView) -> MonitorView:
    return MonitorView(
        phi=view.phi,
        mean_seconds=view.mean_seconds,
        deviation_seconds=view.deviation_seconds,
        heartbeat_age_seconds=view.heartbeat_age_seconds if view.HasField("heartbeat_age_seconds") else None,
        heartbeats=view.heartbeats,
        phase=_PHASES.get(view.phase, MonitorPhase.UNKNOWN),
    )


def _read_explanation(response: cluster_pb2.ClusterServiceExplainMemberResponse) -> Explanation:
    return Explanation(
        member=_read_member(response.member),
        monitors=tuple(
            Monitor(one.node_id, one.client_address, _read_view(one.view) if one.HasField("view") else None)
            for one in response.monitors
        ),
        accusations=tuple(
            MemberAccusation(
                one.accuser, one.made_at_unix_milliseconds / 1000, one.age_seconds, one.phi, one.incarnation
            )
            for one in response.accusations
        ),
        accusers_needed=response.accusers_needed,
        verdict=response.verdict,
    )


def _read_event(response: cluster_pb2.ClusterServiceWatchMembersResponse) -> MemberEvent:
    return MemberEvent(
        kind=_EVENTS.get(response.kind, MemberEventKind.UNKNOWN),
        member=_read_member(response.member) if response.HasField("member") else None,
        cause=response.cause,
        token=response.resume_token,
    )


def _read_storage(storage: cluster_pb2.StorageStatus) -> StorageStatus:
    on_disk = storage.default_durability == common_pb2.DURABILITY_DISK
    return StorageStatus(
        default_durability=Durability.DISK if on_disk else Durability.MEMORY,
        file_bytes=storage.file_bytes,
        pending_changes=storage.pending_changes,
        error=storage.error,
        commits=storage.commits,
        format_version=storage.format_version,
    )


def _read_status(response: cluster_pb2.ClusterServiceGetStatusResponse) -> Status:
    coverage = [(_read_origin(item.origin), item) for item in response.coverage]
    return Status(
        node_id=response.node_id,
        generation=response.generation,
        cluster=response.cluster,
        ready=response.ready,
        clock=response.clock,
        fingerprint=response.fingerprint,
        records=response.records,
        tombstones=response.tombstones,
        coverage={origin: item.sequence for origin, item in coverage},
        coverage_above={
            origin: tuple((covered.first, covered.last) for covered in item.above)
            for origin, item in coverage
            if item.above
        },
        uptime_seconds=response.uptime_seconds,
        version=response.version,
        strategy=response.strategy,
        selector=response.selector,
        peer_address=response.peer_address,
        client_address=response.client_address,
        members=response.members,
        gossip=GossipCounters(**{name: getattr(response.gossip, name) for name in _COUNTERS}),
        last_round_age_seconds=response.last_round_age_seconds if response.HasField("last_round_age_seconds") else None,
        last_round_peer=response.last_round_peer,
        limits={use.name: LimitUse(use.used if use.HasField("used") else None, use.limit) for use in response.limits},
        storage=_read_storage(response.storage),
        folded={origin.node_id: origin.generation for origin in response.folded},
        tombstones_blocked=response.tombstones_blocked,
    )
