"""When a value that is not to stay is to be seen, by the history and each node's own clock and view: for the checkers.

What a node shows depends on its wall clock and on what it thinks of the others, so it is judged by those. Around the
moments at which its clock is set, or it goes on after standing still, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable

from gossip_grpc.core.leases import lease_of
from gossip_grpc.core.membership import Status
from gossip_grpc.core.records import Record
from gossip_grpc.sim.host import Host

PRECISION = 0.001
"""Seconds around a value's end in which a node may show it or not: ends are whole milliseconds."""

ADJUSTMENT = 2.0
"""Seconds after its clock was set, or after a pause, in which a node need not have done what is due."""

LATE = 3
"""Rounds by which a node may be late whose steady clock runs too slow or too fast: it looks at the other at each."""


def is_over(host: Host, record: Record, now: float) -> bool | None:
    """Whether a lease is over at a node, by its clock or because its writer's life is no member's; None if unsure."""
    lease = lease_of(record)
    unsure = False
    if lease.expires_at:
        left = lease.expires_at / 1000 - host.wall(now)
        precision = PRECISION if host.steady else LATE * host.spec.interval
        unsure = abs(left) <= precision or host.hindered or host.set_back or now - host.adjusted < ADJUSTMENT
        if left < -precision and not unsure:
            return True
    if lease.ephemeral:
        member = host.store.members().get(record.origin.node_id)
        if member is None or member.origin != record.origin:
            return True
    return None if unsure else False


def is_shown(host: Host, record: Record, now: float) -> bool | None:
    """Whether a node must show a lease that has its slot, or must not; None if unsure."""
    over = is_over(host, record, now)
    if over is None or over:
        return None if over is None else False
    if lease_of(record).ephemeral and host.engine is not None:
        return host.engine.membership.status(record.origin.node_id) not in (Status.DEAD, Status.LEFT)
    return True


def may_be_over(hosts: Iterable[Host], record: Record, now: float) -> bool:
    """Whether a lease may be over somewhere, or have been: by the clock that is ahead, or for want of its writer."""
    lease = lease_of(record)
    for host in hosts:
        if lease.expires_at and (host.set_back or lease.expires_at / 1000 <= host.wall(now) + PRECISION):
            return True
        if not lease.ephemeral:
            continue
        member = host.store.members().get(record.origin.node_id)
        if member is None or member.origin != record.origin or not host.up:
            return True
    return False
