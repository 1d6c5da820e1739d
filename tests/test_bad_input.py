"""Bad input from the network: each piece gets its status and its reason, and changes nothing.

The error names the field to blame, and the node goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from gossip_grpc.config import Config
from gossip_grpc.gen.gossip.v1 import cluster_pb2, common_pb2, counter_pb2, kv_pb2, peer_pb2, set_pb2
from gossip_grpc.node import Node
from gossip_grpc.wire import PROTOCOL, encode_page_token

Code = grpc.StatusCode
text = common_pb2.Value(text="x")
me = peer_pb2.Sender(cluster="default", protocol=PROTOCOL, node_id="evil", generation=1, address="127.0.0.1:1")
foreign = peer_pb2.Sender(cluster="other", protocol=PROTOCOL, node_id="evil", generation=1, address="127.0.0.1:1")
origins = [common_pb2.Origin(node_id="evil", generation=1)]


@dataclass
class Case:
    """A request that must be refused."""

    method: str
    request: Message | bytes
    code: grpc.StatusCode
    reason: str
    field: str = ""


def kv(method: str, request: Message | bytes, field: str, reason: str = "INVALID_ARGUMENT") -> Case:
    return Case(f"KeyValueService/{method}", request, Code.INVALID_ARGUMENT, reason, field)


def counter(method: str, request: Message, field: str) -> Case:
    return Case(f"CounterService/{method}", request, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", field)


def sets(method: str, request: Message, field: str) -> Case:
    return Case(f"SetService/{method}", request, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", field)


def push(
    delta: peer_pb2.Delta,
    field: str,
    *,
    code: grpc.StatusCode = Code.INVALID_ARGUMENT,
    reason: str = "MALFORMED",
    **more: Any,
) -> Case:
    return Case("PeerService/Push", peer_pb2.PushRequest(sender=me, delta=delta, **more), code, reason, field)


def register(**fields: Any) -> peer_pb2.RegisterRecord:
    return peer_pb2.RegisterRecord(**{"origin": 0, "sequence": 1, "clock": 1, "key": "k", "text": "v", **fields})


def delta(*registers: peer_pb2.RegisterRecord, **fields: Any) -> peer_pb2.Delta:
    return peer_pb2.Delta(**{"origins": origins, "registers": registers, **fields})


def pull(digest: peer_pb2.Digest, field: str) -> Case:
    request = peer_pb2.PullRequest(sender=me, digest=digest)
    return Case("PeerService/Pull", request, Code.INVALID_ARGUMENT, "MALFORMED", field)


def sent_by(code: grpc.StatusCode, reason: str, field: str, **changed: Any) -> list[Case]:
    sender = peer_pb2.Sender()
    sender.CopyFrom(me)
    for name, value in changed.items():
        setattr(sender, name, value)
    return [
        Case("PeerService/Push", peer_pb2.PushRequest(sender=sender, delta=delta(register())), code, reason, field),
        Case("PeerService/Pull", peer_pb2.PullRequest(sender=sender), code, reason, field),
    ]


def probe(field: str, code: grpc.StatusCode = Code.INVALID_ARGUMENT, reason: str = "MALFORMED", **changed: Any) -> Case:
    fields = {"sender": me, "target_node_id": "n2", **changed}
    return Case("PeerService/Probe", peer_pb2.ProbeRequest(**fields), code, reason, field)


def unknown_digest(**fields: Any) -> peer_pb2.Digest:
    return peer_pb2.Digest(origins=[peer_pb2.OriginDigest(origin=origins[0], **fields)])


HEADER = peer_pb2.DeltaHeader(base=unknown_digest(sequence=5), snapshot=unknown_digest(sequence=9))
JUNK = "*?"
NOT_UTF8 = encode_page_token("kv ", b"\xff")
FORGED = "AAAAAAAAAAAAAA"
LONG_KEY = "k" * 513
BIG = 1 << 20

CASES = {
    # Clients
    "get: empty key": kv("Get", kv_pb2.KeyValueServiceGetRequest(), "key"),
    "put: empty key": kv("Put", kv_pb2.KeyValueServicePutRequest(value=text), "key"),
    "put: oversize key": kv("Put", kv_pb2.KeyValueServicePutRequest(key=LONG_KEY, value=text), "key"),
    "put: key oversize in bytes only": kv("Put", kv_pb2.KeyValueServicePutRequest(key="é" * 257, value=text), "key"),
    "put: no value": kv("Put", kv_pb2.KeyValueServicePutRequest(key="k"), "value"),
    "put: value without kind": kv("Put", kv_pb2.KeyValueServicePutRequest(key="k", value=common_pb2.Value()), "value"),
    "put: oversize text": kv(
        "Put", kv_pb2.KeyValueServicePutRequest(key="k", value=common_pb2.Value(text="x" * (BIG + 1))), "value"
    ),
    "put: oversize bytes": kv(
        "Put", kv_pb2.KeyValueServicePutRequest(key="k", value=common_pb2.Value(data=b"x" * (BIG + 1))), "value"
    ),
    "put: a 5 MiB message": kv(
        "Put", kv_pb2.KeyValueServicePutRequest(key="k", value=common_pb2.Value(data=b"x" * (5 * BIG))), "value"
    ),
    "put: junk instead of a message": kv("Put", b"\xff\xff\xff\xff", "", "MALFORMED"),
    "put: a wrong type (key as a number)": kv("Put", b"\x0a\x80", "", "MALFORMED"),
    "put: a key that is not UTF-8": kv("Put", b"\x0a\x02\xc3\x28", "", "MALFORMED"),
    "delete: empty key": kv("Delete", kv_pb2.KeyValueServiceDeleteRequest(), "key"),
    "list: negative page size": kv("List", kv_pb2.KeyValueServiceListRequest(page_size=-1), "page_size"),
    "list: page size above the limit": kv("List", kv_pb2.KeyValueServiceListRequest(page_size=10_001), "page_size"),
    "list: oversize prefix": kv("List", kv_pb2.KeyValueServiceListRequest(prefix=LONG_KEY), "prefix"),
    "list: forged page token": kv("List", kv_pb2.KeyValueServiceListRequest(page_token=FORGED), "page_token"),
    "list: junk page token": kv("List", kv_pb2.KeyValueServiceListRequest(page_token=JUNK), "page_token"),
    "list: forged page token that is not UTF-8": kv(
        "List", kv_pb2.KeyValueServiceListRequest(page_token=NOT_UTF8), "page_token"
    ),
    "counter get: empty key": counter("Get", counter_pb2.CounterServiceGetRequest(), "key"),
    "counter add: empty key": counter("Add", counter_pb2.CounterServiceAddRequest(amount=1), "key"),
    "counter add: beyond int64": Case(
        "CounterService/Add",
        counter_pb2.CounterServiceAddRequest(key="one", amount=2**63 - 1),
        Code.OUT_OF_RANGE,
        "COUNTER_OVERFLOW",
        "amount",
    ),
    "counter reset: oversize key": counter("Reset", counter_pb2.CounterServiceResetRequest(key=LONG_KEY), "key"),
    "counter list: forged page token": counter(
        "List", counter_pb2.CounterServiceListRequest(page_token=FORGED), "page_token"
    ),
    "set get: empty key": sets("Get", set_pb2.SetServiceGetRequest(), "key"),
    "set get: forged page token": sets("Get", set_pb2.SetServiceGetRequest(key="k", page_token=FORGED), "page_token"),
    "set add: no elements": sets("Add", set_pb2.SetServiceAddRequest(key="k"), "elements"),
    "set add: too many elements": sets(
        "Add", set_pb2.SetServiceAddRequest(key="k", elements=[text] * 1001), "elements"
    ),
    "set add: empty element": sets(
        "Add", set_pb2.SetServiceAddRequest(key="k", elements=[text, common_pb2.Value(text="")]), "elements[1]"
    ),
    "set add: unset element": sets(
        "Add", set_pb2.SetServiceAddRequest(key="k", elements=[common_pb2.Value()]), "elements[0]"
    ),
    "set add: oversize element": sets(
        "Add",
        set_pb2.SetServiceAddRequest(key="k", elements=[common_pb2.Value(data=b"x" * 65_537)]),
        "elements[0]",
    ),
    "set remove: no elements": sets("Remove", set_pb2.SetServiceRemoveRequest(key="k"), "elements"),
    "set list: negative page size": sets("List", set_pb2.SetServiceListRequest(page_size=-5), "page_size"),
    "members: forged page token": Case(
        "ClusterService/ListMembers",
        cluster_pb2.ClusterServiceListMembersRequest(page_token=FORGED),
        Code.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "page_token",
    ),
    "members: no status": Case(
        "ClusterService/ListMembers",
        cluster_pb2.ClusterServiceListMembersRequest(
            statuses=[cluster_pb2.MEMBER_STATUS_DEAD, cluster_pb2.MEMBER_STATUS_UNSPECIFIED]
        ),
        Code.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "statuses[1]",
    ),
    "explain: no such member": Case(
        "ClusterService/ExplainMember",
        cluster_pb2.ClusterServiceExplainMemberRequest(node_id="nobody"),
        Code.NOT_FOUND,
        "MEMBER_NOT_FOUND",
    ),
    "set tags: not printable": Case(
        "ClusterService/SetTags",
        cluster_pb2.ClusterServiceSetTagsRequest(tags={"a": "\x00"}),
        Code.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "tags",
    ),
    "set tags: too many": Case(
        "ClusterService/SetTags",
        cluster_pb2.ClusterServiceSetTagsRequest(tags={"a": "x" * 8192}),
        Code.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "tags",
    ),
    "forget: a member that is alive": Case(
        "ClusterService/ForgetMember",
        cluster_pb2.ClusterServiceForgetMemberRequest(node_id="n1"),
        Code.FAILED_PRECONDITION,
        "MEMBER_ALIVE",
    ),
    "ping: no such member": Case(
        "ClusterService/Ping",
        cluster_pb2.ClusterServicePingRequest(node_id="nobody"),
        Code.NOT_FOUND,
        "MEMBER_NOT_FOUND",
    ),
    "watch: junk token": Case(
        "ClusterService/WatchMembers",
        cluster_pb2.ClusterServiceWatchMembersRequest(resume_token="a/b"),  # noqa: S106 - no secret
        Code.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "resume_token",
    ),
    # Peers
    **{
        f"sender: {name} ({case.method})": case
        for name, cases in {
            "foreign cluster": sent_by(Code.FAILED_PRECONDITION, "FOREIGN_CLUSTER", "sender.cluster", cluster="other"),
            "other protocol": sent_by(
                Code.FAILED_PRECONDITION, "INCOMPATIBLE_PROTOCOL", "sender.protocol", protocol=PROTOCOL + 1
            ),
            "junk name": sent_by(Code.INVALID_ARGUMENT, "MALFORMED", "sender.node_id", node_id="a b"),
            "no address": sent_by(Code.INVALID_ARGUMENT, "MALFORMED", "sender.address", address="nowhere"),
        }.items()
        for case in cases
    },
    "push: origin index outside the table": push(delta(register(origin=7)), "delta.registers[0].origin"),
    "push: sequence 0": push(delta(register(), register(sequence=0, key="l")), "delta.registers[1].sequence"),
    "push: clock 0": push(delta(register(clock=0)), "delta.registers[0].clock"),
    "push: clock above 2^62": push(delta(register(clock=2**62 + 1)), "", reason="CLOCK_POISON"),
    "push: clock far ahead of ours": push(delta(register(clock=2**40)), "", reason="CLOCK_POISON"),
    "push: empty key": push(delta(register(key="")), "delta.registers[0].key"),
    "push: oversize key": push(delta(register(key="k" * 5000)), "delta.registers[0].key"),
    "push: no content": push(
        delta(peer_pb2.RegisterRecord(sequence=1, clock=1, key="k")), "delta.registers[0].content"
    ),
    "push: a slot twice": push(delta(register(), register(sequence=2)), "delta.registers"),
    "push: junk origin": push(peer_pb2.Delta(origins=[common_pb2.Origin(node_id="../..")]), "delta.origins[0].node_id"),
    "push: share outside the table": push(
        delta(counter_shares=[peer_pb2.CounterShareRecord(origin=1, sequence=1, clock=1, key="k")]),
        "delta.counter_shares[0].origin",
    ),
    "push: reset outside the table": push(
        delta(counter_resets=[peer_pb2.CounterResetRecord(sequence=1, clock=1, key="k", share_origin=3)]),
        "delta.counter_resets[0].share_origin",
    ),
    "push: empty element": push(
        delta(set_elements=[peer_pb2.SetElementRecord(sequence=1, clock=1, key="k")]), "delta.set_elements[0].element"
    ),
    "push: removal of sequence 0": push(
        delta(set_elements=[peer_pb2.SetElementRecord(sequence=1, clock=1, key="k", text="e", add_origin=0)]),
        "delta.set_elements[0].add_sequence",
    ),
    "push: member without address": push(
        delta(members=[peer_pb2.MemberRecord(sequence=1, clock=1, incarnation=1)]), "delta.members[0].peer_address"
    ),
    "push: delta made for another state": push(
        delta(register(), header=HEADER),
        "delta.header.base",
        code=Code.ABORTED,
        reason="BROKEN_TRANSFER",
        transfer=1,
    ),
    "push: a superseded chunk without a transfer": push(delta(register(), superseded=True), "transfer"),
    "push: a member of a megabyte": push(
        delta(members=[peer_pb2.MemberRecord(sequence=1, clock=1, incarnation=1, peer_address="a:1", zone="z" * BIG)]),
        "delta.members[0]",
    ),
    "push: a delta of a poisonous clock": push(
        peer_pb2.Delta(header=peer_pb2.DeltaHeader(base=peer_pb2.Digest(), clock=2**62 + 1), complete=True),
        "",
        reason="CLOCK_POISON",
        transfer=1,
    ),
    "push: chunk out of order": push(
        delta(register()), "chunk", code=Code.ABORTED, reason="BROKEN_TRANSFER", transfer=1, chunk=3
    ),
    "push: a 5 MiB message": push(
        delta(register(text="x" * (5 * BIG))), "", code=Code.RESOURCE_EXHAUSTED, reason="MESSAGE_LIMIT"
    ),
    "push: junk instead of a message": Case("PeerService/Push", b"\xff\xff", Code.INVALID_ARGUMENT, "MALFORMED"),
    "pull: an origin twice": pull(
        peer_pb2.Digest(origins=[peer_pb2.OriginDigest(origin=origins[0], sequence=1)] * 2), "digest.origins[1].origin"
    ),
    "pull: ranges that touch": pull(
        unknown_digest(sequence=3, above=[common_pb2.SequenceRange(first=4, last=9)]), "digest.origins[0].above"
    ),
    "pull: a range backwards": pull(
        unknown_digest(above=[common_pb2.SequenceRange(first=9, last=8)]), "digest.origins[0].above"
    ),
    "pull: a floor above the sequence": pull(unknown_digest(sequence=3, floor=4), "digest.origins[0].floor"),
    "pull: a context above the sequence": pull(unknown_digest(sequence=3, context=4), "digest.origins[0].context"),
    # Failure detection
    "heartbeat: foreign cluster": Case(
        "PeerService/Heartbeat",
        peer_pb2.HeartbeatRequest(sender=foreign, incarnation=1, beat=1),
        Code.FAILED_PRECONDITION,
        "FOREIGN_CLUSTER",
        "sender.cluster",
    ),
    "heartbeat: no sender": Case(
        "PeerService/Heartbeat",
        peer_pb2.HeartbeatRequest(),
        Code.FAILED_PRECONDITION,
        "FOREIGN_CLUSTER",
        "sender.cluster",
    ),
    "probe: foreign cluster": probe("sender.cluster", Code.FAILED_PRECONDITION, "FOREIGN_CLUSTER", sender=foreign),
    "probe: no target": probe("target_node_id", target_node_id=""),
    "probe: junk for a target": probe("target_node_id", target_node_id=JUNK),
}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    config = Config(node_id="n1", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", gossip_interval=3600)
    async with Node(config) as node:
        await node.kv.put("old", "value")
        await node.counter.add("one", 1)
        await node.set.add("s", "a")
        # Synced once, so that it judges clocks: a comparison that agrees.
        node.engine._synced = True
        yield node


@pytest.mark.parametrize("name", CASES)
async def test_bad_input_gets_its_status_and_changes_nothing(node: Node, name: str) -> None:
    case = CASES[name]
    before = node.engine.digest()[1], node.engine.store.clock.time
    error = await refused(node, case)
    assert error.code() is case.code, error.details()
    info, request = details(error)
    assert (info.domain, info.reason) == ("gossip-grpc", case.reason)
    assert [violation.field for violation in request.field_violations] == ([case.field] if case.field else [])
    assert case.field in (error.details() or "")
    assert (node.engine.digest()[1], node.engine.store.clock.time) == before
    assert (await node.kv.get("old")).value == "value"
    await node.kv.put("new", "value")


async def test_nobody_may_tell_a_node_of_its_own_writes_that_it_has_not_made(node: Node) -> None:
    own = node.engine.store.origin
    ours = [common_pb2.Origin(node_id=own.node_id, generation=own.generation)]
    claim = peer_pb2.Digest(origins=[peer_pb2.OriginDigest(origin=ours[0], sequence=2**64 - 1)])
    before = node.engine.digest()[1]
    for request in (
        peer_pb2.PushRequest(sender=me, delta=peer_pb2.Delta(origins=ours, registers=[register(sequence=99)])),
        peer_pb2.PushRequest(
            sender=me, delta=peer_pb2.Delta(header=peer_pb2.DeltaHeader(snapshot=claim), complete=True), transfer=1
        ),
    ):
        error = await refused(node, Case("PeerService/Push", request, Code.INVALID_ARGUMENT, "MALFORMED"))
        assert "it has not made" in (error.details() or "")
    assert node.engine.digest()[1] == before


async def test_a_page_ends_before_it_grows_beyond_its_limit(node: Node) -> None:
    for number in range(4):
        await node.kv.put(f"big{number}", "x" * 600_000)
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        token, pages = "", []
        while True:
            request = kv_pb2.KeyValueServiceListRequest(prefix="big", page_token=token)
            raw = await stub(channel, "KeyValueService/List")(request.SerializeToString(), timeout=5)
            response = kv_pb2.KeyValueServiceListResponse.FromString(raw)
            pages.append([entry.key for entry in response.entries])
            token = response.next_page_token
            if not token:
                break
    assert pages == [["big0"], ["big1"], ["big2"], ["big3"]]


async def test_unknown_fields_are_ignored(node: Node) -> None:
    known = kv_pb2.KeyValueServicePutRequest(key="k", value=text).SerializeToString()
    unknown = b"\xba\x3e\x04junk"  # field 999, length-delimited
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        await stub(channel, "KeyValueService/Put")(known + unknown, timeout=5)
    assert (await node.kv.get("k")).value == "x"


async def refused(node: Node, case: Case) -> grpc.aio.AioRpcError:
    raw = case.request if isinstance(case.request, bytes) else case.request.SerializeToString()
    address = node.peer_address if case.method.startswith("PeerService") else node.client_address
    async with grpc.aio.insecure_channel(address) as channel:
        if case.method in ("PeerService/Pull", "ClusterService/WatchMembers"):
            streaming: Any = channel.unary_stream(f"/gossip.v1.{case.method}")
            answer = streaming(raw, timeout=5).read()
        else:
            answer = stub(channel, case.method)(raw, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer
    return caught.value


def stub(channel: grpc.aio.Channel, method: str) -> Any:
    return channel.unary_unary(f"/gossip.v1.{method}")


def details(error: grpc.aio.AioRpcError) -> tuple[ErrorInfo, BadRequest]:
    status = rpc_status.from_call(cast("grpc.Call", error))
    info, request = ErrorInfo(), BadRequest()
    assert status is not None, f"no details: {error}"
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(request)
    return info, request
