"""Drift: what differs from the desired state, and processes that are older than their files.

The read-only plan of every machine, judged per service. What other checks judge is left out: that
services run, and the state of replication.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine import plan as planning
from provision.engine.agent.protocol import Probe, Results
from provision.engine.context import Context
from provision.engine.plan import Change, Difference, Unit, UnitPlan
from provision.engine.resources import Service
from provision.engine.role import Role

EXPECTED = "as lab.up configures it"
SYSTEM = "system"
DETAIL_LINES = 12


@dataclass(frozen=True)
class Drifted:
    """One resource of a service that differs, as text."""

    service: str
    resource: str
    lines: tuple[str, ...]


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Those of the plan."""
    yield from planning.probes(context.desired(machine))


def checks(context: Context) -> Iterator[Check]:
    """Drift of each service and of the rest, then processes that have to restart."""
    for machine in context.lab.machines:
        for service in services(context, machine):
            yield _drift(context, machine, service)
        for _, unit in context.desired_by_role(machine):
            if unit.restartable:
                yield _restart_required(context, machine, unit)


def services(context: Context, machine: Machine) -> tuple[str, ...]:
    """What the machine's drift is attributed to: ``system``, ``network``, and its services."""
    declared = (service_of(context, machine, r, u) for r, u in context.desired_by_role(machine))
    return tuple(dict.fromkeys([SYSTEM, "network", *declared]))


def service_of(context: Context, machine: Machine, role: Role, unit: Unit) -> str:
    """The service at fault when a unit drifts, without ``.service``; `SYSTEM` for none."""
    if unit.service:
        return unit.service.removesuffix(".service")
    return (role.short_service if role.on(context, machine) else "") or SYSTEM


# --- plans ---------------------------------------------------------------------------------------

_plans: WeakKeyDictionary[Results, tuple[tuple[Role, UnitPlan], ...]] = WeakKeyDictionary()


def unit_plans(
    context: Context, machine: Machine, results: Results
) -> tuple[tuple[Role, UnitPlan], ...]:
    """The plan of a machine, with the role of each unit; made once per results."""
    if results not in _plans:
        declared = context.desired_by_role(machine)
        planned = planning.plan(machine.name, (unit for _, unit in declared), results)
        roles = (role for role, _ in declared)
        _plans[results] = tuple(zip(roles, planned.units, strict=True))
    return _plans[results]


def no_difference(context: Context, observation: Observation) -> bool:
    """Whether the plans of all machines are known and empty, so that lab.up would do nothing."""
    return all(
        machine.name in observation.results
        and all(
            unit_plan.empty
            for _, unit_plan in unit_plans(context, machine, observation.results[machine.name])
        )
        for machine in context.lab.machines
    )


def drift(context: Context, machine: Machine, results: Results) -> Iterator[Drifted]:
    """Everything that differs."""
    for role, unit_plan in unit_plans(context, machine, results):
        service = service_of(context, machine, role, unit_plan.unit)
        for change in unit_plan.changes:
            for difference in change.differences:
                if not _judged_elsewhere(change, difference):
                    yield _drifted(context, machine, service, change, difference)


def _judged_elsewhere(change: Change, difference: Difference) -> bool:
    resource = change.resource
    return resource.runtime or (isinstance(resource, Service) and resource.running)


def _drifted(
    context: Context, machine: Machine, service: str, change: Change, difference: Difference
) -> Drifted:
    resource = change.resource
    if package := resource.package_of(difference.key):
        service = _user_of(context, machine, package)
    return Drifted(
        resource.service_of(difference.key) or service,
        resource.name,
        difference_lines(difference),
    )


def _user_of(context: Context, machine: Machine, package: str) -> str:
    """The service that needs a package, or has its name."""
    for role in context.roles_of(machine):
        needed = role.packages(context, machine)
        if role.service and package in (*needed.packages, *needed.sid, role.short_service):
            return role.short_service
    return SYSTEM


def difference_lines(difference: Difference) -> tuple[str, ...]:
    """A difference in one line, or in several when a text differs."""
    before = difference.before or "(none)"
    if difference.secret:
        return (f"{difference.key}: changed (hidden)",)
    if "\n" not in before and "\n" not in difference.after:
        return (f"{difference.key}: {before}, expected {difference.after}",)
    old, new = before.splitlines(), difference.after.splitlines()
    actual = [f"found     {line}" for line in old if line not in new]
    missing = [f"expected  {line}" for line in new if line not in old]
    return (f"{difference.key} differs", *actual, *missing)


# --- checks --------------------------------------------------------------------------------------


def _drift(context: Context, machine: Machine, service: str) -> Check:
    name = machine.name

    def judge(observation: Observation) -> Verdict:
        results = observation.results.get(name)
        if results is None:
            return Verdict(False, EXPECTED, UNKNOWN)
        differences = [d for d in drift(context, machine, results) if d.service == service]
        if not differences:
            return Verdict(True, EXPECTED, EXPECTED)
        lines = [f"{d.resource}: {line}" for d in differences for line in d.lines]
        shown = context.secrets.redact("\n".join(lines[:DETAIL_LINES]))
        first = context.secrets.redact(f"{differences[0].resource}: {differences[0].lines[0]}")
        others = len(differences) - 1
        cause = f"{first}; and {others} more" if others else first
        got = f"{len(differences)} differences" if others else first
        return Verdict(False, EXPECTED, got, shown, cause=f"{service}: {cause}")

    blocking = requires.machine(name)
    return Check(f"drift/{name}/{service}", name, service, HINT, judge, blocking)


HINT = "invoke lab.plan shows it, then invoke lab.up repairs it"


def _restart_required(context: Context, machine: Machine, unit: Unit) -> Check:
    name, service = machine.name, unit.service.removesuffix(".service")
    expected = "started or reloaded after the last change of its files"

    def judge(observation: Observation) -> Verdict:
        results = observation.results.get(name)
        if results is None:
            return Verdict(False, expected, UNKNOWN)
        planned = {p.unit.name: p for _, p in unit_plans(context, machine, results)}[unit.name]
        if not planned.needs_reload:
            return Verdict(True, expected, expected)
        what = planned.outdated or "its configuration"
        got = f"{what} was changed since"
        return Verdict(False, expected, got, cause=f"{service} runs with older files than {what}")

    blocking = (*requires.configured(name, service), f"service/{name}/{service}")
    return Check(
        f"restart-required/{name}/{service}", name, service, "invoke lab.up", judge, blocking
    )
