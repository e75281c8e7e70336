"""Paths and names of a lab's files, interfaces and control groups; all contain the lab's id."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from provision.core.lab import Lab

HOST = Path("/var/lib/foobar-lab")
"""The files of all labs on this host, one folder per lab."""

BRIDGE_PREFIX = "lab-"
CGROUP = "foobar-lab"
SNAPSHOTS = ".snapshots"
OWNER = "owner"


def cache() -> Path:
    """The image store, shared by all labs of this host: LAB_CACHE, or /var/cache/foobar-lab."""
    return Path(os.environ.get("LAB_CACHE") or "/var/cache/foobar-lab").absolute()


@dataclass(frozen=True)
class LabPaths:
    """The paths and names of one lab."""

    id: str

    @classmethod
    def of(cls, lab: Lab) -> LabPaths:
        """Those of that lab."""
        return cls(lab.id)

    @property
    def directory(self) -> Path:
        """The lab's folder, which is also the LXC path (option ``-P``)."""
        return HOST / self.id

    @property
    def bridge(self) -> str:
        """The bridge: 12 characters of the 15 that the kernel allows."""
        return f"{BRIDGE_PREFIX}{self.id}"

    @property
    def table(self) -> str:
        """The nftables table (family ip)."""
        return f"lab_{self.id}"

    @property
    def dnsmasq_pid(self) -> Path:
        """The PID file of the DNS forwarder."""
        return self.directory / "dnsmasq.pid"

    @property
    def network(self) -> Path:
        """Holds the lab's network; labs of other checkouts read it."""
        return self.directory / "network"

    @property
    def owner(self) -> Path:
        """Two lines: the path of the checkout, and the lab's name."""
        return self.directory / OWNER

    @property
    def host_keys(self) -> Path:
        """Public SSH host keys, ``<machine>.pub``, readable by every user."""
        return self.directory / ".host-keys"

    @property
    def snapshots(self) -> Path:
        """Copies of the machines' data: ``<snapshot>/<machine>/``."""
        return self.directory / SNAPSHOTS

    def machine(self, name: str) -> Path:
        """A machine's folder. It is complete once it has a ``config``, which is written last."""
        return self.directory / name

    def veth(self, address: IPv4Address) -> str:
        """The host's end of a machine's veth pair: at most 14 characters up to a /16 network."""
        return f"v{self.id}-{int(address) & 0xFFFF:x}"

    def mac(self, address: IPv4Address | str) -> str:
        """A fixed, locally administered MAC address.

        With a random address, the other machines would keep a stale ARP entry and not reach a
        restarted machine for most of a minute.
        """
        digest = hashlib.sha256(f"{self.id}/{address}".encode()).hexdigest()
        return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])

    def cgroup(self, kind: str, name: str) -> str:
        """A control group of a machine: ``monitor``, ``payload`` or ``pivot``."""
        return f"lxc.{kind}.{CGROUP}.{self.id}.{name}".rstrip(".")
