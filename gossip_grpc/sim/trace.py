"""The trace of a world: one line an event, the same for the same schedule and seed, byte for byte.

A saved trace is JSON lines. The first is the header, from which alone the world can be made again; every further one
is an event. So a trace replays itself: the world runs again and each of its events is compared with the one saved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from google.protobuf.message import DecodeError
from xxhash import xxh3_64_hexdigest

from gossip_grpc import __version__, wire
from gossip_grpc.core.records import Kind, Lease, Record, value_of
from gossip_grpc.core.sync import Digest
from gossip_grpc.errors import ProtocolError
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.sim.schedule import Schedule, format, parse  # noqa: A004 - the counterpart of parse
from gossip_grpc.sim.stats import HEARTBEAT, PROBE

FORMAT = 1
"""Version of the form of saved traces."""

_BEGINNING = '{"gossip_grpc_trace":'
"""What the first line of a saved trace begins with."""

_NAMED = 6
"""Records of a message that are named; the rest is counted."""


class TraceError(ValueError):
    """A file is no trace that can be replayed."""


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        time: virtual seconds.
        kind: `call` and `answer` (messages), with ` lost` behind if they never arrive, `duplicate`; `refused` (by the
            one called), `failed` (for the caller), `write` (a client's), `read` and `behind` (of those with a session),
            `action` (a fault), `start` and `stop` (of processes), `notice` (of an engine's log), `agreed` and `unmet`
            (expectations).
        source: the node that sends, or that it happens at; empty for the world.
        target: the node that it is sent to, or the address where nobody is.
        what: the rest, in words.
        size: bytes of a message.
        digest: 64-bit hash of those bytes, in hex; empty for what is no message.
    """

    time: float
    kind: str
    source: str = ""
    target: str = ""
    what: str = ""
    size: int = 0
    digest: str = ""

    def line(self) -> str:
        """The event as it is saved."""
        values = {"time": self.time, "kind": self.kind, "from": self.source, "to": self.target, "what": self.what}
        if self.digest:
            values |= {"bytes": self.size, "digest": self.digest}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


class Trace:
    """Where a world tells its events. Each sink is called with every event, in order."""

    def __init__(self, *sinks: Callable[[Event], object]) -> None:
        self._sinks = sinks

    def add(self, time: float, kind: str, source: str = "", target: str = "", what: str = "") -> None:
        """Tell what is no message."""
        self._tell(Event(time, kind, source, target, what))

    def message(self, time: float, kind: str, source: str, target: str, what: str, raw: bytes) -> None:
        """Tell of a message; `what` is said before what its bytes say."""
        self._tell(Event(time, kind, source, target, what, len(raw), xxh3_64_hexdigest(raw)))

    def _tell(self, event: Event) -> None:
        for sink in self._sinks:
            sink(event)


# Messages in words


def describe_sign(raw: bytes, kind: int, *, request: bool) -> str:
    """What a message of failure detection says."""
    if kind == HEARTBEAT:
        if not request:
            return f"hash {peer_pb2.HeartbeatResponse.FromString(raw).digest_hash:016x}"
        beat = peer_pb2.HeartbeatRequest.FromString(raw)
        return f"incarnation {beat.incarnation}, hash {beat.digest_hash:016x}"
    if request:
        probe = peer_pb2.ProbeRequest.FromString(raw)
        return f"{'reach' if probe.relay else 'are you'} {probe.target_node_id}"
    return "reached" if peer_pb2.ProbeResponse.FromString(raw).reached else "not reached"


def describe_request(raw: bytes, *, push: bool) -> str:
    """What a request says, by the names of what is in it."""
    if not push:
        pull = peer_pb2.PullRequest.FromString(raw)
        if pull.HasField("digest"):
            return (
                f"{'everything' if pull.repair else 'what is lacking'}, by {_digest(wire.decode_digest(pull.digest))}"
            )
        return f"hash {pull.digest_hash:016x}" if pull.HasField("digest_hash") else "the digest"
    push_request = peer_pb2.PushRequest.FromString(raw)
    words = _delta(push_request.delta)
    if push_request.transfer:
        words = f"transfer {push_request.transfer} chunk {push_request.chunk}, {words}"
    return f"{words}, hash {push_request.digest_hash:016x}" if push_request.HasField("digest_hash") else words


def describe_answer(raw: bytes, *, push: bool) -> str:
    """What an answer says."""
    answer: Any = (peer_pb2.PushResponse if push else peer_pb2.PullResponse).FromString(raw)
    if answer.HasField("digest"):
        words = _digest(wire.decode_digest(answer.digest))
    elif not push and answer.HasField("delta"):
        words = _delta(answer.delta)
    else:
        words = "agreed" if answer.agreed else ""
    return ", ".join(filter(None, (f"{answer.fresh} new" if push else "", words)))


def _delta(message: peer_pb2.Delta) -> str:
    try:
        chunk = wire.decode_delta(message)
    except ProtocolError as error:
        return str(error)
    names = [describe_record(record) for record in chunk.records[:_NAMED]]
    more = len(chunk.records) - len(names)
    words = [" ".join(names) + (f" and {more:,} more" if more else "") or "no records"]
    if chunk.header is not None:
        words += [word for word, given in (("full", chunk.header.full), ("repair", chunk.header.repair)) if given]
        words.append(_digest(chunk.header.snapshot))
    words += [word for word, given in (("superseded", chunk.superseded), ("complete", chunk.complete)) if given]
    return ", ".join(words)


def _digest(digest: Digest) -> str:
    origins = sorted(digest.coverage.origins())
    if len(origins) > _NAMED:
        return f"digest of {len(origins):,} origins {digest.fingerprint:016x}"
    parts = []
    for origin in origins:
        ranges = "".join(f",{first}-{last}" for first, last in digest.coverage.above(origin))
        parts.append(f"{origin.node_id}:{digest.coverage.sequence(origin)}{ranges}")
    return f"digest {' '.join(parts) or 'of nothing'} {digest.fingerprint:016x}"


def describe_record(record: Record) -> str:
    """A record in a word: key and what it says, shortened."""
    slot: Any = record.slot
    content = record.content
    if record.kind is Kind.REGISTER:
        value = value_of(record)
        words = f"{slot} deleted" if value is None else f"{slot}={_short(value)}"
        return f"{words} {describe_lease(content)}" if record.is_lease else words
    if record.kind is Kind.MEMBER:
        return f"member {slot}{' left' if content.left else ''}"
    if record.kind is Kind.ACCUSATION:
        verb = "is to be forgotten" if content.forget else "is heard again" if content.withdrawn else "accused"
        return f"{slot[0]} {verb} by {slot[1]}"
    key = slot[0]
    if record.kind is Kind.SET_ELEMENT:
        return f"{key}{'-' if content[1] else '+'}{_short(slot[1])}"
    if record.kind is Kind.COUNTER_RECEIPT:
        return f"{key}@{slot[2].node_id} has {slot[1]}: {content.amount:+}"
    if record.kind is Kind.COUNTER_VOID:
        return f"{key}@{slot[2].node_id} less {content:+} at +{slot[1][0]}-{slot[1][1]}"
    sign = "" if record.kind is Kind.COUNTER_SHARE else " reset to"
    return f"{key}@{slot[1].node_id}{sign} +{content[0]}-{content[1]}"


def describe_lease(lease: Lease) -> str:
    """How long a value is to stay."""
    end = f"until {lease.expires_at / 1000:.3f}" if lease.expires_at else ""
    return " ".join(filter(None, (end, "ephemeral" if lease.ephemeral else "")))


def _short(value: str | bytes) -> str:
    text = value if isinstance(value, str) else value.hex()
    return text if len(text) <= 16 else f"{text[:15]}…"


# For people


def readable(event: Event) -> str:
    """An event as a line of aligned columns."""
    arrow = {"call": ">", "call lost": ">", "duplicate": ">", "answer": "<", "answer lost": "<"}.get(event.kind, "")
    if event.kind.startswith("answer"):
        who = f"{event.target:>6} {arrow} {event.source:<6}"
    else:
        who = f"{event.source:>6} {arrow or ' '} {event.target:<6}"
    size = f"{event.size:,} B" if event.digest else ""
    what = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in event.what)
    return f"{event.time:>12.6f}  {who} {event.kind:<11} {size:>11}  {what}".rstrip()


# Files


@dataclass(frozen=True, slots=True)
class Header:
    """What a saved trace begins with."""

    schedule: Schedule
    seed: int
    version: str = __version__

    def line(self) -> str:
        """The header as it is saved."""
        values = {
            "gossip_grpc_trace": FORMAT,
            "version": self.version,
            "seed": self.seed,
            "schedule": format(self.schedule),
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def read_header(line: str, name: str) -> Header:
    """Read the first line of a saved trace.

    Raises:
        TraceError: it is not one.
        ScheduleError: its schedule is not one.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, or a number or a nest that is too large to be one
        values = None
        if line.startswith(_BEGINNING):
            raise TraceError(f"{name} is cut off: it ends in its first line") from None
    if not isinstance(values, dict) or "gossip_grpc_trace" not in values:
        raise TraceError(f"{name} is no trace: its first line is not the header that `--save-trace` writes")
    if values["gossip_grpc_trace"] != FORMAT:
        raise TraceError(f"{name} has form {values['gossip_grpc_trace']}; this version reads form {FORMAT}")
    text, seed, version = values.get("schedule"), values.get("seed"), values.get("version")
    if not isinstance(text, str) or not isinstance(seed, int) or not isinstance(version, str):
        raise TraceError(f"{name}: the header lacks its schedule, its seed or its version")
    return Header(parse(text, f"{name}, the schedule in its header"), seed, version)


@contextmanager
def saved(path: Path, header: Header) -> Iterator[Callable[[Event], None]]:
    """Write a trace while it happens; yields the sink. The file has its name once it is whole."""
    path = path.resolve()
    whole = not path.exists() or path.is_file()  # what is a pipe or a device is written as it is
    partial = path.with_name(f"{path.name}.{os.getpid()}.part") if whole else path
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{header.line()}\n")

            def sink(event: Event) -> None:
                file.write(f"{event.line()}\n")

            yield sink
        if whole:
            partial.replace(path)
    except BaseException:
        if whole:
            partial.unlink(missing_ok=True)
        raise


class CutOffError(TraceError):
    """A trace ends before its time; all that is there is as it should be.

    Attributes:
        line: number of the line that it ends in.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"cut off in line {line}")
        self.line = line


class Difference(Exception):  # noqa: N818 - no error, but what a replay looks for
    """A replay went another way than the trace.

    Attributes:
        line: number of the line in the file.
        saved: that line.
        replayed: what happened now; empty if nothing more did.
    """

    def __init__(self, line: int, saved: str, replayed: str) -> None:
        super().__init__(f"line {line}")
        self.line = line
        self.saved = saved
        self.replayed = replayed


class Comparison:
    """A sink that compares each event with the next line of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.events = 0
        self._file = file

    def __call__(self, event: Event) -> None:
        """Compare one event.

        Raises:
            Difference: it is not the one saved.
            CutOffError: the file ends within the one saved, or before it.
        """
        self.events += 1
        line, now = self._file.readline(), event.line()
        if line.removesuffix(b"\n") != now.encode():
            if now.encode().startswith(line):
                raise CutOffError(self.events + 1)
            raise Difference(self.events + 1, _text(line), now)

    def finish(self) -> None:
        """Nothing more happens.

        Raises:
            Difference: the file goes on.
        """
        line = self._file.readline()
        if line:
            raise Difference(self.events + 2, _text(line), "")


def _text(line: bytes) -> str:
    return line.decode(errors="replace").removesuffix("\n")


def described(raw: bytes, kind: int, *, push: bool, request: bool) -> str:
    """A message in words; what is no message is said to be that."""
    try:
        if kind in (HEARTBEAT, PROBE):
            return describe_sign(raw, kind, request=request)
        return describe_request(raw, push=push) if request else describe_answer(raw, push=push)
    except (DecodeError, ProtocolError) as error:
        return f"unreadable: {error}"
