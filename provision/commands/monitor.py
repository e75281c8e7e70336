"""`monitor.*`: requests, response times, errors, replication and alerts, drawn from Prometheus."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from provision.commands.base import console, number, session, show_json, task
from provision.commands.charts import axis, bars, ceiling, highest, seconds, spark
from provision.commands.charts import number as digits
from provision.core.errors import UsageError
from provision.core.lab import Lab
from provision.engine.context import Context
from provision.monitoring import prometheus as metrics
from provision.monitoring.prometheus import Alert, View
from provision.monitoring.role import LAG

BACK = 300
"""Seconds that lines go back."""

WIDTH = 20
"""Steps that a line in a table has room for: the last hundred seconds."""


# --- tasks ---------------------------------------------------------------------------------------


@task(
    help={
        "once": "show it once; so it is when the output is no terminal",
        "seconds": "how long to go on (0: until Ctrl-C)",
        "every": "seconds between looks",
        "json": "for programs; once",
    }
)
def show(
    c: Any,
    lab: str = "",
    once: bool = False,
    seconds: str = "",
    every: str = "2",
    json: bool = False,
) -> None:
    """Show requests, response times, errors, servers, databases and alerts on one screen."""
    now = session(lab)
    limit = _limit(once or json, seconds)
    pause = number(every, "--every", 0.5, 60)
    metrics.monitor(now.lab)
    with now.fleet() as fleet:
        if json:
            show_json(values(now.context, metrics.look(fleet, BACK)))
            return
        _live(lambda: screen(now.context, metrics.look(fleet, BACK)), limit, pause)


@task(
    positional=["server"],
    help={
        "server": "one web server; without it all of them",
        "minutes": "how far back",
        "once": "show it once; so it is when the output is no terminal",
        "seconds": "how long to go on (0: until Ctrl-C)",
        "json": "for programs; once",
    },
)
def qps(
    c: Any,
    server: str = "",
    lab: str = "",
    minutes: str = "5",
    once: bool = False,
    seconds: str = "",
    json: bool = False,
) -> None:
    """Draw how many requests a second are answered, in all and by each server."""
    now = session(lab)
    limit = _limit(once or json, seconds)
    back = int(number(minutes, "--minutes", 1, 360) * 60)
    metrics.monitor(now.lab)
    names = _servers(now.lab)
    if server and server not in names:
        raise UsageError(f"{server!r} is no web server", f"choose from {', '.join(names)}")
    with now.fleet() as fleet:
        if json:
            view = metrics.look(fleet, back)
            show_json({n: view.line("requests", server=n) for n in names if server in ("", n)})
            return
        _live(lambda: rate(now.context, metrics.look(fleet, back), server), limit, 2.0)


@task(help={"json": "for programs", "all": "also those that have not lasted long enough"})
def alerts(c: Any, lab: str = "", json: bool = False, all: bool = False) -> None:
    """List the alerts that fire now; exit with 1 when there is one."""
    now = session(lab)
    metrics.monitor(now.lab)
    with now.fleet() as fleet:
        found = [a for a in metrics.alerts(fleet) if all or a.state == "firing"]
    if json:
        show_json([asdict(a) for a in found])
    elif not found:
        print("no alert")
    else:
        console().print(_alerts(found))
    if any(a.state == "firing" for a in found):
        raise SystemExit(1)


def _limit(once: bool, seconds: str) -> float:
    """For how many seconds to go on; 0 for a single look."""
    if once:
        return 0.0
    if not seconds:
        return float("inf") if sys.stdout.isatty() else 0.0
    return number(seconds, "--seconds", 0, 86400) or float("inf")


# --- drawing -------------------------------------------------------------------------------------


@contextmanager
def _place() -> Iterator[Callable[[Any], None]]:
    """Where a screen is drawn: in place on a terminal, one after the other elsewhere."""
    out = console()
    if not out.is_terminal:
        yield out.print
        return
    from rich.live import Live

    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda shown: live.update(shown, refresh=True)


def _live(draw: Callable[[], Any], limit: float, pause: float) -> None:
    end = time.monotonic() + limit
    with _place() as update:
        while True:
            update(draw())
            if time.monotonic() + pause > end:
                return
            time.sleep(pause)


def _servers(lab: Lab) -> list[str]:
    return [m.name for m in lab.with_role("nginx")]


def _state(view: View, server: str) -> str:
    """What the balancer says of a server."""
    for each in view.now.get("state", ()):
        if each.labels.get("server") == server:
            return each.labels.get("state", "?")
    return "?"


def values(context: Context, view: View) -> dict[str, Any]:
    """What the screen shows, for programs."""
    total, failed = view.value("total"), view.value("failed")
    return {
        "lab": context.lab.name,
        "requests_per_second": total,
        "errors_per_second": failed,
        "targets": [
            {**each.labels, "up": each.last == 1.0} for each in view.now.get("targets", ())
        ],
        "servers": [
            {
                "name": name,
                "state": _state(view, name),
                "requests_per_second": _last(view.line("requests", server=name)),
                "response_seconds": _last(view.line("response", server=name)),
                "sessions": view.value("sessions", server=name),
            }
            for name in _servers(context.lab)
        ],
        "databases": [
            {
                "name": m.name,
                "writable": _yes(view.value("read_only", machine=m.name), 0.0),
                "lag_seconds": _last(view.line("lag", machine=m.name)),
                "receiving": _yes(view.value("receiving", machine=m.name)),
                "applying": _yes(view.value("applying", machine=m.name)),
                "semi_sync": _yes(view.value("semi_sync", machine=m.name)),
                "queries_per_second": _last(view.line("queries", machine=m.name)),
            }
            for m in context.lab.with_role("mysql")
        ],
        "alerts": [asdict(a) for a in view.alerts],
    }


def _yes(value: float | None, wanted: float = 1.0) -> bool | None:
    return None if value is None else value == wanted


def _last(line: list[float | None]) -> float | None:
    """The newest value; the step before it counts while the newest is not there yet."""
    return next((v for v in reversed(line[-2:]) if v is not None), None)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
    for name in columns:
        right = name in ("PER SECOND", "RESPONSE", "SESSIONS", "LAG", "QUERIES/S", "CLIENTS")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    return table


def screen(context: Context, view: View) -> Any:
    """One screen: the site, its servers, its databases, alerts."""
    from rich.console import Group
    from rich.text import Text

    lab = context.lab
    targets = view.now.get("targets", ())
    up = sum(each.last == 1.0 for each in targets)
    clock = datetime.fromtimestamp(view.time).strftime("%H:%M:%S")
    head = Text(f"lab {lab.name}  {clock}  ", style="bold")
    head.append(f"{up} of {len(targets)} targets answer", "green" if up == len(targets) else "red")
    firing = len(view.firing)
    words = "no alert" if not firing else "1 alert" if firing == 1 else f"{firing} alerts"
    head.append(f"  {words}", "bold red" if firing else "green")

    total, failed = view.value("total"), view.value("failed")
    share = failed / total if total and failed is not None else 0.0
    every = _sum([view.line("requests", server=name) for name in _servers(lab)])
    site = Text(f"\n{lab.site}  ", style="bold")
    site.append(f"{digits(total)} requests/s  ", "cyan")
    site.append(f"{share:.1%} errors", "red" if share else "dim")
    site.append(f"\n{spark(every)}\n", "cyan")
    site.append_text(_failures(view))

    parts: list[Any] = [head, site, _server_table(context, view)]
    if lab.with_role("mysql"):
        parts += [Text(), _database_table(context, view)]
    if view.alerts:
        parts += [Text(), _alerts(list(view.alerts))]
    return Group(*parts)


def _failures(view: View) -> Any:
    """A line of the answers with 5xx a second; empty when there was none in all this time."""
    from rich.text import Text

    line = view.line("errors", code="5xx")
    top = max((v for v in line if v is not None), default=0.0)
    if not top:
        return Text()
    drawn = spark([v or None for v in line], top)
    return Text(f"{drawn} failed, at most {digits(top)}/s\n", "red")


def _sum(lines: list[list[float | None]]) -> list[float | None]:
    return [
        sum(v for v in step if v is not None) if any(v is not None for v in step) else None
        for step in zip(*lines, strict=True)
    ]


def _server_table(context: Context, view: View) -> Any:
    table = _table("SERVER", "STATE", "PER SECOND", "", "RESPONSE", "", "SESSIONS")
    lines = {name: view.line("requests", server=name) for name in _servers(context.lab)}
    times = {name: view.line("response", server=name) for name in lines}
    top, slowest = highest(lines.values()), highest(times.values())
    for name, line in lines.items():
        state = _state(view, name)
        colour = {"UP": "green", "DOWN": "red"}.get(state, "yellow")
        table.add_row(
            name,
            f"[{colour}]{state.lower()}[/]",
            digits(_last(line)),
            f"[cyan]{spark(line[-WIDTH:], top)}[/]",
            seconds(_last(times[name])),
            f"[cyan]{spark(times[name][-WIDTH:], slowest)}[/]",
            digits(view.value("sessions", server=name)),
        )
    return table


def _database_table(context: Context, view: View) -> Any:
    table = _table("DATABASE", "ROLE", "QUERIES/S", "", "CLIENTS", "LAG", "", "REPLICATION")
    for machine in context.lab.with_role("mysql"):
        name = machine.name
        read_only = view.value("read_only", machine=name)
        role = {None: "[red]no answer[/]", 0.0: "[green]primary[/]"}.get(read_only, "replica")
        line = view.line("queries", machine=name)
        lags = view.line("lag", machine=name)
        follows = read_only != 0.0
        table.add_row(
            name,
            role,
            digits(_last(line)),
            f"[cyan]{spark(line[-WIDTH:])}[/]",
            digits(view.value("connections", machine=name)),
            digits(_last(lags), " s") if follows else "",
            # a full block is what the alert and the check call lagging
            f"[cyan]{spark(lags[-WIDTH:], max(LAG, highest([lags])))}[/]" if follows else "",
            _replication(view, name, read_only),
        )
    return table


def _replication(view: View, name: str, read_only: float | None) -> str:
    if read_only is None:
        return ""
    if read_only == 0.0:
        on = view.value("semi_sync", machine=name) == 1.0
        return "[green]semi-sync[/]" if on else "[red]asynchronous[/]"
    words = []
    for thread in ("receiving", "applying"):
        runs = view.value(thread, machine=name) == 1.0
        words.append(f"[green]{thread}[/]" if runs else f"[red]not {thread}[/]")
    return ", ".join(words)


def _alerts(found: list[Alert]) -> Any:
    table = _table("ALERT", "MACHINE", "STATE", "WHAT", "NEXT")
    for column in table.columns:
        column.no_wrap, column.overflow = False, "fold"
    for alert in found:
        colour = "red" if alert.state == "firing" else "yellow"
        table.add_row(
            f"[{colour}]{alert.name}[/]", alert.machine, alert.state, alert.summary, alert.next
        )
    return table


def rate(context: Context, view: View, server: str = "") -> Any:
    """Requests a second as bars, and a line a server below.

    Args:
        context: the lab.
        view: what Prometheus said.
        server: only this one.
    """
    from rich.console import Group
    from rich.text import Text

    names = [server] if server else _servers(context.lab)
    lines = {name: view.line("requests", server=name) for name in names}
    line = lines[server] if server else _sum(list(lines.values()))
    top = ceiling(line)
    drawn = bars(line, 8, top)
    labels = {0: digits(top), len(drawn) // 2: digits(top / 2)}
    text = Text(f"requests a second, {server or context.lab.site}: ", style="bold")
    text.append(f"{digits(_last(line))}\n", "bold cyan")
    for place, row in enumerate(drawn):
        text.append(f"{labels.get(place, ''):>6} ", "dim")
        text.append(f"┤{row}\n", "cyan")
    text.append(f"{'0':>6} └{'─' * len(line)}\n", "dim")
    text.append(f"{'':>8}{axis(len(line), view.seconds / 60)}", "dim")
    if server:
        return text
    most = highest(lines.values())
    table = _table("SERVER", "PER SECOND", "")
    for name, each in lines.items():
        table.add_row(name, digits(_last(each)), f"[cyan]{spark(each, most)}[/]")
    return Group(text, Text(), table)
