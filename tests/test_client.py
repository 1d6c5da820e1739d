"""The two clients: what they ask, what they make of the answers, and which error a failure becomes.

The blocking client speaks to the channel of grpcio-testing; the one for asyncio to a real server, as grpcio-testing
has no asyncio.
"""

# ruff: noqa: S106 - page tokens are no secrets

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message

from gossip_grpc.client import (
    AsyncClient,
    Client,
    Counter,
    DeadlineError,
    Deletion,
    Dot,
    Entry,
    GossipCounters,
    GossipError,
    InvalidArgumentError,
    KeyNotFoundError,
    MemberAccusation,
    MemberEvent,
    MemberEventKind,
    MemberNotFoundError,
    MemberStatus,
    Monitor,
    MonitorPhase,
    MonitorView,
    Origin,
    ResourceExhaustedError,
    Session,
    SetSummary,
    UnavailableError,
    Value,
)
from gossip_grpc.gen.gossip.v1 import cluster_pb2, common_pb2, counter_pb2, kv_pb2, set_pb2
from tests.fake_node import SERVICES, FakeNode, Fault, serving, serving_async

ORIGIN = common_pb2.Origin(node_id="a", generation=7)
DOT = common_pb2.Dot(origin=ORIGIN, sequence=3)
TOKEN = common_pb2.Session(clock=9, dots=[DOT])
SESSION = Session(9, (Dot(Origin("a", 7), 3),))
NOTHING_WRITTEN = common_pb2.Session(clock=9)

TIMEOUT = 2.5
METHODS = {method.input_type.full_name: method for service in SERVICES for method in service.methods}


def entry_proto(key: str, value: Value) -> kv_pb2.Entry:
    proto = common_pb2.Value(text=value) if isinstance(value, str) else common_pb2.Value(data=value)
    return kv_pb2.Entry(key=key, value=proto, dot=DOT, clock=9)


def entry(key: str, value: Value) -> Entry:
    return Entry(key, value, Dot(Origin("a", 7), 3), 9)


class Watched:
    """The channel of grpcio-testing, which heeds no deadline and waits for ever for an answer to the wrong call."""

    def __init__(self, expected: list[Message]) -> None:
        self.channel = grpc_testing.channel(SERVICES, grpc_testing.strict_real_time())
        self.expected = iter(expected)

    def unary_stream(self, method: str, **options: Any) -> object:
        return self.channel.unary_stream(method, **options)

    def stream_unary(self, method: str, **options: Any) -> object:
        return self.channel.stream_unary(method, **options)

    def unary_unary(self, method: str, **options: Any) -> Callable[..., object]:
        call = self.channel.unary_unary(method, **options)

        def ask(request: Message, *, timeout: float) -> object:
            assert request == next(self.expected, None)
            assert timeout == TIMEOUT
            return call(request, timeout=timeout)

        return ask


@contextmanager
def talk(*exchanges: tuple[Message, Message | Fault]) -> Iterator[Client]:
    """A client whose calls must be exactly these requests, in this order, and are answered with these responses."""
    channel: Any = Watched([request for request, _ in exchanges])

    def answer_all() -> None:
        for request, answer in exchanges:
            _, _, rpc = channel.channel.take_unary_unary(METHODS[request.DESCRIPTOR.full_name])
            if isinstance(answer, Fault):
                rpc.terminate(None, answer.metadata, answer.code, answer.message)
            else:
                rpc.terminate(answer, (), grpc.StatusCode.OK, "")

    threading.Thread(target=answer_all, daemon=True).start()
    with Client("node.test:7947", channel=channel, timeout=TIMEOUT, sessions=False, retries=False) as client:
        yield client
    assert next(channel.expected, None) is None, "the client did not ask all that it should have"


# --- the blocking client: registers ---


@pytest.mark.parametrize("value", ["hello", "", b"\x00\xff", b""])
def test_a_value_is_read_with_the_write_it_comes_from_and_keeps_its_type(value: Value) -> None:
    response = kv_pb2.KeyValueServiceGetResponse(entry=entry_proto("k", value))
    with talk((kv_pb2.KeyValueServiceGetRequest(key="k"), response)) as client:
        assert client.kv.get("k") == entry("k", value)


def test_text_and_bytes_are_written_as_what_they_are() -> None:
    request, response = kv_pb2.KeyValueServicePutRequest, kv_pb2.KeyValueServicePutResponse(session=TOKEN)
    with talk(
        (request(key="k", value=common_pb2.Value(text="")), response),
        (request(key="k", value=common_pb2.Value(data=b"")), response),
    ) as client:
        assert client.kv.put("k", "") == SESSION
        assert client.kv.put("k", b"") == SESSION


def test_a_deletion_is_true_if_there_was_a_value() -> None:
    request, response = kv_pb2.KeyValueServiceDeleteRequest(key="k"), kv_pb2.KeyValueServiceDeleteResponse
    with talk((request, response(session=TOKEN, found=True)), (request, response(session=NOTHING_WRITTEN))) as client:
        first, second = client.kv.delete("k"), client.kv.delete("k")
    assert first == Deletion(True, SESSION)
    assert first
    assert second == Deletion(False, Session(9, ()))
    assert not second


def test_a_listing_goes_through_all_pages_even_empty_ones() -> None:
    request, response = kv_pb2.KeyValueServiceListRequest, kv_pb2.KeyValueServiceListResponse
    with talk(
        (request(prefix="p", page_size=2), response(entries=[entry_proto("p1", "1")], next_page_token="t1")),
        (request(prefix="p", page_size=2, page_token="t1"), response(next_page_token="t2")),
        (request(prefix="p", page_size=2, page_token="t2"), response(entries=[entry_proto("p2", b"2")])),
    ) as client:
        assert list(client.kv.list("p", page_size=2)) == [entry("p1", "1"), entry("p2", b"2")]


def test_a_listing_asks_for_a_page_only_when_it_is_needed() -> None:
    response = kv_pb2.KeyValueServiceListResponse(entries=[entry_proto("a", "1")], next_page_token="t")
    with talk((kv_pb2.KeyValueServiceListRequest(), response)) as client:
        assert next(client.kv.list()) == entry("a", "1")


# --- the blocking client: counters, sets, cluster ---


def test_a_counter_is_read_added_to_and_reset() -> None:
    with talk(
        (
            counter_pb2.CounterServiceGetRequest(key="c"),
            counter_pb2.CounterServiceGetResponse(counter=counter_pb2.Counter(key="c", value=-4)),
        ),
        (
            counter_pb2.CounterServiceAddRequest(key="c", amount=-(2**63), request_id="once"),
            counter_pb2.CounterServiceAddResponse(session=TOKEN, value=-5),
        ),
        (counter_pb2.CounterServiceResetRequest(key="c"), counter_pb2.CounterServiceResetResponse(session=TOKEN)),
        (
            counter_pb2.CounterServiceListRequest(prefix="c"),
            counter_pb2.CounterServiceListResponse(counters=[counter_pb2.Counter(key="c", value=1)]),
        ),
    ) as client:
        assert client.counter.get("c") == -4
        assert client.counter.add("c", -(2**63), request_id="once") == -5
        assert client.counter.reset("c") == SESSION
        assert list(client.counter.list("c")) == [Counter("c", 1)]


def test_a_set_is_gathered_from_its_pages_and_keeps_text_and_bytes_apart() -> None:
    request, response = set_pb2.SetServiceGetRequest, set_pb2.SetServiceGetResponse
    text, data = common_pb2.Value(text="x"), common_pb2.Value(data=b"x")
    with talk(
        (request(key="s"), response(elements=[text], next_page_token="t", size=2)),
        (request(key="s", page_token="t"), response(elements=[data], size=2)),
    ) as client:
        assert client.set.get("s") == {"x", b"x"}


def test_elements_are_added_removed_and_counted() -> None:
    elements = [common_pb2.Value(text="x"), common_pb2.Value(data=b"y")]
    with talk(
        (
            set_pb2.SetServiceAddRequest(key="s", elements=elements),
            set_pb2.SetServiceAddResponse(session=TOKEN, added=2),
        ),
        (
            set_pb2.SetServiceRemoveRequest(key="s", elements=elements),
            set_pb2.SetServiceRemoveResponse(session=TOKEN, removed=1),
        ),
        (
            set_pb2.SetServiceListRequest(),
            set_pb2.SetServiceListResponse(sets=[set_pb2.SetSummary(key="s", size=1)]),
        ),
    ) as client:
        assert client.set.add("s", "x", b"y") == 2
        assert client.set.remove("s", "x", b"y") == 1
        assert list(client.set.list()) == [SetSummary("s", 1)]


def test_members_come_from_all_pages_with_their_status_in_words() -> None:
    request, response = cluster_pb2.ClusterServiceListMembersRequest, cluster_pb2.ClusterServiceListMembersResponse
    left = cluster_pb2.Member(
        node_id="b",
        generation=2,
        incarnation=5,
        peer_address="10.0.0.2:7946",
        client_address="10.0.0.2:7947",
        zone="z",
        tags={"role": "db"},
        version="1.0",
        status=cluster_pb2.MEMBER_STATUS_LEFT,
    )
    alive = cluster_pb2.Member(
        node_id="a",
        status=cluster_pb2.MEMBER_STATUS_ALIVE,
        reachable=True,
        phi=0,
        status_age_seconds=1.5,
        cause="it is heard",
    )
    newer = cluster_pb2.Member(node_id="c", status=99)  # type: ignore[arg-type]  # as a later schema may send
    with talk(
        (request(), response(members=[alive], next_page_token="t")),
        (request(page_token="t"), response(members=[left, newer])),
    ) as client:
        first, second, third = client.members()
    assert (first.node_id, first.status, first.reachable) == ("a", MemberStatus.ALIVE, True)
    assert (first.phi, first.status_age_seconds, first.cause) == (0.0, 1.5, "it is heard")
    assert second.phi is None
    assert (second.peer_address, second.client_address) == ("10.0.0.2:7946", "10.0.0.2:7947")
    assert (second.generation, second.incarnation) == (2, 5)
    assert (second.zone, second.tags, second.version) == ("z", {"role": "db"}, "1.0")
    assert (second.status, second.reachable) == ("left", False)
    assert third.status is MemberStatus.UNKNOWN


def test_members_are_asked_for_by_status_zone_and_tags_on_every_page() -> None:
    request, response = cluster_pb2.ClusterServiceListMembersRequest, cluster_pb2.ClusterServiceListMembersResponse
    filters: dict[str, Any] = {"statuses": [cluster_pb2.MEMBER_STATUS_DEAD], "zone": "", "tags": {"k": "v"}}
    with talk(
        (request(**filters), response(next_page_token="t")),
        (request(**filters, page_token="t"), response()),
    ) as client:
        assert client.members(statuses=["dead"], zone="", tags={"k": "v"}) == []


def test_an_explanation_has_what_the_monitors_hear_and_who_accuses() -> None:
    view = cluster_pb2.MonitorView(
        phi=1.5,
        mean_seconds=0.5,
        deviation_seconds=0.1,
        heartbeat_age_seconds=0,
        heartbeats=3,
        phase=cluster_pb2.MONITOR_PHASE_ASKING,
    )
    silent = cluster_pb2.MonitorView(phase=99)  # type: ignore[arg-type]  # as a later schema may send
    response = cluster_pb2.ClusterServiceExplainMemberResponse(
        member=cluster_pb2.Member(node_id="b", status=cluster_pb2.MEMBER_STATUS_SUSPECT),
        monitors=[
            cluster_pb2.Monitor(node_id="a", client_address="a:2", view=view),
            cluster_pb2.Monitor(node_id="c", view=silent),
            cluster_pb2.Monitor(node_id="d"),
        ],
        accusations=[
            cluster_pb2.MemberAccusation(
                accuser="c", made_at_unix_milliseconds=99_000, age_seconds=2, phi=8, incarnation=4
            )
        ],
        accusers_needed=2,
        verdict="so it is",
    )
    with talk((cluster_pb2.ClusterServiceExplainMemberRequest(node_id="b"), response)) as client:
        found = client.explain("b")
    assert found.member.status is MemberStatus.SUSPECT
    assert found.monitors == (
        Monitor("a", "a:2", MonitorView(1.5, 0.5, 0.1, 0.0, 3, MonitorPhase.ASKING)),
        Monitor("c", "", MonitorView(0.0, 0.0, 0.0, None, 0, MonitorPhase.UNKNOWN)),
        Monitor("d", "", None),
    )
    assert found.accusations == (MemberAccusation("c", 99.0, 2.0, 8.0, 4),)
    assert (found.accusers_needed, found.verdict) == (2, "so it is")


def test_tags_are_set_members_forgotten_and_pinged() -> None:
    with talk(
        (cluster_pb2.ClusterServiceSetTagsRequest(tags={"k": "v"}), cluster_pb2.ClusterServiceSetTagsResponse()),
        (cluster_pb2.ClusterServiceForgetMemberRequest(node_id="b"), cluster_pb2.ClusterServiceForgetMemberResponse()),
        (
            cluster_pb2.ClusterServicePingRequest(node_id="b"),
            cluster_pb2.ClusterServicePingResponse(round_trip_milliseconds=1.5, address="b:1"),
        ),
    ) as client:
        client.set_tags({"k": "v"})
        client.forget("b")
        assert client.ping("b") == 1.5


def test_status_tells_coverage_by_origin_and_the_ranges_above_apart() -> None:
    coverage = [
        cluster_pb2.OriginCoverage(origin=ORIGIN, sequence=5),
        cluster_pb2.OriginCoverage(
            origin=common_pb2.Origin(node_id="b", generation=1),
            sequence=2,
            above=[common_pb2.SequenceRange(first=4, last=6)],
        ),
    ]
    response = cluster_pb2.ClusterServiceGetStatusResponse(
        node_id="a", ready=True, coverage=coverage, gossip=cluster_pb2.GossipCounters(rounds=3, purged=1)
    )
    with talk((cluster_pb2.ClusterServiceGetStatusRequest(), response)) as client:
        status = client.status()
    assert status.coverage == {Origin("a", 7): 5, Origin("b", 1): 2}
    assert status.coverage_above == {Origin("b", 1): ((4, 6),)}
    assert (status.gossip.rounds, status.gossip.purged) == (3, 1)


@pytest.mark.parametrize("seconds", [None, 0.0, 1.5])
def test_status_tells_no_round_yet_from_a_round_just_now(seconds: float | None) -> None:
    response = cluster_pb2.ClusterServiceGetStatusResponse(last_round_age_seconds=seconds)
    with talk((cluster_pb2.ClusterServiceGetStatusRequest(), response)) as client:
        assert client.status().last_round_age_seconds == seconds


def test_status_has_every_field_of_the_schema() -> None:
    counters = set(cluster_pb2.GossipCounters.DESCRIPTOR.fields_by_name)
    assert {field.name for field in fields(GossipCounters)} == counters


def test_leaving_tells_how_many_peers_know() -> None:
    with talk((cluster_pb2.ClusterServiceLeaveRequest(), cluster_pb2.ClusterServiceLeaveResponse(peers=2))) as client:
        assert client.leave() == 2


# --- errors ---

Code = grpc.StatusCode
FAULTS = [
    (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", InvalidArgumentError),
    (Code.NOT_FOUND, "KEY_NOT_FOUND", KeyNotFoundError),
    (Code.NOT_FOUND, "MEMBER_NOT_FOUND", MemberNotFoundError),
    (Code.UNAVAILABLE, "NOT_READY", UnavailableError),
    (Code.UNAVAILABLE, "STOPPING", UnavailableError),
    (Code.OUT_OF_RANGE, "COUNTER_OVERFLOW", InvalidArgumentError),
    (Code.RESOURCE_EXHAUSTED, "RECORD_LIMIT", ResourceExhaustedError),
    (Code.DEADLINE_EXCEEDED, "INTERNAL", DeadlineError),
    (Code.INTERNAL, "INTERNAL", GossipError),
]
GET = kv_pb2.KeyValueServiceGetRequest(key="k")


@pytest.mark.parametrize(("code", "reason", "kind"), FAULTS)
def test_what_the_node_says_is_the_error_with_its_reason(code: Code, reason: str, kind: type[GossipError]) -> None:
    with talk((GET, Fault(code, "the node's words", reason))) as client, pytest.raises(GossipError) as caught:
        client.kv.get("k")
    assert type(caught.value) is kind
    assert str(caught.value) == "the node's words"
    assert caught.value.reason == reason


def test_an_invalid_argument_names_its_fields() -> None:
    fault = Fault(Code.INVALID_ARGUMENT, "key is too long", "INVALID_ARGUMENT", {"key": "at most 512 bytes"})
    with talk((GET, fault)) as client, pytest.raises(InvalidArgumentError) as caught:
        client.kv.get("k")
    assert caught.value.fields == {"key": "at most 512 bytes"}


FOREIGN = [
    (
        Fault(Code.UNIMPLEMENTED, "Method not found!"),
        GossipError,
        "node.test:7947 does not know this call (Method not found!); is it the client address of a gossip-grpc node?",
    ),
    (
        Fault(Code.RESOURCE_EXHAUSTED, "message larger than max"),
        ResourceExhaustedError,
        "node.test:7947 takes no message of that size (message larger than max); limits of values are far below",
    ),
    (
        Fault(Code.NOT_FOUND, "no such route"),
        GossipError,
        "the call to node.test:7947 failed with NOT_FOUND (no such route); look into the log of the node",
    ),
    (
        Fault(Code.UNAVAILABLE, "upstream is down", "BACKEND", domain="proxy.example"),
        UnavailableError,
        "cannot reach node.test:7947: upstream is down; is a node running there?",
    ),
    (
        Fault(Code.UNAVAILABLE, "last error: Failed to connect to remote host: connect: Connection refused (111)"),
        UnavailableError,
        "cannot reach node.test:7947: connection refused; is the node running?",
    ),
    (
        Fault(Code.UNAVAILABLE, "DNS resolution failed for node.test:7947"),
        UnavailableError,
        "cannot reach node.test:7947: the name cannot be resolved; is it spelled right?",
    ),
]


@pytest.mark.parametrize(("fault", "kind", "message"), FOREIGN, ids=[fault.message for fault, *_ in FOREIGN])
def test_what_did_not_come_from_a_node_is_put_into_words(fault: Fault, kind: type[GossipError], message: str) -> None:
    with talk((GET, fault)) as client, pytest.raises(GossipError) as caught:
        client.kv.get("k")
    assert type(caught.value) is kind
    assert str(caught.value) == message
    assert caught.value.reason is None


@pytest.mark.parametrize("metadata", [(("grpc-status-details-bin", b"\xff\xff"),), Fault(Code.OK, "ok", "X").metadata])
def test_details_that_are_broken_or_contradict_the_code_are_ignored(metadata: Any) -> None:
    fault = Fault(Code.UNAVAILABLE, "gone")
    fault.metadata = metadata
    with talk((GET, fault)) as client, pytest.raises(UnavailableError, match=r"cannot reach node\.test:7947: gone"):
        client.kv.get("k")


def test_a_call_ends_with_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout=0.1) as client, pytest.raises(DeadlineError) as caught:
            client.status()
    assert str(caught.value) == (
        f"{address} did not answer within 0.1 s; if it was a write, it may or may not have taken effect; "
        "check the address, or allow more time"
    )


# --- arguments ---

NO_UTF8 = "must be text that UTF-8 can encode, without lone surrogates"
WRONG: list[tuple[str, str, Callable[[Any], object]]] = [
    ("key", "must be str, not bytes", lambda client: client.kv.get(b"k")),
    ("key", "must be str, not NoneType", lambda client: client.counter.get(None)),
    ("key", NO_UTF8, lambda client: client.kv.get("\udc80")),
    ("value", "must be str or bytes, not int", lambda client: client.kv.put("k", 5)),
    (
        "value",
        "must be text that UTF-8 can encode, without lone surrogates",
        lambda client: client.kv.put("k", "\udc80"),
    ),
    ("amount", "must be int, not float", lambda client: client.counter.add("k", 1.0)),
    ("amount", "must be int, not bool", lambda client: client.counter.add("k", True)),
    ("amount", f"must be between -2^63 and 2^63 - 1, not {2**63}", lambda client: client.counter.add("k", 2**63)),
    ("elements[1]", "must be str or bytes, not list", lambda client: client.set.add("k", "x", ["y"])),
    ("elements[0]", "must be str or bytes, not int", lambda client: client.set.remove("k", 1)),
    ("prefix", "must be str, not int", lambda client: client.kv.list(1)),
    ("page_size", "must be int, not str", lambda client: client.set.list("", "9")),
    ("page_size", f"must be between -2^31 and 2^31 - 1, not {2**31}", lambda client: client.counter.list("", 2**31)),
]


@pytest.mark.parametrize(("field", "problem", "call"), WRONG, ids=[f"{field} {problem}" for field, problem, _ in WRONG])
def test_an_argument_of_a_wrong_type_is_named_before_any_call(
    field: str, problem: str, call: Callable[[Any], object]
) -> None:
    with talk() as client, pytest.raises(InvalidArgumentError) as caught:
        call(client)
    assert str(caught.value) == f"{field} {problem}"
    assert caught.value.fields == {field: problem}


@pytest.mark.parametrize(
    "address", ["", "localhost", "localhost:", ":7947", "a:0", "a:65536", "a b:1", "::1:7947", 7947]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_without_host_or_port_is_refused(kind: Callable[[Any], object], address: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"address must be HOST:PORT such as 127\.0\.0\.1:7947, not"):
        kind(address)


@pytest.mark.parametrize(
    "address", ["localhost:1", "[::1]:7947", "node-1.example.org:7947", "unix:/run/node", "dns:///a:1"]
)
def test_names_addresses_and_targets_of_grpc_are_accepted(address: str) -> None:
    with Client(address) as client:
        assert client.address == address


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None])
def test_a_timeout_that_is_no_positive_number_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds above 0, not"):
        Client(timeout=timeout)


# --- connections ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_node_that_does_not_run_is_named_at_once() -> None:
    address = f"127.0.0.1:{free_port()}"
    begin = time.monotonic()
    with Client(address, timeout=30) as client, pytest.raises(UnavailableError) as caught:
        client.status()
    assert str(caught.value) == f"cannot reach {address}: connection refused; is the node running?"
    assert time.monotonic() - begin < 10


def test_a_name_that_does_not_exist_is_named() -> None:
    # An address that no resolver is asked for, so that the test needs no network.
    with (
        Client("dns:///256.0.0.1:7947") as client,
        pytest.raises(UnavailableError, match="the name cannot be resolved"),
    ):
        client.status()


def test_a_closed_client_says_so() -> None:
    client = Client()
    client.close()
    client.close()
    with pytest.raises(GossipError, match="this client is closed; make a new one"):
        client.status()


def test_a_channel_that_was_handed_in_stays_open() -> None:
    with serving() as node, grpc.insecure_channel(node.address) as channel:
        node.answers[cluster_pb2.ClusterServiceLeaveRequest] = cluster_pb2.ClusterServiceLeaveResponse(peers=1)
        for _ in range(2):
            with Client(channel=channel) as client:
                assert client.leave() == 1


# --- the client for asyncio ---


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with serving_async() as node:
        yield node


async def test_the_asyncio_client_has_the_same_verbs_and_results(node: FakeNode) -> None:
    node.answers = {
        kv_pb2.KeyValueServiceGetRequest: kv_pb2.KeyValueServiceGetResponse(entry=entry_proto("k", b"v")),
        kv_pb2.KeyValueServicePutRequest: kv_pb2.KeyValueServicePutResponse(session=TOKEN),
        kv_pb2.KeyValueServiceDeleteRequest: kv_pb2.KeyValueServiceDeleteResponse(session=TOKEN, found=True),
        counter_pb2.CounterServiceGetRequest: counter_pb2.CounterServiceGetResponse(
            counter=counter_pb2.Counter(key="c", value=4)
        ),
        counter_pb2.CounterServiceAddRequest: counter_pb2.CounterServiceAddResponse(value=5),
        counter_pb2.CounterServiceResetRequest: counter_pb2.CounterServiceResetResponse(session=TOKEN),
        set_pb2.SetServiceAddRequest: set_pb2.SetServiceAddResponse(added=1),
        set_pb2.SetServiceRemoveRequest: set_pb2.SetServiceRemoveResponse(removed=1),
        cluster_pb2.ClusterServiceGetStatusRequest: cluster_pb2.ClusterServiceGetStatusResponse(node_id="a"),
        cluster_pb2.ClusterServiceLeaveRequest: cluster_pb2.ClusterServiceLeaveResponse(peers=2),
    }
    async with AsyncClient(node.address, sessions=False) as client:
        assert await client.kv.get("k") == entry("k", b"v")
        assert await client.kv.put("k", "v") == SESSION
        assert await client.kv.delete("k") == Deletion(True, SESSION)
        assert await client.counter.get("c") == 4
        assert await client.counter.add("c", 1) == 5
        assert await client.counter.reset("c") == SESSION
        assert await client.set.add("s", "x") == 1
        assert await client.set.remove("s", "x") == 1
        assert (await client.status()).node_id == "a"
        assert await client.leave() == 2
    assert [type(request) for request in node.requests] == list(node.answers)
    assert node.requests[1] == kv_pb2.KeyValueServicePutRequest(key="k", value=common_pb2.Value(text="v"))


async def test_the_asyncio_client_goes_through_all_pages(node: FakeNode) -> None:
    def entries(request: kv_pb2.KeyValueServiceListRequest) -> kv_pb2.KeyValueServiceListResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        found = [entry_proto(f"{request.prefix}{index}", "v") for index in range(begin, min(end, 5))]
        return kv_pb2.KeyValueServiceListResponse(entries=found, next_page_token=str(end) if end < 5 else "")

    def elements(request: set_pb2.SetServiceGetRequest) -> set_pb2.SetServiceGetResponse:
        text = common_pb2.Value(text=request.page_token or "first")
        return set_pb2.SetServiceGetResponse(elements=[text], next_page_token="" if request.page_token else "second")

    def members(request: cluster_pb2.ClusterServiceListMembersRequest) -> cluster_pb2.ClusterServiceListMembersResponse:
        member = cluster_pb2.Member(node_id=request.page_token or "a")
        token = "" if request.page_token else "b"
        return cluster_pb2.ClusterServiceListMembersResponse(members=[member], next_page_token=token)

    node.answers = {
        kv_pb2.KeyValueServiceListRequest: entries,
        set_pb2.SetServiceGetRequest: elements,
        cluster_pb2.ClusterServiceListMembersRequest: members,
    }
    async with AsyncClient(node.address) as client:
        assert [entry.key async for entry in client.kv.list("k", page_size=2)] == ["k0", "k1", "k2", "k3", "k4"]
        assert await client.set.get("s") == {"first", "second"}
        assert [member.node_id for member in await client.members()] == ["a", "b"]


@pytest.mark.parametrize(("code", "reason", "kind"), FAULTS)
async def test_the_asyncio_client_raises_the_same_errors(
    node: FakeNode, code: Code, reason: str, kind: type[GossipError]
) -> None:
    node.answers[type(GET)] = Fault(code, "the node's words", reason, {"key": "bad"})
    async with AsyncClient(node.address) as client:
        with pytest.raises(GossipError) as caught:
            await client.kv.get("k")
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.reason) == ("the node's words", reason)
    assert caught.value.fields == {"key": "bad"}


async def test_the_asyncio_client_names_a_node_that_does_not_run() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with AsyncClient(address) as client:
        with pytest.raises(UnavailableError, match=f"cannot reach {address}: connection refused; is the node running"):
            await client.status()


async def test_the_asyncio_client_ends_a_call_with_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncClient(address, timeout=0.2) as client:
            with pytest.raises(DeadlineError, match=f"{address} did not answer within 0.2 s"):
                await client.status()


async def test_the_asyncio_client_names_wrong_arguments_before_any_call(node: FakeNode) -> None:
    async with AsyncClient(node.address) as client:
        with pytest.raises(InvalidArgumentError, match="value must be str or bytes, not int"):
            await client.kv.put("k", 5)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="prefix must be str, not int"):
            client.kv.list(5)  # type: ignore[arg-type]
    assert not node.requests


async def test_a_closed_asyncio_client_says_so() -> None:
    client = AsyncClient()
    await client.close()
    await client.close()
    with pytest.raises(GossipError, match="this client is closed; make a new one"):
        await client.status()


async def test_the_asyncio_client_takes_a_channel_and_leaves_it_open(node: FakeNode) -> None:
    node.answers[cluster_pb2.ClusterServiceLeaveRequest] = cluster_pb2.ClusterServiceLeaveResponse(peers=1)
    async with grpc.aio.insecure_channel(node.address) as channel:
        for _ in range(2):
            async with AsyncClient(channel=channel) as client:
                assert await client.leave() == 1


@pytest.mark.parametrize(
    ("ttl", "milliseconds"), [(30, 30_000), (0.0001, 1), (timedelta(minutes=1), 60_000), (0, 0), (1.0005, 1_001)]
)
async def test_put_sends_how_long_a_value_is_visible_and_with_whom(
    node: FakeNode, ttl: float | timedelta, milliseconds: int
) -> None:
    node.answers[kv_pb2.KeyValueServicePutRequest] = kv_pb2.KeyValueServicePutResponse(session=TOKEN)
    async with AsyncClient(node.address) as client:
        await client.kv.put("k", "v", ttl=ttl, ephemeral=True)
    [request] = node.requests
    assert (request.ttl_milliseconds, request.ephemeral) == (milliseconds, True)


@pytest.mark.parametrize("ttl", [-1, "30s", True, float("nan"), float("inf"), timedelta(seconds=-1)])
async def test_put_refuses_what_is_no_time(node: FakeNode, ttl: Any) -> None:
    async with AsyncClient(node.address) as client:
        with pytest.raises(InvalidArgumentError, match="ttl must be a number of seconds or a timedelta"):
            await client.kv.put("k", "v", ttl=ttl)
        with pytest.raises(InvalidArgumentError, match="ephemeral must be True or False, not int"):
            await client.kv.put("k", "v", ephemeral=1)  # type: ignore[arg-type]
    assert not node.requests


async def test_what_a_later_node_says_of_keys_is_unknown_and_no_failure(node: FakeNode) -> None:
    later: Any = 99
    node.answers[kv_pb2.KeyValueServiceWatchRequest] = [kv_pb2.KeyValueServiceWatchResponse(kind=later)]
    node.answers[counter_pb2.CounterServiceWatchRequest] = [counter_pb2.CounterServiceWatchResponse(kind=later)]
    node.answers[set_pb2.SetServiceWatchRequest] = [set_pb2.SetServiceWatchResponse(kind=later)]
    async with AsyncClient(node.address) as client:
        groups: list[Any] = [client.kv, client.counter, client.set]
        kinds = [str((await anext(group.watch("p", "t"))).kind) for group in groups]
        with pytest.raises(InvalidArgumentError, match="prefix must be str, not int"):
            client.kv.watch(7)  # type: ignore[arg-type]
    assert kinds == ["unknown"] * 3
    assert {(request.prefix, request.resume_token) for request in node.requests} == {("p", "t")}


EVENTS: list[Message | Fault] = [
    cluster_pb2.ClusterServiceWatchMembersResponse(
        kind=cluster_pb2.MEMBER_EVENT_KIND_DEAD,
        member=cluster_pb2.Member(node_id="b", status=cluster_pb2.MEMBER_STATUS_DEAD),
        cause="accused by a, c",
        resume_token="a/7/2",
    ),
    cluster_pb2.ClusterServiceWatchMembersResponse(kind=99, resume_token="a/7/3"),  # type: ignore[arg-type]  # of a later schema
    Fault(Code.RESOURCE_EXHAUSTED, "too slow", "SLOW_WATCHER"),
]


def assert_events(seen: list[MemberEvent]) -> None:
    dead, unknown = seen
    assert (dead.kind, dead.cause, dead.token) == (MemberEventKind.DEAD, "accused by a, c", "a/7/2")
    assert dead.member is not None
    assert (dead.member.node_id, dead.member.status) == ("b", MemberStatus.DEAD)
    assert (unknown.kind, unknown.member, unknown.token) == (MemberEventKind.UNKNOWN, None, "a/7/3")


async def test_the_asyncio_client_watches_until_the_node_ends_it(node: FakeNode) -> None:
    node.answers[cluster_pb2.ClusterServiceWatchMembersRequest] = EVENTS
    seen = []
    async with AsyncClient(node.address) as client:
        watching = client.watch("a/7/1", reconnect=0)
        seen = [await anext(watching), await anext(watching)]
        with pytest.raises(ResourceExhaustedError, match="too slow") as caught:
            await anext(watching)
        with pytest.raises(InvalidArgumentError, match="token must be str, not int"):
            client.watch(7)  # type: ignore[arg-type]
    assert_events(seen)
    assert caught.value.reason == "SLOW_WATCHER"
    assert node.requests == [cluster_pb2.ClusterServiceWatchMembersRequest(resume_token="a/7/1")]
    with pytest.raises(GossipError, match="this client is closed"):
        await anext(client.watch())


def test_the_blocking_client_watches_until_the_node_ends_it() -> None:
    with serving() as node:
        node.answers[cluster_pb2.ClusterServiceWatchMembersRequest] = EVENTS
        with Client(node.address) as client:
            watching = client.watch()
            assert_events([next(watching), next(watching)])
            with pytest.raises(ResourceExhaustedError, match="too slow"):
                next(watching)
    with pytest.raises(GossipError, match="this client is closed"):
        next(client.watch())


def test_a_client_for_asyncio_can_be_made_before_the_loop_runs() -> None:
    assert AsyncClient().address == "127.0.0.1:7947"


# --- the two together ---


def verbs_of(client: object) -> dict[str, inspect.Signature]:
    groups = {"": client, **{name: getattr(client, name) for name in ("kv", "counter", "set", "event")}}
    return {
        f"{group}.{name}": inspect.signature(method)
        for group, holder in groups.items()
        for name, method in inspect.getmembers(holder, callable)
        if not name.startswith("_") and name not in {"run", "stream", "close", "adopt", *groups}
    }


def test_both_clients_have_the_same_verbs_with_the_same_parameters() -> None:
    with Client() as client:
        verbs = verbs_of(client)
    verbs_async = verbs_of(AsyncClient())
    # The one that takes what an async iterator is one of.
    names = list(verbs_async.pop("kv.put_many").parameters)
    assert list(verbs["kv.put_many"].parameters) == names == ["entries", "durability", "timeout"]
    del verbs["kv.put_many"]
    assert verbs == verbs_async
    assert str(verbs["set.add"]) == (
        "(key: 'str', *elements: 'Value', durability: 'str | None' = None, timeout: 'float | None' = None)"
    )
    assert len(verbs) == 26


def test_a_verb_documents_itself() -> None:
    with Client() as client:
        assert inspect.getdoc(client.kv.get) == "Reads one key. KeyNotFoundError if the node holds no value for it."
