"""Lines and bars out of block characters, for a terminal. Pure functions: numbers in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"

Values = Sequence[float | None]
"""A value a step, oldest first; None where there is none."""


def highest(lines: Iterable[Values]) -> float:
    """The largest value of several lines; 0 when there is none."""
    return max((v for line in lines for v in line if v is not None), default=0.0)


def ceiling(values: Values, least: float = 1.0) -> float:
    """A round number that no value exceeds: 1, 2 or 5 times a power of ten."""
    largest = max([v for v in values if v is not None], default=0.0)
    if largest <= least:
        return least
    size = 10.0 ** (len(str(int(largest))) - 1) if largest >= 1 else 0.001
    while True:
        for factor in (1, 2, 5):
            if largest <= factor * size:
                return factor * size
        size *= 10


def spark(values: Values, top: float | None = None) -> str:
    """One character a value; a gap is a blank, zero the lowest block.

    Args:
        values: to draw.
        top: what a full block stands for; the largest value when left out.
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
    """A bar a value, as lines of text from the top down.

    Args:
        values: to draw.
        height: lines; each tells eight steps apart.
        top: what the full height stands for; a round number above all values when left out.
    """
    full = top or ceiling(values)
    eighths = [
        0 if v is None else max(0, min(height * 8, round(v / full * height * 8))) for v in values
    ]
    # what is not nothing is seen
    eighths = [1 if v and not e else e for v, e in zip(values, eighths, strict=True)]
    return [
        "".join(BLOCKS[max(0, min(8, each - row * 8))] for each in eighths)
        for row in reversed(range(height))
    ]


def number(value: float | None, unit: str = "") -> str:
    """A number in three digits or so; ``-`` for none."""
    if value is None:
        return "-"
    text = f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.1f}" if value else "0"
    return f"{text}{unit}"


def seconds(value: float | None) -> str:
    """A duration: ``3 ms``, ``1.2 s``; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def axis(width: int, minutes: float) -> str:
    """What stands below bars: how long ago, and now."""
    left = f"{minutes:g} min ago"
    return left + "now".rjust(max(1, width - len(left)))
