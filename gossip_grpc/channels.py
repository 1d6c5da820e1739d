"""One channel per peer address, and the peer RPCs as bytes in, bytes out: traffic is counted where it flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

import grpc
import grpc.aio

if TYPE_CHECKING:
    from gossip_grpc.core.counters import Counters

IDLE_SECONDS = 120.0
"""A channel unused for this long is closed: addresses that members left behind cost nothing."""

ABANDON_INTERVAL = 0.1
"""Seconds between looks whether the calls on a channel that is to be closed have ended."""

RECEIVE_BYTES = 8 << 20
"""What gRPC lets in. Twice the limit on messages, so that an oversize one is refused with a reason, not by gRPC."""

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long an attempt to connect may take: by default 20 s, in which it asks an address that nobody has any more.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # The default of two minutes turns an outage of 30 s into 45 s.
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", RECEIVE_BYTES),
    ("grpc.max_send_message_length", RECEIVE_BYTES),
    # Every node talks to every other: shared subchannels of one process would only mix up tests' nodes.
    ("grpc.use_local_subchannel_pool", 1),
)

_PUSH = "/gossip.v1.PeerService/Push"
_PULL = "/gossip.v1.PeerService/Pull"
HEARTBEAT = "/gossip.v1.PeerService/Heartbeat"
PROBE = "/gossip.v1.PeerService/Probe"


class _Channel:
    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        # Without serializers gRPC hands bytes through; its types do not know.
        self.push = cast("grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]", self.channel.unary_unary(_PUSH))
        self.signs = {
            method: cast("grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]", self.channel.unary_unary(method))
            for method in (HEARTBEAT, PROBE)
        }
        self.pull = cast("grpc.aio.UnaryStreamMultiCallable[bytes, bytes]", self.channel.unary_stream(_PULL))
        self.used = 0.0
        self.calls = 0


class _Watchdog:
    """Cancels a call that stays silent for too long. Not asyncio.timeout: that would cancel in every chunk's await."""

    def __init__(self, call: grpc.aio.Call, timeout: float) -> None:
        self.bitten = False
        self._call = call
        self._timeout = timeout
        self.watch()

    def watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._bite)

    def rest(self) -> None:
        self._timer.cancel()

    def _bite(self) -> None:
        self.bitten = True
        self._call.cancel()


class Channels:
    """The channels of one node to its peers. `timeout` is in seconds: of a push, and of each message of a pull."""

    def __init__(self, counters: Counters, timeout: float) -> None:
        self._counters = counters
        self._timeout = timeout
        self._channels: dict[str, _Channel] = {}

    async def push(self, address: str, request: bytes, now: float) -> bytes:
        """Make one Push call.

        Raises:
            grpc.aio.AioRpcError: it failed.
        """
        channel = self._channel(address, now)
        self._counters.pushes_sent += 1
        self._counters.bytes_sent += len(request)
        channel.calls += 1
        try:
            response = await channel.push(request, timeout=self._timeout)
        finally:
            channel.calls -= 1
        self._counters.bytes_received += len(response)
        return response

    async def sign(self, method: str, address: str, request: bytes, now: float, *, timeout: float) -> bytes:  # noqa: ASYNC109  it is the call's deadline, which gRPC sends along
        """Make one call of failure detection: `method` is HEARTBEAT or PROBE.

        Raises:
            grpc.aio.AioRpcError: it failed.
        """
        channel = self._channel(address, now)
        self._counters.bytes_sent += len(request)
        channel.calls += 1
        try:
            response = await channel.signs[method](request, timeout=timeout)
        finally:
            channel.calls -= 1
        self._counters.bytes_received += len(response)
        return response

    async def pull(self, address: str, request: bytes, now: float, *, timeout: float) -> AsyncGenerator[bytes, None]:  # noqa: ASYNC109  it is the call's deadline, which gRPC sends along
        """Make one Pull call and yield its messages. `timeout` is of the whole call.

        Raises:
            grpc.aio.AioRpcError: it failed.
            TimeoutError: no message came for the channels' timeout.
        """
        channel = self._channel(address, now)
        self._counters.pulls_sent += 1
        self._counters.bytes_sent += len(request)
        channel.calls += 1
        call = channel.pull(request, timeout=timeout)
        watchdog = _Watchdog(call, self._timeout)
        try:
            async for response in call:
                watchdog.rest()
                self._counters.bytes_received += len(response)
                yield response
                watchdog.watch()
        except asyncio.CancelledError:
            if watchdog.bitten:
                raise TimeoutError(f"the peer sent nothing for {self._timeout:g} s") from None
            raise
        finally:
            watchdog.rest()
            channel.calls -= 1
            call.cancel()

    async def close_idle(self, now: float) -> None:
        """Close the channels that nobody used for `IDLE_SECONDS`."""
        for address, channel in list(self._channels.items()):
            if not channel.calls and now - channel.used > IDLE_SECONDS:
                del self._channels[address]
                await channel.channel.close()

    async def abandon(self, address: str) -> None:
        """Close the channel to an address that a member has left behind, when the last call on it has ended.

        As long as it is open it tries to connect, about once a second, whether or not there is a call to make. A call
        that was on its way already may open it once more: so it is looked for again.
        """
        while True:
            await self._close_when_done(self._channels.pop(address, None))
            await asyncio.sleep(ABANDON_INTERVAL)
            if address not in self._channels:
                return

    @staticmethod
    async def _close_when_done(channel: _Channel | None) -> None:
        if channel is None:
            return
        try:
            while channel.calls:  # noqa: ASYNC110  an event would cost every call, and this happens seldom
                await asyncio.sleep(ABANDON_INTERVAL)
        finally:
            await channel.channel.close()

    async def close(self) -> None:
        """Close them all."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.channel.close()

    def _channel(self, address: str, now: float) -> _Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = _Channel(address)
        channel.used = now
        return channel
