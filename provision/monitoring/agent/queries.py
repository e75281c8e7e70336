"""What is asked of Prometheus, said once: for the terminal (ops/metrics.py) and for the page.

The language is PromQL (Prometheus' documentation, "Querying basics"). Rates look back 20 s: four
scrapes, so that one that failed leaves no hole.
"""

from __future__ import annotations

WINDOW = "20s"
SITE = 'proxy="web"'
"""HAProxy's backend of the web servers: what users asked for, without the pages about the lab."""

SERIES = {
    "requests": f"sum by (server) (rate(haproxy_server_http_responses_total{{{SITE}}}[{WINDOW}]))",
    # HAProxy averages over a server's last 1024 responses; a balancer without new ones (the other
    # one has the shared address) has nothing to say.
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
"""Lines of a chart: name to PromQL."""

NOW = {
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
"""Single values of this moment: name to PromQL."""


def over(promql: str, seconds: int, step: int) -> str:
    """A query for the values of the last while, by the machine's own clock (a subquery).

    Args:
        promql: what.
        seconds: how far back.
        step: seconds between two values.
    """
    return f"({promql})[{seconds}s:{step}s]"


def step_for(seconds: int, points: int = 120) -> int:
    """Seconds between two values, so that there are at most so many; a multiple of the scrape."""
    return max(1, -(-seconds // (points * 5))) * 5
