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
from provision.services.hardening.resources import SshdFile

SERVICE = "ssh.service"
SSHD = "/etc/ssh/sshd_config.d/05-lab-hardening.conf"
STAMPS = "/var/lib/foobar-lab/loaded"


def user(context: Context, machine: Machine) -> str:
    """The login user: from the topology for an existing machine, else the image's."""
    configured = dict(machine.ssh).get("user", "")
    return configured or ("vagrant" if context.state.provider == "vagrant" else USER)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Sshd's settings, refused if they would lock out the controller; one sandbox per service."""
    text = context.render("hardening/sshd.conf.j2", machine, user=user(context, machine))
    sshd = Unit(
        "sshd",
        (SshdFile(SSHD, text),),
        service=SERVICE,
        activate="reload",
        validate=("sshd", "-t"),
    )
    return (
        sshd,
        *(_sandbox(context, machine, role) for role in context.roles_of(machine) if role.sandbox),
    )


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
    ]
    confined = [role for role in context.roles if role.sandbox]
    for role in sorted(confined, key=lambda role: role.service):
        removed.append(NoFile(_drop_in(role.service), ("systemctl", "daemon-reload")))
        removed.append(NoFile(f"{STAMPS}/{_unit_name(role)}"))
    return (Unit("hardening-gone", tuple(removed)),)


ROLE = Role("hardening", 20, units, absent, service=SERVICE)
