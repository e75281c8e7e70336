"""Where this host would send a packet, asked of its own kernel: nothing is sent."""

from __future__ import annotations

import socket
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network


def source_for(target: str) -> IPv4Address | None:
    """The address of ours from which the kernel would send to a target; None without a route.

    Connecting a UDP socket looks the route up and sends nothing (RFC 1122, 4.1.3.5; the same on
    Linux, macOS and Windows). A name that cannot be resolved has no route.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect((target, 9))
            return IPv4Address(asked.getsockname()[0])
        except (OSError, UnicodeError):
            return None


def near(target: str, source: IPv4Address | None) -> bool:
    """Whether an address and our address towards it lie in one /24, so with no router between."""
    try:
        wanted = IPv4Address(target)
    except ValueError:
        return False
    return source is not None and source in IPv4Network((wanted, 24), strict=False)
