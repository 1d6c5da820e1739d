"""What the API says of members: which of them, what each is to the node, and why."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from unittest.mock import ANY

import pytest

from gossip_grpc import members
from gossip_grpc.client import (
    GossipError,
    InvalidArgumentError,
    Member,
    MemberNotFoundError,
    MemberStatus,
    UnavailableError,
)
from gossip_grpc.config import Config
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.messages import HeartbeatRequest
from gossip_grpc.core.records import Accusation, Kind, Origin, Record
from gossip_grpc.core.records import Member as Content
from gossip_grpc.errors import LocalError
from gossip_grpc.gen.gossip.v1 import cluster_pb2
from gossip_grpc.node import Node
from tests.samples import A, B, C, D, member

NOW = 10.0


def learn(engine: Engine, *records: Record, now: float) -> None:
    """Let an engine learn records of others, as by a rumor."""
    engine.on_push(Origin("messenger", 1), "messenger:1", list(records), None, now)


def accusation(target: str, accuser: Origin, sequence: int = 2, *, at: float = 0.0, phi: float = 9.0) -> Record:
    content = Accusation(generation=1, incarnation=1, at=at, phi=phi)
    return Record(Kind.ACCUSATION, (target, accuser.node_id), accuser, sequence, sequence, content)


def engine_of(*records: Record) -> Engine:
    """An engine of node a that has heard of these members at second 0."""
    engine = Engine(A, Content(0, "a:1"), Settings(), random.Random(1), 0.0)
    learn(engine, *records, now=0.0)
    return engine


def shown(engine: Engine, name: str, now: float = NOW) -> cluster_pb2.Member:
    return members.encode(engine, engine.store.members()[name], now)


def test_a_member_is_shown_with_what_it_is_since_when_and_why() -> None:
    engine = engine_of(member(B), member(C), member(D, left=True))
    learn(engine, accusation("b", C), now=4.0)
    assert (shown(engine, "b").status, shown(engine, "b").status_age_seconds) == (2, 6.0)
    assert shown(engine, "b").cause == "accused by c"
    assert (shown(engine, "d").status, shown(engine, "d").cause) == (4, "it says that it leaves")
    assert (shown(engine, "c").status, shown(engine, "c").status_age_seconds) == (1, 10.0)
    assert shown(engine, "a").cause == "it is the node asked"


def test_the_cause_names_everybody_who_accuses_a_member_by_now() -> None:
    engine = engine_of(*(member(Origin(name, 1)) for name in "bcdefgh"))
    learn(engine, accusation("b", C), now=4.0)
    assert shown(engine, "b").cause == "accused by c"
    learn(engine, accusation("b", D), now=5.0)
    assert shown(engine, "b").cause == "accused by c, d"
    learn(engine, member(B, 2, incarnation=2), now=6.0)
    assert (shown(engine, "b").status, shown(engine, "b").cause) == (1, "it refuted what was said of it")


def test_phi_is_shown_of_members_that_this_node_monitors_only() -> None:
    everybody = [Origin(f"n{number}", 1) for number in range(20)]
    engine = engine_of(*map(member, everybody))
    seen = {name for name in engine.store.members() if shown(engine, name).HasField("phi")}
    assert seen == set(engine.vigil.detector.watches)
    assert 0 < len(seen) < 20
    watched = min(seen)
    assert shown(engine, watched, 1.0).phi < shown(engine, watched, 10.0).phi


def test_a_monitor_explains_what_it_hears_and_who_accuses_the_member() -> None:
    engine = engine_of(member(B, address="b:1", client_address="b:2"), member(C, client_address="c:2"))
    engine.wall_offset = 1000.0
    for second in range(4):
        engine.on_heartbeat(B, "b:1", HeartbeatRequest(1, second, 0), float(second))
    learn(engine, accusation("b", C, at=1003.5), now=4.0)
    found = members.explain(engine, "b", 5.0)
    assert found.member == shown(engine, "b", 5.0)
    ours, theirs = found.monitors
    assert (ours.node_id, theirs.node_id, theirs.client_address) == ("a", "c", "c:2")
    assert not theirs.HasField("view")
    assert ours.view.phi == found.member.phi > 0
    assert 0.5 < ours.view.mean_seconds < 1
    assert (ours.view.heartbeat_age_seconds, ours.view.heartbeats) == (2.0, 4)
    assert ours.view.phase == cluster_pb2.MONITOR_PHASE_LISTENING
    [said] = found.accusations
    assert (said.accuser, said.made_at_unix_milliseconds, said.age_seconds, said.phi, said.incarnation) == (
        "c",
        1_003_500,
        1.5,
        9.0,
        1,
    )
    assert (found.accusers_needed, found.verdict) == (
        2,
        "2 members that nobody accuses must accuse it, or any 2 for 3 s; 1 does now",
    )


def test_before_the_first_heartbeat_there_is_no_time_of_the_last_one() -> None:
    [monitor, *_] = members.explain(engine_of(member(B), member(C)), "b", 1.0).monitors
    assert (monitor.node_id, monitor.view.heartbeats) == ("a", 0)
    assert not monitor.view.HasField("heartbeat_age_seconds")


def test_what_it_takes_is_said_as_the_rules_of_membership_have_it() -> None:
    def verdict(engine: Engine, name: str = "b") -> str:
        return members.explain(engine, name, NOW).verdict

    assert verdict(engine_of(), "a") == "nobody monitors it, for there is no other member that nobody accuses"
    pair = engine_of(member(B))
    assert verdict(pair) == "a, its only monitor, must accuse it for 3 s; nobody does now"
    assert verdict(engine_of(member(B, left=True))) == "it has left by itself, and is forgotten 86400 s after that"
    many = engine_of(*(member(Origin(name, 1)) for name in "bcdefghij"))
    assert verdict(many).startswith("2 members that nobody accuses must accuse it, or any 2 for 3 s; ")
    learn(many, accusation("b", C), accusation("b", D), now=1.0)
    assert verdict(many).startswith("it is dead, and alive again as soon as it answers and says so")
    assert not members.explain(many, "b", NOW).monitors


# By the API of a node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """Node a, which knows b and c of zone east and d, which has left; alone in fact."""
    config = Config(node_id="a", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", leave_timeout=0)
    async with Node(config) as node:
        learn(
            node.engine,
            member(B, zone="east", tags={"role": "db", "disk": "ssd"}),
            member(C, zone="east", tags={"role": "web"}),
            member(D, left=True),
            now=node.scheduler.now(),
        )
        yield node


def names(found: list[Member]) -> str:
    return "".join(one.node_id for one in found)


async def test_members_are_filtered_by_status_zone_and_tags(node: Node) -> None:
    assert names(await node.members()) == "abcd"
    assert names(await node.members(statuses=["left", "dead"])) == "d"
    assert names(await node.members(statuses=[MemberStatus.ALIVE, MemberStatus.LEFT])) == "abcd"
    assert names(await node.members(zone="east")) == "bc"
    assert names(await node.members(zone="")) == "ad"
    assert names(await node.members(tags={"role": "db"})) == "b"
    assert names(await node.members(tags={"role": "db", "disk": "hdd"})) == ""
    assert names(await node.members(zone="east", tags={"role": "web"}, statuses="alive")) == "c"


async def test_a_page_token_is_good_for_the_filter_that_it_came_from_only(node: Node) -> None:
    request = cluster_pb2.ClusterServiceListMembersRequest
    stub = node._services.cluster
    first = await stub.ListMembers(request(page_size=1, zone="east"), None)
    assert [one.node_id for one in first.members] == ["b"]
    second = await stub.ListMembers(request(zone="east", page_token=first.next_page_token), None)
    assert [one.node_id for one in second.members] == ["c"]
    assert not second.next_page_token
    for other in (
        request(),
        request(zone="west"),
        request(zone="east", tags={"role": "web"}),
        request(statuses=[cluster_pb2.MEMBER_STATUS_ALIVE]),
    ):
        other.page_token = first.next_page_token
        with pytest.raises(LocalError, match="page_token is not one of this listing"):
            await stub.ListMembers(other, None)


async def test_a_member_that_there_is_not_cannot_be_explained(node: Node) -> None:
    assert (await node.explain("b")).member.node_id == "b"
    with pytest.raises(MemberNotFoundError, match="this node knows no member 'z'") as caught:
        await node.explain("z")
    assert caught.value.reason == "MEMBER_NOT_FOUND"


async def test_tags_are_replaced_while_the_node_runs(node: Node) -> None:
    await node.set_tags({"role": "db", "disk": "ssd"})
    await node.set_tags({"role": "web"})
    before, _ = await node.members(zone="")
    assert (before.node_id, before.tags, before.incarnation) == ("a", {"role": "web"}, 3)
    await node.set_tags({"role": "web"})
    assert (await node.members(tags={"role": "web"}, zone=""))[0] == replace(
        before, status_age_seconds=ANY, incarnation=3
    )
    for wrong in ({"": "x"}, {"a=b": "c"}, {"a": "\n"}, {"a": "x" * 9000}):
        with pytest.raises(InvalidArgumentError) as caught:
            await node.set_tags(wrong)
        assert list(caught.value.fields) == ["tags"]


async def test_members_that_are_gone_can_be_forgotten_and_others_cannot(node: Node) -> None:
    await node.forget("d")
    assert names(await node.members()) == "abc"
    with pytest.raises(GossipError, match="b is ALIVE") as alive:
        await node.forget("b")
    assert alive.value.reason == "MEMBER_ALIVE"
    with pytest.raises(MemberNotFoundError):
        await node.forget("d")


async def test_a_ping_tells_the_round_trip_or_what_was_tried(node: Node) -> None:
    assert 0 < await node.ping("a") < 2000
    with pytest.raises(MemberNotFoundError):
        await node.ping("z")
    with pytest.raises(UnavailableError, match="b did not answer a probe at b:1 within 2 s") as caught:
        await node.ping("b")
    assert caught.value.reason == "MEMBER_UNREACHABLE"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"statuses": ["alive", "gone"]}, "statuses[1]"),
        ({"statuses": [MemberStatus.UNKNOWN]}, "statuses[0]"),
        ({"zone": 5}, "zone"),
        ({"tags": ["role"]}, "tags"),
        ({"tags": {"role": 5}}, "tags['role']"),
    ],
)
async def test_a_filter_that_cannot_be_meant_is_named(node: Node, arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await node.members(**arguments)  # type: ignore[arg-type]  # that it is refused is the point
    assert list(caught.value.fields) == [field]
