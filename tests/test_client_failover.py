"""Both clients with several addresses, of fake nodes: where they go on, what they repeat, and how streams resume."""

# ruff: noqa: S105 - resume tokens are no secrets

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from gossip_grpc.client import (
    AsyncClient,
    Client,
    DeadlineError,
    GossipError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from gossip_grpc.client.verbs import counter, kv
from gossip_grpc.gen.gossip.v1 import cluster_pb2, common_pb2, counter_pb2, event_pb2, kv_pb2
from tests.fake_node import FakeNode, Fault, serving

Code = grpc.StatusCode
LOST = Fault(Code.UNAVAILABLE, "Socket closed")
NOT_READY = Fault(Code.UNAVAILABLE, "this node is not ready", "NOT_READY", retry_after=30.0)
STOPPING = Fault(Code.UNAVAILABLE, "the node stops", "STOPPING", retry_after=0.05)
GOT = kv_pb2.KeyValueServiceGetResponse(entry=kv_pb2.Entry(key="k", value=common_pb2.Value(text="v")))
PUT = kv_pb2.KeyValueServicePutResponse()
DEADLINE = 20.0


@contextmanager
def nodes(count: int) -> Iterator[list[FakeNode]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving()) for _ in range(count)]


@pytest.fixture
def two() -> Iterator[list[FakeNode]]:
    with nodes(2) as found:
        yield found


def client_of(*found: FakeNode | str, timeout: float = DEADLINE, **more: Any) -> Client:
    addresses = [one if isinstance(one, str) else one.address for one in found]
    return Client(addresses, timeout=timeout, shuffle=False, **more)


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# Calls


async def run_async(client: AsyncClient, call: Any) -> object:
    async with client:
        return await client.run(call)


@pytest.fixture(params=["blocking", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[..., object]:
    """Makes one call of the table, with either kind of client."""

    def blocking(call: Any, *found: FakeNode | str, timeout: float = DEADLINE, **more: Any) -> object:
        with client_of(*found, timeout=timeout, **more) as client:
            return client.run(call)

    def on_a_loop(call: Any, *found: FakeNode | str, timeout: float = DEADLINE, **more: Any) -> object:
        addresses = [one if isinstance(one, str) else one.address for one in found]
        return asyncio.run(run_async(AsyncClient(addresses, timeout=timeout, shuffle=False, **more), call))

    return blocking if request.param == "blocking" else on_a_loop


def test_a_dead_address_is_passed_over(run: Callable[..., object], two: list[FakeNode]) -> None:
    two[0].answers[kv_pb2.KeyValueServicePutRequest] = PUT
    run(kv.put_entry("k", "v"), closed_port(), two[0])
    assert len(two[0].requests) == 1


def test_a_node_that_is_not_ready_has_done_nothing_and_a_write_goes_to_the_next(
    run: Callable[..., object], two: list[FakeNode]
) -> None:
    two[0].answers[kv_pb2.KeyValueServicePutRequest] = NOT_READY
    two[1].answers[kv_pb2.KeyValueServicePutRequest] = PUT
    run(kv.put_entry("k", "v"), *two)
    assert [len(node.requests) for node in two] == [1, 1]


def test_a_node_that_says_that_it_does_not_serve_is_not_asked(run: Callable[..., object], two: list[FakeNode]) -> None:
    two[0].health = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
    two[1].answers[kv_pb2.KeyValueServiceGetRequest] = GOT
    run(kv.get_entry("k"), *two)
    assert [len(node.requests) for node in two] == [0, 1]


def test_where_nobody_serves_reads_are_answered_all_the_same(run: Callable[..., object], two: list[FakeNode]) -> None:
    for node in two:
        node.health = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        node.answers[kv_pb2.KeyValueServiceGetRequest] = GOT
    run(kv.get_entry("k"), *two)


def test_an_address_that_takes_connections_and_says_nothing_does_not_leave_a_write_in_doubt(
    run: Callable[..., object], two: list[FakeNode]
) -> None:
    two[0].answers[kv_pb2.KeyValueServicePutRequest] = PUT
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run(kv.put_entry("k", "v"), f"127.0.0.1:{silent.getsockname()[1]}", two[0])
    assert len(two[0].requests) == 1


def test_a_read_whose_answer_is_lost_is_made_again_at_the_next(run: Callable[..., object], two: list[FakeNode]) -> None:
    two[0].answers[kv_pb2.KeyValueServiceGetRequest] = LOST
    two[1].answers[kv_pb2.KeyValueServiceGetRequest] = GOT
    run(kv.get_entry("k"), *two)


def test_a_put_whose_answer_is_lost_is_not_made_again(run: Callable[..., object], two: list[FakeNode]) -> None:
    for node in two:
        node.answers[kv_pb2.KeyValueServicePutRequest] = LOST
    with pytest.raises(UnavailableError, match=r"Socket closed.*; the write may have taken effect$") as caught:
        run(kv.put_entry("k", "v"), *two)
    assert caught.value.may_have_taken_effect
    assert [attempt.address for attempt in caught.value.attempts] == [two[0].address]
    assert [len(node.requests) for node in two] == [1, 0]


class Ledger:
    """Nodes that count each request_id once, and lose answers after they have counted."""

    def __init__(self, nodes: list[FakeNode], *, lost: int) -> None:
        self.counted: dict[str, int] = {}
        self.calls = 0
        self._lost = lost
        for node in nodes:
            node.answers[counter_pb2.CounterServiceAddRequest] = self._add

    def _add(self, request: counter_pb2.CounterServiceAddRequest) -> Message | Fault:
        self.calls += 1
        assert request.request_id
        self.counted[request.request_id] = request.amount
        if self.calls <= self._lost:
            return LOST
        return counter_pb2.CounterServiceAddResponse(value=sum(self.counted.values()))


@pytest.mark.parametrize("count", [1, 2])
def test_an_addition_whose_answer_is_lost_is_made_again_and_counts_once(
    run: Callable[..., object], two: list[FakeNode], count: int
) -> None:
    ledger = Ledger(two, lost=3)
    assert run(counter.add_to_counter("c", 5), *two[:count]) == 5
    assert ledger.calls == 4


def test_each_addition_has_a_name_of_its_own_unless_it_is_given_one(two: list[FakeNode]) -> None:
    ledger = Ledger(two, lost=0)
    with client_of(*two) as client:
        assert [client.counter.add("c", 1) for _ in range(3)] == [1, 2, 3]
        assert [client.counter.add("c", 1, request_id="mine") for _ in range(2)] == [4, 4]
    assert "mine" in ledger.counted


def test_an_addition_that_is_to_have_no_name_is_not_made_again(run: Callable[..., object], two: list[FakeNode]) -> None:
    two[0].answers[counter_pb2.CounterServiceAddRequest] = LOST
    with pytest.raises(UnavailableError) as caught:
        run(counter.add_to_counter("c", 1, request_id=""), *two)
    assert caught.value.may_have_taken_effect
    assert two[1].requests == []


def test_an_event_whose_answer_is_lost_is_published_again_under_its_name(two: list[FakeNode]) -> None:
    two[0].answers[event_pb2.EventServicePublishRequest] = LOST
    two[1].answers[event_pb2.EventServicePublishRequest] = event_pb2.EventServicePublishResponse()
    with client_of(*two) as client:
        client.event.publish("t", "x")
    [first], [second] = (node.requests for node in two)
    assert first.request_id == second.request_id != ""


def test_an_upload_that_was_refused_for_now_goes_to_the_next_whole(two: list[FakeNode]) -> None:
    two[0].health = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    upload = kv_pb2.KeyValueServicePutManyRequest
    answers: Iterator[Message | Fault] = iter([NOT_READY, kv_pb2.KeyValueServicePutManyResponse(written=2)])
    for node in two:
        node.answers[upload] = lambda _: next(answers)
    with client_of(*two) as client:
        assert client.kv.put_many({"a": "1", "b": "2"}).count == 2
    assert [[entry.key for entry in node.requests[0].entries] for node in two] == [["a", "b"], ["a", "b"]]


def test_the_error_names_all_that_were_tried_and_what_each_said(
    run: Callable[..., object], two: list[FakeNode]
) -> None:
    dead = closed_port()
    two[0].answers[kv_pb2.KeyValueServicePutRequest] = NOT_READY
    with pytest.raises(UnavailableError) as caught:
        run(kv.put_entry("k", "v"), dead, two[0], timeout=2.0)
    text = str(caught.value)
    assert f"{dead}: connection refused" in text
    assert f"{two[0].address}: this node is not ready" in text
    assert text.endswith("; nothing was written")
    assert caught.value.reason == "NOT_READY"
    assert {attempt.address for attempt in caught.value.attempts} == {dead, two[0].address}


def test_a_dead_address_does_not_cost_each_call_its_time(two: list[FakeNode]) -> None:
    two[0].answers[kv_pb2.KeyValueServiceGetRequest] = GOT
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        client_of(f"127.0.0.1:{silent.getsockname()[1]}", two[0]) as client,
    ):
        client.kv.get("k")
        asked = client._targets.order()[1]
        assert (client.address, asked.failures) == (two[0].address, 1)
        for _ in range(20):
            client.kv.get("k")
        assert asked.failures == 1


def test_with_retries_off_each_call_is_one_attempt(run: Callable[..., object], two: list[FakeNode]) -> None:
    two[0].answers[kv_pb2.KeyValueServiceGetRequest] = LOST
    with pytest.raises(UnavailableError):
        run(kv.get_entry("k"), *two, retries=False)
    assert [len(node.requests) for node in two] == [1, 0]


def test_a_call_has_a_deadline_of_its_own_if_it_is_given_one(run: Callable[..., object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineError, match=r"did not answer within 0\.1 s"):
            run(kv.get_entry("k", timeout=0.1), address, timeout=3600.0)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", True])
def test_what_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds above 0, not"):
        kv.get_entry("k", timeout=timeout)


def test_what_is_about_one_node_is_refused_with_several_addresses(two: list[FakeNode]) -> None:
    two[0].answers[cluster_pb2.ClusterServiceLeaveRequest] = cluster_pb2.ClusterServiceLeaveResponse(peers=1)
    with client_of(*two) as client, pytest.raises(InvalidArgumentError, match="address must be that of the node"):
        client.leave()
    with client_of(two[0]) as client:
        assert client.leave() == 1


def test_addresses_are_checked_and_each_taken_once() -> None:
    with Client(["a:1", "b:2", "a:1"], shuffle=False) as client:
        assert (client.addresses, client.address) == (("a:1", "b:2"), "a:1")
    with pytest.raises(InvalidArgumentError, match="address is an empty list; name at least one node"):
        Client([])
    with pytest.raises(
        InvalidArgumentError, match=r"address must be HOST:PORT .*, or several in a list, not 'a:1,b:2'"
    ):
        Client("a:1,b:2")
    with grpc.insecure_channel("a:1") as channel, pytest.raises(InvalidArgumentError, match="leave the channel out"):
        Client(["a:1", "b:2"], channel=channel)


# Streams


def shown(key: str, token: str = "") -> Message:
    kind = kv_pb2.KEY_VALUE_EVENT_KIND_PUT if token else kv_pb2.KEY_VALUE_EVENT_KIND_SNAPSHOT
    return kv_pb2.KeyValueServiceWatchResponse(kind=kind, key=key, resume_token=token)


def marked(kind: str, token: str = "") -> Message:
    number = kv_pb2.KeyValueEventKind.Value(f"KEY_VALUE_EVENT_KIND_{kind}")
    return kv_pb2.KeyValueServiceWatchResponse(kind=number, resume_token=token, cause="so it is")


class Watched:
    """Nodes whose watches are laid down: one script a call, whichever node is asked."""

    def __init__(self, found: list[FakeNode], request: type[Message], *scripts: list[Any]) -> None:
        self.tokens: list[str] = []
        self._scripts = iter(scripts)
        for node in found:
            node.answers[request] = self._next

    def _next(self, request: Any) -> list[Any]:
        self.tokens.append(request.resume_token)
        return next(self._scripts, [Fault(Code.INVALID_ARGUMENT, "the script is over", "INVALID_ARGUMENT")])


WATCH = kv_pb2.KeyValueServiceWatchRequest


def watched(client: Client, token: str = "", **more: Any) -> tuple[list[str], GossipError]:
    """Kinds and keys of all that a watch tells, and how it ends."""
    found = []
    with pytest.raises(GossipError) as caught, closing(client.kv.watch("", token, **more)) as events:  # noqa: PT012
        for event in events:
            found.append(f"{event.kind} {event.key}".strip())  # noqa: PERF401 - those until it fails are wanted
    return found, caught.value


def test_a_watch_goes_on_at_the_next_node_after_the_last_token(two: list[FakeNode]) -> None:
    told = Watched(
        two,
        WATCH,
        [shown("a"), marked("CURRENT", "t1"), shown("b", "t2"), STOPPING],
        [marked("RESET"), shown("b"), marked("CURRENT", "u1"), LOST],
        [shown("c", "u2"), marked("CURRENT", "u2")],
    )
    with client_of(*two) as client:
        events = client.kv.watch()
        found = [f"{event.kind} {event.key}".strip() for event in events]
    assert found == ["snapshot a", "current", "put b", "reset", "snapshot b", "current", "put c", "current"]
    assert told.tokens == ["", "t2", "u1"]


def test_a_watch_that_is_cut_off_within_what_there_is_begins_anew_and_says_so(two: list[FakeNode]) -> None:
    told = Watched(two, WATCH, [shown("a"), LOST], [shown("b"), marked("CURRENT", "t")])
    with client_of(*two) as client:
        found = list(client.kv.watch())
    assert [f"{event.kind} {event.key}".strip() for event in found] == ["snapshot a", "reset", "snapshot b", "current"]
    assert found[1].cause == (f"{two[0].address} was lost (Socket closed) before all had been told: it is told anew")
    assert told.tokens == ["", ""]


def test_after_a_reset_the_old_token_is_not_used_again(two: list[FakeNode]) -> None:
    """The node that it is of would go on after it, and leave out what the caller was told to forget."""
    told = Watched(two, WATCH, [marked("RESET"), shown("a"), LOST], [shown("b"), marked("CURRENT", "t")])
    with client_of(*two) as client:
        found = [event.kind for event in client.kv.watch("", "old")]
    assert found == ["reset", "snapshot", "reset", "snapshot", "current"]
    assert told.tokens == ["old", ""]


def test_a_watch_with_a_token_that_is_lost_before_it_began_goes_on_with_it(two: list[FakeNode]) -> None:
    told = Watched(two, WATCH, [LOST], [shown("b", "t2"), marked("CURRENT", "t2")])
    with client_of(*two) as client:
        assert [event.kind for event in client.kv.watch("", "t1")] == ["put", "current"]
    assert told.tokens == ["t1", "t1"]


def test_a_watcher_that_was_too_slow_goes_on_with_the_token_that_the_node_gave(two: list[FakeNode]) -> None:
    slow = Fault(Code.RESOURCE_EXHAUSTED, "too slow", "SLOW_WATCHER", metadata={"resume_token": "t5"}, retry_after=0.05)
    told = Watched(two, WATCH, [marked("CURRENT", "t1"), slow], [shown("b", "t6"), marked("CURRENT", "t6")])
    with client_of(*two) as client:
        assert [event.kind for event in client.kv.watch()] == ["current", "put", "current"]
    assert told.tokens == ["", "t5"]


def test_a_watcher_that_is_too_slow_for_what_there_is_is_told_so(two: list[FakeNode]) -> None:
    slow = Fault(Code.RESOURCE_EXHAUSTED, "begin anew, and read faster", "SLOW_WATCHER", retry_after=0.05)
    Watched(two, WATCH, [shown("a"), slow])
    with client_of(*two) as client:
        found, error = watched(client)
    assert found == ["snapshot a"]
    assert isinstance(error, ResourceExhaustedError)


def test_without_reconnecting_what_ends_a_watch_is_raised_with_the_token_to_go_on_with(two: list[FakeNode]) -> None:
    Watched(two, WATCH, [marked("CURRENT", "t1"), LOST])
    with client_of(*two) as client:
        found, error = watched(client, reconnect=0)
    assert found == ["current"]
    assert isinstance(error, UnavailableError)
    assert error.metadata["resume_token"] == "t1"


def test_what_no_node_would_do_ends_a_watch(two: list[FakeNode]) -> None:
    Watched(two, WATCH, [marked("CURRENT", "t1"), LOST])
    with client_of(*two) as client:
        found, error = watched(client)
    assert (found, str(error)) == (["current"], "the script is over")


def test_a_watch_looks_for_a_node_for_as_long_as_it_is_told_to() -> None:
    with serving() as node:
        node.answers[WATCH] = [marked("CURRENT", "t1"), STOPPING]
        with client_of(node) as client, closing(client.kv.watch(reconnect=0.5)) as events:
            next(events)
            node.answers[WATCH] = [STOPPING]
            with pytest.raises(UnavailableError) as caught:
                next(events)
    assert caught.value.metadata["resume_token"] == "t1"
    assert len(caught.value.attempts) > 1


def test_a_watch_of_a_single_node_goes_on_when_that_is_there_again() -> None:
    with serving() as node:
        told = Watched([node], WATCH, [marked("CURRENT", "t1"), LOST], [STOPPING], [shown("a", "t2")])
        with client_of(node) as client:
            assert [event.kind for event in client.kv.watch()] == ["current", "put"]
    assert told.tokens == ["", "t1", "t1"]


def test_a_watch_where_nobody_listens_fails_at_once() -> None:
    with Client(closed_port(), timeout=DEADLINE) as client, pytest.raises(UnavailableError, match="connection refused"):
        next(client.kv.watch())


def told_event(number: int, token: str = "", *, request_id: str = "", node_id: str = "a") -> Message:
    dot = common_pb2.Dot(origin=common_pb2.Origin(node_id=node_id, generation=1), sequence=number)
    event = event_pb2.Event(
        dot=dot, topic="t", payload=common_pb2.Value(text=f"{node_id}{number}"), request_id=request_id
    )
    return event_pb2.EventServiceSubscribeResponse(
        kind=event_pb2.SUBSCRIPTION_EVENT_KIND_EVENT, event=event, resume_token=token
    )


def told_marker(kind: str, token: str = "") -> Message:
    number = event_pb2.SubscriptionEventKind.Value(f"SUBSCRIPTION_EVENT_KIND_{kind}")
    return event_pb2.EventServiceSubscribeResponse(kind=number, resume_token=token)


SUBSCRIBE = event_pb2.EventServiceSubscribeRequest


def test_a_subscription_that_goes_on_elsewhere_leaves_out_what_it_has_told(two: list[FakeNode]) -> None:
    told = Watched(
        two,
        SUBSCRIBE,
        [told_marker("CURRENT", "t0"), told_event(1, "t1"), told_event(2, "t2", request_id="once"), STOPPING],
        [
            told_marker("RESET"),
            told_event(1),
            told_event(7, request_id="once", node_id="b"),  # the same event, that another node had taken first
            told_event(3),
            told_marker("CURRENT", "u3"),
            told_event(4, "u4", request_id="other"),
        ],
    )
    with client_of(*two) as client:
        found = list(client.event.subscribe("t"))
    assert [str(one.event.payload) if one.event else str(one.kind) for one in found] == [
        *("current", "a1", "a2", "reset", "a3", "current", "a4")
    ]
    assert told.tokens == ["", "t2"]


def test_a_subscription_keeps_its_token_through_a_reset_so_that_nothing_is_left_out(two: list[FakeNode]) -> None:
    told = Watched(
        two,
        SUBSCRIBE,
        [told_marker("CURRENT", "t0"), LOST],
        [told_marker("RESET"), told_event(1), LOST],
        [told_event(1, "t1"), told_event(2, "t2")],
    )
    with client_of(*two) as client:
        found = [one.event.payload for one in client.event.subscribe("t") if one.event]
    assert found == ["a1", "a2"]
    assert told.tokens == ["", "t0", "t0"]


def test_what_is_remembered_of_events_is_bounded(two: list[FakeNode], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossip_grpc.client.resuming.REMEMBERED", 2)
    Watched(
        two,
        SUBSCRIBE,
        [told_marker("CURRENT", "t0"), *(told_event(number, f"t{number}") for number in (1, 2, 3)), LOST],
        [told_marker("RESET"), *(told_event(number) for number in (1, 2, 3)), told_marker("CURRENT", "u")],
    )
    with client_of(*two) as client:
        found = [one.event.payload for one in client.event.subscribe("t") if one.event]
    assert found[:4] == ["a1", "a2", "a3", "a1"]


async def test_the_asyncio_client_resumes_alike(two: list[FakeNode]) -> None:
    told = Watched(
        two,
        WATCH,
        [shown("a"), LOST],
        [shown("a"), marked("CURRENT", "t1"), STOPPING],
        [shown("b", "t2"), Fault(Code.UNAVAILABLE, "gone", "NOT_READY")],
    )
    async with AsyncClient([node.address for node in two], shuffle=False) as client:
        events: AsyncGenerator[Any, None] = client.kv.watch()
        found = [(await anext(events)).kind for _ in range(5)]
        await events.aclose()
    assert found == ["snapshot", "reset", "snapshot", "current", "put"]
    assert told.tokens == ["", "", "t1"]


def test_a_client_that_is_closed_ends_what_waits(two: list[FakeNode]) -> None:
    two[0].answers[kv_pb2.KeyValueServiceGetRequest] = NOT_READY
    client, failed = client_of(two[0], timeout=3600.0), threading.Event()
    errors: list[GossipError] = []

    def ask() -> None:
        try:
            client.kv.get("k")
        except GossipError as error:
            errors.append(error)
        failed.set()

    threading.Thread(target=ask, daemon=True).start()
    begun = time.monotonic()
    while not two[0].requests and time.monotonic() - begun < DEADLINE:
        time.sleep(0.01)  # until it has been asked once, and waits
    client.close()
    assert failed.wait(DEADLINE)
    assert [str(error) for error in errors] == ["this client is closed; make a new one"]
