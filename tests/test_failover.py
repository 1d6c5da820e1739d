"""Which address a call goes to, in what order, and after which pauses: rules without a network, in virtual time."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message

from gossip_grpc.client import Attempt, GossipError, InvalidArgumentError, UnavailableError
from gossip_grpc.client.failover import AVOID_FIRST, AVOID_MOST, PAUSE_FIRST, PROBE_TIMEOUT, Attempts, Step, Targets
from gossip_grpc.client.failures import Failure, failure_of, unreachable
from gossip_grpc.client.retries import RULES, Effect, Repeat, effect_of, is_write, may_repeat
from gossip_grpc.errors import Reason
from gossip_grpc.gen.gossip.v1 import cluster_pb2, counter_pb2, event_pb2, kv_pb2, set_pb2
from tests.fake_node import SERVICES

READ = kv_pb2.KeyValueServiceGetRequest(key="k")
WRITE = kv_pb2.KeyValueServicePutRequest(key="k")
NAMED = counter_pb2.CounterServiceAddRequest(key="c", amount=1, request_id="once")


def refused() -> Failure:
    return unreachable("x", "connection refused")


class World:
    """Targets in virtual time."""

    def __init__(self, *addresses: str) -> None:
        self.now = 100.0
        self.targets = Targets(addresses, clock=lambda: self.now)

    def attempts(self, request: Message = READ, **more: float | bool) -> Attempts:
        return Attempts(self.targets, request, **{"timeout": 5.0, **more})  # type: ignore[arg-type]

    def answer(self, *, at: str = "") -> str:
        """One call that is answered by the first asked, or by that address; returns who was asked, in order."""
        attempts, asked = self.attempts(), ""
        while True:
            step = attempts.next()
            if step.target is None:
                self.now += step.timeout
                continue
            asked += step.target.address
            if not at or step.target.address == at:
                attempts.succeeded(step.target)
                return asked
            attempts.failed(step.target, refused())


def failure(effect: Effect, reason: str | None = None, retry_after: float | None = None) -> Failure:
    return Failure(UnavailableError("the node's words", reason=reason), effect, "no luck", retry_after)


def asked(step: Step) -> str:
    assert step.target is not None, step
    return step.target.address


# Where calls go


def test_calls_stay_with_one_node() -> None:
    world = World("a", "b", "c")
    assert [world.answer() for _ in range(3)] == ["a", "a", "a"]


def test_after_a_failure_calls_go_to_the_next_node_and_stay_there() -> None:
    world = World("a", "b", "c")
    assert world.answer(at="b") == "ab"
    world.now += 1000
    assert world.answer() == "b"  # though there is nothing against the first any more


def test_an_address_that_has_failed_is_not_asked_again_for_a_while() -> None:
    world = World("a", "b")
    assert world.answer(at="b") == "ab"
    assert world.answer(at="a") == "ba"  # the one that failed is all there is
    assert world.answer(at="b") == "ab"


def test_the_while_doubles_up_to_its_most_and_begins_anew_once_it_answers() -> None:
    world = World("a", "b")
    [first, _] = world.targets.order()
    found = []
    for _ in range(8):
        world.targets.failed(first)
        found.append(first.avoided_until - world.now)
        world.now = first.avoided_until + 1
    for number, period in enumerate(found):
        assert period == pytest.approx(min(AVOID_FIRST * 2**number, AVOID_MOST), rel=0.25)
    assert len(set(found)) == len(found)  # jitter
    world.targets.answered(first)
    world.targets.failed(first)
    assert first.avoided_until - world.now < AVOID_FIRST * 1.3


def test_many_calls_that_fail_together_count_as_one_failure() -> None:
    world = World("a", "b")
    [first, _] = world.targets.order()
    for _ in range(50):
        world.targets.failed(first)
    assert first.avoided_until - world.now < AVOID_FIRST * 1.3


def test_of_those_that_are_avoided_the_one_whose_time_is_up_first_is_tried_first() -> None:
    world = World("a", "b")
    first, second = world.targets.order()
    world.targets.failed(first)
    world.now += 0.5
    world.targets.failed(second)
    assert asked(world.attempts().next()) == "a"


def test_shuffled_clients_begin_anywhere() -> None:
    begun = {Targets("abc", shuffle=True).current.address for _ in range(100)}
    assert begun == {"a", "b", "c"}


# How a call goes on


def test_a_call_goes_through_all_pauses_and_goes_through_them_again_until_its_deadline() -> None:
    world = World("a", "b")
    attempts, seen, pauses = world.attempts(), "", []

    def go_on() -> str:
        step = attempts.next()
        if step.target is None:
            pauses.append(step.timeout)
            world.now += step.timeout
            return "-"
        attempts.failed(step.target, refused())
        return asked(step)

    with pytest.raises(UnavailableError) as caught:  # noqa: PT012 - whichever of many steps it is
        while True:
            seen += go_on()
    assert [sorted(one) for one in seen.split("-")[:3]] == [["a", "b"]] * 3
    assert all(later > 0 for later in pauses)
    assert pauses[0] <= PAUSE_FIRST < max(pauses) <= 1.0
    assert 104 < world.now <= 105
    assert len(caught.value.attempts) == len(seen.replace("-", ""))
    assert caught.value.attempts[:2] == (Attempt("a", "connection refused"), Attempt("b", "connection refused"))
    count = len(caught.value.attempts) // 2
    assert str(caught.value) == (
        f"no node has done it, after a: connection refused ({count} times); b: connection refused ({count} times)"
    )


def test_with_one_address_a_call_ends_at_once_where_nobody_listens() -> None:
    world = World("a")
    attempts = world.attempts()
    [target] = world.targets.order()
    assert attempts.next() == Step(target, 5.0)  # all the time there is, and no question before
    attempts.failed(target, refused())
    with pytest.raises(UnavailableError, match=r"^cannot reach x: connection refused$"):
        attempts.next()


def test_a_node_that_says_when_to_try_again_is_not_asked_before() -> None:
    world = World("a")
    attempts = world.attempts(WRITE)
    [target] = world.targets.order()
    attempts.next()
    attempts.failed(target, failure(Effect.LATER, "NOT_READY", 1.5))
    step = attempts.next()
    assert step.target is None
    assert step.timeout == pytest.approx(1.5)
    world.now += 1.5
    assert attempts.next().target is target


def test_what_a_node_asks_for_ends_the_call_at_once_if_it_is_beyond_the_deadline() -> None:
    world = World("a")
    attempts = world.attempts()
    attempts.next()
    attempts.failed(world.targets.current, failure(Effect.LATER, "NOT_READY", 5.0))
    with pytest.raises(UnavailableError):
        attempts.next()


def test_others_are_asked_meanwhile() -> None:
    world = World("a", "b")
    attempts = world.attempts(WRITE)
    first, second = world.targets.order()
    assert attempts.next().target is first
    attempts.failed(first, failure(Effect.LATER, "NOT_READY", 1.0))
    assert attempts.next().target is second
    attempts.failed(second, failure(Effect.LATER, "STOPPING", 3.0))
    assert attempts.next().timeout == pytest.approx(1.0)
    world.now += 1.0
    assert attempts.next().target is first


def test_a_node_that_has_waited_for_a_session_is_not_made_to_wait_again() -> None:
    world = World("a", "b")
    attempts = world.attempts(WRITE)
    first, second = world.targets.order()
    for target in (first, second):
        assert attempts.next().target is target
        attempts.failed(target, failure(Effect.ELSEWHERE, "SESSION_BEHIND"))
    with pytest.raises(UnavailableError) as caught:
        attempts.next()
    assert caught.value.reason == "SESSION_BEHIND"
    assert str(caught.value).endswith("; nothing was written")


def test_a_read_leaves_half_of_the_time_to_others_and_a_write_none() -> None:
    world = World("a", "b")
    for target in world.targets.order():
        target.trusted = True
    assert world.attempts(READ).next().timeout == 2.5
    assert world.attempts(NAMED).next().timeout == 2.5
    assert world.attempts(WRITE).next().timeout == 5.0
    assert world.attempts(READ, retries=False).next().timeout == 5.0


def test_whoever_has_not_answered_yet_is_asked_for_its_health_first() -> None:
    world = World("a", "b")
    step = world.attempts(WRITE).next()
    assert (0 < step.probe <= PROBE_TIMEOUT, step.must_serve) == (True, True)
    world.answer()
    assert world.attempts(WRITE).next().probe == 0
    world.targets.doubt(world.targets.current)
    assert world.attempts(WRITE).next().probe > 0


def test_in_the_second_round_it_is_enough_that_a_node_says_something() -> None:
    world = World("a", "b")
    attempts = world.attempts(READ)
    for target in world.targets.order():
        assert attempts.next().must_serve
        attempts.failed(target, refused())
    world.now += attempts.next().timeout
    assert not attempts.next().must_serve


# What may be repeated


@pytest.mark.parametrize("request_", [READ, NAMED], ids=["a read", "an addition with a request_id"])
def test_after_an_unknown_outcome_what_is_safe_is_tried_again(request_: Message) -> None:
    world = World("a", "b")
    attempts = world.attempts(request_)
    first, second = world.targets.order()
    attempts.next()
    attempts.failed(first, failure(Effect.UNKNOWN))
    assert attempts.next().target is second


UNNAMED = counter_pb2.CounterServiceAddRequest(key="c", amount=1)


@pytest.mark.parametrize("request_", [WRITE, UNNAMED], ids=["a put", "an addition without a request_id"])
def test_after_an_unknown_outcome_no_other_write_is_and_the_error_says_so(request_: Message) -> None:
    world = World("a", "b")
    attempts = world.attempts(request_)
    attempts.next()
    with pytest.raises(UnavailableError, match=r"^the node's words; the write may have taken effect$") as caught:
        attempts.failed(world.targets.current, failure(Effect.UNKNOWN))
    assert caught.value.may_have_taken_effect
    assert caught.value.attempts == (Attempt("a", "no luck"),)


def test_an_unknown_outcome_is_remembered_through_the_attempts_that_follow() -> None:
    world = World("a", "b")
    attempts = world.attempts(NAMED)
    first, second = world.targets.order()
    attempts.next()
    attempts.failed(first, failure(Effect.UNKNOWN))
    attempts.next()
    with pytest.raises(GossipError, match=r"; the write may have taken effect$") as caught:
        attempts.failed(second, failure(Effect.REFUSED, "INVALID_ARGUMENT"))
    assert caught.value.may_have_taken_effect


def test_a_read_never_takes_effect() -> None:
    world = World("a", "b")
    attempts = world.attempts(READ, retries=False)
    attempts.next()
    with pytest.raises(UnavailableError, match=r"^the node's words$") as caught:
        attempts.failed(world.targets.current, failure(Effect.UNKNOWN))
    assert not caught.value.may_have_taken_effect


@pytest.mark.parametrize("effect", [Effect.REFUSED, Effect.STANDS])
def test_what_would_be_the_same_elsewhere_is_not_tried_elsewhere(effect: Effect) -> None:
    world = World("a", "b")
    attempts = world.attempts(WRITE)
    attempts.next()
    with pytest.raises(UnavailableError, match=r"^the node's words$") as caught:
        attempts.failed(world.targets.current, failure(effect, "RECORD_LIMIT"))
    assert caught.value.may_have_taken_effect is (effect is Effect.STANDS)
    assert world.answer() == "a"  # and the node is none the worse for it


def test_the_error_is_the_one_that_a_node_has_explained() -> None:
    world = World("a", "b")
    attempts = world.attempts(READ)
    first, second = world.targets.order()
    attempts.next()
    attempts.failed(first, failure(Effect.LATER, "STOPPING", 10.0))
    attempts.next()
    attempts.failed(second, refused())
    world.now += 4.99
    with pytest.raises(UnavailableError) as caught:
        attempts.next()
    assert caught.value.reason == "STOPPING"
    assert str(caught.value) == "no node has done it, after a: no luck; b: connection refused"


@pytest.mark.parametrize(
    "request_", [cluster_pb2.ClusterServiceLeaveRequest(), cluster_pb2.ClusterServiceSetTagsRequest()]
)
def test_what_is_about_one_node_wants_one_address(request_: Message) -> None:
    assert World("a").attempts(request_).next().target is not None
    with pytest.raises(InvalidArgumentError, match="address must be that of the node which this call is about"):
        World("a", "b").attempts(request_)


# The tables


def test_every_call_of_the_schema_has_its_rule() -> None:
    names = {method.input_type.full_name for service in SERVICES for method in service.methods}
    assert {request.DESCRIPTOR.full_name for request in RULES} == names


def test_a_call_is_named_by_its_request_id_alone() -> None:
    for request, rule in RULES.items():
        assert (rule is Repeat.NAMED) == ("request_id" in request.DESCRIPTOR.fields_by_name)
    assert not may_repeat(event_pb2.EventServicePublishRequest())
    assert may_repeat(event_pb2.EventServicePublishRequest(request_id="x"))
    assert not may_repeat(set_pb2.SetServiceAddRequest())


def test_only_what_reads_is_no_write() -> None:
    reads = {request.DESCRIPTOR.name for request in RULES if not is_write(request())}
    verbs = ("Get", "List", "Watch", "Subscribe", "Explain", "Ping", "Backup")
    assert all(any(verb in name for verb in verbs) for name in reads)


@pytest.mark.parametrize(
    ("reason", "effect"),
    [
        (Reason.NOT_READY, Effect.LATER),
        (Reason.STOPPING, Effect.LATER),
        (Reason.SESSION_BEHIND, Effect.ELSEWHERE),
        (Reason.WATCH_LIMIT, Effect.ELSEWHERE),
        (Reason.NOT_IMPLEMENTED, Effect.ELSEWHERE),
        (Reason.NOT_ON_DISK, Effect.STANDS),
        (Reason.INVALID_ARGUMENT, Effect.REFUSED),
        ("OF_A_LATER_VERSION", Effect.REFUSED),
    ],
)
def test_a_reason_says_what_may_be_done_next(reason: str, effect: Effect) -> None:
    assert effect_of(reason, written=0, retry_after=None) is effect


def test_whatever_says_when_to_try_again_may_be_tried_again() -> None:
    assert effect_of("OF_A_LATER_VERSION", written=0, retry_after=1.0) is Effect.LATER


def test_an_upload_of_which_a_part_is_written_is_not_tried_again() -> None:
    assert effect_of(Reason.STOPPING, written=1_000, retry_after=1.0) is Effect.STANDS


class Failed:
    """A call that failed without a word of a node."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> None:
        return None


@pytest.mark.parametrize(
    ("code", "details", "effect"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: Failed to connect to remote host: Timeout (110)",
            Effect.UNREACHABLE,
        ),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: FD Shutdown", Effect.UNREACHABLE),
        ("UNAVAILABLE", "DNS resolution failed for a:1: no such host", Effect.UNREACHABLE),
        ("UNAVAILABLE", "Socket closed", Effect.UNKNOWN),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer", Effect.UNKNOWN),
        ("CANCELLED", "", Effect.UNKNOWN),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Effect.UNKNOWN),
        ("UNIMPLEMENTED", "Method not found!", Effect.REFUSED),
        ("INTERNAL", "Received RST_STREAM with error code 2", Effect.STANDS),
        ("UNKNOWN", "Stream removed", Effect.STANDS),
    ],
)
def test_without_a_reason_only_what_was_never_sent_is_known_to_have_no_effect(
    code: str, details: str, effect: Effect
) -> None:
    call: grpc.Call = Failed(grpc.StatusCode[code], details)  # type: ignore[assignment]
    assert failure_of(call, address="a:1", timeout=1.0).effect is effect
