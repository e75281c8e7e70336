"""`scripts/bench faults`: every fault on one lab, and one table of the results."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console

from provision.commands import tables
from tests.live.conftest import RunningLab
from tests.live.faults.faults import FAULTS, Outcome, UnsupportedFaultError, measure

LAYOUT = tables.layout(
    "faults",
    tables.Column("FAULT"),
    tables.Column("SENT"),
    tables.Column("FAILED READS"),
    tables.Column("FAILED WRITES"),
    tables.Column("WORST READ"),
    tables.Column("WORST WRITE"),
    tables.Column("WRITE OUTAGE"),
    tables.Column("ACKNOWLEDGED"),
    tables.Column("LOST"),
    tables.Column("DUPLICATED"),
)


def cells(outcome: Outcome) -> list[str]:
    """The cells of one row."""
    result = outcome.result
    return [
        outcome.fault.name,
        str(result.sent),
        f"{len(result.failures)} of {result.reads}",
        f"{len(result.refusals)} of {result.writes}",
        f"{result.worst_read:.2f} s",
        f"{result.worst_write:.2f} s",
        f"{result.pause:.2f} s",
        str(len(result.acknowledged)),
        str(outcome.missing),
        str(outcome.duplicated),
    ]


def main(patterns: Iterable[str]) -> int:
    """Run the faults whose names contain one of the patterns (default: all) and print the table.

    Returns:
        1 if an acknowledged write is lost or duplicated, or a read failed without a full outage.
    """
    selected = tuple(patterns)
    lab = RunningLab("bench-faults")
    rows: list[list[str]] = []
    violations = 0
    try:
        lab.up()
        for fault in FAULTS:
            if selected and not any(pattern in fault.name for pattern in selected):
                continue
            print(fault.name, file=sys.stderr, flush=True)
            try:
                outcome = measure(lab, fault)
            except UnsupportedFaultError as error:
                rows.append([fault.name, f"not supported: {error}"])
                continue
            rows.append(cells(outcome))
            for at, what in (*outcome.result.failures[:3], *outcome.result.refusals[:3]):
                print(f"  at {at:.2f} s: {what.strip()}", file=sys.stderr, flush=True)
            failures = 0 if fault.outage else len(outcome.result.failures)
            violations += outcome.missing + outcome.duplicated + failures
    finally:
        lab.destroy()
        tables.show(Console(width=160, highlight=False), LAYOUT, rows)
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
