"""The topology as a picture: who stands where, what runs there, who asks whom, and how it is now.

`diagram` turns a lab and what was seen of it into boxes and arrows, as values; `svg` draws them for
slides, and provision/commands/explain.py in a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from provision import roles
from provision.lab import Lab, Machine
from provision.roles import autopromote
from provision.roles.base import Context
from provision.seen import Seen

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


@dataclass(frozen=True)
class Program:
    """One program on a machine: how it is called, and ``active``, ``failed`` … or empty."""

    name: str
    state: str


@dataclass(frozen=True)
class Box:
    """One machine.

    Args:
        name: of the machine.
        address: its own.
        state: ``running``, ``halted`` or ``absent``.
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
        """``green``: all well; ``orange``: something on it is not; ``red``: it does not run."""
        if self.state != "running":
            return "red"
        bad = any(p.state not in ("", "active") for p in self.programs)
        return "orange" if bad else "green"


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
    pairs = tuple((primary, m.name) for m in lab.having("mysql") if m.name != primary)
    title = f"lab {lab.name}: {lab.topology.name}, on {lab.network}"
    return Diagram(title, f"{lab.site} = {lab.address}", tuple(layers), pairs)


def _layer(machine: Machine) -> str:
    return next((role for role in LAYERS if role in machine.roles), "")


def _asked(lab: Lab, role: str) -> str:
    """How the layer above talks to this one."""
    secure = lab.topology.https
    above = {
        "haproxy": "HTTPS, port 443" if secure else "HTTP, port 80",
        "nginx": "HTTPS, verified" if secure and lab.having("haproxy") else "HTTP, port 80",
        "app": "HTTP to gunicorn",
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


# --- SVG -----------------------------------------------------------------------------------------

BOX, GAP, LINE, BETWEEN, MARGIN = 230, 70, 22, 84, 40
"""Pixels: a box's width, between boxes, a line of text, between layers, around everything."""

COLOURS: Mapping[str, tuple[str, str]] = {
    "green": ("#2e7d32", "#eaf5ea"),
    "orange": ("#c77700", "#fff4e0"),
    "red": ("#c62828", "#fdeaea"),
}
"""Border and ground; each state is also written in words, for those who cannot tell colours."""


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(words)}</text>'


def svg(picture: Diagram) -> str:
    """The picture as SVG 1.1: one file, no script, no font to load.

    Args:
        picture: from `diagram`.
    """
    widest = max(len(layer.boxes) for layer in picture.layers)
    width = max(2 * MARGIN + widest * BOX + (widest - 1) * GAP, 640)
    parts: list[str] = []
    middle = width / 2
    parts.append(_text(middle, 38, picture.title, 'class="title"'))
    y = 64.0
    pill = 60 + 10.2 * len(picture.site)
    parts.append(f'<rect x="{middle - pill / 2:.0f}" y="{y:.0f}" width="{pill:.0f}" ')
    parts[-1] += 'height="46" rx="23" fill="#eef3fb" stroke="#3b6db3" stroke-width="2"/>'
    parts.append(_text(middle, y + 28, picture.site, 'class="name"'))
    above = [(middle, y + 46)]
    y += 46
    place: dict[str, tuple[float, float, float]] = {}
    for layer in picture.layers:
        top = y + BETWEEN
        lines = max(len(box.programs) + bool(box.note) for box in layer.boxes)
        height = 66 + LINE * lines
        left = middle - (len(layer.boxes) * (BOX + GAP) - GAP) / 2
        below = []
        for number, box in enumerate(layer.boxes):
            x = left + number * (BOX + GAP)
            parts += _drawn(box, x, top, height)
            place[box.name] = (x, top, height)
            below.append((x + BOX / 2, top + height))
            if layer.asked:
                parts += [_arrow(a, (x + BOX / 2, top)) for a in above]
        if layer.asked:
            parts.append(_text(width - 12, top - 34, layer.asked, 'class="how"'))
        parts.append(_text(12, top - 10, layer.title, 'class="layer"'))
        above, y = below, top + height
    for source, target in picture.replication:
        parts += _replication(place.get(source), place.get(target))
    total = y + MARGIN
    return _SVG.format(width=round(width), height=round(total), body="\n".join(parts))


def _drawn(box: Box, x: float, y: float, height: float) -> list[str]:
    border, ground = COLOURS[box.colour]
    parts = [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX}" height="{height:.0f}" rx="10" '
        f'fill="{ground}" stroke="{border}" stroke-width="2.5"/>',
        _text(x + BOX / 2, y + 27, box.name, 'class="name"'),
        _text(x + BOX / 2, y + 48, f"{box.address} · {box.state}", 'class="address"'),
    ]
    for number, program in enumerate(box.programs, 1):
        bad = program.state not in ("", "active")
        words = f"{program.name}: {program.state}" if bad else program.name
        style = 'class="program bad"' if bad else 'class="program"'
        parts.append(_text(x + BOX / 2, y + 48 + LINE * number, words, style))
    if box.note:
        at = y + 48 + LINE * (len(box.programs) + 1)
        parts.append(_text(x + BOX / 2, at, box.note, 'class="note"'))
    return parts


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.0f}" y1="{y1 + 3:.0f}" x2="{x2:.0f}" y2="{y2 - 5:.0f}" '
        'stroke="#5a6472" stroke-width="1.8" marker-end="url(#head)"/>'
    )


def _replication(
    source: tuple[float, float, float] | None, target: tuple[float, float, float] | None
) -> list[str]:
    """A dashed arrow between two machines, from side to side at their lower halves."""
    if source is None or target is None:
        return []
    right = target[0] > source[0]
    x1 = source[0] + (BOX if right else 0)
    x2 = target[0] + (0 if right else BOX)
    y1, y2 = source[1] + source[2] - 24, target[1] + target[2] - 24
    sign = 1 if right else -1
    return [
        f'<line x1="{x1 + 3 * sign:.0f}" y1="{y1:.0f}" x2="{x2 - 7 * sign:.0f}" y2="{y2:.0f}" '
        'stroke="#6a4fb3" stroke-width="2" stroke-dasharray="6 4" marker-end="url(#data)"/>',
        _text((x1 + x2) / 2, (y1 + y2) / 2 + 20, "replicates", 'class="data"'),
    ]


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="system-ui, 'DejaVu Sans', Arial, sans-serif">
<defs>
<marker id="head" markerWidth="9" markerHeight="8" refX="7" refY="4" orient="auto">\
<path d="M0,0 L9,4 L0,8 z" fill="#5a6472"/></marker>
<marker id="data" markerWidth="9" markerHeight="8" refX="7" refY="4" orient="auto">\
<path d="M0,0 L9,4 L0,8 z" fill="#6a4fb3"/></marker>
<style>
text {{ text-anchor: middle; fill: #1d2430; font-size: 15px }}
.title {{ font-size: 19px; font-weight: 600 }}
.name {{ font-size: 17px; font-weight: 600 }}
.address {{ font-size: 13px; fill: #4a5464 }}
.bad {{ fill: #c62828; font-weight: 600 }}
.note {{ font-style: italic; fill: #4b3a86 }}
.layer {{ text-anchor: start; font-size: 13px; fill: #6b7686 }}
.how {{ text-anchor: end; font-size: 13px; fill: #6b7686 }}
.data {{ font-size: 12px; fill: #6a4fb3 }}
</style>
</defs>
<rect width="100%" height="100%" fill="#ffffff"/>
{body}
</svg>
"""
