"""What Prometheus scrapes in a lab: jobs, their targets, and which metrics are kept."""

from __future__ import annotations

from dataclasses import dataclass

from provision.core.lab import Lab
from provision.monitoring.exporters import HAPROXY, exporters

KEEP = {
    "node": "node_.*|lab_.*",
    "nginx": "nginx_.*",
    "mysql": (
        "mysql_up|mysql_version_info|mysql_slave_status_.*"
        "|mysql_global_status_(queries|questions|connections|slow_queries|threads_.*|uptime|rpl_.*)"
        "|mysql_global_variables_(read_only|super_read_only|max_connections|server_id)"
    ),
    "haproxy": (
        "haproxy_(frontend|backend|server)_(status|http_responses_total|current_sessions|weight"
        "|response_time_average_seconds|total_time_average_seconds|queue_time_average_seconds"
        "|check_status|retry_warnings_total|redispatch_warnings_total|bytes_.*_total"
        "|http_requests_total|check_failures_total|active_servers)"
    ),
}
"""By job, a regular expression of metric names; others are dropped, which saves memory."""

SCOPES = {"haproxy": ("frontend", "backend", "server")}
"""The ``scope`` parameter of HAProxy's exporter."""


@dataclass(frozen=True)
class Job:
    """One scrape job; targets are machine name and ``address:port``."""

    name: str
    targets: tuple[tuple[str, str], ...]
    keep: str
    scopes: tuple[str, ...] = ()


def jobs(lab: Lab) -> tuple[Job, ...]:
    """All scrape jobs that have a target."""
    targets: dict[str, list[tuple[str, str]]] = {}
    for machine in lab.with_role("exporters"):
        endpoints = [(job, port) for job, _, port in exporters(machine)]
        if "haproxy" in machine.roles:
            endpoints.append(("haproxy", HAPROXY))
        for job, port in endpoints:
            targets.setdefault(job, []).append((machine.name, f"{machine.address}:{port}"))
    return tuple(
        Job(name, tuple(listed), KEEP[name], SCOPES.get(name, ()))
        for name, listed in sorted(targets.items())
    )
