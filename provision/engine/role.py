"""What a role declares about itself. Every module that reads roles reads only these fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from provision.core.lab import Lab, Machine
from provision.core.package_set import PackageSet

if TYPE_CHECKING:
    from provision.engine.check import ProbeCheck
    from provision.engine.context import Context
    from provision.engine.plan import Unit

T = TypeVar("T")

AFTER_CLEANUP = 900
"""Roles from this order on are configured after the clean-up of roles that do not apply."""


@dataclass(frozen=True)
class Allow:
    """A port that a machine's firewall opens.

    Args:
        port: of ``protocol``; 0 for a protocol without ports.
        sources: addresses or networks that may connect; empty for any.
        why: a short description, such as ``HTTP for everybody``.
        protocol: ``tcp``, ``udp`` or another name that nftables knows.
    """

    port: int
    sources: tuple[str, ...]
    why: str
    protocol: str = "tcp"


@dataclass(frozen=True)
class Sandbox:
    """What a Debian service needs beyond the common confinement; see systemd.exec(5).

    Args:
        why: the reason for the exceptions, for the comment in the drop-in.
        writes: ``ReadWritePaths=``.
        capabilities: needed by a program that starts as root and switches to another user.
        calls: system calls that it needs for that.
        families: ``RestrictAddressFamilies=``.
        peers: which addresses it exchanges packets with: ``lab``, the lab's network;
            ``balancers``, the same where there is a balancer, else any; ``all``.
        jit: whether it generates machine code (regular expressions).
        private_users: ``PrivateUsers=``.
        umask: ``UMask=``.
    """

    why: str
    writes: str
    capabilities: str = ""
    calls: str = ""
    families: str = "AF_INET AF_UNIX"
    peers: str = "lab"
    jit: bool = False
    private_users: str = "no"
    umask: str = "0027"


@dataclass(frozen=True)
class Tier:
    """A layer of the diagram.

    Args:
        title: what its machines are, such as ``web server``.
        connection: how the layer above connects to it, such as ``HTTP, port 80``.
    """

    title: str
    connection: Callable[[Lab], str]


def _named_in_topology(role: Role, _context: Context, machine: Machine) -> bool:
    return role.name in machine.roles


def _nothing(_context: Context, _machine: Machine) -> tuple[Any, ...]:
    return ()


def _no_packages(_context: Context, _machine: Machine) -> PackageSet:
    return PackageSet()


@dataclass(frozen=True)
class Role:
    """One role. Everything but name, order and units has a default.

    Args:
        name: the keyword in a topology's ``roles:``.
        order: roles of a machine are configured in ascending order, from access control over data
            to the balancer; the diagram and the failure tests show them in descending order.
        units: the desired state of a machine that has the role.
        absent: what remains to be undone on a machine that does not have the role.
        applies: whether a machine has the role; by default, when its topology names it.
        packages: the Debian packages that it needs.
        ports: what the machine's firewall opens for it.
        service: its systemd unit, which must be active and enabled; empty when it has none.
        aliases: further names of the service that ``lab.restart`` accepts.
        label: how people call its program; by default the name of its unit.
        tier: its layer in the diagram; None when it does not serve requests.
        sandbox: how the role ``hardening`` confines its service; None to leave it alone.
        fault_units: the systemd units whose failure ``lab.spof`` simulates; empty when users
            would not notice.
        data: folders that the service or its package creates, which ``lab.clean`` removes.
        checks: its named checks, each with the probe that it reads.
        memory: MiB (PSS) that its processes need while the lab is idle; scripts/bench --class.
    """

    name: str
    order: int
    units: Callable[[Context, Machine], tuple[Unit, ...]]
    absent: Callable[[Context, Machine], tuple[Unit, ...]] = _nothing
    applies: Callable[[Role, Context, Machine], bool] = _named_in_topology
    packages: Callable[[Context, Machine], PackageSet] = _no_packages
    ports: Callable[[Context, Machine], tuple[Allow, ...]] = _nothing
    service: str = ""
    aliases: tuple[str, ...] = ()
    label: str = ""
    tier: Tier | None = None
    sandbox: Sandbox | None = None
    fault_units: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    checks: Callable[[Context, Machine], Iterable[ProbeCheck[Any]]] = _nothing
    memory: int = 5

    def on(self, context: Context, machine: Machine) -> bool:
        """Whether the machine has the role."""
        return self.applies(self, context, machine)

    @property
    def short_service(self) -> str:
        """The systemd unit without ``.service``."""
        return self.service.removesuffix(".service")
