"""Calls on their way through the simulated network: from an engine's `Call` to its outcome.

A call to a peer goes as in a node (see peering.py and scheduler.py). Its request takes the link's latency. A node
without a process refuses at once; where a request or an answer is lost, or comes after the deadline, the caller sees
nothing but the deadline. A paused node does what arrived when it wakes. A push of several messages sends each when
the one before was answered; the answer of a pull is a stream, of which one message lost breaks the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from google.protobuf.message import DecodeError

from gossip_grpc.core.engine import Engine
from gossip_grpc.core.messages import Call, PushRequest
from gossip_grpc.errors import ProtocolError, RemoteError
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.peering import FETCH_TIMEOUT, FOREIGN, Exchange, Fetch, Probe
from gossip_grpc.sim.events import EventQueue
from gossip_grpc.sim.host import NEVER, Host
from gossip_grpc.sim.links import Network
from gossip_grpc.sim.stats import COMPARE, FETCH, HEARTBEAT, KINDS, PROBE, Stats, kind_of
from gossip_grpc.sim.trace import Trace, described

Responses = Generator[peer_pb2.PullResponse, None, None]


class Flight:
    """One call on its way."""

    __slots__ = ("arrival", "asked", "call", "deadline", "done", "engine", "exchange", "host", "kind", "limit", "push")

    def __init__(self, host: Host, engine: Engine, exchange: Exchange, call: Call, kind: int, limit: float) -> None:
        self.host = host
        self.engine = engine
        self.exchange = exchange
        self.call = call
        self.kind = kind
        self.push = isinstance(call.request, PushRequest)
        self.asked: Flight | None = None
        """The probe that this one is to answer."""
        self.done = False
        self.deadline = limit
        self.limit = limit
        """When the caller gives up, whatever has come."""
        self.arrival = 0.0
        """When the last message sent of an answer arrives; none of a stream overtakes another."""


class Calls:
    """Carries the calls of all hosts.

    Args:
        events: virtual time.
        network: all links.
        stats: where messages are counted.
        trace: where they are told, or None.
        at_address: who is reached where.
        pump: to be called after every input of an engine.
    """

    def __init__(
        self,
        events: EventQueue,
        network: Network,
        stats: Stats,
        trace: Trace | None,
        at_address: dict[str, Host],
        pump: Callable[[Host, Engine], None],
    ) -> None:
        self.events = events
        self.network = network
        self.stats = stats
        self.trace = trace
        self._at_address = at_address
        self._pump = pump

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.events.now

    def wait(self, host: Host, callback: Callable[..., object], *args: Any) -> None:
        """An input for a host that is paused, or slow: it comes to it when it can."""
        if host.paused:
            host.waiting.append((callback, args))
            return
        host.busy = max(host.busy, self.now) + host.slow
        self.events.at(host.busy, self._later, host, host.engine, callback, args)

    def _later(self, host: Host, engine: Engine | None, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if host.engine is not engine:
            return
        if host.paused:
            host.waiting.append((callback, args))
            return
        callback(*args)
        if not host.slow and host.busy <= self.now:  # not `paused`: that was looked at above
            host.hindered = False
            host.adjusted = self.now

    # The request

    def make(self, host: Host, engine: Engine, call: Call) -> None:
        """Make a call of an engine; its outcome comes by itself."""
        exchange = host.peering.begin(call)
        now = self.events.now
        limit = now + (FETCH_TIMEOUT if isinstance(exchange, Fetch) else NEVER)
        self._request(Flight(host, engine, exchange, call, kind_of(call), limit))

    def _request(self, flight: Flight) -> bool:
        """Send the next request, if there is one."""
        raw = flight.exchange.request()
        if raw is None:
            return False
        events, host, kind = self.events, flight.host, flight.kind
        now = events.now
        size = len(raw)
        counters = flight.engine.counters
        if flight.push:
            counters.pushes_sent += 1
        elif kind in (COMPARE, FETCH):
            counters.pulls_sent += 1
        counters.bytes_sent += size
        count = self.stats.requests[kind]
        count[0] += 1
        count[1] += size
        if size > self.stats.largest:
            self.stats.largest = size
        flight.deadline = deadline = min(now + (flight.call.timeout or host.spec.timeout), flight.limit)
        target = self._at_address.get(flight.call.peer.address)
        arrival = None
        if target is not None:
            arrival = self.network.send(host.name, target.name, size, now, host.random)
        if self.trace is not None:
            there = target.name if target is not None else flight.call.peer.address
            self._trace_message(flight, host.name, there, raw, arrival, request=True)
        if target is None or arrival is None:
            self.stats.lost += 1
            events.at(deadline, self._deadline, flight)
            return True
        events.at(arrival, self._arrive, flight, target, raw)
        if arrival > deadline:
            events.at(deadline, self._deadline, flight)
        if not self.network.plain:
            again = self.network.repeat(host.name, target.name, size, now, host.random)
            if again is not None:
                events.at(max(arrival, again), self._arrive_again, flight, target, raw)
        return True

    def _arrive(self, flight: Flight, target: Host, raw: bytes) -> None:
        engine = target.engine
        if engine is None:
            self._refuse(flight, target)
        elif target.hindered:
            self.events.at(flight.deadline, self._deadline, flight)
            self.wait(target, self._serve, flight, target, engine, raw)
        else:
            self._serve(flight, target, engine, raw)

    def _arrive_again(self, flight: Flight, target: Host, raw: bytes) -> None:
        """A duplicate: its answer goes nowhere."""
        engine = target.engine
        if engine is None:
            return
        if self.trace is not None:
            words = f"{KINDS[flight.kind]}: {described(raw, flight.kind, push=flight.push, request=True)}"
            self.trace.message(self.now, "duplicate", flight.host.name, target.name, words, raw)
        ghost = Flight(flight.host, flight.engine, flight.exchange, flight.call, flight.kind, flight.limit)
        ghost.done = True
        if target.hindered:
            self.wait(target, self._serve, ghost, target, engine, raw)
        else:
            self._serve(ghost, target, engine, raw)

    # Being served

    def _serve(self, flight: Flight, target: Host, engine: Engine, raw: bytes) -> None:
        if target.engine is not engine:
            self._refuse(flight, target)
            return
        counters = engine.counters
        responses: Responses | None = None
        answer = b""
        try:
            if flight.push:
                answer = target.peering.answer_push(raw, target.clock(self.events.now))
                counters.bytes_received += len(raw)
                counters.bytes_sent += len(answer)
            else:
                counters.bytes_received += len(raw)
                if flight.kind == HEARTBEAT:
                    answer = target.peering.answer_heartbeat(raw, target.clock(self.events.now))
                    counters.bytes_sent += len(answer)
                elif flight.kind == PROBE:
                    found = target.peering.probe(peer_pb2.ProbeRequest.FromString(raw))
                    if isinstance(found, Probe):
                        self._relay(flight, target, engine, found)
                        return
                    answer = found.SerializeToString()
                    counters.bytes_sent += len(answer)
                else:
                    responses = target.peering.pull(peer_pb2.PullRequest.FromString(raw))
        except ProtocolError as error:
            if isinstance(error, RemoteError):
                counters.refused += 1
            if self.trace is not None:
                self.trace.add(self.now, "refused", target.name, flight.host.name, str(error))
            self._refuse(flight, target, error)
            return
        self._pump(target, engine)
        if responses is not None:
            self._stream(flight, target, engine, responses)
            return
        if not flight.done:
            self._answer(flight, target, answer)

    def _relay(self, asked: Flight, target: Host, engine: Engine, exchange: Probe) -> None:
        """A node was asked whether it reaches another one: it calls that one, and answers when it knows."""
        flight = Flight(target, engine, exchange, exchange.call, PROBE, NEVER)
        flight.asked = asked
        self._request(flight)

    def _probed(self, flight: Flight, *, reached: bool) -> None:
        """What came of a probe for somebody else goes to who asked."""
        asked = flight.asked
        if asked is not None and not asked.done:
            answer = flight.host.peering.probed(reached=reached).SerializeToString()
            flight.engine.counters.bytes_sent += len(answer)
            self._answer(asked, flight.host, answer)

    def _stream(self, flight: Flight, target: Host, engine: Engine, responses: Responses) -> None:
        """Send the next message of a pull's answer, if anybody still listens."""
        if target.engine is not engine or flight.done or flight.host.engine is not flight.engine:
            responses.close()
            if not flight.done:
                self._refuse(flight, target)
            return
        if target.paused:
            target.waiting.append((self._stream, (flight, target, engine, responses)))
            return
        message = next(responses, None)
        if message is None:
            self.events.at(max(flight.arrival, self.now), self._end, flight)
            return
        answer = message.SerializeToString()
        engine.counters.bytes_sent += len(answer)
        if not self._answer(flight, target, answer) or flight.kind == COMPARE:
            responses.close()
            return
        ready = self.network.sent_at(target.name, flight.host.name, self.now)
        self.events.at(ready, self._stream, flight, target, engine, responses)

    def _answer(self, flight: Flight, target: Host, answer: bytes) -> bool:
        """Send one message of an answer; returns whether it will arrive."""
        size = len(answer)
        count = self.stats.answers[flight.kind]
        count[0] += 1
        count[1] += size
        if size > self.stats.largest:
            self.stats.largest = size
        arrival = self._back(flight, target, size)
        if self.trace is not None:
            self._trace_message(flight, target.name, flight.host.name, answer, arrival, request=False)
        if arrival is None:
            return False
        self.events.at(arrival, self._response, flight, answer)
        return True

    def _refuse(self, flight: Flight, target: Host, error: ProtocolError | None = None) -> None:
        """Tell the caller of an error, or that there is no process."""
        if flight.done:
            return
        arrival = self._back(flight, target, 0)
        if arrival is not None:
            self.events.at(arrival, self._refused, flight, error)

    def _back(self, flight: Flight, target: Host, size: int) -> float | None:
        """When something sent back arrives; where it never does, or too late, the deadline comes."""
        arrival = self.network.send(target.name, flight.host.name, size, self.events.now, target.random)
        if arrival is None:
            self.stats.lost += 1
            self.events.at(flight.deadline, self._deadline, flight)
            return None
        if arrival < flight.arrival:
            arrival = flight.arrival
        flight.arrival = arrival
        if arrival > flight.deadline:
            self.events.at(flight.deadline, self._deadline, flight)
        return arrival

    # The outcome

    def _response(self, flight: Flight, raw: bytes) -> None:
        if flight.done or flight.host.engine is not flight.engine:
            return
        if flight.host.hindered:
            self.wait(flight.host, self._take, flight, raw)
        else:
            self._take(flight, raw)

    def _take(self, flight: Flight, raw: bytes) -> None:
        """One message of an answer has come."""
        host, engine, exchange = flight.host, flight.engine, flight.exchange
        if flight.done or host.engine is not engine:
            return
        now = self.events.now
        if now > flight.deadline:  # it stood still meanwhile; its own timer comes first
            self._deadline(flight)
            return
        engine.counters.bytes_received += len(raw)
        clock = host.clock(now)
        try:
            exchange.response(raw, clock)
            if flight.push:
                if not self._request(flight):
                    flight.done = True
                    exchange.end(clock)
            elif exchange.done:
                flight.done = True
                exchange.end(clock)
                if flight.asked is not None:
                    self._probed(flight, reached=isinstance(exchange, Probe) and exchange.reached)
            else:
                flight.deadline = min(now + host.spec.timeout, flight.limit)
        except (ProtocolError, DecodeError) as error:
            self._fail(flight, str(error), answered=True)
            return
        self._pump(host, engine)

    def _end(self, flight: Flight) -> None:
        """The answer of a fetch is complete."""
        host, engine = flight.host, flight.engine
        if flight.done or host.engine is not engine:
            return
        if host.hindered:
            self.wait(host, self._ended_at, flight)
        else:
            self._ended_at(flight)

    def _ended_at(self, flight: Flight) -> None:
        host, engine = flight.host, flight.engine
        if flight.done or host.engine is not engine:
            return
        flight.done = True
        try:
            flight.exchange.end(host.clock(self.now))
        except ProtocolError as error:
            self._fail(flight, str(error), answered=True)
            return
        self._pump(host, engine)

    def _refused(self, flight: Flight, error: ProtocolError | None) -> None:
        """The target has refused, or (None) there is nobody."""
        if flight.done or flight.host.engine is not flight.engine:
            return
        if flight.host.hindered:
            self.wait(flight.host, self._refused_now, flight, error)
        else:
            self._refused_now(flight, error)

    def _refused_now(self, flight: Flight, error: ProtocolError | None) -> None:
        if flight.done or flight.host.engine is not flight.engine:
            return
        if error is None:
            self._fail(flight, "connection refused", answered=False)
        else:
            self._fail(flight, str(error), answered=True, foreign=error.reason in FOREIGN)

    def _deadline(self, flight: Flight) -> None:
        """The deadline of a call may have come."""
        host = flight.host
        if flight.done or host.engine is not flight.engine:
            return
        if flight.deadline > self.now:
            self.events.at(flight.deadline, self._deadline, flight)
        elif host.paused:
            host.waiting.append((self._deadline, (flight,)))
        else:
            self._fail(flight, "nobody answered in time", answered=False)

    def _fail(self, flight: Flight, error: str, *, answered: bool, foreign: bool = False) -> None:
        flight.done = True
        host, engine = flight.host, flight.engine
        if self.trace is not None:
            who = flight.call.peer.node_id or flight.call.peer.address
            self.trace.add(self.now, "failed", host.name, who, f"{KINDS[flight.kind]}: {error}")
        if flight.asked is not None:
            self._probed(flight, reached=False)
            return
        host.peering.failed(flight.call, error, host.clock(self.now), answered=answered, foreign=foreign)
        self._pump(host, engine)

    def _trace_message(
        self, flight: Flight, source: str, target: str, raw: bytes, arrival: float | None, *, request: bool
    ) -> None:
        assert self.trace is not None  # noqa: S101 - the caller has looked
        kind = "call" if request else "answer"
        words = described(raw, flight.kind, push=flight.push, request=request)
        if arrival is None:
            kind += " lost"
        else:
            words += f" ({1000 * (arrival - self.now):.3f} ms)"
        self.trace.message(self.now, kind, source, target, f"{KINDS[flight.kind]}: {words}", raw)
