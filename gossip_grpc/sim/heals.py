"""Why two nodes of equal coverage held different things, by the history.

The backstop is for what must not be. Three things call for it:

- corruption, which the schedule plants;
- a write that meets a tombstone of its slot which was purged before the write came, and whose deleter had not seen it:
  it is taken for new there, and is superseded elsewhere;
- a write of a life that somebody folded without having seen it: who was cut off for longer than the retention holds it,
  and the others claim to cover it.

Anything else is a bug.
"""

from __future__ import annotations

from enum import StrEnum

from gossip_grpc.core.messages import Notice
from gossip_grpc.core.records import USER_KINDS, Record
from gossip_grpc.core.store import Store
from gossip_grpc.sim.checkers import Slot, Truth, order, purged, tell
from gossip_grpc.sim.host import Host
from gossip_grpc.sim.world import World


class Cause(StrEnum):
    """What called for a heal."""

    CORRUPTION = "corruption"
    PURGED = "a write met a purged tombstone"
    FOLDED = "a life was folded that somebody knew more of"


def unexplained(world: World, host: Host, notice: Notice) -> str | None:
    """What nothing explains of a heal that a host has just begun; None if all of it is explained."""
    truth = Truth(world, host.cluster)
    peer = world.hosts.get(str(notice.facts["peer"]))
    if peer is not None and _compared(peer.store, host.store, notice):
        for slot, (here, there) in _differences(host.store, peer.store).items():
            if cause(truth, slot) is None:
                return (
                    f"{host.name} holds {tell(here)}, and {peer.name} {tell(there)}, at equal coverage, with nothing "
                    "corrupt, purged or folded there"
                )
        return None
    # The peer has changed since it answered: anything that could have made them differ has to do.
    if any(cause(truth, slot) is not None for slot in [*truth.slots, *truth.rotten]):
        return None
    return f"{host.name} and {notice.facts['peer']} differed at equal coverage, with nothing corrupt, purged or folded"


def cause(truth: Truth, slot: Slot) -> Cause | None:
    """What may have made nodes differ in a slot; None if nothing."""
    if slot in truth.rotten:
        return Cause.CORRUPTION
    records = truth.slots.get(slot, [])
    if truth.doubtful(records):
        return Cause.FOLDED
    for deletion in records:
        if not truth.deletes(deletion) or not any(purged(host.store, deletion) for host in truth.machines):
            continue
        seen = truth.seen(deletion)
        if any(order(record) < order(deletion) and record.dot not in seen for record in records):
            return Cause.PURGED
    return None


def _compared(peer: Store, store: Store, notice: Notice) -> bool:
    """Whether a peer's store is still what it was when it was compared."""
    return f"{peer.fingerprint:016x}" == notice.facts["theirs"] and peer.coverage == store.coverage


def _differences(one: Store, other: Store) -> dict[Slot, tuple[Record | None, Record | None]]:
    here, there = _fingerprinted(one), _fingerprinted(other)
    return {
        slot: (here.get(slot), there.get(slot))
        for slot in here.keys() | there.keys()
        if here.get(slot) != there.get(slot)
    }


def _fingerprinted(store: Store) -> dict[Slot, Record]:
    return {
        (record.kind, record.slot): record
        for record in store.records()
        if record.kind in USER_KINDS and not record.is_tombstone and not record.is_lease
    }
