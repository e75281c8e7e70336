"""`lab.doctor --host`: which providers this host supports, in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provision.core.lab import Lab
from provision.providers import choice, provider
from provision.providers.base import PreflightProblem


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        provider: empty on further rows of the same provider.
        severity: ``ready``, ``missing`` or ``note``.
    """

    provider: str
    severity: str
    what: str = ""
    hint: str = ""


HEADER = ("PROVIDER", "", "WHAT", "FIX")


def rows(name: str, problems: Sequence[PreflightProblem], good: str) -> list[Row]:
    """The rows of one provider; `good` describes it when no problem is fatal."""
    table = []
    if not any(problem.fatal for problem in problems):
        table.append(Row(name, "ready", good))
    for problem in sorted(problems, key=lambda p: not p.fatal):
        severity = "missing" if problem.fatal else "note"
        table.append(Row("" if table else name, severity, problem.what, problem.hint))
    return table


def host(
    lab: Lab, system: str = choice.SYSTEMS.get(sys.platform, "Linux")
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
    }
    for name, (good, preflight) in preflights.items():
        if name == "lxc" and system != "Linux":
            what = f"containers require Linux, and this is {system}"
            table.append(Row(name, "missing", what, "use the provider vagrant"))
        else:
            table += rows(name, preflight(), good)
    table.append(Row("ssh", "ready", "existing machines; lab.up --provider ssh checks each"))
    return table, choice.select(choice.detect())
