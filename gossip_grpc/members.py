"""What the API says of members: which of them a request asks for, and what each is to this node."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gossip_grpc.core.engine import Engine
from gossip_grpc.core.limits import is_name
from gossip_grpc.core.membership import QUORUM, Status
from gossip_grpc.core.records import Accusation, Record
from gossip_grpc.core.store import accusation_of, member_of
from gossip_grpc.errors import LocalError, NotFoundError, Reason
from gossip_grpc.gen.gossip.v1 import cluster_pb2
from gossip_grpc.settings import Tags

_STATUSES = {cluster_pb2.MemberStatus.Value(f"MEMBER_STATUS_{status}"): status for status in Status}
_NUMBERS = {status: number for number, status in _STATUSES.items()}


class Filter:
    """Which members a request asks for.

    Attributes:
        listing: names the listing, so that a page token of one is refused by others.

    Raises:
        LocalError: it asks for a status that there is not.
    """

    def __init__(self, request: cluster_pb2.ClusterServiceListMembersRequest) -> None:
        for index, number in enumerate(request.statuses):
            if number not in _STATUSES:
                allowed = ", ".join(f"MEMBER_STATUS_{status}" for status in Status)
                field = f"statuses[{index}]"
                raise LocalError(f"{field} is {number}, which is no status; give one of {allowed}", field=field)
        self._statuses = {_STATUSES[number] for number in request.statuses}
        self._zone = request.zone if request.HasField("zone") else None
        self._tags = dict(request.tags)
        self.listing = "members"
        if self._statuses or self._zone is not None or self._tags:
            self.listing += f" {json.dumps([sorted(self._statuses), self._zone, sorted(self._tags.items())])}"

    def takes(self, engine: Engine, record: Record) -> bool:
        """Whether a member is one of them."""
        member = member_of(record)
        return (
            (not self._statuses or engine.membership.status(record.origin.node_id) in self._statuses)
            and self._zone in (None, member.zone)
            and all(member.tags.get(name) == text for name, text in self._tags.items())
        )


def encode(engine: Engine, record: Record, now: float) -> cluster_pb2.Member:
    """A member as it is to this node."""
    name = record.origin.node_id
    member = member_of(record)
    membership = engine.membership
    standing = membership.standing(name)
    phi = engine.vigil.phi(name, now)
    return cluster_pb2.Member(
        node_id=name,
        generation=record.origin.generation,
        incarnation=member.incarnation,
        peer_address=member.peer_address,
        client_address=member.client_address,
        zone=member.zone,
        tags=dict(member.tags),
        version=member.version,
        status=_NUMBERS[membership.status(name)],
        reachable=membership.reachable(name),
        phi=None if phi is None else round(phi, 3),
        status_age_seconds=round(now - standing.since, 3) if standing else 0.0,
        cause="it is the node asked" if name == membership.node_id else standing.cause if standing else "",
    )


def check_tags(tags: Mapping[str, str], limit: int) -> dict[str, str]:
    """The tags, if a node may have them.

    Raises:
        LocalError: it may not: the rules are those of the configuration.
    """
    try:
        Tags().check(tags)
    except ValueError as error:
        raise LocalError(f"tags: {error}; allowed are {Tags().allowed}", field="tags") from None
    size = tags_bytes(tags)
    if size > limit:
        raise LocalError(f"tags have {size} bytes of names and values; at most {limit} are allowed", field="tags")
    return dict(tags)


def tags_bytes(tags: Mapping[str, str]) -> int:
    """Bytes of all names and values, which `max_tags_bytes` is about."""
    return sum(len(text.encode()) for pair in tags.items() for text in pair)


def find(engine: Engine, name: str) -> Record:
    """The record of a member.

    Raises:
        LocalError: no node can be called so.
        NotFoundError: there is no such member.
    """
    if not is_name(name):
        raise LocalError("node_id must be 1 to 128 characters of A-Za-z0-9._-", field="node_id")
    record = engine.store.members().get(name)
    if record is None:
        raise NotFoundError(f"this node knows no member {name!r}", reason=Reason.MEMBER_NOT_FOUND)
    return record


def explain(engine: Engine, name: str, now: float) -> cluster_pb2.ClusterServiceExplainMemberResponse:
    """Why a member is what it is to this node.

    Raises:
        NotFoundError: there is no such member.
    """
    membership = engine.membership
    record, records = find(engine, name), engine.store.members()
    accusations = [
        _accusation(accuser, accusation_of(record), now + engine.wall_offset)
        for accuser, record in sorted(membership.accusations(name).items())
    ]
    gone = membership.status(name) in (Status.DEAD, Status.LEFT)  # nobody listens to it any more
    monitors = [] if gone else sorted(membership.monitors.of(name))
    return cluster_pb2.ClusterServiceExplainMemberResponse(
        member=encode(engine, record, now),
        monitors=[
            cluster_pb2.Monitor(
                node_id=monitor,
                client_address=member_of(records[monitor]).client_address,
                view=_view(engine, name, now) if monitor == membership.node_id else None,
            )
            for monitor in monitors
        ],
        accusations=accusations,
        accusers_needed=QUORUM,
        verdict=_verdict(engine, name, monitors, len(accusations)),
    )


def _view(engine: Engine, name: str, now: float) -> cluster_pb2.MonitorView | None:
    detector = engine.vigil.detector
    watch = detector.watches.get(name)
    if watch is None:  # about to be
        return None
    return cluster_pb2.MonitorView(
        phi=round(detector.phi(name, now), 3),
        mean_seconds=round(watch.intervals.mean, 4),
        deviation_seconds=round(watch.intervals.deviation(detector.settings.min_deviation), 4),
        heartbeat_age_seconds=None if watch.beat is None else round(now - watch.beat, 3),
        heartbeats=watch.beats,
        phase=cluster_pb2.MonitorPhase.Value(f"MONITOR_PHASE_{watch.phase.name}"),
    )


def _accusation(accuser: str, accusation: Accusation, unix_time: float) -> cluster_pb2.MemberAccusation:
    return cluster_pb2.MemberAccusation(
        accuser=accuser,
        made_at_unix_milliseconds=round(accusation.at * 1000),
        age_seconds=round(unix_time - accusation.at, 3),
        phi=accusation.phi,
        incarnation=accusation.incarnation,
    )


def _verdict(engine: Engine, name: str, monitors: list[str], accusers: int) -> str:
    """What it would take to declare a member dead, by the rule of `Membership`."""
    settings = engine.settings.detector
    status = engine.membership.status(name)
    if status is Status.LEFT:
        return f"it has left by itself, and is forgotten {settings.reap_after:g} s after that"
    if status is Status.DEAD:
        return (
            "it is dead, and alive again as soon as it answers and says so; if it does not, it is forgotten "
            f"{settings.reap_after:g} s after the last accusation"
        )
    if not monitors:
        return "nobody monitors it, for there is no other member that nobody accuses"
    seconds = f"{settings.suspicion_timeout:g} s"
    if len(monitors) == 1:
        return f"{monitors[0]}, its only monitor, must accuse it for {seconds}; {_does(accusers)}"
    clear = f"{QUORUM} members that nobody accuses must accuse it, or any {QUORUM} for {seconds}"
    return f"{clear}; {_does(accusers)}"


def _does(accusers: int) -> str:
    return "nobody does now" if not accusers else f"{accusers} does now" if accusers == 1 else f"{accusers} do now"
