"""The checks of a running lab: one list for lab.up, lab.check, tests and alerts.

One module per concept. A check judges an `Observation` without further requests; a check that fails
names machine and service, says what was expected and what was found, and gives a command to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provision.checks import (
    application,
    balancer,
    database,
    declared,
    failover,
    firewall,
    machines,
    monitoring,
    names,
    replication,
    tls,
    web,
)
from provision.checks.base import Check, CheckResult
from provision.checks.observation import Observation
from provision.core.hints import for_lab
from provision.core.lab import Machine
from provision.engine.agent.protocol import Probe
from provision.engine.check import Verdict
from provision.engine.context import Context

__all__ = ["Check", "CheckResult", "Verdict", "checks", "judge", "probes"]

PROBED = (machines, declared, database, application, balancer, tls, firewall, failover, monitoring)
"""Modules with probes on machines; the others judge requests of the controller."""

LISTED = (
    machines,
    declared,
    database,
    replication,
    application,
    web,
    balancer,
    names,
    tls,
    firewall,
    failover,
)
"""Modules with checks, in the order of results; monitoring follows."""


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """What the checks need to know of one machine."""
    for module in PROBED:
        yield from module.probes(context, machine)


def checks(context: Context) -> tuple[Check, ...]:
    """All checks of a lab."""
    listed = [check for module in LISTED for check in module.checks(context)]
    listed += monitoring.checks(context, [check.name for check in listed])
    return tuple(replace(c, hint=for_lab(c.hint, context.lab.name)) for c in listed)


def judge(context: Context, observation: Observation) -> tuple[CheckResult, ...]:
    """The results of all checks."""
    return tuple(CheckResult(check, check.judge(observation)) for check in checks(context))
