"""What a node does about the other members: it shows that it lives, watches those that it monitors, and judges.

The detector (detector.py) says whose silence is a reason to ask; membership (membership.py) says what follows from the
records. This module acts: heartbeats to the monitors, probes of the silent, directly and by others, accusations and
their withdrawal, refutation of what others say of this node, and forgetting those that are gone.
"""

from __future__ import annotations

import random
from typing import Protocol

from gossip_grpc.core.counters import Counters
from gossip_grpc.core.detector import Detector, DetectorSettings, Phase
from gossip_grpc.core.membership import Membership, Peer, Status
from gossip_grpc.core.messages import Call, Effect, HeartbeatReply, HeartbeatRequest, Notice, ProbeReply, ProbeRequest
from gossip_grpc.core.records import Accusation, Kind, Origin, Record
from gossip_grpc.core.selection import pick
from gossip_grpc.core.store import Store, accusation_of, member_of
from gossip_grpc.errors import LocalError, NotFoundError, Reason

QUIET = 0.25
"""Seconds for which a digest must have stood still until a heartbeat that says otherwise leads to a sync: what is on
its way as a rumor needs none."""


class Owner(Protocol):
    """The engine, as far as its vigil needs it."""

    ready: bool
    leaving: bool
    wall_offset: float
    counters: Counters

    def digest_hash(self) -> int:
        """What this node knows, in short."""
        ...

    def emit(self, effect: Effect) -> None:
        """Have the driver do something."""
        ...

    def publish(self, record: Record, now: float) -> None:
        """Spread a record that was just written."""
        ...

    def announce_again(self, now: float, *, at_least: int = 1) -> None:
        """Write this node's member record again, with a higher incarnation, and spread it."""
        ...

    def compare_with(self, peer: Peer) -> None:
        """Start a round with a peer, if there is none."""
        ...


class Vigil:
    """One node's watch over the members.

    Args:
        owner: the engine.
        store: its store.
        membership: its members.
        settings: the knobs.
        rng: the only source of randomness.
        now: seconds on the steady clock.
    """

    def __init__(
        self,
        owner: Owner,
        store: Store,
        membership: Membership,
        settings: DetectorSettings,
        rng: random.Random,
        now: float,
    ) -> None:
        self.detector = Detector(settings)
        self._owner = owner
        self._store = store
        self._membership = membership
        self._settings = settings
        self._rng = rng
        self._next_beat = now + rng.random() * settings.heartbeat_interval
        self._beat = 0
        self._quiet: tuple[int, float] = (-1, now)
        self._stall = max(settings.acceptable_pause, settings.heartbeat_interval)

    def deadline(self) -> float:
        """When `tick` is due next."""
        return min(self._next_beat, self.detector.deadline(), self._membership.deadline())

    def tick(self, now: float) -> None:
        """Do what is due: heartbeats, questions, and what follows for the members from the time alone."""
        if now >= self._next_beat:
            self._send_heartbeats(now)
        for name in self.detector.due(now):
            self._ping(name)
        if self._store.members_changed or now >= self._membership.deadline():
            self.look(now)

    def wake(self, now: float) -> None:
        """If this process itself stood still, nothing that it did not hear meanwhile says anything about others."""
        late = now - self._next_beat
        if late > self._stall:
            self._next_beat = now
            self.detector.awake(now)
            self._membership.awake(late)
            self._owner.emit(Notice("this process stood still", "warning", {"seconds": round(late, 3)}))

    def heartbeat(self, sender: Origin, request: HeartbeatRequest, now: float) -> HeartbeatReply:
        """A member that this node monitors, or thinks it does, is alive."""
        self._owner.counters.heartbeats_received += 1
        if self.detector.heard(sender, now, (request.incarnation, request.beat)):
            self._withdraw(sender.node_id, now)
        self.compare(sender, request.digest_hash, now)
        return HeartbeatReply(self._owner.digest_hash(), self._membership.newer(sender))

    def probe(self, request: ProbeRequest) -> Call | ProbeReply:
        """Whether a node can be reached: the answer, or the call that finds out.

        Only who asks for it is helped, and only with a member that is known here, at the address known here: then no
        address that somebody names is called, and no question goes round in circles.
        """
        target = request.target
        if target.node_id == self._store.origin.node_id:
            return ProbeReply(reached=target == self._store.origin)
        known = self._membership.address(target.node_id)
        if not request.relay or known is None:
            return ProbeReply(reached=False)
        return Call(Peer(known, target.node_id), ProbeRequest(target), timeout=self._settings.probe_timeout)

    def answered(self, call: Call, target: Origin, reply: ProbeReply, now: float) -> None:
        """The outcome of a probe of ours, by the target itself or by somebody else."""
        if not reply.reached:
            self.unanswered(call, target, now)
        elif self.detector.heard(target, now):
            self._withdraw(target.node_id, now)

    def compare(self, peer: Origin, digest_hash: int, now: float) -> None:
        """A heartbeat says what its sender knows: where it lastingly knows something else, do not wait for a round."""
        version, since = self._quiet
        if (
            digest_hash == self._owner.digest_hash()
            or not self._owner.ready
            or peer.node_id == self._store.origin.node_id
        ):
            return
        if version != self._store.version:
            self._quiet = (self._store.version, now)
        elif now - since >= QUIET and not self._owner.leaving:
            address = self._membership.address(peer.node_id)
            if address is not None:
                self._owner.compare_with(Peer(address, peer.node_id))

    def unanswered(self, call: Call, target: Origin, now: float) -> None:
        """A probe found nobody: ask others; if none of them reached it either, accuse it."""
        self.wake(now)  # the question may have been open while this process stood still
        name = target.node_id
        direct = call.peer.node_id == name
        watch = self.detector.watches.get(name)
        if watch is None or watch.origin != target or watch.phase not in (Phase.PINGING, Phase.ASKING):
            return
        if direct and watch.phase is Phase.PINGING:
            monitors = self._membership.monitors
            others = [peer.node_id for peer in self._membership.peers() if peer.node_id in monitors]
            helpers = pick(others, self._settings.indirect_probes, self._rng, avoid={name}) if others else []
            watch.phase, watch.asked = Phase.ASKING, len(helpers)
            request = ProbeRequest(target, relay=True)
            for helper in helpers:
                # It waits for the target before it answers.
                self._owner.emit(Call(self._membership.peer(helper), request, timeout=2 * self._settings.probe_timeout))
        elif not direct:
            watch.asked -= 1
        record = self._store.members().get(name)
        if watch.phase is Phase.ASKING and watch.asked == 0 and record is not None and record.origin == target:
            watch.phase = Phase.ACCUSING
            self._accuse(name, record, now)

    def phi(self, node_id: str, now: float) -> float | None:
        """The suspicion level of a member that this node monitors; None of others."""
        return self.detector.phi(node_id, now) if node_id in self.detector.watches else None

    def forget_member(self, node_id: str, now: float) -> None:
        """Let all nodes forget a member that is dead or has left, at once.

        Raises:
            LocalError: there is no such member, or it is alive.
        """
        record = self._store.members().get(node_id)
        if record is None:
            raise NotFoundError(f"there is no member {node_id!r}", reason=Reason.MEMBER_NOT_FOUND)
        status = self._membership.status(node_id)
        if status in (Status.ALIVE, Status.SUSPECT):
            raise LocalError(
                f"{node_id} is {status}; only members that are DEAD or LEFT can be forgotten",
                reason=Reason.MEMBER_ALIVE,
            )
        self._accuse(node_id, record, now, forget=True)

    def look(self, now: float) -> None:
        """Derive every status anew that may have changed, and do what follows from it."""
        own = self._store.origin.node_id
        self._refute(now)
        for node_id in self._membership.to_forget():
            self.forget(node_id)
        changes = self._membership.refresh(now, self._owner.wall_offset)
        for change in changes:
            self._owner.emit(change)
            self._store.set_down(change.node_id, now, down=change.after in (Status.DEAD, Status.LEFT))
            suspected = change.before in (Status.SUSPECT, Status.DEAD)
            if suspected and (change.updated or change.after is Status.ALIVE):
                self.detector.watches.pop(change.node_id, None)  # what was found out is void: it begins anew
        if not changes:
            return
        members = self._store.members()
        names = [] if self._owner.leaving else self._membership.monitored()
        self.detector.assign({name: members[name].origin for name in names if name != own}, now)

    def reap(self, now: float) -> None:
        """Forget the members that have been dead, or gone, for long."""
        for node_id in self._membership.expired(now, self._settings.reap_after):
            self.forget(node_id)
        for slot in self._membership.outdated(now, self._settings.reap_after):
            self._store.forget(Kind.ACCUSATION, slot)
        if self._store.members_changed:
            self.look(now)

    def forget(self, node_id: str) -> None:
        """Forget a member. Its dots stay covered, so no slow node can bring it back; its writes count as settled."""
        self._store.forget(Kind.MEMBER, node_id)
        for accuser, accusation in list(self._store.accusations(node_id).items()):
            if not accusation_of(accusation).forget:
                self._store.forget(Kind.ACCUSATION, (node_id, accuser))
        self._store.settle(node_id)

    def _send_heartbeats(self, now: float) -> None:
        settings = self._settings
        self._next_beat = max(self._next_beat + settings.heartbeat_interval, now)
        if self._quiet[0] != self._store.version:
            self._quiet = (self._store.version, now)
        if self._owner.leaving:
            return
        # Not from 1: after a restart from disk the beats go on where they were.
        self._beat = max(self._beat + 1, int((now + self._owner.wall_offset) * 1000))
        own = self._membership.own()
        incarnation = own.incarnation if own is not None else 0
        request = HeartbeatRequest(incarnation, self._beat, self._owner.digest_hash())
        for name in self._membership.monitors.of(self._store.origin.node_id):
            self._owner.counters.heartbeats_sent += 1
            self._owner.emit(
                Call(self._membership.peer(name), request, timeout=settings.heartbeat_interval + settings.probe_timeout)
            )

    def _ping(self, name: str) -> None:
        watch = self.detector.watches[name]
        timeout = self._settings.probe_timeout
        self._owner.emit(Call(self._membership.peer(name), ProbeRequest(watch.origin), timeout=timeout))

    def _accuse(self, name: str, record: Record, now: float, *, withdrawn: bool = False, forget: bool = False) -> None:
        level = self.phi(name, now)
        content = Accusation(
            record.origin.generation,
            member_of(record).incarnation,
            now + self._owner.wall_offset,
            round(level, 3) if level is not None else 0.0,
            withdrawn=withdrawn,
            forget=forget,
        )
        accusation = self._store.write(Kind.ACCUSATION, (name, self._store.origin.node_id), content, now)
        self.look(now)
        self._owner.publish(accusation, now)

    def _withdraw(self, name: str, now: float) -> None:
        self._accuse(name, self._store.members()[name], now, withdrawn=True)

    def _refute(self, now: float) -> None:
        """Whoever accuses this node is wrong: raise the incarnation, which voids it."""
        accused = None if self._owner.leaving else self._membership.accused_incarnation()
        if accused is not None:
            self._owner.announce_again(now, at_least=accused + 1)
