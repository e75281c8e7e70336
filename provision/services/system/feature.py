"""The common configuration of all machines: host names, journal, packages, DNS resolver."""

from __future__ import annotations

from typing import Any

from provision.core import growth
from provision.core.apt_source import sid_list, sid_preferences
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, NoFile, Packages, Service, SidSource
from provision.engine.role import AFTER_CLEANUP, Role
from provision.providers.image_recipe import USER
from provision.services.system import ownership
from provision.services.system.resolver import Resolver

HEAD = "/etc/resolv.conf.head"

BASE_UNITS = (
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "dbus.socket",
    "ssh.service",
)
"""Debian's own units that everything else relies on."""


def user(context: Context, machine: Machine) -> str:
    """The user that the controller logs in as: the topology's for an existing machine."""
    configured = dict(machine.ssh).get("user", "")
    return configured or ("vagrant" if context.state.provider == "vagrant" else USER)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The hosts file, a persistent journal, and all packages of the machine."""
    journal = context.render("system/journald.conf.j2", machine, growth=growth)
    return (
        *ownership.early_units(context, user(context, machine)),
        Unit(
            "system",
            (
                File("/etc/hosts", context.render("system/hosts.j2", machine), passive=True),
                *(Service(name, starts=True) for name in BASE_UNITS),
            ),
        ),
        Unit(
            "journal",
            (
                File("/etc/systemd/journald.conf.d/lab.conf", journal),
                Service("systemd-journald.service"),
            ),
            service="systemd-journald.service",
            activate="restart",
        ),
        installation(context.packages(machine)),
    )


def resolver_units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The lab's name servers, before those that the machine was created with."""
    lab = context.lab
    servers = lab.with_role("dns")
    # A name server uses itself, and forwards to its original servers: two must not form a loop.
    used = [m for m in servers if m == machine] or servers
    resolver = Resolver(tuple(str(m.address) for m in used), lab.network, lab.gateway)
    # dhcpcd writes resolv.conf from scratch at each boot and lease, starting with this file.
    head = File(HEAD, resolver.head, passive=True) if used else NoFile(HEAD)
    needs = tuple(f"{m.name}/dns" for m in used if m != machine)
    return (Unit("resolver", (head, resolver), needs=needs),)


def ownership_units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """What the provider wrote once, and directories in which nothing foreign may be."""
    return ownership.late_units(context, machine, user(context, machine))


def installation(packages: PackageSet) -> Unit:
    """All packages of a machine, in one transaction before anything is configured."""
    resources: list[Resource[Any]] = []
    if packages.sid:
        resources += [
            SidSource(sid_list("@MIRROR@")),
            File("/etc/apt/preferences.d/lab-sid", sid_preferences(packages.sid), passive=True),
        ]
    names = (*packages.packages, *packages.sid)
    if names:
        resources.append(Packages(names))
    return Unit("packages", tuple(resources))


ROLES = (
    Role(
        "system",
        5,
        units,
        applies=lambda _role, _context, _machine: True,
        data=("/etc/foobar-lab", "/usr/local/lib/foobar-lab"),
    ),
    Role(
        "resolver",
        AFTER_CLEANUP,
        resolver_units,
        applies=lambda _role, _context, _machine: True,
    ),
    Role(
        "ownership",
        AFTER_CLEANUP + 10,
        ownership_units,
        applies=lambda _role, _context, _machine: True,
    ),
)
