"""Hardening: SSH for the lab's own user only, and least privilege for Debian's services.

The lab's own units are sandboxed in every topology. Debian's units are sandboxed by this role only:
as packaged, ``systemd-analyze security`` rates them 9.6 of 10 (unsafe).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File
from provision.engine.resources.removal import NoFile
from provision.engine.role import Role
from provision.providers.image_recipe import USER
from provision.services.hardening.resources import NoSysctls, SshdFile, Sysctls

SERVICE = "ssh.service"
SSHD = "/etc/ssh/sshd_config.d/05-lab-hardening.conf"
SYSCTL = "/etc/sysctl.d/60-lab-hardening.conf"
SYSCTLS = {
    "net.ipv4.conf.*.accept_redirects": "0",
    "net.ipv4.conf.*.send_redirects": "0",
    "net.ipv4.conf.*.accept_source_route": "0",
    "net.ipv4.conf.*.rp_filter": "1",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_rfc1337": "1",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.icmp_ignore_bogus_error_responses": "1",
    "net.ipv6.conf.*.accept_redirects": "0",
    "net.ipv6.conf.*.accept_source_route": "0",
}
"""A server does not route, and accepts a packet only on the interface of the reply (kernel
documentation, ip-sysctl; sysctl.d(5) for patterns)."""

STAMPS = "/var/lib/foobar-lab/loaded"


def user(context: Context, machine: Machine) -> str:
    """The login user: from the topology for an existing machine, else the image's."""
    configured = dict(machine.ssh).get("user", "")
    return configured or ("vagrant" if context.state.provider == "vagrant" else USER)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Sshd's settings, refused if they would lock out the controller; one sandbox per service."""
    text = context.render(
        "hardening/sshd.conf.j2",
        machine,
        user=user(context, machine),
        jumps=jump_targets(context, machine),
    )
    sshd = Unit(
        "sshd",
        (SshdFile(SSHD, text),),
        service=SERVICE,
        activate="reload",
        validate=("sshd", "-t"),
    )
    sysctls = context.render("hardening/sysctl.conf.j2", machine, parameters=sysctl_lines())
    return (
        sshd,
        Unit("sysctls", (File(SYSCTL, sysctls, passive=True), Sysctls(tuple(SYSCTLS.items())))),
        *(_sandbox(context, machine, role) for role in context.roles_of(machine) if role.sandbox),
    )


def sysctl_lines() -> str:
    """The parameters for sysctl.d.

    An earlier file may set ``conf.default`` by name or exclude ``conf.all`` from patterns, as
    Debian's 50-default.conf does with rp_filter: both take precedence over a later pattern
    (sysctl.d(5)). So these two are written by name as well.
    """
    lines = {}
    for pattern, value in SYSCTLS.items():
        for interface in ("all", "default", "*"):
            lines[pattern.replace(".*.", f".{interface}.")] = value
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def jump_targets(context: Context, machine: Machine) -> tuple[str, ...]:
    """``ADDRESS:PORT`` of the machines that the controller reaches through this machine's sshd."""
    names = {machine.name, str(machine.address), dict(machine.ssh).get("address", "")}
    targets = []
    for other in context.lab.machines:
        settings = dict(other.ssh)
        host = settings.get("jump", "").rpartition("@")[2].partition(":")[0]
        if host and host in names:
            address = settings.get("address", str(other.address))
            targets.append(f"{address}:{settings.get('port', '22')}")
    return tuple(targets)


def _drop_in(service: str) -> str:
    return f"/etc/systemd/system/{service}.d/lab-sandbox.conf"


def _sandbox(context: Context, machine: Machine, role: Role) -> Unit:
    """The drop-in. A service that does not run yet starts with it."""
    if role.sandbox is None:
        raise ValueError(role.name)
    settings = asdict(role.sandbox)
    text = context.render("hardening/sandbox.conf.j2", machine, service=role.service, **settings)
    return Unit(
        _unit_name(role),
        (File(_drop_in(role.service), text),),
        service=role.service,
        activate="try-restart",
        needs=_previous(context, machine, role),
    )


def _previous(context: Context, machine: Machine, role: Role) -> tuple[str, ...]:
    """While the lab serves, a service restarts on one machine after the other, primary last."""
    if not context.rolling:
        return ()
    peers = [m for m in context.lab.with_role("hardening") if role.on(context, m)]
    peers.sort(key=lambda m: m.name == context.state.primary)
    position = peers.index(machine)
    return (f"{peers[position - 1].name}/{_unit_name(role)}",) if position else ()


def _unit_name(role: Role) -> str:
    return f"sandbox-{role.short_service}"


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The image's own settings. Running services stay confined until their next start."""
    removed: list[Resource[Any]] = [
        NoFile(SSHD, ("systemctl", "reload", SERVICE)),
        NoFile(f"{STAMPS}/sshd"),
        NoFile(SYSCTL),
        NoFile(f"{STAMPS}/sysctls"),
        NoSysctls(),
    ]
    confined = [role for role in context.roles if role.sandbox]
    for role in sorted(confined, key=lambda role: role.service):
        removed.append(NoFile(_drop_in(role.service), ("systemctl", "daemon-reload")))
        removed.append(NoFile(f"{STAMPS}/{_unit_name(role)}"))
    return (Unit("hardening-gone", tuple(removed)),)


ROLE = Role("hardening", 20, units, absent, service=SERVICE)
