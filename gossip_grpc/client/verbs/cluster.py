"""The node asked, and the cluster as it sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields

from gossip_grpc.client import arguments as checked
from gossip_grpc.client.calls import DEFAULT_RECONNECT, Call, Listing, Stream, call, listing, stream
from gossip_grpc.client.results import (
    Durability,
    Explanation,
    GossipCounters,
    LimitUse,
    Member,
    MemberAccusation,
    MemberEvent,
    MemberEventKind,
    MemberStatus,
    Monitor,
    MonitorPhase,
    MonitorView,
    Status,
    StorageStatus,
)
from gossip_grpc.client.verbs.reading import read_origin
from gossip_grpc.gen.gossip.v1 import cluster_pb2, common_pb2

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
_NUMBERS = {str(status): number for number, status in _STATUSES.items()}
_COUNTERS = tuple(field.name for field in fields(GossipCounters))


def get_status(*, timeout: float | None = None) -> Call[Status]:
    """Returns what the node is and how it does."""
    return call(
        lambda stubs: stubs.cluster.GetStatus,
        cluster_pb2.ClusterServiceGetStatusRequest(),
        _read_status,
        timeout=timeout,
    )


def list_members(
    *,
    statuses: Iterable[str] = (),
    zone: str | None = None,
    tags: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Listing[Member]:
    """Returns the members the node knows, itself among them, in order of node_id.

    All of them, or those that are one of `statuses`, of `zone` (empty: of none) and with all of these tags.
    """
    numbers = _statuses(statuses)
    zone = None if zone is None else checked.text("zone", zone)
    tags = checked.tags(tags or {})
    return listing(
        lambda stubs: stubs.cluster.ListMembers,
        lambda token: cluster_pb2.ClusterServiceListMembersRequest(
            page_token=token, statuses=numbers, zone=zone, tags=tags
        ),
        lambda response: map(_read_member, response.members),
        timeout=timeout,
    )


def explain_member(node_id: str, *, timeout: float | None = None) -> Call[Explanation]:
    """Explains why a member is what it is to the node asked. MemberNotFoundError if it knows no such member.

    What a monitor hears is known to that monitor alone: ask each for its own.
    """
    return call(
        lambda stubs: stubs.cluster.ExplainMember,
        cluster_pb2.ClusterServiceExplainMemberRequest(node_id=checked.text("node_id", node_id)),
        _read_explanation,
        timeout=timeout,
    )


def watch_members(token: str = "", *, reconnect: float = DEFAULT_RECONNECT) -> Stream[MemberEvent]:
    """Iterates over all members, and then for ever over what happens to them, as the node sees it.

    With the token of the last event that was received: over what came after it, if the node still has it, else anew.
    When the connection is lost, or this reader was too slow, it goes on by itself, at another address if need be, and
    RESET comes first wherever anything could be missing. UnavailableError after `reconnect` seconds without success;
    with 0 whatever ends the stream is raised, such as ResourceExhaustedError (reason SLOW_WATCHER); `metadata` has the
    `resume_token` then. The client's timeout counts for the first connection only. An embedded node has no connection
    to lose, and raises.
    """
    return stream(
        lambda stubs: stubs.cluster.WatchMembers,
        cluster_pb2.ClusterServiceWatchMembersRequest(resume_token=checked.text("token", token)),
        _read_event,
        _reset,
        reconnect=reconnect,
    )


def set_tags(tags: Mapping[str, str], *, timeout: float | None = None) -> Call[None]:
    """Replaces the tags of the node asked, all of them. InvalidArgumentError if they break its rules or its limit.

    The client must have one address: that of the node.
    """
    request = cluster_pb2.ClusterServiceSetTagsRequest(tags=checked.tags(tags))
    return call(lambda stubs: stubs.cluster.SetTags, request, lambda _: None, timeout=timeout)


def forget_member(node_id: str, *, timeout: float | None = None) -> Call[None]:
    """Makes all nodes forget a member that is dead or has left; GossipError (reason MEMBER_ALIVE) if it is neither.

    MemberNotFoundError if the node knows no such member.
    """
    request = cluster_pb2.ClusterServiceForgetMemberRequest(node_id=checked.text("node_id", node_id))
    return call(lambda stubs: stubs.cluster.ForgetMember, request, lambda _: None, timeout=timeout)


def ping_member(node_id: str, *, timeout: float | None = None) -> Call[float]:
    """Returns the milliseconds from the node asked to a member and back.

    UnavailableError (reason MEMBER_UNREACHABLE) if it does not answer, MemberNotFoundError if there is no such member.
    """
    return call(
        lambda stubs: stubs.cluster.Ping,
        cluster_pb2.ClusterServicePingRequest(node_id=checked.text("node_id", node_id)),
        lambda response: response.round_trip_milliseconds,
        timeout=timeout,
    )


def leave(*, timeout: float | None = None) -> Call[int]:
    """Makes the node leave its cluster and stop; returns how many peers hold its leave record.

    The client must have one address: that of the node.
    """
    return call(
        lambda stubs: stubs.cluster.Leave,
        cluster_pb2.ClusterServiceLeaveRequest(),
        lambda response: response.peers,
        timeout=timeout,
    )


def backup() -> Stream[bytes]:
    """Iterates over the bytes of a file that holds all that the node holds, as of one moment; it cannot be resumed."""
    return Stream(
        lambda stubs: stubs.cluster.Backup,
        cluster_pb2.ClusterServiceBackupRequest(),
        lambda response: response.data,
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
    coverage = [(read_origin(item.origin), item) for item in response.coverage]
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


def _statuses(given: Iterable[object]) -> list[cluster_pb2.MemberStatus.ValueType]:
    # One word alone is an iterable too, of its letters.
    words = [given] if isinstance(given, str) else list(given)
    for index, word in enumerate(words):
        if not isinstance(word, str) or word not in _NUMBERS:
            raise checked.refused(f"statuses[{index}]", f"must be one of {', '.join(_NUMBERS)}, not {str(word)!r}")
    return [_NUMBERS[str(word)] for word in words]


def _reset(cause: str) -> MemberEvent:
    return MemberEvent(MemberEventKind.RESET, None, cause, "")
