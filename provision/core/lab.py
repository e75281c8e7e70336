"""The first thing of all: what a lab is, as frozen values. Nothing here does anything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: the folder that holds tasks.py."""


@dataclass(frozen=True)
class Machine:
    """One machine of a topology.

    Args:
        name: its host name, such as ``web-01``.
        address: its address on the lab's network.
        roles: what it is, in the order in which the roles are configured.
        memory: MiB, for providers that make virtual machines.
        cpus: virtual processors, likewise.
        ssh: how an existing machine is reached (address, port, user, key …); empty otherwise.
    """

    name: str
    address: IPv4Address
    roles: tuple[str, ...]
    memory: int = 1024
    cpus: int = 1
    ssh: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Balance:
    """How requests are spread: HAProxy's ``balance`` word, and who serves."""

    algorithm: str = "roundrobin"
    mode: str = "active-active"


@dataclass(frozen=True)
class Topology:
    """A validated topology file.

    Args:
        name: the file's name without its ending, such as ``distributed``.
        domain: ``foobar.com``; the site is ``www.`` and this.
        network: where its machines are.
        machines: in the file's order.
        primary: the database machine that takes writes when the lab is new; empty without one.
        balance: how requests are spread.
        path: the file; two topologies that say the same are equal wherever they were read from.
        https: whether the site is served over TLS, by the balancer and behind it.
        ssh_from: who may reach sshd through the machines' firewalls; empty for the controller's
            own address on the network.
        virtual_address: the one that several balancers share; None with one balancer or none.
        autopromote: whether a lab that comes to this design promotes a replica by itself, until
            ``db.autopromote`` says otherwise.
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


@dataclass(frozen=True)
class Lab:
    """One lab: a topology, placed on a network, with a directory for what belongs to it.

    Args:
        name: ``default`` unless ``--lab`` says otherwise.
        root: the checkout that the lab belongs to.
        topology: its machines, with the addresses of this lab's own network.
    """

    name: str
    root: Path
    topology: Topology

    @property
    def directory(self) -> Path:
        """Where its state and secrets are kept."""
        return self.root / ".lab" / self.name

    @property
    def id(self) -> str:
        """Eight characters that tell labs apart on one host, whichever checkout they are from."""
        return hashlib.sha256(f"{self.root}\0{self.name}".encode()).hexdigest()[:8]

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Its machines, in the file's order."""
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
        """The name that users type: ``www.`` and the domain."""
        return f"www.{self.topology.domain}"

    def machine(self, name: str) -> Machine:
        """The machine of that name.

        Raises:
            UsageError: when there is none; the message lists those there are.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = ", ".join(m.name for m in self.machines)
        what = f"no machine is called {name!r} in lab {self.name}"
        raise UsageError(what, f"choose from {names}")

    def with_role(self, role: str) -> tuple[Machine, ...]:
        """The machines with that role, in the file's order."""
        return tuple(m for m in self.machines if role in m.roles)

    @property
    def url(self) -> str:
        """The front, for a browser, without a path: ``https://192.168.56.10``."""
        return f"{'https' if self.topology.https else 'http'}://{self.address}"

    @property
    def address(self) -> IPv4Address:
        """Where users' requests go: the balancers' virtual address, else the front's own."""
        return self.topology.virtual_address or self.front.address

    @property
    def front(self) -> Machine:
        """The machine that users talk to: the first balancer, else the first web server."""
        return (self.with_role("haproxy") or self.with_role("nginx"))[0]


def rebase(topology: Topology, network: IPv4Network) -> Topology:
    """The same topology on another network of the same size: host parts stay, the rest changes.

    Args:
        topology: as read from its file.
        network: where it should live instead.
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
