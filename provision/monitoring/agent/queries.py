"""The PromQL queries behind `monitor.show` and the monitoring page.

Rates look back 20 s: four scrapes, so that one failed scrape leaves no gap.
"""

from __future__ import annotations

WINDOW = "20s"
SITE = 'proxy="web"'
"""HAProxy's backend of web servers; the statistics and monitoring pages are not in it."""

SERIES = {
    "requests": f"sum by (server) (rate(haproxy_server_http_responses_total{{{SITE}}}[{WINDOW}]))",
    # HAProxy averages over a server's last 1024 responses: a balancer without recent requests
    # (the other one holds the virtual address) would report an outdated value.
    "response": (
        f"avg by (server) (haproxy_server_response_time_average_seconds{{{SITE}}}"
        " and on (machine, server) sum by (machine, server)"
        f" (rate(haproxy_server_http_responses_total{{{SITE}}}[{WINDOW}])) > 0)"
    ),
    "errors": (
        "sum by (code)"
        f' (rate(haproxy_backend_http_responses_total{{{SITE},code=~"[45]xx"}}[{WINDOW}]))'
    ),
    "lag": "max by (machine) (mysql_slave_status_seconds_behind_source)",
    "queries": f"sum by (machine) (rate(mysql_global_status_queries[{WINDOW}]))",
    "serving": f'max by (server) (haproxy_server_status{{{SITE},state="UP"}})',
}
"""Time series of the charts, by name."""

CURRENT = {
    "targets": "min by (job, machine) (up)",
    "state": f"max by (server, state) (haproxy_server_status{{{SITE}}}) == 1",
    "sessions": f"sum by (server) (haproxy_server_current_sessions{{{SITE}}})",
    "total": f"sum(rate(haproxy_backend_http_responses_total{{{SITE}}}[{WINDOW}]))",
    "failed": f'sum(rate(haproxy_backend_http_responses_total{{{SITE},code="5xx"}}[{WINDOW}]))',
    "services": 'max by (machine, name) (node_systemd_unit_state{state="active"})',
    "connections": "sum by (machine) (mysql_global_status_threads_connected)",
    "read_only": "max by (machine) (mysql_global_variables_read_only)",
    "semi_sync": "max by (machine) (mysql_global_status_rpl_semi_sync_source_status)",
    "receiving": "min by (machine) (mysql_slave_status_replica_io_running)",
    "applying": "min by (machine) (mysql_slave_status_replica_sql_running)",
    "disk": 'max by (machine) (1 - node_filesystem_avail_bytes{mountpoint="/"}'
    ' / node_filesystem_size_bytes{mountpoint="/"})',
}
"""Current values, by name."""


def over(promql: str, seconds: int, step: int) -> str:
    """A subquery for the values of the last ``seconds``, by Prometheus' own clock."""
    return f"({promql})[{seconds}s:{step}s]"


def step_for(seconds: int, points: int = 120) -> int:
    """Seconds between two values: at most ``points`` values, a multiple of the scrape interval."""
    return max(1, -(-seconds // (points * 5))) * 5
