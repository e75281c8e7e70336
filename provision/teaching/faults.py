"""Take one component of a lab down and restore it: a service, or the power of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from provision.core.errors import LabError, not_among
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.providers.base import Provider

MACHINE = "machine"


@dataclass(frozen=True)
class Component:
    """Something that can fail: a role on a machine, or `MACHINE`, its power."""

    machine: str
    part: str
    units: tuple[str, ...] = ()


def components(context: Context, only: str = "", *, machines: bool = True) -> tuple[Component, ...]:
    """The components of a lab, from the balancer to the database, then the machines.

    Args:
        only: a machine, a role, or ``machine``; empty for all.
        machines: False when the provider cannot switch machines off.

    Raises:
        UsageError: when ``only`` matches no component.
    """
    lab = context.lab
    existing = [
        Component(machine.name, role.name, role.fault_units)
        for role in reversed(context.roles)
        for machine in lab.machines
        if role.fault_units and role.on(context, machine)
    ]
    existing += [Component(machine.name, MACHINE) for machine in lab.machines if machines]
    selected = tuple(c for c in existing if only in ("", c.machine, c.part))
    if not selected:
        names = [m.name for m in lab.machines] + list(dict.fromkeys(c.part for c in existing))
        raise not_among(f"{only!r} is not a component of lab {lab.name}", only, names)
    return selected


def take_down(fleet: Fleet, provider: Provider, component: Component) -> None:
    """Make a component fail and keep it down.

    Raises:
        LabError: when a service cannot be stopped.
    """
    if component.part == MACHINE:
        provider.kill(fleet.lab, component.machine)
        return
    host = fleet.host(component.machine)
    units = component.units
    services = [unit for unit in units if unit.endswith(".service")]
    # SIGKILL, as in a crash; then stop, so that systemd does not restart it.
    host.run("systemctl", "kill", "--signal=KILL", *services)
    result = host.run("systemctl", "stop", *units, timeout=30)
    if not result.ok:
        raise LabError(f"{component.machine}: cannot stop {', '.join(units)}", output=result.stderr)


def restore(fleet: Fleet, provider: Provider, component: Component) -> None:
    """Start a component that was taken down.

    Raises:
        LabError: when a service does not start.
    """
    if component.part == MACHINE:
        provider.start(fleet.lab, component.machine)
        return
    units = component.units
    host = fleet.host(component.machine)
    host.run("systemctl", "reset-failed", *units)
    result = host.run("systemctl", "start", *units, timeout=90)
    if not result.ok:
        raise LabError(
            f"{component.machine}: cannot start {', '.join(units)}",
            f"invoke lab.logs {component.machine}",
            output=result.stderr,
        )
