"""Checks of machines: reachable, enough disk space, services active."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks.base import UNKNOWN, Check, Verdict, equals, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.thresholds import DISK_USED_PERCENT
from provision.engine.agent.commands import command_probe
from provision.engine.agent.protocol import Probe
from provision.engine.agent.services import service_probe
from provision.engine.context import Context

DISK_USAGE = command_probe(["df", "--output=pcent", "/"], "disk usage")


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Disk usage and the services of the machine's roles."""
    yield DISK_USAGE
    for service in context.services(machine):
        yield service_probe(service)


def checks(context: Context) -> Iterator[Check]:
    """Checks of every machine."""
    for machine in context.lab.machines:
        name = machine.name
        yield _reachable(name)
        yield _disk(name)
        for service in context.services(machine):
            yield _service(name, service)


def service_state(observation: Observation, machine: str, service: str) -> str:
    """The ActiveState of a systemd unit; empty when unknown."""
    state = observation.result(machine, service_probe(service))
    return state.active if state else ""


def _reachable(name: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        got = observation.states.get(name, "absent")
        if error := observation.errors.get(name):
            got += f", {error}"
        return passed_if(name in observation.results, "running, reachable over SSH", got)

    return Check(f"machine/{name}", name, "ssh", "invoke lab.up", judge)


def _disk(name: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        expected = f"at most {DISK_USED_PERCENT} % of the disk used"
        result = observation.result(name, DISK_USAGE)
        used = parse_percent(result.stdout) if result else None
        if used is None:
            return Verdict(False, expected, UNKNOWN)
        return Verdict(used <= DISK_USED_PERCENT, expected, f"{used} % used")

    return Check(f"disk/{name}", name, "disk", f"invoke lab.ssh {name} -- df -h", judge)


def parse_percent(text: str) -> int | None:
    """The last number in the output of ``df --output=pcent``."""
    words = text.replace("%", "").split()
    return int(words[-1]) if words and words[-1].isdigit() else None


def _service(name: str, service: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        state = observation.result(name, service_probe(service))
        if state is None:
            return Verdict(False, "active, enabled", UNKNOWN)
        return equals("active, enabled", f"{state.active}, {state.enabled or 'not installed'}")

    short = service.removesuffix(".service")
    hint = f"invoke lab.logs {name} --service {short}"
    return Check(f"service/{name}/{short}", name, short, hint, judge)
