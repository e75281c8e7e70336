"""What every machine is: it knows the others by name, keeps its journal, has its packages."""

from __future__ import annotations

from provision.core.apt_source import sid_list, sid_preferences
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, Gone, Packages, Service, SidSource
from provision.services.system.resolver import Resolver

HEAD = "/etc/resolv.conf.head"


def packages(context: Context, machine: Machine) -> PackageSet:
    """Nothing beyond the image."""
    return PackageSet()


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Names of the other machines, and a journal that outlives a reboot."""
    journal = context.render("system/journald.conf.j2", machine)
    return (
        Unit(
            "system",
            (File("/etc/hosts", context.render("system/hosts.j2", machine), passive=True),),
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
    )


def resolver(context: Context, machine: Machine) -> Unit:
    """Whom every machine asks first: the lab's name servers, or, without any, whom it had."""
    lab = context.lab
    servers = lab.with_role("dns")
    # A name server asks itself, and passes on to what it had: two of them must not ask each other.
    own = [m for m in servers if m == machine] or servers
    wanted = Resolver(tuple(str(m.address) for m in own), lab.network, lab.gateway)
    return Unit(
        "resolver",
        (
            # dhcpcd writes resolv.conf anew at each boot and lease, and begins it with this file.
            File(HEAD, wanted.head, passive=True) if own else Gone(HEAD),
            wanted,
        ),
        needs=tuple(f"{m.name}/dns" for m in own if m != machine),
    )


def installation(wanted: PackageSet) -> Unit:
    """All packages of a machine, in one transaction before anything is configured.

    Args:
        wanted: the union of what the machine's roles need.
    """
    resources: list[Resource] = []
    if wanted.sid:
        resources += [
            SidSource(sid_list("@MIRROR@")),
            File("/etc/apt/preferences.d/lab-sid", sid_preferences(wanted.sid), passive=True),
        ]
    names = (*wanted.packages, *wanted.sid)
    if names:
        resources.append(Packages(names))
    return Unit("packages", tuple(resources))
