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
CURRENT = "current"
DISKS = ".disks"
SET = ".set-"
VETH_LETTERS = "vwxyz"
"""Of the veth pairs of a set of machines; sets that exist together have different ones."""


def cache() -> Path:
    """The image store, shared by all labs of this host: LAB_CACHE, or /var/cache/foobar-lab."""
    return Path(os.environ.get("LAB_CACHE") or "/var/cache/foobar-lab").absolute()


@dataclass(frozen=True)
class LabPaths:
    """The paths and names of one lab, and of one set of its machines.

    Args:
        number: of the set. Set 0 is in the lab's folder itself. A spare is another set of the same
            machines; a restore makes it the current one.
    """

    id: str
    number: int = 0

    @classmethod
    def of(cls, lab: Lab) -> LabPaths:
        """Those of that lab and its current set of machines."""
        own = cls(lab.id)
        try:
            return cls(lab.id, int((own.directory / CURRENT).read_text()))
        except (OSError, ValueError):
            return own

    @property
    def directory(self) -> Path:
        """The lab's folder."""
        return HOST / self.id

    @property
    def lxc(self) -> Path:
        """The folder of the set's machines: the LXC path (option ``-P``)."""
        return self.directory / f"{SET}{self.number}" if self.number else self.directory

    @property
    def link(self) -> Path:
        """Holds the name of the bridge that the machines of a set other than 0 are on."""
        return self.lxc / ".bridge"

    @property
    def bridge(self) -> str:
        """The bridge: 12 characters of the 15 that the kernel allows."""
        return f"{BRIDGE_PREFIX}{self.id}"

    @property
    def spare_bridge(self) -> str:
        """The bridge of a spare, which nothing else is on."""
        return f"spare-{self.id}"

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
        return self.lxc / name

    def veth(self, address: IPv4Address) -> str:
        """The host's end of a machine's veth pair: at most 14 characters up to a /16 network."""
        letter = VETH_LETTERS[self.number % len(VETH_LETTERS)]
        return f"{letter}{self.id}-{int(address) & 0xFFFF:x}"

    def mac(self, address: IPv4Address | str) -> str:
        """A fixed, locally administered MAC address.

        With a random address, the other machines would keep a stale ARP entry and not reach a
        restarted machine for most of a minute.
        """
        digest = hashlib.sha256(f"{self.id}/{address}".encode()).hexdigest()
        return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])

    @property
    def lab_cgroup(self) -> str:
        """The control group of all machines of the lab; it has the lab's limits."""
        return f"lxc.lab.{CGROUP}.{self.id}"

    @property
    def disk(self) -> Path:
        """The image of the lab's own file system, when its disk space is limited."""
        return HOST / DISKS / f"{self.id}.img"

    def cgroup(self, kind: str, name: str) -> str:
        """The name of a control group of a machine: ``monitor``, ``payload`` or ``pivot``."""
        own = f"{self.id}-{self.number}" if self.number else self.id
        return f"lxc.{kind}.{CGROUP}.{own}.{name}".rstrip(".")
