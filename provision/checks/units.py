"""Checks of every systemd unit that a lab or Debian needs, not only of the roles' services.

Timers, sockets and exporters, ssh and the journal's sockets; and all units that have failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.machines import judge_service
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.thresholds import LOOP_SECONDS
from provision.engine.agent.protocol import Probe
from provision.engine.agent.services import ServiceState
from provision.engine.agent.unit_health import UnitHealth, UnitsHealth, units_probe
from provision.engine.context import Context
from provision.engine.resources import Service

LINKED = ("static", "alias", "indirect", "generated", "enabled-runtime")
"""UnitFileState of units that start without being enabled."""

MASKED_BY_IMAGES = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer")
"""Timers that images mask on purpose."""

EXPECTED = "no failed unit, and every enabled timer and socket active"


def needed(context: Context, machine: Machine) -> tuple[str, ...]:
    """The units that must be active, with suffixes, in the order in which they are configured."""
    declared = [
        resource.unit
        for unit in context.desired(machine)
        for resource in unit.resources
        if isinstance(resource, Service) and resource.running
    ]
    return tuple(dict.fromkeys([*declared, *context.services(machine)]))


def timers(context: Context, machine: Machine) -> tuple[str, ...]:
    """The timers of a machine."""
    return tuple(name for name in needed(context, machine) if name.endswith(".timer"))


def triggered(timer: str) -> str:
    """The service that a timer starts."""
    return f"{timer.removesuffix('.timer')}.service"


def health_probe(context: Context, machine: Machine) -> Probe[UnitsHealth]:
    """The health of all units of a machine that are needed."""
    started = [triggered(name) for name in timers(context, machine)]
    return units_probe([*needed(context, machine), *started], LOOP_SECONDS)


def health(context: Context, observation: Observation, machine: Machine) -> UnitsHealth:
    """The observed health of a machine's units; without units when it is unknown."""
    result = observation.result(machine.name, health_probe(context, machine))
    return result or UnitsHealth()


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The health of the machine's units."""
    yield health_probe(context, machine)


def checks(context: Context) -> Iterator[Check]:
    """One check per unit that no role calls its service, then one of all others."""
    for machine in context.lab.machines:
        own = context.services(machine)
        for unit in needed(context, machine):
            if unit not in own:
                yield _unit(context, machine, unit)
        for timer in timers(context, machine):
            yield _triggered(context, machine, triggered(timer))
        yield _others(context, machine)


def _unit(context: Context, machine: Machine, unit: str) -> Check:
    name, short = machine.name, unit.removesuffix(".service")

    def judge(observation: Observation) -> Verdict:
        state = health(context, observation, machine).units.get(unit)
        return judge_service(short, service_state(state))

    service = blamed(context, machine, unit)
    prerequisites = _configured(name, unit, service)
    return Check(f"service/{name}/{short}", name, service, "invoke lab.up", judge, prerequisites)


def blamed(context: Context, machine: Machine, unit: str) -> str:
    """The service at fault when a unit does not run: that of a socket is its service.

    A socket belongs to the service that is configured with it; Debian's to the one of its name.
    """
    if not unit.endswith(".socket"):
        return unit.removesuffix(".service")
    for configured in context.desired(machine):
        if configured.service and any(
            isinstance(resource, Service) and resource.unit == unit
            for resource in configured.resources
        ):
            return configured.service.removesuffix(".service")
    return unit.removesuffix(".socket").removesuffix("-dev-log")


def _configured(name: str, unit: str, service: str) -> tuple[str, ...]:
    """What a unit needs; with a socket, the service that it belongs to."""
    short = unit.removesuffix(".service")
    return (*requires.configured(name, short), f"drift/{name}/{service}")


def service_state(health: UnitHealth | None) -> ServiceState | None:
    """As a service's check judges it; ``static`` counts as enabled."""
    if health is None:
        return None
    masked = health.load == "masked" and not health.enabled.startswith("masked")
    enabled = "masked" if masked else health.enabled
    enabled = "enabled" if enabled in LINKED else enabled
    return ServiceState(health.active, enabled, health.journal, health.suspended)


def _triggered(context: Context, machine: Machine, unit: str) -> Check:
    """The last run of a service that a timer starts."""
    name, short = machine.name, unit.removesuffix(".service")
    expected = "the last run succeeded"

    def judge(observation: Observation) -> Verdict:
        state = health(context, observation, machine).units.get(unit)
        if state is None:
            return Verdict(False, expected, UNKNOWN)
        if state.load == "masked":
            return Verdict(False, expected, "masked", cause=f"{short} is masked")
        ok = state.active != "failed"
        got = expected if ok else f"failed ({state.result})"
        cause = f"{short} has failed ({state.result})"
        return Verdict(ok, expected, got, "" if ok else state.journal, cause=cause)

    hint = f"invoke lab.ssh {name} -- sudo systemctl start {unit}"
    return Check(
        f"service/{name}/{short}", name, short, hint, judge, _configured(name, unit, short)
    )


def _others(context: Context, machine: Machine) -> Check:
    name = machine.name
    judged = {*needed(context, machine), *map(triggered, timers(context, machine))}

    def judge(observation: Observation) -> Verdict:
        observed = health(context, observation, machine)
        if not observed.units:
            return Verdict(False, EXPECTED, UNKNOWN)
        return as_warning(judge_others(name, observed, judged), context)

    hint = f"invoke lab.ssh {name} -- systemctl list-units --failed"
    prerequisites = (*requires.resources(name), *(f"drift/{name}/{s}" for s in ("system", "*")))
    return Check(f"units/{name}", name, "system", hint, judge, prerequisites)


def as_warning(verdict: Verdict, context: Context) -> Verdict:
    """A failure is a warning on provider ssh, whose machines run more than the lab."""
    if verdict.ok or context.state.provider != "ssh":
        return verdict
    return replace(verdict, severity="warning")


def judge_others(machine: str, observed: UnitsHealth, judged: set[str]) -> Verdict:
    """Units that have failed, and enabled timers and sockets that are not active.

    Args:
        judged: names of units that have checks of their own.
    """
    problems = {}
    for name, unit in observed.units.items():
        if name in judged:
            continue
        if unit.active == "failed":
            problems[name] = f"has failed ({unit.result})"
        elif unit.load == "masked" and name in MASKED_BY_IMAGES:
            continue
        elif name in observed.enabled and unit.load == "masked":
            problems[name] = "is masked"
        elif name in observed.enabled and unit.active == "inactive" and unit.condition:
            problems[name] = "is enabled and stopped"
    if not problems:
        return Verdict(True, EXPECTED, EXPECTED)
    first = next(iter(problems))
    text = ", ".join(f"{name} {problem}" for name, problem in problems.items())
    verb = repair_verb(observed.units[first])
    return Verdict(
        False,
        EXPECTED,
        text,
        observed.units[first].journal,
        cause=text,
        hint=f"invoke lab.ssh {machine} -- sudo systemctl {verb} {first}",
    )


def repair_verb(unit: UnitHealth) -> str:
    """The verb of systemctl that repairs a unit; a removed unit can only be reset."""
    if unit.load == "masked":
        return "unmask --now" if unit.enabled == "masked" else "unmask --runtime --now"
    if unit.active == "failed" and (unit.load != "loaded" or unit.enabled in ("", "transient")):
        return "reset-failed"
    return "restart" if unit.active == "failed" else "start"


def with_problems(
    context: Context, observation: Observation, machine: Machine
) -> Iterator[tuple[str, str]]:
    """The units of a machine that have failed, are masked, disabled or stopped, and how."""
    required = needed(context, machine)
    observed = health(context, observation, machine)
    for name, unit in observed.units.items():
        state = service_state(unit)
        if unit.active == "failed":
            yield name, "failed"
        elif name not in required or state is None:
            continue
        elif state.enabled.startswith("masked"):
            yield name, "masked"
        elif state.enabled != "enabled":
            yield name, state.enabled or "not installed"
        elif unit.active != "active":
            yield name, unit.active
        elif unit.suspended:
            yield name, "suspended"
