"""A switch in user space: it takes packets from TUN devices, and hands each on after the delay of its pair.

A thread and not a process: a thread and its devices end with the tests even if these are killed, and need no protocol.
It has the interpreter to itself nearly always, for the tests wait; and only packets that are delayed come here.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TUN = Path("/dev/net/tun")
_SET_DEVICE, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001  # TUNSETIFF; IFF_TUN | IFF_NO_PI

_AT_ONCE = 64
"""Packets that are read from one device before others have their turn."""


@dataclass(slots=True)
class _Path:
    """From one host to another.

    Attributes:
        seconds: that a packet takes.
        jitter: how many more seconds it takes at most.
        last: when the last packet arrives, for none overtakes another.
    """

    seconds: float = 0.0
    jitter: float = 0.0
    last: float = 0.0


class Switch:
    """Delays packets between TUN devices, one for each address, until it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Of all below, but for the epoll object."""
        self._devices: dict[bytes, int] = {}
        self._addresses: dict[int, bytes] = {}
        self._paths: dict[tuple[bytes, bytes], _Path] = {}
        self._due: list[tuple[float, int, bytes, bytes]] = []
        """Packets under way, a heap: when to hand on, in which order of those due at once, to which address, and it."""
        self._order = itertools.count()
        self._epoll = select.epoll()
        self._end = os.eventfd(0)
        self._epoll.register(self._end, select.EPOLLIN)
        self._thread = threading.Thread(target=self._forward, name="switch", daemon=True)
        self._thread.start()

    def attach(self, address: str, name: str) -> None:
        """Make a TUN device of this name, in the namespace of the caller. It exists as long as it is attached.

        Raises:
            OSError: the system cannot, or must not.
        """
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(device, _SET_DEVICE, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
        except OSError:
            os.close(device)
            raise
        packed = socket.inet_aton(address)
        with self._lock:
            self._devices[packed] = device
            self._addresses[device] = packed
            self._epoll.register(device, select.EPOLLIN)

    def detach(self, address: str) -> None:
        """Remove the device of an address, if it has one. What is under way to it is lost."""
        with self._lock:
            device = self._devices.pop(socket.inet_aton(address), None)
            if device is not None:
                del self._addresses[device]
                self._epoll.unregister(device)
                os.close(device)

    def delay(self, source: str, target: str, seconds: float, jitter: float) -> None:
        """Hold back whatever comes from now on; what is under way arrives when it would have."""
        with self._lock:
            self._paths[socket.inet_aton(source), socket.inet_aton(target)] = _Path(seconds, jitter)

    def under_way(self) -> int:
        """How many packets it holds."""
        with self._lock:
            return len(self._due)

    def close(self) -> None:
        """Remove all devices, with all packets under way."""
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._epoll.close()
        for descriptor in (self._end, *self._addresses):
            os.close(descriptor)

    def _forward(self) -> None:
        while True:
            with self._lock:
                wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            ready = [descriptor for descriptor, _ in self._epoll.poll(wait)]
            if self._end in ready:
                return
            with self._lock:
                for device in ready:
                    self._take(device)
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    _, _, target, packet = heapq.heappop(self._due)
                    if target in self._devices:
                        os.write(self._devices[target], packet)

    def _take(self, device: int) -> None:
        source = self._addresses.get(device)
        if source is None:  # detached since
            return
        now = time.monotonic()
        for _ in range(_AT_ONCE):
            try:
                packet = os.read(device, 0xFFFF)
            except BlockingIOError:
                return
            target = packet[16:20]  # of an IPv4 header
            if packet[0] >> 4 == 4 and target in self._devices:
                path = self._paths.setdefault((source, target), _Path())
                path.last = max(path.last, now + path.seconds + path.jitter * random.random())
                heapq.heappush(self._due, (path.last, next(self._order), target, packet))
