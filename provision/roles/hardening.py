"""Hardening: SSH for the lab's own user alone, with modern ciphers only."""

from __future__ import annotations

from provision.engine import Unit
from provision.lab import Machine
from provision.providers.base import PackageSet
from provision.providers.images import USER
from provision.resources.security import SshdFile
from provision.resources.undo import NoFile
from provision.roles.base import Context

SERVICE = "ssh.service"
SSHD = "/etc/ssh/sshd_config.d/05-lab-hardening.conf"
STAMP = "/var/lib/foobar-lab/loaded/sshd"


def packages(context: Context, machine: Machine) -> PackageSet:
    """Nothing: sshd is there, or nobody could configure the machine."""
    return PackageSet()


def user(context: Context, machine: Machine) -> str:
    """Who logs in: as the topology says of an existing machine, else as the image was made."""
    given = dict(machine.ssh).get("user", "")
    return given or ("vagrant" if context.state.provider == "vagrant" else USER)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Settings of sshd, refused when they would lock this login out, before sshd reads them."""
    text = context.render("ssh/hardening.conf.j2", machine, user=user(context, machine))
    return (
        Unit(
            "sshd",
            (SshdFile(SSHD, text),),
            service=SERVICE,
            activate="reload",
            validate=("sshd", "-t"),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The settings that the image came with."""
    reload = ("systemctl", "reload", SERVICE)
    return (Unit("hardening-gone", (NoFile(SSHD, reload), NoFile(STAMP))),)
