"""What the API says of members: which of them a request asks for, and what each is to this node."""

from __future__ import annotations

import json

from gossip_grpc.core.engine import Engine
from gossip_grpc.core.membership import Status
from gossip_grpc.core.records import Record
from gossip_grpc.core.store import member_of
from gossip_grpc.errors import LocalError
from gossip_grpc.gen.gossip.v1 import cluster_pb2

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
        phi=_rounded(engine.phi(name, now)),
        status_since_seconds=round(now - standing.since, 3) if standing else 0.0,
        cause="it is the node asked" if name == membership.node_id else standing.cause if standing else "",
    )


def _rounded(phi: float | None) -> float | None:
    return None if phi is None else round(phi, 3)
