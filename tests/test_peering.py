"""The bytes of a peer RPC: both sides of it, without a network, and what the simulator remembers of them."""

from __future__ import annotations

import random

import pytest

from gossip_grpc import wire
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.membership import Peer
from gossip_grpc.core.messages import (
    Call,
    HeartbeatRequest,
    ProbeRequest,
    PullRequest,
    PushReply,
    PushRequest,
    Round,
    StepDown,
)
from gossip_grpc.core.records import Member, Origin
from gossip_grpc.core.sync import Digest
from gossip_grpc.errors import LimitError, ProtocolError, Reason, RemoteError
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.peering import Exchange, Peering, Probe, Sender, check_size, decode_push, rumor_bodies
from gossip_grpc.sim import memo
from gossip_grpc.sim.memo import Memo, MemoPeering
from tests.samples import member, register

SMALL = Limits(chunk_bytes=200, max_inbound_syncs=1)


def peering(name: str, cluster: str = "c", limits: Limits = SMALL) -> Peering:
    engine = Engine(Origin(name, 1), Member(0, f"{name}:1"), Settings(limits=limits), random.Random(1), 0.0)
    return Peering(engine, cluster=cluster, address=f"{name}:1")


def remembering(name: str, shared: Memo, cluster: str = "c") -> MemoPeering:
    engine = Engine(Origin(name, 1), Member(0, f"{name}:1"), Settings(limits=SMALL), random.Random(1), 0.0)
    return MemoPeering(engine, shared, cluster=cluster, address=f"{name}:1")


def call_of(here: Peering, there: Peering, request: PullRequest | PushRequest) -> Call:
    peer = Peer(f"{there.engine.store.origin.node_id}:1", there.engine.store.origin.node_id)
    current = Round(peer, fetches=True, sends=True, sent=here.engine.digest()[0].coverage)
    return Call(peer, request, None if isinstance(request, PushRequest) and request.delta is None else current)


def push(here: Peering, there: Peering, request: PushRequest) -> list[bytes]:
    """Carry out a push; returns its requests."""
    exchange = here.begin(call_of(here, there, request))
    sent = []
    while (raw := exchange.request()) is not None:
        sent.append(raw)
        exchange.response(there.push(peer_pb2.PushRequest.FromString(raw), 0.0).SerializeToString(), 0.0)
    exchange.end(0.0)
    return sent


def pull(here: Peering, there: Peering, request: PullRequest) -> list[bytes]:
    """Carry out a pull; returns its answer's messages."""
    exchange = here.begin(call_of(here, there, request))
    raw = exchange.request()
    assert raw is not None
    assert exchange.request() is None
    answers = [answer.SerializeToString() for answer in there.pull(peer_pb2.PullRequest.FromString(raw))]
    for answer in answers:
        exchange.response(answer, 0.0)
    exchange.end(0.0)
    return answers


def test_a_request_is_its_sender_and_its_body() -> None:
    here = peering("a")
    (raw,) = push(here, peering("b"), PushRequest(records=[register("k", "v")]))
    whole = peer_pb2.PushRequest(sender=here.sender, delta=next(wire.encode_records([register("k", "v")], 200)))
    assert raw == whole.SerializeToString()


def test_a_push_of_rumors_is_merged_and_answered() -> None:
    here, there = peering("a"), peering("b")
    push(here, there, PushRequest(records=[here.engine.put("k", "v", 0.0)]))
    assert there.engine.store.register("k") is not None
    assert there.engine.counters.pushes_received == 1
    assert here.engine.membership.reachable("b")


def test_rumors_of_one_slot_go_in_requests_of_their_own() -> None:
    records = [register("k", "1", sequence=1), register("k", "2", sequence=2), register("l", "3", sequence=3)]
    decoded = [decode_push(peer_pb2.PushRequest.FromString(body)) for body in rumor_bodies(records, 1000, 7)]
    assert [[record.content for record in pushed.chunk.records] for pushed in decoded] == [["1", "3"], ["2"]]
    assert [(pushed.number, pushed.transfer, pushed.digest_hash) for pushed in decoded] == [(0, 0, 7), (1, 0, 7)]


def test_a_push_of_nothing_still_compares() -> None:
    here, there = peering("a"), peering("b")
    sent = push(here, there, PushRequest(digest_hash=there.engine.digest()[1]))
    assert len(sent) == 1


def test_a_delta_goes_in_chunks_of_one_transfer_after_another() -> None:
    here, there = peering("a"), peering("b")
    for number in range(20):
        here.engine.put(f"k{number}", "v" * 50, 0.0)
    for transfer in (1, 2):
        delta = here.engine.store.delta(Digest())
        sent = push(here, there, PushRequest(delta=delta))
        decoded = [decode_push(peer_pb2.PushRequest.FromString(raw)) for raw in sent]
        assert len(decoded) > 3
        assert [pushed.number for pushed in decoded] == list(range(len(decoded)))
        assert {pushed.transfer for pushed in decoded} == {transfer}
    assert there.engine.store.live == 20


def test_the_answers_of_all_requests_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = peering("a"), peering("b")
    replies: list[PushReply] = []
    monkeypatch.setattr(here.engine, "on_push_reply", lambda call, sender, address, reply, now: replies.append(reply))
    records = [here.engine.put(f"k{number}", "v" * 50, 0.0) for number in range(10)]
    assert len(push(here, there, PushRequest(records=records))) > 1
    assert [reply.fresh for reply in replies] == [10]


def test_a_comparison_says_whether_both_agree_or_what_the_peer_knows() -> None:
    here, there = peering("a"), peering("b")
    (answer,) = pull(here, there, PullRequest(digest_hash=there.engine.digest()[1]))
    assert here.read_comparison(answer)[1].agreed
    (answer,) = pull(here, there, PullRequest(digest_hash=1))
    sender, reply = here.read_comparison(answer)
    assert sender == Sender(Origin("b", 1), "b:1")
    assert reply.digest == there.engine.digest()[0]


def test_a_fetch_brings_everything_in_chunks_of_which_the_first_names_the_sender() -> None:
    here, there = peering("a"), peering("b")
    for number in range(20):
        there.engine.put(f"k{number}", "v" * 50, 0.0)
    answers = [peer_pb2.PullResponse.FromString(raw) for raw in pull(here, there, PullRequest(digest=Digest()))]
    assert len(answers) > 3
    assert [answer.HasField("sender") for answer in answers] == [True] + [False] * (len(answers) - 1)
    assert here.engine.store.live == 20
    assert there.engine.counters.pulls_received == 1


def test_an_answer_that_ends_too_early_is_an_error() -> None:
    here, there = peering("a"), peering("b")
    there.engine.put("k", "v", 0.0)
    for request in (PullRequest(digest_hash=1), PullRequest(digest=Digest()), PushRequest()):
        exchange = here.begin(call_of(here, there, request))
        with pytest.raises(ProtocolError, match=r"with nothing|broke off"):
            exchange.end(0.0)


def test_a_delta_without_its_header_is_not_read_any_further() -> None:
    here, there = peering("a"), peering("b")
    exchange = here.begin(call_of(here, there, PullRequest(digest=Digest())))
    exchange.response(peer_pb2.PullResponse(sender=there.sender).SerializeToString(), 0.0)
    assert exchange.done
    with pytest.raises(ProtocolError, match="broke off"):
        exchange.end(0.0)


def test_a_comparison_takes_the_first_message_only() -> None:
    here, there = peering("a"), peering("b")
    exchange = here.begin(call_of(here, there, PullRequest(digest_hash=1)))
    exchange.response(peer_pb2.PullResponse(sender=there.sender, agreed=True).SerializeToString(), 0.0)
    exchange.response(b"junk that nobody reads", 0.0)
    exchange.end(0.0)
    assert here.engine.counters.rounds_agreed == 1


def test_a_stranger_is_refused_on_both_sides() -> None:
    here, there = peering("a"), peering("b", cluster="other")
    exchange = here.begin(call_of(here, there, PullRequest(digest_hash=1)))
    raw = exchange.request()
    assert raw is not None
    with pytest.raises(RemoteError) as refused:
        there.pull(peer_pb2.PullRequest.FromString(raw))
    assert refused.value.reason is Reason.FOREIGN_CLUSTER
    with pytest.raises(RemoteError) as refused:
        here.read_comparison(peer_pb2.PullResponse(sender=there.sender, agreed=True).SerializeToString())
    assert refused.value.reason is Reason.FOREIGN_CLUSTER


def test_a_refusal_by_a_stranger_counts_as_no_answer() -> None:
    here, there = peering("a"), peering("b")
    push(here, there, PushRequest(records=[]))
    for _ in range(2):
        here.failed(call_of(here, there, PullRequest(digest_hash=1)), "no", 0.0, answered=True)
    assert here.engine.membership.reachable("b")
    for _ in range(2):
        here.failed(call_of(here, there, PullRequest(digest_hash=1)), "no", 0.0, answered=True, foreign=True)
    assert not here.engine.membership.reachable("b")


def test_no_more_syncs_are_served_than_the_limit_until_one_is_closed() -> None:
    there = peering("b")
    request = peer_pb2.PullRequest(sender=peering("a").sender, digest=peer_pb2.Digest())
    first = there.pull(request)
    next(first)
    with pytest.raises(LimitError, match="1 syncs are being served"):
        there.pull(request)
    first.close()
    assert next(there.pull(request)).HasField("delta")


def test_an_oversize_message_is_refused() -> None:
    check_size(wire.MAX_MESSAGE_BYTES)
    with pytest.raises(LimitError, match="send smaller chunks"):
        check_size(wire.MAX_MESSAGE_BYTES + 1)


# What the simulator remembers


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Memo:
    monkeypatch.setattr(memo, "MEMO_ENTRIES", 3)
    return Memo()


def test_with_a_memo_the_bytes_are_the_same_at_every_time(shared: Memo) -> None:
    plain, other = peering("a"), peering("b")
    here, there = remembering("a", shared), remembering("b", shared)
    records = [plain.engine.put(f"k{number}", "v", 0.0) for number in range(8)]
    for record in [*records, *records]:
        request = PushRequest(records=[record])
        wanted = plain.begin(call_of(plain, other, request)).request()
        assert here.begin(call_of(here, there, request)).request() == wanted
        assert wanted is not None
        answer = other.push(peer_pb2.PushRequest.FromString(wanted), 0.0).SerializeToString()
        assert there.answer_push(wanted, 0.0) == answer
        assert here.read_push_response(answer) == plain.read_push_response(answer)
    assert there.engine.store.live == 8
    assert there.engine.counters == other.engine.counters


def test_what_was_decoded_is_shared_and_what_was_sent_is_not(shared: Memo) -> None:
    here, there, third = (remembering(name, shared) for name in "abc")
    record = here.engine.put("k", "v", 0.0)
    raw = here.begin(call_of(here, there, PushRequest(records=[record]))).request()
    assert raw is not None
    there.answer_push(raw, 0.0)
    third.answer_push(raw, 0.0)
    assert there.engine.store.register("k") == record
    assert there.engine.store.register("k") is not record
    assert there.engine.store.register("k") is third.engine.store.register("k")


def test_a_memo_knows_one_cluster_from_another(shared: Memo) -> None:
    here, there, stranger = remembering("a", shared), remembering("b", shared), remembering("s", shared, "other")
    raw = here.begin(call_of(here, there, PushRequest(records=[register("k", "v")]))).request()
    assert raw is not None
    answer = there.answer_push(raw, 0.0)
    here.read_push_response(answer)
    with pytest.raises(RemoteError, match="cluster"):
        stranger.answer_push(raw, 0.0)
    with pytest.raises(RemoteError, match="cluster"):
        stranger.read_push_response(answer)


def test_long_and_unusual_messages_are_not_remembered(shared: Memo) -> None:
    here, there = remembering("a", shared), remembering("b", shared)
    long = here.begin(call_of(here, there, PushRequest(records=[here.engine.put("k", "v" * 5000, 0.0)]))).request()
    delta = here.begin(call_of(here, there, PushRequest(delta=here.engine.store.delta(Digest())))).request()
    compared = here.begin(call_of(here, there, PushRequest(digest_hash=7))).request()
    assert long is not None
    assert delta is not None
    assert compared is not None
    for raw in (long, delta, b""):
        try:
            there.answer_push(raw, 0.0)
        except RemoteError:
            assert raw == b""
    assert not shared.pushed
    sender, reply = here.read_push_response(there.answer_push(compared, 0.0))
    assert sender.origin == Origin("b", 1)
    assert isinstance(reply, PushReply)
    assert reply.digest is not None
    assert not shared.replies


# Failure detection


def answered(exchange: Exchange, there: Peering, now: float = 0.0) -> bytes:
    """Carry a heartbeat or a direct probe to the other side and its answer back; returns the request."""
    raw = exchange.request()
    assert raw is not None
    assert exchange.request() is None
    if isinstance(exchange, Probe):
        answer = there.probe(peer_pb2.ProbeRequest.FromString(raw))
        assert isinstance(answer, peer_pb2.ProbeResponse)
        exchange.response(answer.SerializeToString(), now)
    else:
        beat = there.heartbeat(peer_pb2.HeartbeatRequest.FromString(raw), now)
        exchange.response(beat.SerializeToString(), now)
    exchange.end(now)
    return raw


def sign_of(there: Peering, request: HeartbeatRequest | ProbeRequest) -> Call:
    origin = there.engine.store.origin
    return Call(Peer(f"{origin.node_id}:1", origin.node_id), request)


def test_a_heartbeat_tells_who_lives_and_what_it_knows_and_is_answered_alike() -> None:
    here, there = peering("a"), peering("b")
    raw = answered(here.begin(sign_of(there, HeartbeatRequest(3, 7, 99))), there)
    sent = peer_pb2.HeartbeatRequest.FromString(raw)
    assert (sent.sender, sent.incarnation, sent.beat, sent.digest_hash) == (here.sender, 3, 7, 99)
    assert there.engine.counters.heartbeats_received == 1
    assert there.engine.membership.address("a") == "a:1"
    assert here.engine.membership.address("b") == "b:1"


def test_the_answer_to_an_older_life_says_that_there_is_a_newer_one() -> None:
    here, there = peering("a"), peering("b")
    newer = Origin("a", 2)
    there.engine.on_push(newer, "a:2", [member(newer)], None, 0.0)
    answered(here.begin(sign_of(there, HeartbeatRequest(1, 1, 1))), there)
    (step,) = [effect for effect in here.engine.effects() if isinstance(effect, StepDown)]
    assert "generation is 2" in step.reason


def test_a_heartbeat_of_another_cluster_is_refused_before_anything_else() -> None:
    """Trap 16."""
    here, there = peering("a"), peering("b", cluster="other")
    with pytest.raises(RemoteError) as caught:
        answered(here.begin(sign_of(there, HeartbeatRequest(1, 1, 1))), there)
    assert caught.value.reason is Reason.FOREIGN_CLUSTER
    assert there.engine.counters.heartbeats_received == 0
    assert there.engine.membership.peers() == ()


@pytest.mark.parametrize(("generation", "reached"), [(1, True), (2, False)])
def test_a_probe_finds_the_life_that_it_names(generation: int, reached: bool) -> None:
    here, there = peering("a"), peering("b")
    request = ProbeRequest(Origin("b", generation))
    exchange = here.begin(sign_of(there, request))
    raw = peer_pb2.ProbeRequest.FromString(answered(exchange, there))
    assert (raw.target_node_id, raw.target_generation, raw.relay) == ("b", generation, False)
    assert isinstance(exchange, Probe)
    assert exchange.reached is reached


@pytest.mark.parametrize("generation", [1, 2])
def test_a_probe_of_somebody_else_is_relayed_and_its_outcome_is_only_the_askers(generation: int) -> None:
    asker, helper, target = peering("a"), peering("b"), peering("c")
    helper.engine.store.merge(target.engine.store.members().values(), 0.0)
    exchange = asker.begin(sign_of(helper, ProbeRequest(Origin("c", generation), relay=True)))
    raw = exchange.request()
    assert raw is not None
    relayed = helper.probe(peer_pb2.ProbeRequest.FromString(raw))
    assert isinstance(relayed, Probe)
    assert relayed.call.peer == Peer("c:1", "c")
    answered(relayed, target)
    assert relayed.reached is (generation == 1)
    exchange.response(helper.probed(reached=relayed.reached).SerializeToString(), 0.0)
    exchange.end(0.0)
    assert isinstance(exchange, Probe)
    assert exchange.reached is (generation == 1)


@pytest.mark.parametrize("request_", [HeartbeatRequest(1, 1, 1), ProbeRequest(Origin("b", 1))])
def test_a_sign_that_is_answered_with_nothing_is_an_error(request_: HeartbeatRequest | ProbeRequest) -> None:
    exchange = peering("a").begin(sign_of(peering("b"), request_))
    with pytest.raises(ProtocolError):
        exchange.end(0.0)
