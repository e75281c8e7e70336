"""Slopes of what was sampled over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

WARM_UP = 0.25
"""The first part of a run, in which caches fill."""


@dataclass
class Series:
    """The values of one metric: pairs of seconds and value."""

    points: list[tuple[float, float]] = field(default_factory=list)

    @property
    def settled(self) -> list[tuple[float, float]]:
        """Without the warm-up."""
        return self.points[int(len(self.points) * WARM_UP) :]

    @property
    def per_hour(self) -> float:
        """The slope of the least-squares line after the warm-up; 0 with fewer than three points."""
        return slope(self.settled) * 3600


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the least-squares line through some points."""
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def table(series: dict[tuple[str, str, str], Series]) -> list[str]:
    """One line per series: machine, what, metric, first and last value, slope per hour."""
    lines = [f"{'machine':<9}{'what':<34}{'metric':<13}{'first':>10}{'last':>10}{'per hour':>12}"]
    for (machine, what, metric), each in sorted(series.items()):
        if not each.points:
            continue
        first, last = each.settled[0][1], each.settled[-1][1]
        lines.append(
            f"{machine:<9}{what[:33]:<34}{metric:<13}{first:>10.0f}{last:>10.0f}{each.per_hour:>+12.1f}"
        )
    return lines
