"""GTID sets: parsing MySQL's notation and set arithmetic, on machines and on the controller.

Source: the MySQL manual, "GTID Format and Storage".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Intervals = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GtidSet:
    """A set of transactions; ``a - b`` and ``a | b`` as GTID_SUBTRACT and GTID_ADD would do.

    Args:
        text: MySQL's notation, ``uuid:1-5:7,uuid:tag:1-3``; it is normalized on construction, so
            that equal sets compare equal.
    """

    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _format(_parse(self.text)))

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.text)

    def __sub__(self, other: GtidSet) -> GtidSet:
        removed = _parse(other.text)
        return GtidSet(
            _format(
                {
                    source: _subtract(intervals, removed.get(source, ()))
                    for source, intervals in _parse(self.text).items()
                }
            )
        )

    def __or__(self, other: GtidSet) -> GtidSet:
        return GtidSet(f"{self.text},{other.text}")

    @property
    def count(self) -> int:
        """Number of transactions."""
        return sum(
            last - first + 1
            for intervals in _parse(self.text).values()
            for first, last in intervals
        )

    @property
    def last_of_each_source(self) -> GtidSet:
        """The newest transaction of each server."""
        last = {source: intervals[-1][1] for source, intervals in _parse(self.text).items()}
        return GtidSet(",".join(f"{source}:{number}" for source, number in last.items()))

    def without_source(self, uuid: str) -> GtidSet:
        """The transactions that did not originate on the server with this UUID."""
        parts = self.text.split(",")
        return GtidSet(",".join(part for part in parts if part.partition(":")[0] != uuid))


def _parse(text: str) -> dict[str, Intervals]:
    """The merged intervals of each source; the key is ``uuid`` or ``uuid:tag``."""
    intervals: dict[str, list[tuple[int, int]]] = {}
    for part in text.replace("\n", "").split(","):
        uuid, *pieces = part.strip().split(":")
        source = uuid
        for piece in pieces:
            first, _, last = piece.partition("-")
            if first.isdigit():
                intervals.setdefault(source, []).append((int(first), int(last or first)))
            else:
                source = f"{uuid}:{piece}"
    return {source: _merge(pairs) for source, pairs in sorted(intervals.items())}


def _format(sources: Mapping[str, Intervals]) -> str:
    return ",".join(
        ":".join([source, *(f"{a}-{b}" if b > a else str(a) for a, b in intervals)])
        for source, intervals in sources.items()
        if intervals
    )


def _merge(intervals: list[tuple[int, int]]) -> Intervals:
    """Sort; join intervals that touch or overlap."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _subtract(intervals: Intervals, removed: Intervals) -> Intervals:
    rest = list(intervals)
    for low, high in removed:
        pieces: list[tuple[int, int]] = []
        for first, last in rest:
            if last < low or first > high:
                pieces.append((first, last))
                continue
            if first < low:
                pieces.append((first, low - 1))
            if last > high:
                pieces.append((high + 1, last))
        rest = pieces
    return tuple(rest)
