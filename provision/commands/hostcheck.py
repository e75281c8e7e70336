"""`lab.doctor --host`: which providers this host supports, in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from provision.commands import tables
from provision.commands.results import lab as results
from provision.core.lab import Lab
from provision.providers import provider
from provision.providers.base import PreflightProblem
from provision.setup import choice
from provision.setup.system import SYSTEMS

Severity = Literal["ready", "missing", "note"]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        provider: empty on further rows of the same provider.
        severity: ``ready``, ``missing`` or ``note``.
    """

    provider: str
    severity: Severity
    what: str = ""
    hint: str = ""


LAYOUT = tables.layout(
    "lab.doctor",
    tables.Column("PROVIDER"),
    tables.Column("STATE"),
    tables.Column("WHAT", prose=True),
    tables.Column("FIX", prose=True),
)


def rows(name: str, problems: Sequence[PreflightProblem], good: str) -> list[Row]:
    """The rows of one provider; `good` describes it when no problem is fatal."""
    table = []
    if not any(problem.fatal for problem in problems):
        table.append(Row(name, "ready", good))
    for problem in sorted(problems, key=lambda p: not p.fatal):
        severity: Severity = "missing" if problem.fatal else "note"
        table.append(Row("" if table else name, severity, problem.what, problem.hint))
    return table


def values(provider: str, reason: str, table: Sequence[Row]) -> results.Doctor:
    """The rows as JSON values.

    Args:
        provider: the one that is used, or that a new lab would use.
    """
    requirements, name = [], ""
    for row in table:
        name = row.provider or name
        requirements.append(
            results.Requirement(provider=name, severity=row.severity, what=row.what, next=row.hint)
        )
    ready = not any(r["provider"] == provider and r["severity"] == "missing" for r in requirements)
    return results.Doctor(
        provider=provider,
        reason=reason,
        ready=ready,
        requirements=requirements,
        paths=[],
        offline=[],
    )


def host(
    lab: Lab, system: str = SYSTEMS.get(sys.platform, "Linux")
) -> tuple[list[Row], tuple[str, str]]:
    """The preflights of all providers, and the provider of a new lab with the reason.

    Args:
        lab: whose disk space and network are checked.
        system: name of the operating system.
    """
    table: list[Row] = []
    preflights: dict[str, tuple[str, Callable[[], Sequence[PreflightProblem]]]] = {
        "lxc": ("system containers", lambda: provider("lxc").preflight(lab)),
        "vagrant": ("virtual machines", lambda: provider("vagrant").preflight(lab)),
        "incus": ("system containers of Incus", lambda: provider("incus").preflight(lab)),
    }
    for name, (good, preflight) in preflights.items():
        if name == "lxc" and system != "Linux":
            what = f"containers require Linux, and this is {system}"
            table.append(Row(name, "missing", what, "use the provider vagrant"))
        else:
            table += rows(name, preflight(), good)
    table.append(Row("ssh", "ready", "existing machines; lab.up --provider ssh checks each"))
    return table, choice.select(choice.detect())
