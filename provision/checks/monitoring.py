"""Checks of monitoring itself: its services respond, all targets are up, no unexpected alert.

Faults that monitoring detects have checks of their own, which do not depend on Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.context import Context
from provision.monitoring import role
from provision.monitoring.agent.ports import ALERTS_PORT
from provision.monitoring.agent.prometheus import (
    ALERTS_PATH,
    TARGETS_QUERY,
    parse_alerts,
    parse_series,
    query_path,
)
from provision.monitoring.agent.prometheus import PORT as PROMETHEUS_PORT
from provision.monitoring.prometheus import prometheus_probe
from provision.monitoring.scrape import jobs

TARGETS = prometheus_probe(query_path(TARGETS_QUERY))
ALERTS = prometheus_probe(ALERTS_PATH)


def readiness_probes(context: Context, machine: Machine) -> dict[str, Probe[HttpResponse]]:
    """By systemd unit, the readiness probe of each part of monitoring."""
    endpoints = {
        role.SERVICE: (role.LOOPBACK, PROMETHEUS_PORT, "/-/ready"),
        role.ALERTMANAGER: (role.LOOPBACK, role.ALERTMANAGER_PORT, "/-/ready"),
        role.ALERTS: (role.LOOPBACK, ALERTS_PORT, "/ready"),
        role.PAGE: (role.page_address(context.lab, machine), role.PAGE_PORT, "/_monitor/"),
    }
    return {
        unit.removesuffix(".service"): http_probe(
            f"readiness of {unit}", HttpRequest(path, address=address, port=port)
        )
        for unit, (address, port, path) in endpoints.items()
    }


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Readiness of all parts, targets and alerts."""
    if "monitoring" in machine.roles:
        yield from readiness_probes(context, machine).values()
        yield TARGETS
        yield ALERTS


def checks(context: Context, others: Iterable[str] = ()) -> Iterator[Check]:
    """Checks of the monitoring machine.

    Args:
        others: names of the lab's other checks; alerts that mirror one of them are expected.
    """
    for machine in context.lab.with_role("monitoring"):
        own = (_ready(context, machine), _targets(context, machine.name))
        yield from own
        yield _alerts(machine.name, frozenset(others).union(check.name for check in own))


def _ready(context: Context, machine: Machine) -> Check:
    name, services = machine.name, readiness_probes(context, machine)

    def judge(observation: Observation) -> Verdict:
        failed = []
        for service, probe in services.items():
            response = observation.result(name, probe) or HttpResponse(error=UNKNOWN)
            if response.status != 200:
                failed.append(f"{service}: {response.error or response.status}")
        return passed_if(not failed, f"{', '.join(services)} respond", "; ".join(failed))

    hint = f"invoke lab.logs {name} --service prometheus"
    prerequisites = [p for service in services for p in requires.service(name, service)]
    return Check(f"monitoring/{name}", name, "prometheus", hint, judge, tuple(prerequisites))


def _targets(context: Context, name: str) -> Check:
    targets = {(job.name, target) for job in jobs(context.lab) for target, _ in job.targets}
    expected = f"{len(targets)} of {len(targets)} targets up"

    def judge(observation: Observation) -> Verdict:
        response = observation.result(name, TARGETS) or HttpResponse()
        try:
            values = {
                (series.labels.get("job"), series.labels.get("machine")): series.last
                for series in parse_series(response.body)
            }
        except ValueError:
            return Verdict(False, expected, response.error or "Prometheus does not respond")
        down = sorted(
            f"{job} on {machine}" for job, machine in targets if values.get((job, machine)) != 1.0
        )
        return passed_if(not down, expected, f"unreachable: {', '.join(down)}")

    hint = "invoke monitor.show --once"
    prerequisites = (f"monitoring/{name}", *_scraped(context))
    return Check(f"targets/{name}", name, "prometheus", hint, judge, prerequisites)


def _scraped(context: Context) -> Iterator[str]:
    """Checks of everything that Prometheus scrapes."""
    for machine in context.lab.machines:
        yield from requires.resources(machine.name)
        yield f"firewall/{machine.name}"
        yield f"service/{machine.name}/*"
        yield f"drift/{machine.name}/*"


def _alerts(name: str, others: frozenset[str]) -> Check:
    expected = "no alert except those that mirror a failed check"

    def judge(observation: Observation) -> Verdict:
        response = observation.result(name, ALERTS) or HttpResponse()
        try:
            alerts = parse_alerts(response.body)
        except ValueError:
            return Verdict(False, expected, response.error or "Prometheus does not respond")
        unexpected = [a for a in alerts if a.state == "firing" and a.check not in others]
        got = "; ".join(f"{a.name} {a.machine}: {a.summary}" for a in unexpected)
        return passed_if(not unexpected, expected, got)

    prerequisites = (f"monitoring/{name}", f"targets/{name}")
    return Check(
        f"alerts/{name}", name, "prometheus", "invoke monitor.alerts", judge, prerequisites
    )
