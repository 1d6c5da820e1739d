"""What a simulated cluster cost and how soon it agreed: counted as it happens, cheaply."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gossip_grpc.core.messages import Call, PushRequest
from gossip_grpc.core.records import Dot

if TYPE_CHECKING:
    from gossip_grpc.sim.host import Host

KINDS = ("rumor", "compare", "fetch", "send")
"""What calls are for: pushing rumors, comparing digests, fetching a delta, sending one."""

RUMOR, COMPARE, FETCH, SEND = range(4)


def kind_of(call: Call) -> int:
    """The kind of a call, an index of `KINDS`."""
    request = call.request
    if isinstance(request, PushRequest):
        if request.delta is not None:
            return SEND
        return RUMOR if call.round is None else COMPARE
    return COMPARE if request.digest is None else FETCH


class Spread:
    """How one write spread.

    Attributes:
        time: when it was made.
        node: where.
        dot: the last record that it wrote.
        delays: seconds after which further nodes covered it, in order.
        agreed_at: when the last live node of its cluster covered it; None while one does not.
    """

    __slots__ = ("agreed_at", "delays", "dot", "lacking", "node", "time")

    def __init__(self, time: float, node: str, dot: Dot, lacking: int) -> None:
        self.time = time
        self.node = node
        self.dot = dot
        self.lacking = lacking
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
    """

    time: float
    rounds: int
    agreed: int
    failed: int
    informed: float
    live: int


class Stats:
    """Counts of a world.

    Attributes:
        requests: messages and bytes of requests, by kind (see `KINDS`).
        answers: messages and bytes of answers, by kind.
        lost: messages that never arrived.
        spreads: the writes, in order.
        samples: one for each virtual second.
        node_seconds: seconds that nodes were up, summed over them.
    """

    __slots__ = ("_before", "_open", "answers", "lost", "node_seconds", "requests", "samples", "spreads")

    def __init__(self) -> None:
        self.requests = [[0, 0] for _ in KINDS]
        self.answers = [[0, 0] for _ in KINDS]
        self.lost = 0
        self.spreads: list[Spread] = []
        self.samples: list[Sample] = []
        self.node_seconds = 0.0
        self._before = (0, 0, 0)
        self._open: dict[Dot, Spread] = {}

    @property
    def messages(self) -> int:
        """Requests and answers, lost ones too."""
        return sum(count for count, _ in (*self.requests, *self.answers))

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
        self.samples.append(Sample(time, rounds, agreed, failed, informed, len(live)))

    def _less(self, spread: Spread, now: float) -> None:
        spread.lacking -= 1
        if not spread.lacking:
            spread.agreed_at = now
            del self._open[spread.dot]
