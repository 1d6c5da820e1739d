"""The failure detector of one node: what it hears of the members it monitors, and whom it suspects.

Only direct evidence counts: the member's own heartbeats, and its answers to probes. What others say of somebody never
does. Phi above the threshold is no verdict, but a reason to ask: first the member itself, then, if it does not
answer, `indirect_probes` others whether they can reach it. Only if nobody can is it accused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gossip_grpc.core.phi import Intervals, phi
from gossip_grpc.core.records import Origin

BURST = 0.25
"""Heartbeats closer to each other than this share of the interval are a burst: they prove life and are no sample."""


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """The knobs; `Config` documents each. Times in seconds."""

    heartbeat_interval: float = 0.5
    phi_threshold: float = 8.0
    acceptable_pause: float = 1.5
    min_deviation: float = 0.1
    probe_timeout: float = 0.3
    indirect_probes: int = 3
    suspicion_timeout: float = 3.0
    reap_after: float = 86_400.0


class Phase(Enum):
    """What the detector does about a member."""

    LISTENING = "listening"
    PINGING = "pinging it"
    ASKING = "asking others"
    ACCUSING = "accusing it"


class Watch:
    """What is known of one member that is monitored.

    Attributes:
        origin: the life that is monitored.
        heard: when it gave a sign of life last; at first when monitoring began.
        beat: when its last heartbeat came; None if the time since then says nothing.
        beats: how many heartbeats came.
        last: incarnation and number of the last heartbeat.
        phase: what is being done about it.
        asked: others that were asked and have not answered yet.
    """

    __slots__ = ("asked", "beat", "beats", "heard", "intervals", "last", "origin", "phase")

    def __init__(self, origin: Origin, interval: float, now: float) -> None:
        self.origin = origin
        self.intervals = Intervals(interval)
        self.heard = now
        self.beat: float | None = None
        self.beats = 0
        self.last = (0, 0)
        self.phase = Phase.LISTENING
        self.asked = 0


class Detector:
    """Watches the members that it is assigned."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self.watches: dict[str, Watch] = {}
        self._margin = _crossing(settings.phi_threshold)
        self._deadline: float | None = None  # asked for after every input, and changed by few

    def assign(self, monitored: Mapping[str, Origin], now: float) -> None:
        """Watch these members, each in this life, and no others."""
        self._deadline = None
        for name in [name for name in self.watches if name not in monitored]:
            del self.watches[name]
        for name, origin in monitored.items():
            watch = self.watches.get(name)
            if watch is None or watch.origin != origin:
                self.watches[name] = Watch(origin, self.settings.heartbeat_interval, now)

    def heard(self, origin: Origin, now: float, heartbeat: tuple[int, int] | None = None) -> bool:
        """Note a sign of life; returns whether it ends an accusation of ours.

        Args:
            origin: whose.
            now: when it came.
            heartbeat: its incarnation and number, if it is one. One that has come before, or is older than another that
                has, says nothing: somebody may have recorded it.
        """
        watch = self.watches.get(origin.node_id)
        if watch is None or watch.origin != origin or (heartbeat is not None and heartbeat <= watch.last):
            return False
        self._deadline = None
        phase, watch.phase = watch.phase, Phase.LISTENING
        watch.heard = now
        if phase is not Phase.LISTENING:
            watch.beat = None  # a gap with questions in it is no sample: it was an outage, not a late heartbeat
        if heartbeat is not None:
            watch.last = heartbeat
            if watch.beat is not None:
                gap = now - watch.beat
                if gap >= BURST * self.settings.heartbeat_interval:
                    watch.intervals.add(gap)
            watch.beat = now
            watch.beats += 1
        return phase is Phase.ACCUSING

    def phi(self, name: str, now: float) -> float:
        """The suspicion level of a member that is watched."""
        watch = self.watches[name]
        pause, floor = self.settings.acceptable_pause, self.settings.min_deviation
        return phi(now - watch.heard, watch.intervals.mean + pause, watch.intervals.deviation(floor))

    def deadline(self) -> float:
        """When the phi of a member that nothing is done about yet crosses the threshold, at the earliest."""
        if self._deadline is None:
            self._deadline = min((self._crosses(watch) for watch in self.watches.values()), default=float("inf"))
        return self._deadline

    def due(self, now: float) -> list[str]:
        """Members to be pinged now: their phi has crossed the threshold. Their phase is `PINGING` from now on."""
        if now < self.deadline():
            return []
        self._deadline = None
        names = [name for name, watch in self.watches.items() if self._crosses(watch) <= now]
        for name in names:
            self.watches[name].phase = Phase.PINGING
        return names

    def awake(self, now: float) -> None:
        """This process itself stood still: what was heard before says nothing about the time since."""
        self._deadline = None
        for watch in self.watches.values():
            watch.heard = now
            watch.beat = None
            if watch.phase is not Phase.ACCUSING:
                watch.phase = Phase.LISTENING

    def _crosses(self, watch: Watch) -> float:
        if watch.phase is not Phase.LISTENING:
            return float("inf")
        deviation = watch.intervals.deviation(self.settings.min_deviation)
        return watch.heard + watch.intervals.mean + self.settings.acceptable_pause + self._margin * deviation


def _crossing(threshold: float) -> float:
    """How many deviations above the mean phi crosses a threshold."""
    low, high = -40.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        if phi(middle, 0.0, 1.0) < threshold:
            low = middle
        else:
            high = middle
    return high
