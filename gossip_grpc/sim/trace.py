"""The trace of a simulated world."""

from __future__ import annotations

from xxhash import xxh3_64_hexdigest


class Trace:
    """Events in order."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str, str, str, int, str]] = []

    def add(self, time: float, kind: str, source: str, target: str, what: str) -> None:
        """Note an event."""
        self.events.append((time, kind, source, target, what, 0, ""))

    def message(
        self, time: float, kind: str, source: str, target: str, what: str, raw: bytes, *, request: bool
    ) -> None:
        """Note a message."""
        self.events.append((time, kind, source, target, what, len(raw), xxh3_64_hexdigest(raw)))
