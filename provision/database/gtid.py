"""Sets of transactions, as MySQL writes them and as they are counted here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gtids:
    """A GTID set: by source, the intervals of its transactions (the manual, "GTID Sets")."""

    sets: Mapping[str, tuple[tuple[int, int], ...]]

    @classmethod
    def parse(cls, text: str) -> Gtids:
        """Understand MySQL's notation: ``uuid:1-5:7,uuid:tag:1-3``."""
        sets: dict[str, list[tuple[int, int]]] = {}
        for part in text.replace("\n", "").split(","):
            source, *pieces = part.strip().split(":")
            key = source
            for piece in pieces:
                first, _, last = piece.partition("-")
                if first.isdigit():
                    sets.setdefault(key, []).append((int(first), int(last or first)))
                else:
                    key = f"{source}:{piece}"
        return cls({key: _merged(each) for key, each in sorted(sets.items())})

    @property
    def count(self) -> int:
        """How many transactions."""
        return sum(last - first + 1 for each in self.sets.values() for first, last in each)

    def __str__(self) -> str:
        return ",".join(
            ":".join([key, *(f"{a}-{b}" if b > a else str(a) for a, b in each)])
            for key, each in self.sets.items()
        )


def _merged(intervals: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted, and those that touch or overlap as one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def subtract(these: str, those: str) -> Gtids:
    """The transactions of the first set that are not in the second (GTID_SUBTRACT)."""
    mine, other = Gtids.parse(these), Gtids.parse(those)
    left: dict[str, tuple[tuple[int, int], ...]] = {}
    for key, intervals in mine.sets.items():
        rest = list(intervals)
        for low, high in other.sets.get(key, ()):
            cut: list[tuple[int, int]] = []
            for first, last in rest:
                if last < low or first > high:
                    cut.append((first, last))
                    continue
                if first < low:
                    cut.append((first, low - 1))
                if last > high:
                    cut.append((high + 1, last))
            rest = cut
        if rest:
            left[key] = tuple(rest)
    return Gtids(left)
