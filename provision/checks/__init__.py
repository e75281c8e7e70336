"""The checks of a running lab: one list for lab.up, lab.check, tests and alerts.

One module per concept. A check judges an `Observation` without further requests; a check that fails
names machine and service, says what was expected and what was found, and gives a command to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provision.checks import (
    addresses,
    answers,
    application,
    balancer,
    ceilings,
    contents,
    database,
    database_settings,
    declared,
    distribution,
    drift,
    failover,
    firewall,
    growth,
    history,
    machines,
    monitoring,
    names,
    own_application,
    replication,
    settings,
    tls,
    units,
    web,
)
from provision.checks.base import Check, CheckResult
from provision.checks.graph import RootCause, evaluate, root_causes, summary
from provision.checks.observation import Observation
from provision.core.hints import for_lab
from provision.core.lab import Machine
from provision.engine.agent.protocol import Probe
from provision.engine.check import Verdict
from provision.engine.context import Context

__all__ = [
    "Check",
    "CheckResult",
    "RootCause",
    "Verdict",
    "checks",
    "judge",
    "probes",
    "root_causes",
    "status_probes",
    "summary",
]

LISTED = (
    addresses,
    machines,
    ceilings,
    drift,
    units,
    history,
    growth,
    declared,
    database,
    database_settings,
    replication,
    answers,
    application,
    contents,
    balancer,
    web,
    distribution,
    names,
    tls,
    firewall,
    failover,
    settings,
)
"""Modules with checks, in the order of results; monitoring follows."""

WITHOUT_PROBES = (web, distribution, names, settings)
"""Modules that judge only requests of the controller, or its record."""

PROBED = (*(module for module in LISTED if module not in WITHOUT_PROBES), monitoring)
"""Modules with probes on machines."""


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """What the checks need to know of one machine."""
    for module in PROBED:
        yield from module.probes(context, machine)


def status_probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """What `lab.status` shows of one machine: a few of all probes, and no drift."""
    for module in (machines, units, database, replication, balancer):
        yield from module.probes(context, machine)


def checks(context: Context) -> tuple[Check, ...]:
    """All checks of a lab."""
    listed = [check for module in LISTED for check in module.checks(context)]
    listed += monitoring.checks(context, [check.name for check in listed])
    listed = [own_application.applicable(context, check) for check in listed]
    return tuple(_for_lab(check, context.lab.name) for check in listed)


def _for_lab(check: Check, lab: str) -> Check:
    """The check with commands that name its lab."""

    def judge(observation: Observation) -> Verdict:
        verdict = check.judge(observation)
        return replace(verdict, hint=for_lab(verdict.hint, lab)) if verdict.hint else verdict

    return replace(check, hint=for_lab(check.hint, lab), judge=judge)


def judge(context: Context, observation: Observation) -> tuple[CheckResult, ...]:
    """The results of all checks."""
    return evaluate(checks(context), observation)
