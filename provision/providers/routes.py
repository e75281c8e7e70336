"""Which of its addresses this host would send from, according to its routing table."""

from __future__ import annotations

import socket
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network


def source_address(target: str) -> IPv4Address | None:
    """The local address that packets to a target would come from; None without a route.

    Connecting a UDP socket only looks up the route and sends no packet (RFC 1122, 4.1.3.5; the
    same on Linux, macOS and Windows). A name that cannot be resolved has no route.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect((target, 9))
            return IPv4Address(probe.getsockname()[0])
        except (OSError, UnicodeError):
            return None


def is_directly_connected(target: str, source: IPv4Address | None) -> bool:
    """Whether two addresses share a /24, so that no router is between them."""
    try:
        network = IPv4Network((IPv4Address(target), 24), strict=False)
    except ValueError:
        return False
    return source is not None and source in network


def accepts_connections(address: str, port: int, seconds: float = 3.0) -> bool:
    """Whether a TCP connection can be opened within that time."""
    try:
        socket.create_connection((address, port), timeout=seconds).close()
    except OSError:
        return False
    return True
