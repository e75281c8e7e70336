"""The named checks of a running lab: one list for lab.check, lab.up, the smoke tests and drills.

Each is a pure function of what `ops.observe` saw. A check that fails blames one machine and one
service, says what it expected and what it got, and gives the next command to type.
"""

from __future__ import annotations

from dataclasses import replace

from provision.checks import automatic, monitored, secured, usual
from provision.checks.base import Check, Result, Verdict
from provision.checks.observation import Seen
from provision.checks.usual import DISK, LAG, balancer_view, database, server_stats
from provision.core.errors import for_lab
from provision.engine.context import Context

__all__ = [
    "DISK",
    "LAG",
    "Check",
    "Result",
    "Verdict",
    "balancer_view",
    "checks",
    "database",
    "judge",
    "server_stats",
]


def judge(context: Context, seen: Seen) -> tuple[Result, ...]:
    """Every check of the lab against what was seen."""
    return tuple(Result(check, check.judge(seen)) for check in checks(context))


def checks(context: Context) -> tuple[Check, ...]:
    """The checks of a lab: those that every lab has, then those of what its topology adds."""
    found = [
        *usual.checks(context),
        *secured.checks(context),
        *automatic.checks(context),
    ]
    found += monitored.checks(context, found)
    return tuple(replace(c, next=for_lab(c.next, context.lab.name)) for c in found)
