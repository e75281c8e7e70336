"""Checks of machines: reachable, services active."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.protocol import Probe
from provision.engine.agent.services import ServiceState, service_probe
from provision.engine.context import Context


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The services of the machine's roles."""
    for service in context.services(machine):
        yield service_probe(service)


def checks(context: Context) -> Iterator[Check]:
    """Checks of every machine."""
    for machine in context.lab.machines:
        name = machine.name
        yield _reachable(name)
        for service in context.services(machine):
            yield _service(name, service)


def service_state(observation: Observation, machine: str, service: str) -> str:
    """The ActiveState of a systemd unit; empty when unknown."""
    state = observation.result(machine, service_probe(service))
    return state.active if state else ""


def _reachable(name: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        state = observation.states.get(name, "absent")
        error = observation.errors.get(name, "")
        overload = _overload(observation, name)
        got = ", ".join(filter(None, (state, error, overload)))
        ok = name in observation.results and not overload
        cause, hint = f"the machine is {state}", "invoke lab.up"
        if state == "killed":
            cause = "its power was cut"
        if overload:
            cause, hint = overload, f"invoke lab.ssh {name} -- top -b -n 1"
        elif state == "running":  # lab.up would need SSH, too
            cause = "does not respond over SSH"
            known = observation.hints.get(name, "")
            hint = known if known.startswith("invoke ") else f"invoke lab.rescue {name} --fix"
        verdict = passed_if(ok, "running, reachable over SSH", got)
        return replace(verdict, cause=cause, hint="" if ok else hint)

    return Check(f"machine/{name}", name, "ssh", "invoke lab.up", judge, ("address/*",))


def _overload(observation: Observation, name: str) -> str:
    """That most probes of a machine have no result in time; empty when they have."""
    results = observation.results.get(name)
    responses = results.responses.values() if results is not None else ()
    late = sum(response.late for response in responses)
    if late * 2 <= len(responses):
        return ""
    return f"responds too slowly: no result of {late} of {len(responses)} probes in time"


def _service(name: str, service: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        state = observation.result(name, service_probe(service))
        return judge_service(short, state)

    short = service.removesuffix(".service")
    hint = f"invoke lab.logs {name} --service {short}"
    prerequisites = requires.configured(name, short)
    return Check(f"service/{name}/{short}", name, short, hint, judge, prerequisites)


def judge_service(short: str, state: ServiceState | None) -> Verdict:
    """Whether a systemd unit is active and enabled."""
    expected = "active, enabled"
    if state is None:
        return Verdict(False, expected, UNKNOWN)
    got = f"{state.active}, {state.enabled or 'not installed'}"
    if state.suspended:
        got += ", suspended"
    cause = describe(short, state)
    return Verdict(got == expected, expected, got, state.journal, cause=cause, hint="invoke lab.up")


def describe(short: str, state: ServiceState) -> str:
    """What is wrong with a unit, as a clause."""
    if not state.enabled:
        return f"{short} is not installed"
    if state.enabled.startswith("masked"):
        return f"{short} is masked"
    if state.active == "failed":
        return f"{short} has failed"
    if state.active in ("inactive", "deactivating"):
        return f"{short} is stopped"
    if state.active != "active":
        return f"{short} does not become active ({state.active})"
    if state.suspended:
        return f"{short} is suspended: {state.suspended}"
    return f"{short} is {state.enabled} and would not start at boot"
