"""Read Prometheus from the controller, through the agent of the monitoring machine.

Prometheus listens on that machine's loopback address only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from provision.core.errors import LabError
from provision.core.lab import Lab, Machine
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.monitoring.agent.prometheus import (
    ADDRESS,
    ALERTS_PATH,
    PORT,
    Alert,
    Fetch,
    View,
    parse_alerts,
)
from provision.monitoring.agent.prometheus import read_view as read

T = TypeVar("T")


def monitoring_machine(lab: Lab) -> Machine:
    """The machine that runs Prometheus.

    Raises:
        LabError: when the topology has none.
    """
    machines = lab.with_role("monitoring")
    if not machines:
        raise LabError(
            f"lab {lab.name} has no monitoring: no machine of topology {lab.topology.name} has "
            "the role monitoring",
            "invoke lab.up --topology secured",
        )
    return machines[0]


def read_view(fleet: Fleet, seconds: int, *, points: int = 60) -> View:
    """Read metrics of the last ``seconds``, and alerts, in one round trip.

    Raises:
        LabError: when the lab has no monitoring, or Prometheus does not respond.
    """
    return _read(fleet, lambda fetch: read(fetch, seconds, points))


def read_alerts(fleet: Fleet) -> tuple[Alert, ...]:
    """Read the active alerts.

    Raises:
        LabError: when the lab has no monitoring, or Prometheus does not respond.
    """
    return _read(fleet, lambda fetch: parse_alerts(fetch([ALERTS_PATH])[0]))


def _read(fleet: Fleet, reader: Callable[[Fetch], T]) -> T:
    host = fleet.host(monitoring_machine(fleet.lab).name)
    try:
        return reader(lambda paths: _fetch(host, paths))
    except ValueError as error:
        raise _unavailable(host, str(error)) from None


def prometheus_probe(path: str) -> Probe[HttpResponse]:
    """The response of Prometheus to one GET request."""
    request = HttpRequest(path, address=ADDRESS, port=PORT, timeout=5.0)
    return http_probe(f"Prometheus {path}", request)


def _fetch(host: Host, paths: Sequence[str]) -> list[str]:
    probes = [prometheus_probe(path) for path in paths]
    results = host.gather(probes)
    responses = [results[probe] for probe in probes]
    for response in responses:
        if response.error:
            raise _unavailable(host, response.error)
    return [response.body for response in responses]


def _unavailable(host: Host, reason: str) -> LabError:
    return LabError(
        f"{host.name}: Prometheus does not respond ({reason})",
        f"invoke lab.logs {host.name} --service prometheus; invoke lab.up restarts it",
    )
