"""The checks of the monitoring stage: what is asked for them, and how the answers are judged.

They say whether monitoring itself works. What it watches is judged by the other checks, from the
machines' own words: an alert that has such a check is that check's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from provision.checks.base import Check, Verdict
from provision.checks.observation import Seen
from provision.core.lab import Lab, Machine
from provision.engine.context import Context
from provision.monitoring import role
from provision.monitoring.prometheus import parse, parse_alerts, question

PARTS = {
    "Prometheus": ("127.0.0.1", role.PROMETHEUS_PORT, "/-/ready", "prometheus"),
    "Alertmanager": ("127.0.0.1", role.ALERTMANAGER_PORT, "/-/ready", "prometheus-alertmanager"),
    "the alerts' journal": ("127.0.0.1", role.ALERTS_PORT, "/ready", "lab-alerts"),
    "the page": ("", role.PAGE_PORT, "/_monitor/", "lab-monitor"),
}
"""What monitoring consists of: address (empty for the page's own), port, path, service."""


def questions(lab: Lab, machine: Machine) -> Iterator[tuple[str, str, int, str]]:
    """What a machine that monitors is asked over HTTP: name, address, port, path."""
    for part, (address, port, path, _) in PARTS.items():
        yield f"monitoring/{part}", address or role.page_address(lab, machine), port, path
    up = question("/api/v1/query", query="min by (job, machine) (up)")
    yield "monitoring/up", up["address"], up["port"], up["path"]
    firing = question("/api/v1/alerts")
    yield "monitoring/alerts", firing["address"], firing["port"], firing["path"]


def checks(context: Context, others: Iterable[Check]) -> Iterator[Check]:
    """The checks of the machines that monitor.

    Args:
        context: the lab.
        others: the lab's other checks.
    """
    known = {check.name for check in others}
    for machine in context.lab.with_role("monitoring"):
        yield _parts(machine)
        yield _targets(context, machine)
        yield _alerts(machine, known)


def _parts(machine: Machine) -> Check:

    name = machine.name

    def answer(seen: Seen) -> Verdict:
        silent = [
            f"{part}: {got['error'] or got['status']} (service {service})"
            for part, (*_, service) in PARTS.items()
            if (got := seen.http(name, f"monitoring/{part}"))["status"] != 200
        ]
        return Verdict(not silent, f"{', '.join(PARTS)} answer", "; ".join(silent) or "they do")

    after = f"invoke lab.logs {name} --service prometheus"
    return Check(f"monitoring/{name}", name, "prometheus", after, answer)


def _targets(context: Context, machine: Machine) -> Check:

    name = machine.name
    wanted = {(job.name, target) for job in role.jobs(context.lab) for target, _ in job.targets}

    def up(seen: Seen) -> Verdict:
        expected = f"{len(wanted)} of {len(wanted)} answer"
        answer = seen.http(name, "monitoring/up")
        try:
            found = {
                (s.labels.get("job"), s.labels.get("machine")): s.last
                for s in parse(answer["body"])
            }
        except (ValueError, KeyError, TypeError):
            return Verdict(False, expected, answer["error"] or "Prometheus does not answer")
        silent = sorted(
            f"{job} on {target}" for job, target in wanted if found.get((job, target)) != 1.0
        )
        if not silent:
            return Verdict(True, expected, expected)
        return Verdict(False, expected, f"nothing from {', '.join(silent)}")

    return Check(f"targets/{name}", name, "prometheus", "invoke monitor.show --once", up)


def _alerts(machine: Machine, known: set[str]) -> Check:

    name = machine.name
    expected = "no alert beside what other checks say"

    def quiet(seen: Seen) -> Verdict:
        answer = seen.http(name, "monitoring/alerts")
        try:
            found = parse_alerts(answer["body"])
        except (ValueError, KeyError, TypeError):
            return Verdict(False, expected, answer["error"] or "Prometheus does not answer")
        own = [a for a in found if a.state == "firing" and a.check not in known]
        got = "; ".join(f"{a.name} {a.machine}: {a.summary}" for a in own)
        return Verdict(not own, expected, got or expected)

    return Check(f"alerts/{name}", name, "prometheus", "invoke monitor.alerts", quiet)
