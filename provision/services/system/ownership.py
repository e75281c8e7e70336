"""State that a provider or image writes once: who owns it, and where nothing foreign may be."""

from __future__ import annotations

from typing import Any

from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources.ownership import OriginalFiles, OwnedDirectory
from provision.services.system.resources import CreatedState

FILES = (
    "/etc/hostname",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/environment",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/crontab",
    "/etc/sysctl.conf",
    "/etc/sudoers",
    "/etc/hosts.allow",
    "/etc/hosts.deny",
    "/etc/security/limits.conf",
    "/etc/ssh/sshd_config",
    "/etc/ssh/ssh_host_*",
    "/etc/systemd/system.conf",
    "/etc/systemd/journald.conf",
    "~root/.ssh/authorized_keys",
    "~{user}/.ssh/authorized_keys",
)
DIRECTORIES: dict[str, tuple[str, ...]] = {
    "/etc/sudoers.d": ("*",),
    "/etc/cron.d": ("*",),
    "/etc/cron.hourly": ("*",),
    "/etc/cron.daily": ("*",),
    "/etc/cron.weekly": ("*",),
    "/var/spool/cron/crontabs": ("*",),
    "/etc/sysctl.d": ("*.conf",),
    "/etc/nftables.d": ("*",),
    "/etc/ssh/sshd_config.d": ("*.conf",),
    "/etc/security/limits.d": ("*.conf",),
    "/etc/profile.d": ("*.sh",),
    "/etc/ld.so.conf.d": ("*.conf",),
    "/etc/apt/apt.conf.d": ("*",),
    "/etc/apt/preferences.d": ("*",),
    "/etc/apt/sources.list.d": ("*",),
    "/usr/local/bin": ("*",),
    "/usr/local/sbin": ("*",),
    "/etc/systemd": ("*.conf.d/*.conf",),
    "/etc/systemd/system": ("*.*", "*.d/*.conf"),
    "/run/systemd/system": ("*.timer.d/*.conf", "*.socket.d/*.conf"),
}
"""Directories and the patterns of names in them that the machine's programs read.

Drop-ins of services are not among those in /run: `EffectiveUnit` judges these."""


def files(user: str) -> tuple[str, ...]:
    """The patterns of `FILES` for the user that the controller logs in as."""
    return tuple(pattern.format(user=user) for pattern in FILES)


def early_units(context: Context, user: str) -> tuple[Unit, ...]:
    """Restores what everything else depends on, before anything is configured."""
    if not context.owns_machines:
        return ()
    return (Unit("machine", (OriginalFiles(files(user)), CreatedState())),)


def late_units(context: Context, machine: Machine, user: str) -> tuple[Unit, ...]:
    """Records the original state once; removes what is foreign in the machine's directories."""
    if not context.owns_machines:
        return ()
    directories: list[Resource[Any]] = [
        OwnedDirectory(path, patterns) for path, patterns in DIRECTORIES.items()
    ]
    recorded = (OriginalFiles(files(user), record=True), CreatedState(record=True))
    return (Unit("ownership", (*recorded, *directories)),)
