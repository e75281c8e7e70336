"""Shapes of a drawing, which layout.py makes of a diagram, and svg.py and png.py render.

Lengths are pixels before scaling; the origin is the upper left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

INK, QUIET, WIRE, DATA = "#1d2430", "#4f5a6a", "#5a6472", "#6a4fb3"
"""Colors of text, secondary text, connections, and replication."""

REGULAR, BOLD = 0.61, 0.69
"""Mean letter width by font size in DejaVu Sans, the widest of the common fonts."""


@dataclass(frozen=True)
class Rectangle:
    """A filled area from its upper left corner; ``border`` colors a line inside the edge."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    radius: float = 0
    border: str = ""

    @property
    def right(self) -> float:
        """Right end."""
        return self.x + self.width


@dataclass(frozen=True)
class Arrow:
    """A line through two or more points (x, y), with a head at the last; dashed: replication."""

    points: tuple[tuple[float, float], ...]
    color: str = WIRE
    dashed: bool = False

    @property
    def right(self) -> float:
        """Right end."""
        return max(x for x, _ in self.points)


@dataclass(frozen=True)
class Words:
    """One line of text; ``y`` is its baseline, ``x`` its center or (``left``) its left end."""

    x: float
    y: float
    text: str
    size: float = 15
    color: str = INK
    bold: bool = False
    left: bool = False

    @property
    def right(self) -> float:
        """Right end at most, whatever font the viewer has."""
        return self.x + text_width(self.text, self.size, self.bold) / (1 if self.left else 2)


Shape: TypeAlias = Rectangle | Arrow | Words


@dataclass(frozen=True)
class Drawing:
    """A canvas and its shapes, from the lowest to the topmost."""

    width: int
    height: int
    shapes: tuple[Shape, ...]


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Upper estimate of a text's width."""
    return len(text) * size * (BOLD if bold else REGULAR)
