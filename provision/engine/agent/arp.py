"""Which devices of a network answer for an address: ARP requests, and the MACs of the replies.

Two devices with one address are invisible to everything above Ethernet: connections reach either.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from provision.engine.agent.process import AgentError
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector

ETHERTYPE_ARP = 0x0806
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6
SIOCGIFADDR, SIOCGIFHWADDR = 0x8915, 0x8927
"""netdevice(7)."""

LISTEN_SECONDS = (0.05, 0.15)
"""After each request for every address: a first one can get lost while bridges learn. A kernel
replies within a millisecond, also one that has the same address as another."""


@dataclass(frozen=True)
class ArpReplies:
    """What a machine hears.

    Args:
        interface: the name of its network interface.
        mac: its own, as ``aa:bb:cc:dd:ee:ff``.
        macs: by address, those of all devices that answer; never its own.
    """

    interface: str
    mac: str
    macs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def arp_probe(own: str, addresses: Sequence[str]) -> Probe[ArpReplies]:
    """Who answers for some addresses.

    Args:
        own: the machine's own address, which selects the network interface.
        addresses: may include its own: a reply to that is a conflict (RFC 5227).
    """
    args = {"own": own, "addresses": list(addresses)}
    return Probe("arp", "who answers for the addresses", args, ArpReplies)


@collector("arp")
def collect_arp(args: Args) -> ArpReplies:
    """See `arp_probe`."""
    interface = find_interface(args["own"])
    mac = _hardware_address(interface)
    macs: dict[str, set[str]] = {address: set() for address in args["addresses"]}
    family = getattr(socket, "AF_PACKET")  # noqa: B009 - of Linux only
    with socket.socket(family, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP)) as link:
        link.bind((interface, ETHERTYPE_ARP))
        for seconds in LISTEN_SECONDS:
            for address in macs:
                link.send(request_frame(mac, address))
            _listen(link, macs, seconds)
    replies = {address: tuple(sorted(addresses)) for address, addresses in macs.items()}
    return ArpReplies(interface, _text(mac), replies)


def _listen(link: socket.socket, macs: Mapping[str, set[str]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        link.settimeout(remaining)
        with contextlib.suppress(TimeoutError):
            reply = parse_reply(link.recv(128))
            if reply and reply[0] in macs:
                macs[reply[0]].add(reply[1])


def request_frame(mac: bytes, address: str) -> bytes:
    """An Ethernet frame that asks who has an address.

    The sender's address is 0.0.0.0, so that no device changes its ARP cache (RFC 5227, 1.1).
    """
    ethernet = BROADCAST + mac + struct.pack("!H", ETHERTYPE_ARP)
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, REQUEST)
    return ethernet + header + mac + bytes(4) + bytes(6) + socket.inet_aton(address)


def parse_reply(frame: bytes) -> tuple[str, str] | None:
    """Address and MAC of the sender of an ARP reply; None for any other frame (RFC 826)."""
    if len(frame) < 42 or frame[12:14] != struct.pack("!H", ETHERTYPE_ARP):
        return None
    (operation,) = struct.unpack("!H", frame[20:22])
    if operation != REPLY:
        return None
    return socket.inet_ntoa(frame[28:32]), _text(frame[22:28])


def find_interface(address: str) -> str:
    """The network interface that has an address.

    Raises:
        AgentError: when none has.
    """
    for _, name in socket.if_nameindex():
        with contextlib.suppress(OSError):
            if socket.inet_ntoa(_ioctl(SIOCGIFADDR, name)[20:24]) == address:
                return name
    raise AgentError(f"no network interface has the address {address}")


def _hardware_address(interface: str) -> bytes:
    return _ioctl(SIOCGIFHWADDR, interface)[18:24]


def _ioctl(request: int, interface: str) -> bytes:
    import fcntl  # not on Windows, where the controller imports this module

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        packed = struct.pack("256s", interface.encode()[:15])
        return fcntl.ioctl(control.fileno(), request, packed)


def _text(mac: bytes) -> str:
    return mac.hex(":")
