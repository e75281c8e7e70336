"""`scripts/bench faults`: every fault on one lab, and one table of what its users have seen."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console

from provision.commands import show
from tests.live.conftest import RunningLab
from tests.live.faults.faults import FAULTS, NotHereError, Row, measure

HEADER = (
    "FAULT",
    "SENT",
    "READS FAILED",
    "WRITES REFUSED",
    "WORST READ",
    "WORST WRITE",
    "NO WRITES FOR",
    "ACKNOWLEDGED",
    "MISSING",
    "DOUBLED",
)


def cells(row: Row) -> list[str]:
    """A row of the table."""
    stream = row.stream
    return [
        row.fault.name,
        str(stream.sent),
        f"{len(stream.failures)} of {stream.reads}",
        f"{len(stream.refusals)} of {stream.writes}",
        f"{stream.worst_read:.2f} s",
        f"{stream.worst_write:.2f} s",
        f"{stream.pause:.2f} s",
        str(len(stream.acknowledged)),
        str(row.missing),
        str(row.doubled),
    ]


def main(words: Iterable[str]) -> int:
    """Run the faults whose names hold one of the words (all without words) and print the table.

    Returns:
        1 when an acknowledged write is missing or doubled, or a read failed needlessly.
    """
    wanted = tuple(words)
    lab = RunningLab("bench-faults")
    rows: list[list[str]] = []
    bad = 0
    try:
        lab.up()
        for fault in FAULTS:
            if wanted and not any(word in fault.name for word in wanted):
                continue
            print(fault.name, file=sys.stderr, flush=True)
            try:
                row = measure(lab, fault)
            except NotHereError as error:
                rows.append([fault.name, f"not here: {error}"])
                continue
            rows.append(cells(row))
            for at, what in (*row.stream.failures[:3], *row.stream.refusals[:3]):
                print(f"  at {at:.2f} s: {what.strip()}", file=sys.stderr, flush=True)
            bad += row.missing + row.doubled + (0 if fault.both else len(row.stream.failures))
    finally:
        lab.destroy()
        show.grid(Console(width=160, highlight=False), HEADER, rows)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
