"""Lay a diagram out: tiers as columns, from the clients on the left to the data.

Landscape, for slides. A column is as wide as its longest line; labels of connections stand above
the arrows, so that nothing overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from provision.teaching.diagram import Diagram, Layer, MachineBox, ProgramState
from provision.teaching.drawing import (
    DATA,
    QUIET,
    Arrow,
    Drawing,
    Rectangle,
    Shape,
    Words,
    text_width,
)

MARGIN, TOP, HEAD, LINE = 36, 132, 58, 24
"""Outer margin, space above the boxes, height of a box's header, height of a line of text."""

WIDE, HIGH = 16, 9
"""Aspect ratio of a slide."""

BELOW, ACROSS, BESIDE = 62, 130, 13
"""Distance between boxes of a column, columns (at least), and arrows at the same box."""

COLORS: Mapping[str, tuple[str, str, str]] = {
    "green": ("#2e7d32", "#eaf5ea", "healthy"),
    "orange": ("#b25a00", "#fff1dc", "running, a service is down"),
    "red": ("#c62828", "#fdeaea", "not running"),
    "grey": ("#5f6b7a", "#f1f3f5", "planned: not running"),
}
"""Strong color, pale color and meaning; each box shows its state as text, too."""


class Place(NamedTuple):
    """Position and size of a box."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Right side."""
        return self.x + self.width

    @property
    def middle(self) -> float:
        """Vertical center."""
        return self.y + self.height / 2


def drawing(picture: Diagram) -> Drawing:
    """A diagram as shapes."""
    tall = max(len(layer.boxes) * (_height(layer) + BELOW) - BELOW for layer in picture.layers)
    name, _, address = picture.site.partition(" = ")
    sources = [Place(MARGIN, TOP + tall / 2 - 33, text_width(name, 17, bold=True) + 36, 66)]
    shapes = list(_clients(sources[0], name, address))
    positions: dict[str, Place] = {}
    for layer in picture.layers:
        label = layer.connection.split(", ") if layer.connection else []
        across = max([ACROSS, *(text_width(line, 14) + 28 for line in label)])
        left = sources[0].right + across
        for number, line in enumerate(reversed(label)):
            shapes.append(Words(left - across / 2, TOP - 16 - 18 * number, line, 14, QUIET))
        places = list(_column(layer, left, TOP + tall / 2))
        middle = left + places[0].width / 2
        shapes.append(Words(middle, TOP - 16, layer.title.title(), 15, QUIET, bold=True))
        for box, place in zip(layer.boxes, places, strict=True):
            shapes += _box(box, place)
            positions[box.name] = place
        if layer.connection:
            shapes += _arrows(sources, places)
        sources = places
    for number, (source, target) in enumerate(picture.replication):
        if source in positions and target in positions:
            shapes += _replication(
                positions[source], positions[target], list(positions.values()), number
            )
    shapes += _legend(picture, TOP + tall + 52)
    title = Words(0, 48, picture.title, 22, bold=True)
    width = max(*(shape.right for shape in shapes), 2 * title.right + MARGIN) + MARGIN
    heading = Words(width / 2, 48, picture.title, 22, bold=True)
    return _slide(width, TOP + tall + 52 + MARGIN, (heading, *shapes))


def _slide(width: float, height: float, shapes: Sequence[Shape]) -> Drawing:
    """The shapes in the middle of a canvas of 16:9, which fills a slide."""
    unit = ceil(max(width / WIDE, height / HIGH))
    wide, high = unit * WIDE, unit * HIGH
    right, down = (wide - width) / 2, (high - height) / 2
    return Drawing(wide, high, tuple(_moved(shape, right, down) for shape in shapes))


def _moved(shape: Shape, right: float, down: float) -> Shape:
    if isinstance(shape, Arrow):
        return replace(shape, points=tuple((x + right, y + down) for x, y in shape.points))
    return replace(shape, x=shape.x + right, y=shape.y + down)


def _clients(place: Place, name: str, address: str) -> Iterator[Shape]:
    middle = place.x + place.width / 2
    yield Rectangle(*place, "#eef3fb", 33, "#3b6db3")
    yield Words(middle, place.middle - 5, name, 17, bold=True)
    yield Words(middle, place.middle + 17, address, 14, QUIET)
    yield Words(middle, TOP - 16, "Clients", 15, QUIET, bold=True)


# --- boxes ---------------------------------------------------------------------------------------


def _program_text(program: ProgramState) -> str:
    return f"{program.name}: {program.state}" if program.bad else program.name


def _address_text(box: MachineBox) -> str:
    return f"{box.address} · {box.state}"


def _height(layer: Layer) -> float:
    lines = max(len(box.programs) + bool(box.note) for box in layer.boxes)
    return HEAD + 14 + LINE * lines


def _width(box: MachineBox) -> float:
    return max(
        text_width(box.name, 18, bold=True),
        text_width(_address_text(box), 14),
        text_width(box.note, 15),
        *(text_width(_program_text(program), 15, program.bad) for program in box.programs),
    )


def _column(layer: Layer, left: float, middle: float) -> Iterator[Place]:
    """The positions of a layer's boxes, one below the other."""
    height = _height(layer)
    width = max(
        210.0, *(_width(box) + 28 for box in layer.boxes), text_width(layer.title, 15, True)
    )
    top = middle - (len(layer.boxes) * (height + BELOW) - BELOW) / 2
    for number in range(len(layer.boxes)):
        yield Place(left, top + number * (height + BELOW), width, height)


def _box(box: MachineBox, place: Place) -> Iterator[Shape]:
    strong, pale, _ = COLORS[box.color]
    x, y, width, height = place
    middle = x + width / 2
    yield Rectangle(x, y, width, height, strong, 10)
    yield Rectangle(x + 3, y + HEAD, width - 6, height - HEAD - 3, pale, 8)
    yield Words(middle, y + 26, box.name, 18, "#ffffff", bold=True)
    yield Words(middle, y + 47, _address_text(box), 14, "#ffffff")
    y += HEAD
    for program in box.programs:
        y += LINE
        if program.bad:
            yield Words(middle, y, _program_text(program), 15, COLORS["red"][0], bold=True)
        else:
            yield Words(middle, y, program.name)
    if box.note:
        yield Words(middle, y + LINE, box.note, 15, DATA)


# --- arrows --------------------------------------------------------------------------------------


def _arrows(sources: Sequence[Place], targets: Sequence[Place]) -> Iterator[Shape]:
    """From each box of a column to each of the next; no two share a start or an end."""
    for i, source in enumerate(sources):
        for j, target in enumerate(targets):
            start = source.middle + BESIDE * (j - (len(targets) - 1) / 2)
            end = target.middle + BESIDE * (i - (len(sources) - 1) / 2)
            yield Arrow(((source.right + 3, start), (target.x - 4, end)))


def _replication(
    source: Place, target: Place, boxes: Sequence[Place], number: int
) -> Iterator[Shape]:
    """Straight to a neighbor, around the column to a box further away, or across columns."""
    middle = source.x + source.width / 2
    if source.x != target.x:
        ahead = source.x < target.x
        x1, x2 = (source.right + 3, target.x - 4) if ahead else (source.x - 3, target.right + 4)
        y1, y2 = (place.y + place.height - 16 for place in (source, target))
        yield Arrow(((x1, y1), (x2, y2)), DATA, dashed=True)
        yield Words((x1 + x2) / 2, max(y1, y2) + 22, "replicates", 14, DATA)
        return
    low, high = sorted((source, target), key=lambda place: -place.y)
    between = [p for p in boxes if p.x == source.x and high.y < p.y < low.y]
    if not between:
        down = source is high
        y1 = source.y + source.height + 3 if down else source.y - 3
        y2 = target.y - 4 if down else target.y + target.height + 4
        yield Arrow(((middle, y1), (middle, y2)), DATA, dashed=True)
        yield Words(middle + 12, (y1 + y2) / 2 + 5, "replicates", 14, DATA, left=True)
        return
    lane = source.right + 18 + 14 * number
    y1, y2 = source.y + source.height - 16, target.y + target.height - 16
    points = ((source.right + 3, y1), (lane, y1), (lane, y2), (target.right + 4, y2))
    yield Arrow(points, DATA, dashed=True)


# --- legend --------------------------------------------------------------------------------------


def _legend(picture: Diagram, y: float) -> Iterator[Shape]:
    """The meaning of the colors: grey for a planned topology, the others for a lab."""
    used = {box.color for layer in picture.layers for box in layer.boxes}
    x = float(MARGIN)
    for name, (strong, _, meaning) in COLORS.items():
        if (name == "grey") == ("grey" in used):
            yield Rectangle(x, y - 13, 16, 16, strong, 4)
            yield Words(x + 24, y, meaning, 14, QUIET, left=True)
            x += 24 + text_width(meaning, 14) + 24
