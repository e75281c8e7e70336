"""The words that a topology may use, and how a single value is understood."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from provision.topology.nodes import Node

ROLES = (
    "haproxy",
    "nginx",
    "app",
    "mysql",
    "firewall",
    "hardening",
    "exporters",
    "monitoring",
    "dns",
    "keepalived",
)
"""What a machine can be. A new role is a word here and a module in provision/roles."""

ALGORITHMS = ("roundrobin", "leastconn", "static-rr", "source")
"""HAProxy's ``balance`` words that the lab offers (its manual, section 4.2, "balance")."""

MODES = ("active-active", "active-passive")
SSH_KEYS = ("address", "port", "user", "key", "host_key", "jump")
PRIVATE = tuple(IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
"""RFC 1918."""
LARGEST, SMALLEST = 24, 28
MEMORY = (128, 65536)
CPUS = (1, 64)
TAKEN_NAMES = ("host", "localhost", "www")
"""Names that mean something else: the controller, every machine itself, the site."""

TOP_KEYS = (
    "domain",
    "network",
    "virtual_address",
    "https",
    "ssh_from",
    "autopromote",
    "balance",
    "primary",
    "machines",
)
MACHINE_KEYS = ("address", "roles", "memory", "cpus", "ssh")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252})")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
HINTS = {
    "machines.primary": "which machine is primary is said once, at the top: 'primary: {machine}'",
    "machines.replica": "a mysql machine that is not the primary is a replica; leave this out",
    "machines.role": "no key 'role'; it is 'roles', a list such as [nginx]",
}

EXAMPLES = {
    "domain": "'domain: foobar.com'",
    "network": "'network: 192.168.56.0/24'",
    "machines": "'machines:' and a stanza a machine",
    "address": "'address: 192.168.56.11'",
    "roles": f"'roles: [nginx]'; roles: {', '.join(sorted(ROLES))}",
    "ssh.address": "203.0.113.7 or web.example.org",
    "ssh.user": "debian",
    "ssh.key": "~/.ssh/id_ed25519",
    "ssh.host_key": "'ssh-ed25519 AAAA…', the line of /etc/ssh/ssh_host_ed25519_key.pub",
    "ssh.jump": "user@bastion.example.org:22",
}


def understand_network(text: str) -> tuple[IPv4Network | None, str]:
    """A network as it was meant, and what is wrong with it for a lab.

    Args:
        text: such as ``192.168.56.0/24``.

    Returns:
        The network (None when no address can be measured by it), and the problem or an empty text.
    """
    if not re.fullmatch(r"[0-9.]+/[0-9]+", text):
        example = "192.168.56.0/24"
        return None, f"{text!r} is not an IPv4 network: address, '/' and size, such as {example}"
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        return None, f"{text!r} is not an IPv4 network such as 192.168.56.0/24"
    if str(network.network_address) != text.partition("/")[0]:
        return network, f"{text} is an address inside a network; the network is {network}"
    if not any(network.subnet_of(private) for private in PRIVATE):
        allowed = ", ".join(str(n) for n in PRIVATE)
        return None, f"{network} is not private; take a part of {allowed} (RFC 1918)"
    if not LARGEST <= network.prefixlen <= SMALLEST:
        sizes = f"/{LARGEST} (254 hosts) to /{SMALLEST} (14 hosts)"
        return None, f"{network} has the wrong size; a lab's network is {sizes}"
    return network, ""


def misplaced(address: IPv4Address, network: IPv4Network) -> str:
    """Why an address cannot be a machine's; empty when it can."""
    if address not in network:
        return f"is outside the network {network}"
    if address == network.network_address:
        return f"is the name of the network {network} itself"
    if address == network.broadcast_address:
        return f"is the broadcast address of {network}"
    if address == network.network_address + 1:
        return "is the gateway, the controller's own address"
    return ""


def fits(key: str, text: str) -> bool:
    """Whether a value of ``ssh:`` has the right form; none of them can pass for an option."""
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
    """A public key as OpenSSH writes it: the type, and base64 that names the same type again."""
    words = text.split()
    if not 2 <= len(words) <= 3 or words[0] not in _HOST_KEYS or not text.isprintable():
        return False
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return False
    name = words[0].encode()
    return blob[: 4 + len(name)] == len(name).to_bytes(4, "big") + name


def describe(node: Node) -> str:
    """What was found instead, for a message."""
    if not node.text:
        return node.kind
    return repr(node.text) if node.kind == "text" else f"{node.text} ({node.kind})"


def listed(words: Iterable[str]) -> str:
    """Words for people, sorted."""
    return ", ".join(sorted(words))


def closest(word: str, words: Iterable[str]) -> str:
    """The word that a misspelt one resembles most; empty when none does."""
    return next(iter(difflib.get_close_matches(word.lower(), list(words), 1, 0.6)), "")


def suggestion(word: str, words: Iterable[str]) -> str:
    """``; did you mean …?``, when there is something close."""
    guess = closest(word, words)
    return f"; did you mean {guess}?" if guess else ""
