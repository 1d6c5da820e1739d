"""The demo's input: the network services that a machine knows, as services(5) writes them down.

http    80/tcp    www    # WorldWideWeb HTTP
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

DEFAULT_FILE = Path("/etc/services")

_LINE = re.compile(r"(?P<name>\S+)\s+(?P<port>[0-9]{1,5})/(?P<protocol>[A-Za-z0-9-]+)(?P<aliases>(?:\s+\S+)*)")
_MAX_NAME = 400
"""Longest name in bytes, so that the keys made of it stay below the 512 that a node takes."""


@dataclass(frozen=True, slots=True)
class Service:
    """One line: a name and a protocol have one port, and perhaps other names."""

    name: str
    port: int
    protocol: str
    aliases: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """The register that holds the port."""
        return f"services/{self.name}/{self.protocol}"

    @property
    def alias_key(self) -> str:
        """The set that holds the aliases."""
        return f"aliases/{self.name}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Services:
    """What a file holds.

    Attributes:
        items: the services in the order of the file, each name and protocol once.
        source: where they are from, for people.
        odd: lines that are no service, comment or empty line; they were skipped.
        repeated: lines whose name and protocol came before; the first one counts, as for getservbyname(3).
    """

    items: tuple[Service, ...]
    source: str
    odd: int = 0
    repeated: int = 0


def load(file: Path | None) -> Services:
    """Read a file; None for the machine's own, or the bundled list where there is none.

    Raises:
        OSError: the file given cannot be read.
    """
    if file is not None:
        return parse(file.read_bytes(), str(file))
    try:
        found = parse(DEFAULT_FILE.read_bytes(), str(DEFAULT_FILE))
    except OSError:
        found = None
    return found if found and found.items else bundled()


def bundled() -> Services:
    """A short list of well-known services, for machines without one."""
    return parse(resources.files("gossip_grpc.demo").joinpath("services.txt").read_bytes(), "a bundled list")


def parse(content: bytes, source: str) -> Services:
    """Read the services from the bytes of a file; what is odd is skipped and counted."""
    items: dict[str, Service] = {}
    odd = repeated = 0
    for line in content.decode("utf-8-sig", errors="surrogateescape").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        service = _read(text)
        if service is None:
            odd += 1
        elif service.key in items:
            repeated += 1
        else:
            items[service.key] = service
    return Services(tuple(items.values()), source, odd, repeated)


def _read(text: str) -> Service | None:
    found = _LINE.fullmatch(text)
    # What is not printable (bytes that are not UTF-8 among it) is no name.
    if not found or not text.replace("\t", " ").isprintable():
        return None
    name, port = found["name"], int(found["port"])
    if port > 65535 or len(name.encode()) + len(found["protocol"]) > _MAX_NAME:
        return None
    return Service(name, port, found["protocol"], frozenset(found["aliases"].split()))
