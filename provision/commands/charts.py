"""Sparklines and bar charts of block characters for a terminal. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"

Values = Sequence[float | None]
"""One value per step, oldest first; None for a missing one."""


def highest(lines: Iterable[Values]) -> float:
    """The largest value of several lines; 0 without values."""
    return max((v for line in lines for v in line if v is not None), default=0.0)


def ceiling(values: Values) -> float:
    """A round number from 1 on that no value exceeds: 1, 2 or 5 times a power of ten."""
    largest = max([v for v in values if v is not None], default=0.0)
    if largest <= 1:
        return 1.0
    size = 10.0 ** (len(str(int(largest))) - 1)
    while True:
        for factor in (1, 2, 5):
            if largest <= factor * size:
                return factor * size
        size *= 10


def spark(values: Values, top: float | None = None) -> str:
    """One character per value; a missing value is blank, zero is the lowest block.

    Args:
        top: value of a full block; the largest value by default.
    """
    full = top or max([v for v in values if v is not None], default=0.0) or 1.0
    text = ""
    for value in values:
        if value is None:
            text += " "
            continue
        text += BLOCKS[max(1, min(8, round(value / full * 8)))]
    return text


def bars(values: Values, height: int = 8, top: float | None = None) -> list[str]:
    """One bar per value, as lines of text from top to bottom.

    Args:
        height: in lines of eight steps each.
        top: value of the full height; a round number above all values by default.
    """
    full = top or ceiling(values)
    eighths = [
        0 if v is None else max(0, min(height * 8, round(v / full * height * 8))) for v in values
    ]
    # the smallest positive value is visible
    eighths = [1 if v and not e else e for v, e in zip(values, eighths, strict=True)]
    return [
        "".join(BLOCKS[max(0, min(8, each - row * 8))] for each in eighths)
        for row in reversed(range(height))
    ]


def number(value: float | None, unit: str = "") -> str:
    """A number with about three digits; ``-`` for None."""
    if value is None:
        return "-"
    text = f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.1f}" if value else "0"
    return f"{text}{unit}"


def seconds(value: float | None) -> str:
    """A duration such as ``3 ms`` or ``1.2 s``; ``-`` for None."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def axis(width: int, minutes: float) -> str:
    """The time axis below bars."""
    left = f"{minutes:g} min ago"
    return left + "now".rjust(max(1, width - len(left)))
