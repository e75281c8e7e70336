"""Limits, allowed keywords and formats of the values in a topology."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv4Address, IPv4Network

ALGORITHMS = ("roundrobin", "leastconn", "static-rr", "source")
"""The ``balance`` algorithms of HAProxy that the lab supports (its manual, section 4.2)."""

MODES = ("active-active", "active-passive")
SSH_KEYS = ("address", "port", "user", "key", "host_key", "jump")
MEMORY_MIB = (128, 65536)
CPUS = (1, 64)
NAME_LENGTH = 15
RESERVED_NAMES = ("host", "localhost", "www")
"""Names with another meaning: the controller, the machine itself, the site."""

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PRIVATE = tuple(IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_LARGEST, _SMALLEST = 24, 28
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252})")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")

SSH_EXAMPLES = {
    "address": "203.0.113.7 or web.example.org",
    "user": "debian",
    "key": "~/.ssh/id_ed25519",
    "host_key": "'ssh-ed25519 AAAA…', the line of /etc/ssh/ssh_host_ed25519_key.pub",
    "jump": "user@bastion.example.org:22",
}


def is_private(network: IPv4Network) -> bool:
    """Whether a network is for private use (RFC 1918)."""
    return any(network.subnet_of(private) for private in _PRIVATE)


def parse_network(text: str) -> tuple[IPv4Network | None, str]:
    """Parse and check the network of a lab.

    Args:
        text: such as ``192.168.56.0/24``.

    Returns:
        The network, and the problem or an empty string. A network with host bits set is a
        problem, but addresses can still be checked against the returned network.
    """
    try:
        if not re.fullmatch(r"[0-9.]+/[0-9]+", text):
            raise ValueError
        network = IPv4Network(text, strict=False)
    except ValueError:
        return None, f"invalid value {text!r}; expected ADDRESS/PREFIX such as 192.168.56.0/24"
    if str(network.network_address) != text.partition("/")[0]:
        return network, f"invalid value {text!r}: host bits are set; did you mean {network}?"
    if not is_private(network):
        allowed = ", ".join(str(n) for n in _PRIVATE)
        return None, f"{network} is not private; use a part of {allowed} (RFC 1918)"
    if not _LARGEST <= network.prefixlen <= _SMALLEST:
        sizes = f"/{_LARGEST} (254 hosts) to /{_SMALLEST} (14 hosts)"
        return None, f"invalid prefix length of {network}; expected {sizes}"
    return network, ""


def address_problem(address: IPv4Address, network: IPv4Network) -> str:
    """Why a machine cannot have an address; empty if it can."""
    if address not in network:
        return f"is outside the network {network}"
    if address == network.network_address:
        return f"is the network address of {network}"
    if address == network.broadcast_address:
        return f"is the broadcast address of {network}"
    if address == network.network_address + 1:
        return "is the gateway, the controller's own address"
    return ""


def is_valid_ssh_value(key: str, text: str) -> bool:
    """Whether a value of ``ssh:`` is well-formed; no accepted value can be parsed as an option."""
    if key == "address":
        return bool(_HOST.fullmatch(text))
    if key == "user":
        return bool(_USER.fullmatch(text))
    if key == "key":
        return text.isprintable() and not text.startswith("-") and text == text.strip()
    if key == "host_key":
        return _is_host_key(text)
    user, at, rest = text.rpartition("@")
    host, colon, port = rest.partition(":")
    return (
        bool(_HOST.fullmatch(host))
        and (not at or bool(_USER.fullmatch(user)))
        and (not colon or (port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535))
    )


def _is_host_key(text: str) -> bool:
    """A public key in OpenSSH format: a type, and base64 that contains the same type."""
    words = text.split()
    if not 2 <= len(words) <= 3 or words[0] not in _HOST_KEY_TYPES or not text.isprintable():
        return False
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return False
    name = words[0].encode()
    return blob[: 4 + len(name)] == len(name).to_bytes(4, "big") + name
