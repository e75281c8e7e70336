"""The topology as a diagram: machines in tiers, connections, replication, and current states.

A `Diagram` is made of values; provision/teaching/drawing renders it as SVG or PNG, and
provision/commands/diagram.py in a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from provision.checks.balancer import holds_address
from provision.checks.database import server_status
from provision.checks.machines import service_state
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.context import Context

PLANNED = "planned"
"""State of a machine in the diagram of a topology that is not running."""


Color = Literal["green", "orange", "red", "grey"]


@dataclass(frozen=True)
class ProgramState:
    """One service on a machine, and its systemd state; empty when unknown."""

    name: str
    state: str

    @property
    def bad(self) -> bool:
        """Whether it is known not to be active."""
        return self.state not in ("", "active")


@dataclass(frozen=True)
class MachineBox:
    """One machine; its state is that of the provider, or `PLANNED`."""

    name: str
    address: str
    state: str
    programs: tuple[ProgramState, ...]
    note: str = ""

    @property
    def color(self) -> Color:
        """``green``: healthy; ``orange``: a service is down; ``red``: not running; ``grey``."""
        if self.state != "running":
            return "grey" if self.state == PLANNED else "red"
        return "orange" if any(p.bad for p in self.programs) else "green"


@dataclass(frozen=True)
class Layer:
    """The machines of one tier, and how the layer above connects to it."""

    role: str
    title: str
    boxes: tuple[MachineBox, ...]
    connection: str = ""


@dataclass(frozen=True)
class Diagram:
    """A lab's diagram; ``replication`` has pairs of machines, the source first."""

    title: str
    site: str
    layers: tuple[Layer, ...]
    replication: tuple[tuple[str, str], ...]


def diagram(context: Context, observation: Observation, *, everything: bool = False) -> Diagram:
    """The diagram of a lab in its current state.

    Args:
        everything: also healthy services that are no part of the site, such as exporters and ssh.
    """
    lab = context.lab
    tiers = [role for role in reversed(context.roles) if role.tier]
    members: dict[str, list[Machine]] = {name: [] for name in (*(r.name for r in tiers), "")}
    for machine in lab.machines:
        members[next((r.name for r in tiers if r.on(context, machine)), "")].append(machine)
    layers = [
        Layer(
            role.name,
            role.tier.title,
            tuple(_box(context, observation, m, everything) for m in members[role.name]),
            role.tier.connection(lab),
        )
        for role in tiers
        if role.tier and members[role.name]
    ]
    if members[""]:
        layers.append(
            Layer(
                "", "others", tuple(_box(context, observation, m, everything) for m in members[""])
            )
        )
    primary = context.state.primary
    databases = [m.name for m in lab.with_role("mysql")]
    alive = {name for name in databases if _database_runs(context, observation, name)}
    pairs = tuple(
        (primary, name) for name in databases if name != primary and {primary, name} <= alive
    )
    title = f"Lab {lab.name}: {lab.topology.name}, on {lab.network}"
    return Diagram(title, f"{lab.site} = {lab.address}", tuple(layers), pairs)


def planned_diagram(context: Context, *, everything: bool = False) -> Diagram:
    """The diagram of a topology, whether or not the lab exists."""
    lab = context.lab
    picture = diagram(
        context, Observation({m.name: PLANNED for m in lab.machines}), everything=everything
    )
    return replace(picture, title=f"Topology {lab.topology.name}, on {lab.network}")


def _database_runs(context: Context, observation: Observation, name: str) -> bool:
    """Whether replication can reach it: its machine and mysqld run, or it is planned."""
    state = observation.states.get(name, "absent")
    if state != "running":
        return state == PLANNED
    return service_state(observation, name, "mysql.service") in ("", "active")


def _role_note(context: Context, observation: Observation, machine: Machine) -> str:
    """Primary or replica; a primary that is known to be read-only says so."""
    if machine.name != context.state.primary:
        return "replica"
    known = machine.name in observation.results
    status = server_status(observation, machine.name) if known else None
    return "primary, read-only" if status and status.up and not status.writable else "primary"


def _box(
    context: Context, observation: Observation, machine: Machine, everything: bool
) -> MachineBox:
    notes = []
    if "mysql" in machine.roles:
        notes.append(_role_note(context, observation, machine))
    if "keepalived" in machine.roles and holds_address(context, observation, machine.name):
        notes.append(f"holds {context.lab.address}")
    return MachineBox(
        machine.name,
        str(machine.address),
        observation.states.get(machine.name, "absent"),
        _programs(context, observation, machine, everything),
        ", ".join(notes),
    )


def _programs(
    context: Context, observation: Observation, machine: Machine, everything: bool
) -> tuple[ProgramState, ...]:
    """The services of a machine: those with a label first, from the outermost tier inwards.

    Services without a label are no part of the site; they are shown when they do not run.
    """
    roles = [role for role in reversed(context.roles_of(machine)) if role.service]
    programs = [
        ProgramState(
            role.label or role.short_service,
            service_state(observation, machine.name, role.service),
        )
        for role in roles
    ]
    labels = {role.label for role in roles if role.label}
    shown = [p for p in programs if everything or p.bad or p.name in labels]
    return tuple(sorted(shown, key=lambda program: program.name not in labels))
