"""The engine: one node's protocol as a state machine. Inputs with `now` in, effects out.

The contract with its driver (the gRPC node, or a simulator):

1. Feed every input: `tick` when `deadline` has come, the API's verbs, `on_pull` / `on_push` / `on_push_chunk` for what
   peers ask, and the outcome of every `Call`: exactly one of `on_pull_reply`, `end_delta`, `on_push_reply`,
   `on_failure`. A fetch (a pull with a digest) is reported by `begin_delta`, `merge_chunk` ... and `end_delta`.
2. After every input take `effects()` and carry them out, in any order, each in its own time.
3. Never call it from two threads, and never in the middle of another input.

A round of anti-entropy goes COMPARE -> FETCH -> SEND, each step only if the one before showed the need and the
strategy allows it (see sync.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from gossip_grpc.core.counters import Counters
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.detector import DetectorSettings
from gossip_grpc.core.limits import INT64_MAX, INT64_MIN, UINT64_MAX, Limits
from gossip_grpc.core.membership import Membership, Peer
from gossip_grpc.core.messages import (
    Call,
    Effect,
    HeartbeatReply,
    HeartbeatRequest,
    Notice,
    ProbeReply,
    ProbeRequest,
    PullReply,
    PullRequest,
    PushReply,
    PushRequest,
    Renewed,
    Round,
    StepDown,
)
from gossip_grpc.core.records import SYSTEM_KINDS, Dot, Event, Kind, Lease, Member, Origin, Receipt, Record, Value
from gossip_grpc.core.requests import receipt_of
from gossip_grpc.core.rumor import Rumors
from gossip_grpc.core.selection import SelectorKind, make_selector, revive
from gossip_grpc.core.store import Store, member_of
from gossip_grpc.core.sync import Comparison, Delta, Digest, Strategy, compare, hash_digest
from gossip_grpc.core.transfer import InboundDelta, check_records
from gossip_grpc.core.vigil import Vigil
from gossip_grpc.errors import LimitError, LocalError, NotReadyError, Reason, RemoteError

JITTER = 0.2
"""Rounds are `gossip_interval` apart, give or take this share, so that nodes do not march in step."""

BOOTSTRAP_INTERVAL = 0.25
"""Seconds between attempts at the seeds until the first sync."""

TRANSFER_TIMEOUT = 30.0
"""Seconds without a chunk after which a pushed delta is given up."""

MAX_PASSED_ON = 200
"""Largest delta, in records, that is passed on as a rumor."""

MAX_RECENT = 1_000
"""Most records that a round of the push strategy pushes unasked; the rest follows once the digests are compared."""

FOLD_LOOKS = 10
"""So many times in a `tombstone_retention` a node looks which lives of others ended that long ago."""

MAX_TTL = 315_360_000_000
"""Milliseconds that a value may be granted at most: ten years."""

DIGEST_ROUNDS = 10
"""While tombstones wait to be settled, every one of so many rounds compares whole digests, not their hashes."""

DIVERGED = "fingerprints differ at equal coverage; exchanging everything"
"""The event of a heal's beginning."""

MAX_CONFLICTS = 100
"""Lives of other nodes under our id that are logged, each once."""

LEAVE_PEERS = 3
"""How many peers a leaving node pushes its leave record to at a time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The protocol's knobs; `Config` documents each."""

    strategy: Strategy = Strategy.PUSH_PULL
    selector: SelectorKind = SelectorKind.RANDOM
    fanout: int = 3
    gossip_interval: float = 1.0
    rumor_interval: float = 0.005
    bootstrap_window: float = 10.0
    tombstone_retention: float = 86_400.0
    event_retention: float = 60.0
    request_retention: float = 3_600.0
    has_seeds: bool = False
    limits: Limits = field(default_factory=Limits)
    detector: DetectorSettings = field(default_factory=DetectorSettings)


class PutEntry(NamedTuple):
    """One of many registers to write; see `Engine.put`."""

    key: str
    value: Value
    ttl: int = 0
    ephemeral: bool = False


@dataclass(slots=True)
class _Transfer:
    """A pushed delta on its way in."""

    inbound: InboundDelta
    chunk: int
    touched: float


class Engine:
    """The protocol of one node.

    Args:
        origin: the node's name and generation.
        member: what the node says of itself; its incarnation is replaced.
        settings: the knobs.
        rng: the only source of randomness.
        now: seconds on the steady clock that all inputs use.
        store: what a former run of the same origin kept; without it the node starts empty.
    """

    def __init__(
        self,
        origin: Origin,
        member: Member,
        settings: Settings,
        rng: random.Random,
        now: float,
        store: Store | None = None,
    ) -> None:
        self.store = store or Store(origin)
        self.settings = settings
        self.counters = Counters()
        self.membership = Membership(self.store, member.peer_address, settings.detector.suspicion_timeout)
        self.ready = not settings.has_seeds
        self.leaving = False
        self.leave_acks: set[str] = set()
        self.last_round: tuple[float, str] | None = None
        self.guard: Callable[[], None] | None = None  # raises what refuses a client's write, such as a failing disk
        self._rng = rng
        self._effects: list[Effect] = []
        self._rumors = Rumors(fanout=settings.fanout, interval=settings.rumor_interval, rng=rng)
        self._selector = make_selector(settings.selector, node_id=origin.node_id, zone=member.zone, rng=rng)
        self._rounds: dict[str, Round] = {}
        self._fetching: Round | None = None
        self._deltas: dict[Call, InboundDelta] = {}
        self._transfers: dict[tuple[Origin, int], _Transfer] = {}
        self._recent: list[Record] = []
        self._digest: tuple[int, Digest] | None = None
        self._heard_at = now  # when a peer answered last, or the start
        self._conflicts: set[int] = set()
        self._announced_at = now
        self._unsaid: Member | None = None  # what it has to say of itself, once it knows that it is not an old copy
        self._synced = False
        self._restored = store is not None
        # The first event comes after all that a former run has written, its events among it.
        self._last_event = (origin, self.store.coverage.sequence(origin))
        self._next_fold = now
        self._next_round = now if settings.has_seeds else now + self._rng.random() * settings.gossip_interval
        self._leave_record: Record | None = None
        self.vigil = Vigil(self, self.store, self.membership, settings.detector, rng, now)
        if self.membership.own() != member._replace(incarnation=self.membership.incarnation() - 1):
            if self.ready or store is None:
                self._announce(member, now)
            else:
                self._unsaid = member
        self.vigil.look(now)

    # Time and effects

    @property
    def wall_offset(self) -> float:
        """Unix time less the steady clock, in seconds, as the driver has set it."""
        return self.store.wall_offset

    @wall_offset.setter
    def wall_offset(self, seconds: float) -> None:
        self.store.wall_offset = seconds

    def deadline(self) -> float:
        """When `tick` is due next."""
        rumor = self._rumors.deadline()
        return min(
            self._next_round,
            self.vigil.deadline(),
            self.store.next_expiry(),
            self.store.event_deadline(),
            self._next_round if rumor is None else rumor,
        )

    def effects(self) -> list[Effect]:
        """Take what is to be done."""
        effects, self._effects = self._effects, []
        return effects

    def tick(self, now: float) -> None:
        """Do what is due: ends of leases, pushes of rumors, heartbeats, questions, a round, purging."""
        self.store.expire(now)
        self.store.tell_events(now)
        self.vigil.wake(now)
        self._push_rumors(now)
        self.vigil.tick(now)
        if now < self._next_round:
            return
        if self.leaving:
            self._next_round = now + self.settings.gossip_interval
            return
        if not self.ready and now >= self._heard_at + self.settings.bootstrap_window:
            self._become_ready("no seed answered within the bootstrap window", level="warning")
        interval = self.settings.gossip_interval if self.ready else BOOTSTRAP_INTERVAL
        self._next_round = now + interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
        self._expire(now)
        self.store.forget_events(now, self.settings.event_retention)
        self.store.forget_requests(now, self.settings.request_retention, self.settings.limits.max_receipts)
        self._void_repeats(now, own=False)
        self.vigil.reap(now)
        self.counters.purged += self.store.purge(now, self.settings.tombstone_retention)
        if now >= self._next_fold:
            self._next_fold = now + self.settings.tombstone_retention / FOLD_LOOKS
            self.store.fold(now, self.settings.tombstone_retention)
        self.counters.expired = self.store.expired
        self.counters.generations_folded = self.store.folds
        self._start_rounds()

    # The API's verbs

    def put(self, key: str, value: Value, now: float, *, ttl: int = 0, ephemeral: bool = False) -> Record:
        """Write a register.

        Args:
            key: its key.
            value: what to write.
            now: the time.
            ttl: milliseconds for which it is to be seen, by this node's wall clock; 0 for ever.
            ephemeral: whether it stands for this life of this node, and goes with it.
        """
        self._check_writable()
        check_ttl(ttl)
        if self.store.register(key) is None:  # a tombstone is kept beside what is written over it
            self._check_room(1)
        return self._write(Kind.REGISTER, key, self._content(value, ttl, ephemeral, now), now)

    def put_many(self, entries: Sequence[PutEntry], now: float) -> list[Record]:
        """Write registers in order, all of them or none; what is new goes out in one push.

        Args:
            entries: what to write, each with a `ttl` in bounds (`check_ttl`).
            now: the time.
        """
        self._check_writable()
        register = self.store.register
        self._check_room(len({entry.key for entry in entries if register(entry.key) is None}))
        write, content = self.store.write, self._content
        records = [
            write(Kind.REGISTER, key, content(value, ttl, ephemeral, now), now)
            for key, value, ttl, ephemeral in entries
        ]
        self._spread(records, None)
        self._push_rumors(now)
        return records

    def delete(self, key: str, now: float) -> Record | None:
        """Delete a register; None if there was nothing to delete."""
        self._check_writable()
        if self.store.register(key) is None:
            return None
        return self._write(Kind.REGISTER, key, None, now)

    def counted(self, key: str, amount: int, request_id: str) -> Dot | None:
        """The write that has added for a request already; None if there is none, as far as this node knows.

        Raises:
            LocalError: the request was for another amount.
        """
        receipt = self.store.counted(key, request_id) if request_id else None
        if receipt is None:
            return None
        before = receipt_of(receipt).amount
        if before != amount:
            raise LocalError(
                f"request_id {request_id!r} has added {before} to this counter, not {amount}; give each addition an id "
                "of its own",
                field="request_id",
            )
        return Dot(receipt.origin, receipt.sequence + 1)

    def add(self, key: str, amount: int, now: float, *, request_id: str = "") -> Record | None:
        """Add to a counter; None if the amount is 0. Ask `counted` first, if there is a `request_id`."""
        self._check_writable()
        if amount == 0:
            return None
        value = self.store.counter(key) + amount
        added, subtracted = self.store.share(key, self.store.origin)
        share = (added + max(amount, 0), subtracted + max(-amount, 0))
        # Concurrent additions may have left the range already: then the way back is open.
        if (value > INT64_MAX and amount > 0) or (value < INT64_MIN and amount < 0) or max(share) > UINT64_MAX:
            raise LocalError(
                f"amount is too much: the counter's value would be {value}, outside of int64; reset it, or add less",
                reason=Reason.COUNTER_OVERFLOW,
                field="amount",
            )
        slot = (key, self.store.origin)
        if self.store.get(Kind.COUNTER_SHARE, slot) is None:
            self._check_room(1)
        if not request_id:
            return self._write(Kind.COUNTER_SHARE, slot, share, now)
        receipt = self.store.write(Kind.COUNTER_RECEIPT, (key, request_id, slot[1]), Receipt(amount, share), now)
        record = self.store.write(Kind.COUNTER_SHARE, slot, share, now)
        self._spread([receipt, record], None)
        self._push_rumors(now)
        return record

    def reset(self, key: str, now: float) -> list[Record]:
        """Reset what this node has seen of a counter; the records written, one an origin."""
        self._check_writable()
        seen = []
        for origin in self.store.counter_origins(key):
            share = self.store.share(key, origin)
            reset = self.store.get(Kind.COUNTER_RESET, (key, origin))
            if share > (reset.content if reset else (0, 0)):
                seen.append((origin, share, reset is None))
        self._check_room(sum(new for _, _, new in seen))
        return [self._write(Kind.COUNTER_RESET, (key, origin), share, now) for origin, share, _ in seen]

    def set_add(self, key: str, elements: list[Value], now: float) -> list[Record]:
        """Add elements to a set; the records written, one for each that is named."""
        self._check_writable()
        own = self.store.origin
        slots = [(key, element, own) for element in dict.fromkeys(elements)]
        held = [self.store.get(Kind.SET_ELEMENT, slot) for slot in slots]
        self._check_room(sum(record is None or record.is_tombstone for record in held))
        return [self._write(Kind.SET_ELEMENT, slot, (self.store.next_sequence, False), now) for slot in slots]

    def set_remove(self, key: str, elements: list[Value], now: float) -> list[Record]:
        """Remove elements from a set: the additions that this node holds; the records written, one an addition."""
        self._check_writable()
        held = self.store.elements(key)
        slots = [(key, element, origin) for element in dict.fromkeys(elements) for origin in held.get(element, ())]
        additions = [record for slot in slots if (record := self.store.get(Kind.SET_ELEMENT, slot)) is not None]
        return [self._write(Kind.SET_ELEMENT, record.slot, (record.content[0], True), now) for record in additions]

    def publish_event(
        self, topic: str, payload: Value, ordering_key: str, now: float, *, request_id: str = ""
    ) -> Record:
        """Publish an event. Ask `Store.published` first, if there is a `request_id`."""
        self._check_writable()
        self._check_room(1)
        own = self.store.origin
        if self._last_event[0] != own:
            self._last_event = (own, 0)
        at = int((now + self.wall_offset) * 1000)
        event = Event(topic, payload, ordering_key, at, self._last_event[1], request_id)
        record = self._write(Kind.EVENT, (own, self.store.next_sequence), event, now)
        self._last_event = (own, record.sequence)
        return record

    def set_tags(self, tags: Mapping[str, str], now: float) -> None:
        """Replace the tags that this node has, and say so."""
        self._check_writable()
        member = self.membership.own()
        if member is not None and member.tags != tags:
            self._announce(member._replace(tags=dict(tags)), now)
            self.vigil.look(now)
            self._push_rumors(now)

    def leave(self, now: float) -> None:
        """Say that this node leaves, and push it. Takes no more writes; call `spread_leave` until enough have it."""
        if self.leaving:
            return
        self.leaving = True
        self._unsaid = None
        member = self.membership.own()
        if member is not None:
            self._leave_record = self._announce(member._replace(left=True, left_at=now + self.wall_offset), now)
            self.spread_leave(now)

    def spread_leave(self, now: float) -> None:
        """Push the leave record to peers that have not confirmed it yet."""
        if self._leave_record is None:
            return
        waiting = [p.node_id for p in self.membership.reachable_peers() if p.node_id not in self.leave_acks]
        for node_id in self._rng.sample(waiting, min(LEAVE_PEERS, len(waiting))):
            # With a comparison: where both agree, the peer knows this node's writes settled, and may purge them.
            self._call(node_id, PushRequest(records=[self._leave_record], digest_hash=self.digest_hash()))
        self._push_rumors(now)

    # What peers ask

    def on_pull(self, sender: Origin | None, address: str, request: PullRequest) -> PullReply:
        """Answer a comparison or a fetch. Without a sender it is an onlooker's, and no peer's."""
        forgotten = False
        if sender is not None:
            self._heard(sender, address)
            forgotten = self.membership.forgotten(sender)
        if request.digest is not None:
            return PullReply(delta=self.store.delta(request.digest, repair=request.repair))
        if request.digest_hash != self.digest_hash():
            return PullReply(digest=self._own_digest(), forgotten=forgotten)
        if sender is not None:
            self._agreed(sender, self.store.coverage)
        return PullReply(agreed=True, forgotten=forgotten)

    def on_push(
        self, sender: Origin, address: str, records: list[Record], digest_hash: int | None, now: float
    ) -> PushReply:
        """Merge rumors, pass on what is new, and compare if asked to.

        Raises:
            RemoteError: a clock is poisonous; nothing was merged.
        """
        self._heard(sender, address)
        check_records(self.store, records, synced=self._synced)
        fresh = self.store.merge(records, now)
        self._merged(records, fresh, now)
        if fresh:
            self._spread(fresh, sender.node_id)
        self._push_rumors(now)
        return self._push_reply(sender, fresh, digest_hash)

    def on_push_chunk(
        self,
        sender: Origin,
        address: str,
        *,
        transfer: int,
        chunk: int,
        header: Delta | None,
        records: list[Record],
        superseded: bool,
        complete: bool,
        digest_hash: int | None,
        now: float,
    ) -> PushReply:
        """Merge one chunk of a complete delta.

        Raises:
            RemoteError: the chunk does not follow the one before, was made for another state of this node, or is
                poisonous; nothing of it was merged and its transfer is given up.
            LimitError: too many transfers are on their way; nothing was merged.
        """
        self._heard(sender, address)
        name = (sender, transfer)
        current = self._transfers.pop(name, None)
        if header is not None and chunk == 0:
            self._expire(now)
            if len(self._transfers) >= self.settings.limits.max_inbound_syncs:
                # The sender's own that came before were cut off, as likely as not: it does not wait for their time.
                for other in [other for other in self._transfers if other[0] == sender and other[1] < transfer]:
                    del self._transfers[other]
            if len(self._transfers) >= self.settings.limits.max_inbound_syncs:
                raise LimitError(
                    f"{len(self._transfers)} syncs are on their way in; try again later", reason=Reason.SYNC_LIMIT
                )
            self._recognize(header.snapshot.coverage, now)
            current = _Transfer(InboundDelta(self.store, header, synced=self._synced), 0, now)
        if current is None or current.chunk != chunk:
            raise RemoteError(
                f"chunk {chunk} of transfer {transfer} does not follow what arrived; start the transfer again",
                reason=Reason.BROKEN_TRANSFER,
                field="chunk",
            )
        fresh = current.inbound.merge(records, now, synced=self._synced, superseded=superseded)
        self._merged(records, fresh, now)
        self._pass_on(current.inbound, [] if superseded else fresh, sender.node_id)
        if not complete:
            self._transfers[name] = _Transfer(current.inbound, chunk + 1, now)
            return PushReply(fresh=len(fresh))
        self._complete(current.inbound, sender.node_id)
        return self._push_reply(sender, fresh, digest_hash)

    # What came of calls

    def on_pull_reply(self, call: Call, sender: Origin, address: str, reply: PullReply, now: float) -> None:
        """The outcome of a comparison."""
        self._answer(call, sender, address, now)
        self._compared(cast("Round", call.round), sender, reply, now)  # only rounds pull

    def set_seeds(self, addresses: Iterable[str], now: float) -> None:
        """Replace the seeds' addresses, as their names resolve now. A node that is not ready asks them at once."""
        self.membership.set_seeds(addresses)
        if not self.ready:
            self._next_round = min(self._next_round, now)

    def begin_delta(self, call: Call, sender: Origin, address: str, header: Delta, now: float) -> None:
        """The first chunk of a fetch has come; `header` has no records.

        Raises:
            RemoteError: the delta does not fit what was asked.
        """
        self._answer(call, sender, address, now)
        if header.repair != cast("PullRequest", call.request).repair:
            raise RemoteError("delta.header.repair is not what was asked for", field="delta.header.repair")
        self._recognize(header.snapshot.coverage, now)
        self._deltas[call] = InboundDelta(self.store, header, synced=self._synced)

    def merge_chunk(self, call: Call, records: list[Record], now: float, *, superseded: bool = False) -> None:
        """Merge one chunk of a fetch.

        Raises:
            RemoteError: the chunk is poisonous; nothing of it was merged. End the call with `on_failure`.
        """
        fresh = self._deltas[call].merge(records, now, synced=self._synced, superseded=superseded)
        self._merged(records, fresh, now)
        self._pass_on(self._deltas[call], [] if superseded else fresh, call.peer.node_id or "")

    def end_delta(self, call: Call, now: float) -> None:
        """The last chunk of a fetch has been merged."""
        inbound = self._deltas.pop(call)
        self._complete(inbound, call.peer.node_id or call.peer.address)
        self._fetching = None
        theirs = inbound.header.snapshot
        self._send(
            cast("Round", call.round),
            theirs,
            compare(self._own_digest(), theirs),
            now,
            repaired=inbound.header.repair,
        )

    def on_push_reply(self, call: Call, sender: Origin, address: str, reply: PushReply, now: float) -> None:
        """The outcome of a push: all its chunks have been taken."""
        self._answer(call, sender, address, now)
        request = call.request
        if isinstance(request, PushRequest) and self._holds_leave_record(request):
            self.leave_acks |= {sender.node_id} - {self.store.origin.node_id}
        if call.round is None:
            self._rumors.ended(call.peer.node_id or "")
        elif isinstance(request, PushRequest) and request.delta is not None:
            self._end_round(call.round, sender.node_id, now)
        else:
            self._compared(call.round, sender, reply, now)

    def on_failure(self, call: Call, error: str, now: float, *, answered: bool = False) -> None:
        """A call was not answered, or refused (`answered`), or its delta broke off. What was merged stays."""
        request = call.request
        if isinstance(request, HeartbeatRequest):
            return  # its monitor will ask; whom this node can call is for its rounds to find out
        if isinstance(request, ProbeRequest):
            self.vigil.unanswered(call, request.target, now)
            return
        self._deltas.pop(call, None)
        if not answered:
            self.membership.failed(call.peer)
        if call.round is None:
            self._rumors.ended(call.peer.node_id or "")
            if not answered:
                self._redirect(call)
            return
        if self._fetching is call.round:
            self._fetching = None
        self._rounds.pop(call.round.peer.address, None)
        self.counters.rounds_failed += 1
        self._notice("round failed", "debug", peer=call.peer.node_id or call.peer.address, error=error)

    # Digest

    def digest(self) -> tuple[Digest, int]:
        """The store's digest and its hash."""
        return self._own_digest(), self.digest_hash()

    @property
    def transfers(self) -> int:
        """Number of pushed deltas that are on their way in."""
        return len(self._transfers)

    def digest_hash(self) -> int:
        """The hash of the store's digest; most rounds need no more of it."""
        return hash_digest(self.store.coverage, self.store.fingerprint)

    def _own_digest(self) -> Digest:
        """The store's digest, made once for each version of the store."""
        if self._digest is None or self._digest[0] != self.store.version:
            self._digest = (self.store.version, self.store.digest())
        return self._digest[1]

    # Writing

    def _check_writable(self) -> None:
        if self.leaving:
            raise NotReadyError("the node is leaving and takes no writes; ask another node", reason=Reason.STOPPING)
        if not self.ready:
            raise NotReadyError("the node has not synced with its cluster yet; retry shortly, or ask another node")
        if self.guard is not None:
            self.guard()

    def _check_room(self, more: int) -> None:
        limit = self.settings.limits.max_records
        held = self.store.live + self.store.tombstones + self.store.event_count
        if more and held + more > limit:
            raise LimitError(
                f"the node holds {held} records, and max_records is {limit}; delete something and wait until its "
                "tombstones are purged, or raise the limit"
            )

    def _content(self, value: Value, ttl: int, ephemeral: bool, now: float) -> Value | Lease:
        """What a register's record holds."""
        if not ttl and not ephemeral:
            return value
        return Lease(value, int((now + self.wall_offset) * 1000) + ttl if ttl else 0, ephemeral)

    def _write(self, kind: Kind, slot: object, content: object, now: float) -> Record:
        record = self.store.write(kind, slot, content, now)
        self._spread([record], None)
        self._push_rumors(now)
        return record

    def _announce(self, member: Member, now: float, *, at_least: int = 1) -> Record:
        self._announced_at = now
        member = member._replace(incarnation=max(self.membership.incarnation(), at_least))
        record = self.store.write(Kind.MEMBER, self.store.origin.node_id, member, now)
        self._spread([record], None)
        return record

    # Rumors

    def _spread(self, records: list[Record], source: str | None) -> None:
        self._rumors.add(records, source)
        if self.settings.strategy is Strategy.PUSH:
            self._recent = [*self._recent, *records][-MAX_RECENT:]

    def _push_rumors(self, now: float) -> None:
        due = self._rumors.deadline()
        if due is None or now < due:
            return
        pushes = self._rumors.take(now, self.membership.ring(), self.membership.unreachable())
        for node_id, records in pushes.items():
            self._call(node_id, PushRequest(records=records))

    def _redirect(self, call: Call) -> None:
        """Give rumors whose push failed to the next on the ring, so that dead nodes do not cut it."""
        failed, request = call.peer.node_id, call.request
        if failed is None or not isinstance(request, PushRequest) or self._holds_leave_record(request):
            return  # `spread_leave` chooses itself whom to try next
        following = self._rumors.after(failed, self.membership.ring(), self.membership.unreachable())
        if following is not None:
            self._call(following, request)

    def _holds_leave_record(self, request: PushRequest) -> bool:
        return self.leaving and any(record is self._leave_record for record in request.records)

    def _merged(self, records: list[Record], fresh: list[Record], now: float) -> None:
        self.counters.records_merged += len(fresh)
        self.counters.records_ignored += len(records) - len(fresh)
        if self.store.members_changed:
            self.vigil.look(now)
        self._void_repeats(now, own=True)
        for record in fresh:
            if record.kind is not Kind.MEMBER:
                break  # members come first
            if record.origin.generation > self.store.origin.generation:  # not of a former life of ours
                self._check_identity(record.origin, member_of(record).peer_address)

    def _void_repeats(self, now: float, *, own: bool) -> None:
        """Take back what was counted twice: at once what this node has counted, at a round what others have not yet.

        Not by a node that may turn out to be an old copy of itself.
        """
        if self.ready and not self.leaving:
            voids = self.store.void_repeats(now, own=own)
            if voids:
                self._spread(voids, None)

    def _pass_on(self, inbound: InboundDelta, fresh: list[Record], sender: str) -> None:
        """Pass on what is new of a delta: it may have overtaken a rumor, which then would end here.

        Of more than `MAX_PASSED_ON` records only the members, so that joins are quick; and nothing of what a newcomer
        is given, nor of what is superseded.
        """
        if not self._synced:
            return
        if inbound.merged + inbound.ignored > MAX_PASSED_ON:
            fresh = [record for record in fresh if record.kind in SYSTEM_KINDS]
        if fresh:
            self._spread(fresh, sender)

    def _push_reply(self, sender: Origin, fresh: list[Record], digest_hash: int | None) -> PushReply:
        reply = PushReply(fresh=len(fresh), forgotten=self.membership.forgotten(sender))
        if digest_hash is not None:
            reply.agreed = digest_hash == self.digest_hash()
            if reply.agreed:
                self._agreed(sender, self.store.coverage)
            else:
                reply.digest = self._own_digest()
        return reply

    # Failure detection: see vigil.py

    def on_heartbeat(self, sender: Origin, address: str, request: HeartbeatRequest, now: float) -> HeartbeatReply:
        """A member that this node monitors, or thinks it does, is alive."""
        self.vigil.wake(now)
        self._heard(sender, address)
        return self.vigil.heartbeat(sender, request, now)

    def on_heartbeat_reply(self, call: Call, sender: Origin, address: str, reply: HeartbeatReply, now: float) -> None:
        """The outcome of a heartbeat."""
        self._answer(call, sender, address, now)
        self._check_generation(reply.newer, address)
        self.vigil.compare(sender, reply.digest_hash, now)

    def on_probe(self, sender: Origin, address: str, request: ProbeRequest) -> Call | ProbeReply:
        """Whether a node can be reached: the answer, or the call that finds out."""
        self._heard(sender, address)
        return self.vigil.probe(request)

    def on_probe_reply(self, call: Call, sender: Origin, address: str, reply: ProbeReply, now: float) -> None:
        """The outcome of a probe of ours, of the target itself or by somebody else."""
        self._answer(call, sender, address, now)
        self.vigil.answered(call, cast("ProbeRequest", call.request).target, reply, now)

    def announce_again(self, now: float, *, at_least: int = 1) -> None:
        """Write this node's member record again, with a higher incarnation, and spread it."""
        member = self.membership.own()
        if member is not None:
            self._announce(member, now, at_least=at_least)
            self._push_rumors(now)

    def _come_back(self, now: float) -> None:
        """A peer covers what this node said of itself, and holds it no more: it was away for longer than `reap_after`.

        The others cannot learn again what they cover, so it is said anew; others may say so too, but once is enough.
        """
        if not self.leaving and now - self._announced_at >= self.settings.gossip_interval:
            self.announce_again(now)

    def emit(self, effect: Effect) -> None:
        """Have the driver do something."""
        self._effects.append(effect)

    def publish(self, record: Record, now: float) -> None:
        """Spread a record that was just written."""
        self._spread([record], None)
        self._push_rumors(now)

    # Rounds

    def _start_rounds(self) -> None:
        reachable = self.membership.reachable_peers()
        if reachable:
            self.compare_with(self.membership.peer(self._selector.select(reachable).node_id))
        dead = revive(self.membership.unreachable_peers(), len(reachable), self._rng)
        if dead is not None:
            self.compare_with(self.membership.peer(dead))
        seeds = self.membership.unreached_seeds()
        if seeds and self.ready:
            self.compare_with(Peer(self._rng.choice(seeds)))
        elif seeds:
            for seed in seeds:
                self.compare_with(Peer(seed))

    def compare_with(self, peer: Peer, *, fetch: bool = False) -> None:
        """Start a round with a peer, if there is none; one that fetches, whatever the strategy, if that is wanted."""
        if peer.address in self._rounds:
            return
        strategy = self.settings.strategy if self.ready and not fetch else Strategy.PUSH_PULL
        current = Round(peer, strategy.fetches, strategy.sends, self.store.coverage.copy())
        self._rounds[peer.address] = current
        self.counters.rounds += 1
        if self.store.purge_blocked and self.counters.rounds % DIGEST_ROUNDS == 1:
            # A hash would only say that both agree; the peer's causal context is in its digest.
            self._effects.append(Call(peer, PullRequest(), current))
        elif strategy.fetches:
            self._effects.append(Call(peer, PullRequest(digest_hash=self.digest_hash()), current))
        else:
            recent, self._recent = self._recent, []
            self._effects.append(Call(peer, PushRequest(records=recent, digest_hash=self.digest_hash()), current))

    def _compared(self, current: Round, sender: Origin, reply: PullReply | PushReply, now: float) -> None:
        if sender.node_id == self.store.origin.node_id:  # a seed's name led back to us
            self._rounds.pop(current.peer.address, None)
            return
        if reply.forgotten:
            self._come_back(now)
        theirs = reply.digest
        if theirs is None:
            if reply.agreed:
                self.counters.rounds_agreed += 1
                self._agreed(sender, current.sent)
                self._sync_done(sender.node_id)
            self._end_round(current, sender.node_id, now)
            return
        self._recognize(theirs.coverage, now)
        ours = self._own_digest()
        verdict = compare(ours, theirs)
        if not verdict.we_lack:
            self.store.learn_context(theirs.context)
            self._sync_done(sender.node_id)
        fetch = (verdict.we_lack and current.fetches) or verdict.diverged
        if fetch and self._fetching is None:
            if verdict.diverged:
                self._heal(sender.node_id, ours, theirs)
            self._fetching = current
            self._effects.append(Call(current.peer, PullRequest(digest=ours, repair=verdict.diverged), current))
        elif verdict.they_lack:
            self._send(current, theirs, verdict, now)
        else:
            self._end_round(current, sender.node_id, now)

    def _send(self, current: Round, theirs: Digest, verdict: Comparison, now: float, *, repaired: bool = False) -> None:
        """After a comparison or a fetch: push what the peer lacks, if the strategy sends; after a repair, always."""
        repair = repaired and verdict.diverged
        if repair or (current.sends and verdict.they_lack):
            delta = self.store.delta(theirs, repair=repair)
            self._effects.append(Call(current.peer, PushRequest(delta=delta), current))
        else:
            self._end_round(current, current.peer.node_id or current.peer.address, now)

    def _end_round(self, current: Round, name: str, now: float) -> None:
        self._rounds.pop(current.peer.address, None)
        self.last_round = (now, name)

    def _heal(self, node_id: str, ours: Digest, theirs: Digest) -> None:
        self.counters.backstop_heals += 1
        self._notice(
            DIVERGED,
            "warning",
            peer=node_id,
            ours=f"{ours.fingerprint:016x}",
            theirs=f"{theirs.fingerprint:016x}",
        )

    def _recognize(self, theirs: Coverage, now: float) -> None:
        """A node whose state is from a disk, and of which a peer covers more than it does itself, has lost some of it.

        What it wrote next would bear the dots of what it lost. So it begins another life, once; the lost writes are
        another origin's then, and the peer's to give. Of a node that never had a disk such a claim is invented.
        """
        old, member = self.store.origin, self.membership.own()
        if not self._restored or theirs.highest(old) <= self.store.coverage.sequence(old):
            return
        if self.leaving or member is None:
            return  # it writes no more, or a later life of it is known, and it has to go
        self._restored = False
        self._conflicts.add(old.generation)  # what it said as such may still be on its way
        member, self._unsaid = self._unsaid or member, None
        self.store.renew(max(int((now + self.wall_offset) * 1000), old.generation + 1))
        self._effects.append(Renewed(self.store.origin))
        self._notice(
            "this node's state is older than what others have of it, as from a backup; it begins a new generation",
            "warning",
            generation=self.store.origin.generation,
            old_generation=old.generation,
        )
        self._announce(member, now)
        self.vigil.look(now)

    def _complete(self, inbound: InboundDelta, name: str) -> None:
        inbound.complete()
        if inbound.header.repair:
            self._notice(
                "repaired",
                "warning",
                peer=name,
                cause=inbound.cause,
                missing_here=inbound.missing,
                older_here=inbound.older,
                example=inbound.example,
            )
        if inbound.header.full:
            self.counters.full_syncs += 1
            self._notice("full sync", "info", peer=name, merged=inbound.merged, dropped=inbound.dropped)
        self._sync_done(name)

    def _sync_done(self, name: str) -> None:
        self._synced = True
        if not self.ready:
            self._become_ready(f"synced with {name}")

    def _agreed(self, peer: Origin, coverage: Coverage) -> None:
        """The peer had this coverage of ours too: we cover all that it covered, so its last write in it is settled.

        Not what came since: between the peer's answer and now it may have seen more, and written after that.
        """
        sequence = coverage.sequence(peer)
        if sequence:
            self.store.learn_context({peer: sequence})

    def _become_ready(self, why: str, level: str = "info") -> None:
        self.ready = True
        self._notice("ready", level, why=why)
        if self._unsaid is not None:
            member, self._unsaid = self._unsaid, None
            self._announce(member, self._heard_at)

    def _expire(self, now: float) -> None:
        for name, transfer in list(self._transfers.items()):
            if now - transfer.touched > TRANSFER_TIMEOUT:
                del self._transfers[name]

    # Peers

    def _heard(self, sender: Origin, address: str) -> None:
        if sender.node_id == self.store.origin.node_id:
            self._check_identity(sender, address)
        self.membership.heard(sender, address)

    def _answer(self, call: Call, sender: Origin, address: str, now: float) -> None:
        name = sender.node_id
        if name == self.store.origin.node_id:
            self._check_identity(sender, address)
        else:
            self._heard_at = now
        peer = call.peer
        if peer.node_id != name and peer.node_id is not None:
            self.membership.failed(peer)  # another node lives at that address now
        self.membership.heard(sender, address, called=peer.address)

    def _check_identity(self, origin: Origin, address: str) -> None:
        own = self.store.origin
        if origin.node_id != own.node_id or origin == own or origin.generation in self._conflicts:
            return
        self._check_generation(origin.generation, address)
        if len(self._conflicts) < MAX_CONFLICTS:
            self._conflicts.add(origin.generation)
            self._notice(
                "another node runs under this node's id; stop one of them and give each its own --node-id",
                "error",
                address=address,
                generation=origin.generation,
                own_generation=own.generation,
            )

    def _check_generation(self, generation: int, address: str) -> None:
        """There is a life of this node's id of this generation: if it is newer, this one has to go."""
        own = self.store.origin
        if generation <= own.generation or self.leaving:
            return
        self.leaving = True
        self._effects.append(
            StepDown(
                f"a newer node runs as {own.node_id}, as {address} says (its generation is {generation}, this one has "
                f"{own.generation}); this one stops: give each node its own --node-id. If only one runs, its clock has "
                "been set back since its last start: set it right"
            )
        )

    def _call(self, node_id: str, request: PushRequest) -> None:
        self._rumors.begun(node_id)
        self._effects.append(Call(self.membership.peer(node_id), request))

    def _notice(self, event: str, level: str, **facts: object) -> None:
        self._effects.append(Notice(event, level, dict(facts)))


def check_ttl(ttl: int, field: str = "ttl_milliseconds") -> None:
    """Refuse a time in milliseconds that is out of bounds; 0 is for ever."""
    if not 0 <= ttl <= MAX_TTL:
        raise LocalError(f"{field} is {ttl}; give 1 to {MAX_TTL}, or 0 for ever", field=field)
