"""Checks that roles declare themselves (``Role.checks``): one probe, one verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.protocol import Probe
from provision.engine.check import ProbeCheck
from provision.engine.context import Context


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The probes of the machine's roles."""
    for role in context.roles_of(machine):
        for declared in role.checks(context, machine):
            yield declared.probe


def checks(context: Context) -> Iterator[Check]:
    """The checks of all machines' roles."""
    for machine in context.lab.machines:
        for role in context.roles_of(machine):
            for declared in role.checks(context, machine):
                yield _check(machine.name, role.short_service, declared)


def _check(machine: str, service: str, declared: ProbeCheck[Any]) -> Check:
    def judge(observation: Observation) -> Verdict:
        result = observation.result(machine, declared.probe)
        if result is None:
            return Verdict(False, "a result of the probe", UNKNOWN)
        return declared.judge(result)

    return Check(
        declared.name,
        machine,
        service,
        declared.hint,
        judge,
        declared.requires or requires.service(machine, service),
    )
