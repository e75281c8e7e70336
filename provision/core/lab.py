"""The data model of a lab: frozen values without behavior."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.core.errors import not_among
from provision.core.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: the folder of tasks.py."""

HSTS_AGE = 86400
"""A day, in seconds: a browser forgets a lab that was removed by tomorrow."""

DEFAULT_LAB = "default"
LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,14}")


@dataclass(frozen=True)
class Machine:
    """One machine of a topology.

    Args:
        name: its host name, such as ``web-01``.
        address: on the lab's network.
        roles: in the order of the topology file.
        memory: in MiB, for virtual machines.
        cpus: virtual processors, for virtual machines.
        ssh: how an existing machine is reached (address, port, user, key …); otherwise empty.
    """

    name: str
    address: IPv4Address
    roles: tuple[str, ...]
    memory: int = 1024
    cpus: int = 1
    ssh: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Balance:
    """HAProxy's ``balance`` algorithm, and which servers are active."""

    algorithm: str = "roundrobin"
    mode: str = "active-active"


@dataclass(frozen=True)
class Topology:
    """A validated topology file.

    Args:
        name: the file's name without its extension, such as ``distributed``.
        domain: ``foobar.com``; the site is ``www.foobar.com``.
        machines: in the file's order.
        primary: the database machine that is primary in a new lab; empty without databases.
        path: the file; topologies with the same content are equal wherever they were read from.
        https: whether the site is served over TLS, by the balancer and behind it.
        ssh_from: sources that the machines' firewalls let reach sshd; empty: only the
            controller's own address on the network.
        virtual_address: shared by several balancers; None with one balancer or none.
        autopromote: whether automatic failover is on in a lab that is new to this topology.
        hsts_age: seconds for which a browser remembers to use HTTPS only (RFC 6797, max-age).
        limits: of the lab; those of its class precede them.
    """

    name: str
    domain: str
    network: IPv4Network
    machines: tuple[Machine, ...]
    primary: str = ""
    balance: Balance = Balance()
    path: Path = field(default=Path(), compare=False)
    https: bool = False
    ssh_from: tuple[IPv4Network, ...] = ()
    virtual_address: IPv4Address | None = None
    autopromote: bool = False
    hsts_age: int = HSTS_AGE
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Lab:
    """A topology, placed on a network, with a directory for its state and secrets.

    Args:
        root: the checkout that the lab belongs to.
        topology: with addresses on this lab's own network.
    """

    name: str
    root: Path
    topology: Topology

    @property
    def directory(self) -> Path:
        """The folder of its state and secrets."""
        return self.root / ".lab" / self.name

    @property
    def id(self) -> str:
        """Eight characters that identify the lab among the labs of all checkouts on one host."""
        return hashlib.sha256(f"{self.root}\0{self.name}".encode()).hexdigest()[:8]

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Its machines, in the topology's order."""
        return self.topology.machines

    @property
    def network(self) -> IPv4Network:
        """Its network."""
        return self.topology.network

    @property
    def gateway(self) -> IPv4Address:
        """The controller's own address on the network: the first one."""
        return self.network.network_address + 1

    @property
    def site(self) -> str:
        """The host name of the site: ``www.`` and the domain."""
        return f"www.{self.topology.domain}"

    def machine(self, name: str) -> Machine:
        """The machine with a name.

        Raises:
            UsageError: when there is none; the hint lists all names.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = [m.name for m in self.machines]
        raise not_among(f"unknown machine {name!r} in lab {self.name}", name, names)

    def with_role(self, role: str) -> tuple[Machine, ...]:
        """The machines that have a role, in the topology's order."""
        return tuple(m for m in self.machines if role in m.roles)

    @property
    def url(self) -> str:
        """The site's URL by address, without a path: ``https://192.168.56.10``."""
        return f"{'https' if self.topology.https else 'http'}://{self.address}"

    @property
    def address(self) -> IPv4Address:
        """The address of the site: the balancers' virtual address, else the front machine's."""
        return self.topology.virtual_address or self.front.address

    @property
    def front(self) -> Machine:
        """The machine that receives users' requests: the first balancer, else web server."""
        return (self.with_role("haproxy") or self.with_role("nginx"))[0]


def rebase(topology: Topology, network: IPv4Network) -> Topology:
    """The topology on another network; the host part of every address stays.

    Args:
        network: at least as large as the topology's own.
    """
    offset = int(network.network_address) - int(topology.network.network_address)
    machines = tuple(replace(m, address=m.address + offset) for m in topology.machines)
    ssh_from = tuple(
        IPv4Network((int(n.network_address) + offset, n.prefixlen))
        if n.subnet_of(topology.network)
        else n
        for n in topology.ssh_from
    )
    virtual = topology.virtual_address
    return replace(
        topology,
        network=network,
        machines=machines,
        ssh_from=ssh_from,
        virtual_address=virtual + offset if virtual else None,
    )
