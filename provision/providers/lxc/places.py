"""Where things of a lab are on this host, and what they are called; every name holds its id."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from provision.core.lab import Lab, Machine

HOST = Path("/var/lib/foobar-lab")
"""Everything that belongs to a lab on this host; a folder a lab."""

BRIDGE = "lab-"
CGROUP = "foobar-lab"
SNAPSHOTS = ".snapshots"
OWNER = "owner"


def cache() -> Path:
    """Where images are kept, shared by all labs of this host: LAB_CACHE, or below /var/cache."""
    return Path(os.environ.get("LAB_CACHE") or "/var/cache/foobar-lab").absolute()


@dataclass(frozen=True)
class Places:
    """The names of one lab's things.

    Args:
        id: the lab's.
    """

    id: str

    @property
    def directory(self) -> Path:
        """The lab's folder; it is also the path that LXC's tools get (``-P``)."""
        return HOST / self.id

    @property
    def bridge(self) -> str:
        """The bridge, 12 characters of the 15 that an interface may have."""
        return f"{BRIDGE}{self.id}"

    @property
    def table(self) -> str:
        """The nftables table (family ip)."""
        return f"lab_{self.id}"

    @property
    def dnsmasq_pid(self) -> Path:
        """Where the DNS forwarder says its process id."""
        return self.directory / "dnsmasq.pid"

    @property
    def network(self) -> Path:
        """Says which network the lab uses, for the labs of other checkouts."""
        return self.directory / "network"

    @property
    def owner(self) -> Path:
        """Says whose lab this is: the checkout's path, then the lab's name, a line each."""
        return self.directory / OWNER

    @property
    def host_keys(self) -> Path:
        """Public SSH host keys, ``<machine>.pub``; all may read them."""
        return self.directory / ".host-keys"

    @property
    def snapshots(self) -> Path:
        """``<name>/<machine>/``: kept copies of machines' data."""
        return self.directory / SNAPSHOTS

    def machine(self, name: str) -> Path:
        """A machine's folder. It is complete when ``config`` is in it, which is written last."""
        return self.directory / name

    def veth(self, address: IPv4Address) -> str:
        """The host's end of a machine's cable: at most 14 characters for networks up to a /16."""
        return f"v{self.id}-{int(address) & 0xFFFF:x}"

    def mac(self, address: IPv4Address | str) -> str:
        """A fixed, locally administered MAC address.

        With a random one, peers keep a stale ARP entry and a restarted machine cannot be reached
        for most of a minute.
        """
        digest = hashlib.sha256(f"{self.id}/{address}".encode()).hexdigest()
        return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])

    def cgroup(self, kind: str, name: str) -> str:
        """A control group of a machine: ``monitor``, ``payload`` or ``pivot``."""
        return f"lxc.{kind}.{CGROUP}.{self.id}.{name}".rstrip(".")


def of(lab: Lab) -> Places:
    """The places of that lab."""
    return Places(lab.id)


def veth(lab: Lab, machine: Machine) -> str:
    """The host's end of that machine's cable."""
    return of(lab).veth(machine.address)
