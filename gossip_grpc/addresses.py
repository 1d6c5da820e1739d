"""Addresses as people write them: HOST:PORT, with IPv6 in brackets.

Pure text: nothing here resolves a name or opens a socket. `parse` and `str` are inverse up to spelling: names become
lower case and IPv6 addresses take their shortest form, so equal addresses compare equal.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[0-9]{1,5}")


class Address(NamedTuple):
    """A host, without brackets, and a port, 0 to 65535."""

    host: str
    port: int

    @property
    def is_wildcard(self) -> bool:
        """Whether the host means all interfaces, which one can listen on but not call."""
        return is_wildcard(self.host)

    def __str__(self) -> str:
        return join(self.host, self.port)


def join(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Whether the host, a name or an address without brackets, means all interfaces (0.0.0.0, ::)."""
    if ":" not in host:
        return host == "0.0.0.0"  # noqa: S104 - it is compared, not bound
    address = IPv6Address(host)
    return (address.ipv4_mapped or address).is_unspecified


def parse(text: str) -> Address:
    """Read HOST:PORT.

    The host is a DNS name (1 to 253 ASCII characters; underscores too, as containers have them), an IPv4 address, or
    an IPv6 address in brackets, with a zone if it needs one (`[fe80::1%eth0]:7946`). The port is 0 to 65535.

    Raises:
        ValueError: says what is wrong, as a clause to be put behind the text.
    """
    host, colon, port = text.rpartition(":")
    if text.startswith("["):
        if not host.endswith("]"):
            raise ValueError("the bracketed host must be followed by :PORT")
        host = _ipv6(host[1:-1])
    elif not colon:
        raise ValueError("the port is missing")
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, as in [::1]:7946")
    else:
        host = _name_or_ipv4(host)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("the port must be a number from 0 to 65535")
    return Address(host, int(port))


def _ipv6(host: str) -> str:
    try:
        address = IPv6Address(host)
    except AddressValueError:
        raise ValueError("what is in brackets is not an IPv6 address") from None
    if address.scope_id is not None and not _LABEL.fullmatch(address.scope_id.lower()):
        raise ValueError("the zone of the IPv6 address is not the name of an interface")
    return str(address)


def _name_or_ipv4(host: str) -> str:
    if not host:
        raise ValueError("the host is missing (all interfaces are 0.0.0.0 or [::])")
    host = host.lower()
    labels = host.removesuffix(".").split(".")
    # No top-level domain is a number (RFC 3696), so what ends in one is meant as an IPv4 address.
    if labels[-1].isdigit():
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise ValueError("the host is not an IPv4 address") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the host is not a name, an IPv4 address, or an IPv6 address in brackets")
    return host
