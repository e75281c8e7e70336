"""The screens of `monitor.*`: tables, lines and bars from a view of Prometheus."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from provision.commands import tables
from provision.commands.charts import axis, bars, ceiling, highest, seconds, spark
from provision.commands.charts import number as digits
from provision.commands.results import site as results
from provision.core.lab import Lab
from provision.core.thresholds import REPLICATION_LAG_SECONDS
from provision.engine.context import Context
from provision.monitoring.agent.prometheus import Alert, View

WIDTH = 20
"""Steps of a line in a table: the last hundred seconds."""
AXIS = 8
"""Columns of the labels at the left of bars."""


def server_names(lab: Lab) -> list[str]:
    """The web servers that the balancer uses."""
    return [m.name for m in lab.with_role("nginx")]


def _state(view: View, server: str) -> str:
    """The state of a server according to the balancer."""
    for sample in view.current.get("state", ()):
        if sample.labels.get("server") == server:
            return sample.labels.get("state", "?")
    return "?"


def values(context: Context, view: View) -> results.Monitor:
    """The content of the screen as JSON values."""
    return results.Monitor(
        requests_per_second=view.value("total"),
        errors_per_second=view.value("failed"),
        targets=[
            results.ScrapeTarget(
                job=sample.labels.get("job", ""),
                machine=sample.labels.get("machine", ""),
                up=sample.last == 1.0,
            )
            for sample in view.current.get("targets", ())
        ],
        servers=[
            results.ServerRates(
                server=name,
                status=_state(view, name),
                requests_per_second=_last(view.line("requests", server=name)),
                response_seconds=_last(view.line("response", server=name)),
                sessions=_whole(view.value("sessions", server=name)),
            )
            for name in server_names(context.lab)
        ],
        databases=[
            results.DatabaseRates(
                machine=m.name,
                writable=_yes(view.value("read_only", machine=m.name), 0.0),
                lag_seconds=_last(view.line("lag", machine=m.name)),
                receiving=_yes(view.value("receiving", machine=m.name)),
                applying=_yes(view.value("applying", machine=m.name)),
                semi_sync=_yes(view.value("semi_sync", machine=m.name)),
                queries_per_second=_last(view.line("queries", machine=m.name)),
            )
            for m in context.lab.with_role("mysql")
        ],
        alerts=[alert_values(alert) for alert in view.alerts],
    )


def alert_values(alert: Alert) -> results.AlertValues:
    """An alert as JSON values."""
    return results.AlertValues(
        alert=alert.name,
        state=alert.state,
        machine=alert.machine,
        severity=alert.severity,
        summary=alert.summary,
        check=alert.check,
        next=alert.next,
        since=alert.since,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _yes(value: float | None, expected: float = 1.0) -> bool | None:
    return None if value is None else value == expected


def _last(line: list[float | None]) -> float | None:
    """The newest value, or the one before while the newest is not scraped yet."""
    return next((v for v in reversed(line[-2:]) if v is not None), None)


SERVERS = tables.layout(
    "monitor.show: servers",
    tables.Column("SERVER"),
    tables.Column("STATE"),
    tables.Column("PER SECOND", right=True),
    tables.Column("REQUESTS", 3),
    tables.Column("RESPONSE", 1, right=True),
    tables.Column("TIMES", 4),
    tables.Column("SESSIONS", 2, right=True),
)
DATABASES = tables.layout(
    "monitor.show: databases",
    tables.Column("DATABASE"),
    tables.Column("ROLE"),
    tables.Column("QUERIES/S", 2, right=True),
    tables.Column("QUERIES", 5),
    tables.Column("CLIENTS", 3, right=True),
    tables.Column("LAG", right=True),
    tables.Column("LAGS", 4),
    tables.Column("REPLICATION", 1, prose=True),
)
ALERTS = tables.layout(
    "monitor.alerts",
    tables.Column("ALERT"),
    tables.Column("MACHINE"),
    tables.Column("STATE", 1),
    tables.Column("SUMMARY", prose=True),
    tables.Column("NEXT", prose=True),
)
RATES = tables.layout(
    "monitor.qps",
    tables.Column("SERVER"),
    tables.Column("PER SECOND", right=True),
    tables.Column("REQUESTS", 1),
)


def screen(context: Context, view: View, width: int = 80) -> Any:
    """The screen: the site, its servers, its databases, alerts.

    Args:
        width: of the screen; lines have their newest steps.
    """
    from rich.console import Group
    from rich.text import Text

    lab = context.lab
    targets = view.current.get("targets", ())
    up = sum(sample.last == 1.0 for sample in targets)
    clock = datetime.fromtimestamp(view.time).strftime("%H:%M:%S")
    head = Text(f"lab {lab.name}  {clock}  ", style="bold")
    head.append(f"{up} of {len(targets)} targets up", "green" if up == len(targets) else "red")
    firing = len(view.firing)
    summary = "no alert" if not firing else "1 alert" if firing == 1 else f"{firing} alerts"
    head.append(f"  {summary}", "bold red" if firing else "green")

    total, failed = view.value("total"), view.value("failed")
    share = failed / total if total and failed is not None else 0.0
    requests = _sum([view.line("requests", server=name) for name in server_names(lab)])
    site = Text(f"\n{lab.site}  ", style="bold")
    site.append(f"{digits(total)} requests/s  ", "cyan")
    site.append(f"{share:.1%} errors", "red" if share else "dim")
    site.append(f"\n{spark(requests[-width:])}\n", "cyan")
    site.append_text(_failures(view, width))

    parts: list[Any] = [head, site, _server_table(context, view)]
    if lab.with_role("mysql"):
        parts += [Text(), _database_table(context, view)]
    if view.alerts:
        parts += [Text(), alert_table(list(view.alerts))]
    return Group(*parts)


def _failures(view: View, width: int) -> Any:
    """Responses with 5xx per second as a line; empty without any in the time range."""
    from rich.text import Text

    line = view.line("errors", code="5xx")[-width:]
    top = max((v for v in line if v is not None), default=0.0)
    if not top:
        return Text()
    sparkline = spark([v or None for v in line], top)
    label = f" failed, at most {digits(top)}/s"
    between = "" if len(sparkline) + len(label) <= width else "\n"
    return Text(f"{sparkline}{between}{label}\n", "red")


def _sum(lines: list[list[float | None]]) -> list[float | None]:
    return [
        sum(v for v in step if v is not None) if any(v is not None for v in step) else None
        for step in zip(*lines, strict=True)
    ]


def _server_table(context: Context, view: View) -> Any:
    rows = []
    lines = {name: view.line("requests", server=name) for name in server_names(context.lab)}
    times = {name: view.line("response", server=name) for name in lines}
    top, slowest = highest(lines.values()), highest(times.values())
    for name, line in lines.items():
        state = _state(view, name)
        color = {"UP": "green", "DOWN": "red"}.get(state, "yellow")
        rows.append(
            (
                name,
                f"[{color}]{state.lower()}[/]",
                digits(_last(line)),
                f"[cyan]{spark(line[-WIDTH:], top)}[/]",
                seconds(_last(times[name])),
                f"[cyan]{spark(times[name][-WIDTH:], slowest)}[/]",
                digits(view.value("sessions", server=name)),
            )
        )
    return tables.Grid(SERVERS, rows)


def _database_table(context: Context, view: View) -> Any:
    rows = []
    for machine in context.lab.with_role("mysql"):
        name = machine.name
        read_only = view.value("read_only", machine=name)
        role = {None: "[red]unreachable[/]", 0.0: "[green]primary[/]"}.get(read_only, "replica")
        line = view.line("queries", machine=name)
        lags = view.line("lag", machine=name)
        replica = read_only != 0.0
        rows.append(
            (
                name,
                role,
                digits(_last(line)),
                f"[cyan]{spark(line[-WIDTH:])}[/]",
                digits(view.value("connections", machine=name)),
                digits(_last(lags), " s") if replica else "",
                # a full block is the lag at which the alert and the check fail
                f"[cyan]{spark(lags[-WIDTH:], max(REPLICATION_LAG_SECONDS, highest([lags])))}[/]"
                if replica
                else "",
                _replication(view, name, read_only),
            )
        )
    return tables.Grid(DATABASES, rows)


def _replication(view: View, name: str, read_only: float | None) -> str:
    if read_only is None:
        return ""
    if read_only == 0.0:
        on = view.value("semi_sync", machine=name) == 1.0
        return "[green]semi-sync[/]" if on else "[red]asynchronous[/]"
    threads = []
    for thread in ("receiving", "applying"):
        runs = view.value(thread, machine=name) == 1.0
        threads.append(f"[green]{thread}[/]" if runs else f"[red]not {thread}[/]")
    return ", ".join(threads)


def alert_table(alerts: list[Alert]) -> Any:
    """One row per alert."""
    rows = []
    for alert in alerts:
        color = "red" if alert.state == "firing" else "yellow"
        name = f"[{color}]{alert.name}[/]"
        rows.append((name, alert.machine, alert.state, alert.summary, alert.next))
    return tables.Grid(ALERTS, rows)


def rate(context: Context, view: View, server: str = "", width: int = 80) -> Any:
    """Requests per second as bars, and one line per server below them.

    Args:
        width: of the screen; bars have the newest steps that fit.
    """
    from rich.console import Group
    from rich.text import Text

    names = [server] if server else server_names(context.lab)
    fits = max(1, width - AXIS)
    lines = {name: view.line("requests", server=name)[-fits:] for name in names}
    line = lines[server] if server else _sum(list(lines.values()))
    minutes = round(min(view.seconds, len(line) * view.step) / 60, 1)
    top = ceiling(line)
    rows = bars(line, 8, top)
    labels = {0: digits(top), len(rows) // 2: digits(top / 2)}
    text = Text(f"requests per second, {server or context.lab.site}: ", style="bold")
    text.append(f"{digits(_last(line))}\n", "bold cyan")
    for index, row in enumerate(rows):
        text.append(f"{labels.get(index, ''):>6} ", "dim")
        text.append(f"┤{row}\n", "cyan")
    text.append(f"{'0':>6} └{'─' * len(line)}\n", "dim")
    text.append(f"{'':>8}{axis(len(line), minutes)}", "dim")
    if server:
        return text
    most = highest(lines.values())
    rates = [
        (name, digits(_last(values)), f"[cyan]{spark(values, most)}[/]")
        for name, values in lines.items()
    ]
    return Group(text, Text(), tables.Grid(RATES, rates))
