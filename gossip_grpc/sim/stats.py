"""What a simulated cluster cost and how soon it agreed: counted as it happens, cheaply."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gossip_grpc.core.messages import Call, HeartbeatRequest, PullRequest, PushRequest
from gossip_grpc.core.records import Dot

if TYPE_CHECKING:
    from gossip_grpc.sim.host import Host
    from gossip_grpc.sim.world import World

KINDS = ("rumor", "compare", "fetch", "send", "heartbeat", "probe")
"""What calls are for: pushing rumors, comparing digests, fetching a delta, sending one, failure detection."""

RUMOR, COMPARE, FETCH, SEND, HEARTBEAT, PROBE = range(6)


def kind_of(call: Call) -> int:
    """The kind of a call, an index of `KINDS`."""
    request = call.request
    if isinstance(request, PushRequest):
        if request.delta is not None:
            return SEND
        return RUMOR if call.round is None else COMPARE
    if isinstance(request, PullRequest):
        return COMPARE if request.digest is None else FETCH
    return HEARTBEAT if isinstance(request, HeartbeatRequest) else PROBE


class Spread:
    """How one write spread.

    Attributes:
        time: when it was made.
        node: where.
        dot: the last record that it wrote.
        delays: seconds after which further nodes covered it, in order.
        nodes: how many were live in its cluster when it was made.
        agreed_at: when the last live node of its cluster covered it; None while one does not.
    """

    __slots__ = ("agreed_at", "delays", "dot", "lacking", "node", "nodes", "time")

    def __init__(self, time: float, node: str, dot: Dot, lacking: int) -> None:
        self.time = time
        self.node = node
        self.dot = dot
        self.lacking = lacking
        self.nodes = lacking + 1
        self.delays = array("d")
        self.agreed_at: float | None = None if lacking else time


@dataclass(frozen=True, slots=True)
class Sample:
    """One virtual second of all clusters, up to `time`.

    Attributes:
        time: virtual seconds.
        rounds: how many were begun.
        agreed: how many ended with the finding that both sides agree.
        failed: how many failed.
        informed: share of the live nodes that cover all acknowledged writes, at the end of the second.
        live: how many nodes were up, at its end.
        bytes: sent by a node in the second, by the kind of the call (see `KINDS`), on average over those up.
    """

    time: float
    rounds: int
    agreed: int
    failed: int
    informed: float
    live: int
    bytes: tuple[float, ...]


class Stats:
    """Counts of a world.

    Attributes:
        requests: messages and bytes of requests, by kind (see `KINDS`).
        answers: messages and bytes of answers, by kind.
        lost: messages that never arrived.
        largest: bytes of the largest message.
        spreads: the writes, in order.
        samples: one for each virtual second.
    """

    __slots__ = ("_before", "_open", "_sent", "answers", "largest", "lost", "requests", "samples", "spreads")

    def __init__(self) -> None:
        self.requests = [[0, 0] for _ in KINDS]
        self.answers = [[0, 0] for _ in KINDS]
        self.largest = 0
        self.lost = 0
        self.spreads: list[Spread] = []
        self.samples: list[Sample] = []
        self._before = (0, 0, 0)
        self._sent = [0] * len(KINDS)
        self._open: dict[Dot, Spread] = {}

    @property
    def messages(self) -> int:
        """Requests and answers, lost ones too."""
        return sum(count for count, _ in (*self.requests, *self.answers))

    @property
    def bytes(self) -> int:
        """Of all messages, lost ones too."""
        return sum(size for _, size in (*self.requests, *self.answers))

    def written(self, host: Host, dot: Dot, hosts: Iterable[Host], now: float) -> None:
        """A write was acknowledged at a host; `hosts` are all live ones of its cluster."""
        lacking = 0
        for other in hosts:
            if other is not host:
                other.lacks[dot] = None
                lacking += 1
        spread = Spread(now, host.name, dot, lacking)
        self.spreads.append(spread)
        if lacking:
            self._open[dot] = spread

    def changed(self, host: Host, now: float) -> None:
        """The store of a host that lacked something has changed."""
        covers = host.store.coverage.covers
        found = [dot for dot in host.lacks if covers(dot.origin, dot.sequence)]
        for dot in found:
            del host.lacks[dot]
            spread = self._open.get(dot)
            if spread is not None:
                spread.delays.append(now - spread.time)
                self._less(spread, now)

    def gone(self, host: Host, now: float) -> None:
        """A host lives no more: nobody waits for it."""
        for dot in host.lacks:
            spread = self._open.get(dot)
            if spread is not None:
                self._less(spread, now)
        host.lacks.clear()

    def came(self, host: Host, origins: set[str]) -> None:
        """A host lives, and may lack what has not been agreed on yet; `origins` are the nodes of its cluster."""
        covers = host.store.coverage.covers
        for dot, spread in self._open.items():
            if dot.origin.node_id in origins and not covers(dot.origin, dot.sequence):
                host.lacks[dot] = None
                spread.lacking += 1

    def sample(self, time: float, hosts: Iterable[Host], totals: tuple[int, int, int]) -> None:
        """Take the sample of the second that ends now; `totals` are rounds begun, agreed and failed so far."""
        live = [host for host in hosts if host.up]
        informed = sum(not host.lacks for host in live) / len(live) if live else 0.0
        rounds, agreed, failed = (total - before for total, before in zip(totals, self._before, strict=True))
        self._before = totals
        sent = [out + back for (_, out), (_, back) in zip(self.requests, self.answers, strict=True)]
        share = tuple((now - before) / max(len(live), 1) for now, before in zip(sent, self._sent, strict=True))
        self._sent = sent
        self.samples.append(Sample(time, rounds, agreed, failed, informed, len(live), share))

    def _less(self, spread: Spread, now: float) -> None:
        spread.lacking -= 1
        if not spread.lacking:
            spread.agreed_at = now
            del self._open[spread.dot]


# What is told of it


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the values, in order, that so large a share of them does not exceed; None of nothing."""
    if not values:
        return None
    return values[min(max(-int(-share * len(values) // 1), 1), len(values)) - 1]


def node_seconds(world: World) -> float:
    """Seconds that nodes were up, all together."""
    return sum((world.now if life.end is None else life.end) - life.start for life in world.history.lives)


def report(world: World) -> dict[str, Any]:
    """All figures of a world as JSON. Times are in virtual seconds, rates per node and second that it was up."""
    stats, history = world.stats, world.history
    seconds = node_seconds(world) or 1.0
    spreads = stats.spreads
    times = sorted(spread.agreed_at - spread.time for spread in spreads if spread.agreed_at is not None)
    traffic = {}
    for kind, (requests, out), (answers, back) in zip(KINDS, stats.requests, stats.answers, strict=True):
        traffic[kind] = {
            "requests": requests,
            "request_bytes": out,
            "answers": answers,
            "answer_bytes": back,
            "messages_per_node_second": (requests + answers) / seconds,
            "bytes_per_node_second": (out + back) / seconds,
        }
    requests = sum(count for count, _ in stats.requests)
    return {
        "title": world.schedule.title,
        "seed": world.seed,
        "seconds": world.now,
        "nodes": len(world.hosts),
        "live": len(world.live()),
        "agreed": world.agreed(),
        "writes": {
            "acknowledged": sum(write.acknowledged for write in history.writes),
            "refused": dict(sorted(Counter(write.outcome for write in history.writes if write.refused).items())),
            "agreed": len(times),
            "never_agreed": len(spreads) - len(times),
        },
        "time_to_agreement": {
            "median": percentile(times, 0.5),
            "p99": percentile(times, 0.99),
            "max": times[-1] if times else None,
        },
        "traffic": traffic,
        "messages_per_node_second": stats.messages / seconds,
        "bytes_per_node_second": stats.bytes / seconds,
        "calls_per_write": requests / len(spreads) if spreads else None,
        "lost_messages": stats.lost,
        "largest_message": world.largest_message,
        "rounds": [asdict(sample) | {"bytes": dict(zip(KINDS, sample.bytes, strict=True))} for sample in stats.samples],
        "failures": world.failures,
    }


def informed(spreads: Sequence[Spread], delay: float) -> list[float]:
    """For each write, in order of size, the share of the nodes that covered it `delay` seconds after it was made."""
    return sorted(min((1 + bisect_right(spread.delays, delay)) / spread.nodes, 1.0) for spread in spreads)
