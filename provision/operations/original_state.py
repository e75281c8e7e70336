"""Record the original state of machines that existed before the lab, and restore it: lab.clean.

Packages that the lab installed are purged with their dependencies. Packages that it upgraded stay:
Debian cannot downgrade a C library. Accounts that Debian's packages created stay too, as after any
purge, so that no user ID is reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provision.core.lab import Machine
from provision.engine.agent.originals import CleanupPlan, cleanup_probe
from provision.engine.agent.protocol import Action, UnitRequest
from provision.engine.apply import send
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

PROBE_SECONDS = 180.0


def plan_lines(machine: str, plan: CleanupPlan) -> list[str]:
    """The plan of one machine, human-readable."""
    if not plan.recorded:
        return [f"{machine}: the lab has changed nothing there"]
    sections = (
        ("packages to purge", plan.purge, " "),
        ("files and folders to remove", plan.remove, "\n      "),
        ("files to restore", plan.restore, "\n      "),
        ("accounts to remove", plan.users, " "),
        ("upgraded packages, which stay", plan.stay, ", "),
    )
    shown = [f"  {title}:\n      {sep.join(items)}" for title, items, sep in sections if items]
    return [f"{machine}:", *(shown or ["  nothing of the lab is left"])]


def changed_by_lab(context: Context, machine: Machine) -> tuple[list[str], list[str]]:
    """The paths and accounts that a machine's units change, both sorted."""
    paths = {path for role in context.roles for path in role.data}
    users = set()
    for unit in context.desired(machine):
        for probe in (resource.probe() for resource in unit.resources):
            if probe.kind in ("path", "tree"):
                paths.add(str(probe.args["path"]))
            elif probe.kind == "user":
                users.add(str(probe.args["name"]))
    return sorted(paths), sorted(users)


def record_originals(context: Context, fleet: Fleet) -> None:
    """Record on every machine what the lab is about to change.

    Raises:
        LabError: when a machine could not; nothing has been changed then.
    """

    def record(host: Host) -> None:
        paths, users = changed_by_lab(context, context.lab.machine(host.name))
        _act(host, "recording its original state", "record-originals", paths=paths, users=users)

    fleet.each(record)


def plan_cleanup(context: Context, fleet: Fleet) -> dict[str, CleanupPlan]:
    """What a clean-up would do, by machine. Read only."""

    def inspect(host: Host) -> CleanupPlan:
        probe = cleanup_probe(_package_names(context, context.lab.machine(host.name)))
        return host.gather([probe], PROBE_SECONDS)[probe]

    return fleet.each(inspect)


def clean_up(context: Context, fleet: Fleet, machines: Sequence[str]) -> None:
    """Restore the original state of some machines.

    Raises:
        LabError: when a machine could not; the next call continues.
    """

    def clean(host: Host) -> None:
        machine = context.lab.machine(host.name)
        packages, services = _package_names(context, machine), list(context.services(machine))
        _act(host, "cleaning up", "clean-up", packages=packages, services=services)
        host.log("restored")

    fleet.each(clean, machines)


def _package_names(context: Context, machine: Machine) -> list[str]:
    packages = context.packages(machine)
    return sorted({*packages.packages, *packages.sid})


def _act(host: Host, title: str, action: str, **args: Any) -> None:
    host.log(title)
    hint = "fix the cause, then run the same command again"
    send(host, title, UnitRequest((Action(action, args),)), hint=hint)
