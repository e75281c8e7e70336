"""What a machine is, declared: one module a role. Roles do not know each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, cast

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.database.failover import role as autopromote
from provision.engine.context import Allow, Context, Role
from provision.engine.plan import Unit
from provision.services.system import role as system
from provision.services.tls import role as tls

ORDER = (
    "firewall",
    "hardening",
    "dns",
    "mysql",
    "app",
    "nginx",
    "haproxy",
    "keepalived",
    "exporters",
    "monitoring",
)
"""Roles of one machine are configured from the data outwards, behind the firewall, confined."""

ELSEWHERE = {
    "mysql": "provision.database.role",
    "exporters": "provision.monitoring.exporters",
    "monitoring": "provision.monitoring.role",
}
"""The roles that have a package of their own beside ``provision/services``."""


def role(name: str) -> Role:
    """The module that declares a role."""
    module = ELSEWHERE.get(name, f"provision.services.{name}.role")
    return cast("Role", import_module(module))


def _roles(machine: Machine) -> list[Role]:
    return [role(name) for name in sorted(machine.roles, key=ORDER.index)]


def packages(context: Context, machine: Machine) -> PackageSet:
    """Everything that the machine's roles need from Debian, once, sorted."""
    wanted = [r.packages(context, machine) for r in _roles(machine)]
    return PackageSet(
        tuple(sorted({name for w in wanted for name in w.packages})),
        tuple(sorted({name for w in wanted for name in w.sid})),
    )


def desired(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """All units of a machine, in the order of application."""
    units = [
        *tls.first(context),
        *system.units(context, machine),
        system.installation(packages(context, machine)),
    ]
    for each in _roles(machine):
        units += each.units(context, machine)
    units += autopromote.units(context, machine)
    units += tls.units(context, machine)
    for name in reversed(ORDER):
        if name not in machine.roles and (undo := _offer(name, "absent")):
            units += undo(context, machine)
    return (*units, system.resolver(context, machine))


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """What the machine's firewall opens for its roles."""
    found: list[Allow] = []
    for name in sorted(machine.roles, key=ORDER.index):
        if opens := _offer(name, "ports"):
            found += opens(context, machine)
    return (*found, *autopromote.ports(context, machine))


@cache
def _offer(name: str, function: str) -> Callable[[Context, Machine], tuple[Any, ...]] | None:
    """A function that a role need not have; None when it has not."""
    try:
        found = getattr(role(name), function, None)
    except ModuleNotFoundError:
        return None
    return cast("Callable[[Context, Machine], tuple[Any, ...]] | None", found)


def services(machine: Machine) -> tuple[str, ...]:
    """The systemd units that a machine's roles stand on."""
    return tuple(each.SERVICE for each in _roles(machine) if each.SERVICE)
