"""Pictures of a lab: a diagram is laid out as shapes once, and written as SVG or as PNG.

Lengths are pixels of a picture that is not scaled; the origin is the upper left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

INK, QUIET, WIRE, DATA = "#1d2430", "#4f5a6a", "#5a6472", "#6a4fb3"
"""Colours of text, of lesser text, of arrows, and of replication."""

REGULAR, BOLD = 0.61, 0.69
"""How wide a letter is on average, by its size, in the widest of the usual fonts (DejaVu Sans)."""


@dataclass(frozen=True)
class Rectangle:
    """A filled area with round corners.

    Args:
        x: of its left side.
        y: of its upper side.
        width: of all of it.
        height: of all of it.
        fill: its colour, as ``#rrggbb``.
        radius: of its corners.
        border: the colour of a line around it, inside; empty: none.
    """

    x: float
    y: float
    width: float
    height: float
    fill: str
    radius: float = 0
    border: str = ""

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.x + self.width


@dataclass(frozen=True)
class Arrow:
    """A line through points, with a head at the last.

    Args:
        points: at least two, as pairs of x and y.
        colour: as ``#rrggbb``.
        dashed: for data that is copied rather than asked for.
    """

    points: tuple[tuple[float, float], ...]
    colour: str = WIRE
    dashed: bool = False

    @property
    def right(self) -> float:
        """Where it ends."""
        return max(x for x, _ in self.points)


@dataclass(frozen=True)
class Words:
    """One line of text.

    Args:
        x: of its middle, or of its left end.
        y: of the line that letters stand on.
        text: what is written.
        size: of the font.
        colour: as ``#rrggbb``.
        bold: whether it stands out.
        left: whether ``x`` is its left end.
    """

    x: float
    y: float
    text: str
    size: float = 15
    colour: str = INK
    bold: bool = False
    left: bool = False

    @property
    def right(self) -> float:
        """Where it ends at most, whatever font a viewer has."""
        return self.x + wide(self.text, self.size, self.bold) / (1 if self.left else 2)


Shape: TypeAlias = Rectangle | Arrow | Words


@dataclass(frozen=True)
class Drawing:
    """A picture, ready to be written.

    Args:
        width: of the picture.
        height: likewise.
        shapes: from the lowest to the topmost.
    """

    width: int
    height: int
    shapes: tuple[Shape, ...]


def wide(text: str, size: float, bold: bool = False) -> float:
    """How wide a text may get, for leaving room."""
    return len(text) * size * (BOLD if bold else REGULAR)
