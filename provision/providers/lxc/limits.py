"""The limits of a lab: one control group that holds all its machines, for cgroup v1 and v2."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision.core.classroom import limits_of
from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.limits import Limits
from provision.providers.lxc.container import CGROUPS
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import make_folders, run

CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True)
class Setting:
    """A file of a control group, and its desired content."""

    path: Path
    value: str


def settings(group: str, limits: Limits, cgroups: Path = CGROUPS) -> tuple[Setting, ...]:
    """The files of a lab's control group (cgroups(7)); without a limit, the kernel's defaults.

    Args:
        cgroups: where control groups are mounted.
    """
    if is_unified(cgroups):
        folder = cgroups / group
        values = {
            folder / "memory.max": str(limits.memory * 2**20) if limits.memory else "max",
            folder / "pids.max": str(limits.processes or "max"),
            folder / "cpu.weight": str(limits.cpu or 100),
        }
    else:
        memory = str(limits.memory * 2**20) if limits.memory else "-1"
        values = {
            cgroups / "memory" / group / "memory.limit_in_bytes": memory,
            cgroups / "pids" / group / "pids.max": str(limits.processes or "max"),
            cgroups / "cpu" / group / "cpu.shares": str(max(2, (limits.cpu or 100) * 1024 // 100)),
        }
    return tuple(Setting(path, value) for path, value in values.items())


def is_unified(cgroups: Path = CGROUPS) -> bool:
    """Whether the host has cgroup v2 only."""
    return (cgroups / "cgroup.controllers").exists()


def apply(lab: Lab) -> None:
    """Give the lab's control group its limits; running machines are limited at once.

    Raises:
        ProviderError: when the machines use more memory than the new limit.
    """
    limits, group = limits_of(lab), LabPaths.of(lab).lab_cgroup
    wanted = settings(group, limits)
    missing = [s.path.parent for s in wanted if not s.path.parent.is_dir()]
    if missing:
        if limits == Limits(disk=limits.disk):
            return  # LXC creates the group
        if is_unified():
            _delegate()
        make_folders(*missing)
    for setting in wanted:
        if _current(setting.path) != _normalized(setting.value):
            _write(lab, setting)


def _delegate() -> None:
    """Let groups at the top have the controllers (cgroup v2)."""
    control = CGROUPS / "cgroup.subtree_control"
    enabled = control.read_text().split()
    words = " ".join(f"+{name}" for name in CONTROLLERS if name not in enabled)
    if words:
        run("enabling controllers of control groups", ["tee", control], stdin=words.encode())


def _write(lab: Lab, setting: Setting) -> None:
    result = run(
        f"limiting lab {lab.name}", ["tee", setting.path], stdin=setting.value.encode(), ok=()
    )
    if not result.ok:
        raise ProviderError(
            f"lab {lab.name} cannot be limited: {setting.path} does not accept {setting.value}",
            "its machines may use more already: invoke lab.halt, then invoke lab.up",
            output=result.stderr,
        )


def _current(path: Path) -> str:
    with suppress(OSError):
        return _normalized(path.read_text().strip())
    return ""


def _normalized(value: str) -> str:
    """A value as it is compared: cgroup v1 shows no memory limit as a number near 2**63."""
    if value == "-1" or (value.isdecimal() and int(value) > 2**62):
        return "max"
    return value
