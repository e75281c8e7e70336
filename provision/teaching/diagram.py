"""The topology as a picture: who stands where, what runs there, who asks whom, and how it is now.

`diagram` turns a lab and what was seen of it into boxes and arrows, as values; provision/drawing
makes pictures of them for slides, and provision/commands/explain.py draws in a terminal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from provision import registry as roles
from provision.checks.observation import Seen
from provision.core.lab import Lab, Machine
from provision.database.failover import role as autopromote
from provision.engine.context import Context

LAYERS = ("haproxy", "nginx", "app", "mysql")
"""A machine stands in the layer of the first of these roles that it has, top down."""

TITLES = {
    "visitor": "visitors",
    "haproxy": "load balancer",
    "nginx": "web server",
    "app": "application server",
    "mysql": "database",
    "": "others",
}
SHOWN = {"foobar": "gunicorn, Flask", "haproxy": "HAProxy", "nginx": "Nginx", "mysql": "MySQL"}
"""What people call a service; others keep their unit's name."""

PLANNED = "planned"
"""The state of a machine in the picture of a design, of which no lab has been asked."""


@dataclass(frozen=True)
class Program:
    """One program on a machine: how it is called, and ``active``, ``failed`` … or empty."""

    name: str
    state: str

    @property
    def bad(self) -> bool:
        """Whether it is known not to run."""
        return self.state not in ("", "active")


@dataclass(frozen=True)
class Box:
    """One machine.

    Args:
        name: of the machine.
        address: its own.
        state: ``running``, ``halted`` or ``absent``; `PLANNED` when none was asked.
        programs: what runs on it.
        note: what is special about it now: ``takes writes``, ``holds 192.168.56.100``.
    """

    name: str
    address: str
    state: str
    programs: tuple[Program, ...]
    note: str = ""

    @property
    def colour(self) -> str:
        """``green``: all well; ``orange``: something on it is not; ``red``: it does not run.

        ``grey``: it is only planned.
        """
        if self.state != "running":
            return "grey" if self.state == PLANNED else "red"
        return "orange" if any(p.bad for p in self.programs) else "green"


@dataclass(frozen=True)
class Layer:
    """Machines that do the same, and how the layer above talks to them."""

    role: str
    boxes: tuple[Box, ...]
    asked: str = ""

    @property
    def title(self) -> str:
        """What the machines are."""
        return TITLES[self.role]


@dataclass(frozen=True)
class Diagram:
    """A lab's picture.

    Args:
        title: lab and topology.
        site: the name that visitors type, and the address it stands for.
        layers: from visitors to data.
        replication: pairs of machine names, the source first.
    """

    title: str
    site: str
    layers: tuple[Layer, ...]
    replication: tuple[tuple[str, str], ...]

    def values(self) -> dict[str, Any]:
        """For programs: as it stands here, and the colour of each box."""
        found = asdict(self)
        for shown, layer in zip(found["layers"], self.layers, strict=True):
            for each, box in zip(shown["boxes"], layer.boxes, strict=True):
                each["colour"] = box.colour
        return found


def diagram(context: Context, seen: Seen) -> Diagram:
    """The picture of a lab as it is now."""
    lab = context.lab
    layers = []
    for role in (*LAYERS, ""):
        members = [m for m in lab.machines if _layer(m) == role]
        if members:
            boxes = tuple(_box(context, seen, m) for m in members)
            layers.append(Layer(role, boxes, _asked(lab, role)))
    primary = context.state.primary
    pairs = tuple((primary, m.name) for m in lab.with_role("mysql") if m.name != primary)
    title = f"lab {lab.name}: {lab.topology.name}, on {lab.network}"
    return Diagram(title, f"{lab.site} = {lab.address}", tuple(layers), pairs)


def design(context: Context) -> Diagram:
    """The picture of what a lab would be, whether or not there is one."""
    lab = context.lab
    picture = diagram(context, Seen({m.name: PLANNED for m in lab.machines}))
    return replace(picture, title=f"the design {lab.topology.name}, on {lab.network}")


def _layer(machine: Machine) -> str:
    return next((role for role in LAYERS if role in machine.roles), "")


def _asked(lab: Lab, role: str) -> str:
    """How the layer above talks to this one."""
    secure = lab.topology.https
    above = {
        "haproxy": "HTTPS, port 443" if secure else "HTTP, port 80",
        "nginx": "HTTPS, verified" if secure and lab.with_role("haproxy") else "HTTP, port 80",
        "app": "HTTPS to gunicorn" if secure else "HTTP to gunicorn",
        "mysql": "MySQL over TLS, port 3306",
        "": "",
    }
    return above[role]


def _box(context: Context, seen: Seen, machine: Machine) -> Box:
    answers = seen.answers.get(machine.name, {}).get("service", [])
    names = (*roles.services(machine), *autopromote.services(context, machine))
    states = (
        [a["ActiveState"] for a in answers] if len(answers) == len(names) else [""] * len(names)
    )
    programs = []
    for unit, state in reversed(list(zip(names, states, strict=True))):  # outermost first
        short = unit.removesuffix(".service")
        programs.append(Program(SHOWN.get(short, short), state))
    notes = []
    if "mysql" in machine.roles:
        leads = machine.name == context.state.primary
        notes.append("takes writes" if leads else "replica")
    shared = context.lab.topology.virtual_address
    if shared is not None and "keepalived" in machine.roles and seen.holds(machine.name, shared):
        notes.append(f"holds {shared}")
    programs.sort(key=lambda program: program.name not in SHOWN.values())
    state = seen.states.get(machine.name, "absent")
    return Box(machine.name, str(machine.address), state, tuple(programs), ", ".join(notes))
