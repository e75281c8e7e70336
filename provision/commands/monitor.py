"""`monitor.*`: requests, latency, errors, replication and alerts, read from Prometheus."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from provision.commands import document, output, tables
from provision.commands.base import console, number, open_session, publish, task
from provision.commands.monitor_screen import (
    alert_table,
    alert_values,
    rate,
    screen,
    server_names,
    values,
)
from provision.commands.results import site as results
from provision.core.errors import not_among
from provision.core.exit_status import ExitStatus
from provision.monitoring import prometheus as metrics

BACK = 300
"""Time range of the lines, in seconds."""


@task(
    result=results.Monitor,
    help={
        "once": "print it once (default when stdout is not a terminal)",
        "seconds": "stop after this many (default: 0, never)",
        "every": "interval in seconds (default: 2)",
    },
)
def show(
    c: Any,
    lab: str = "",
    once: bool = False,
    seconds: str = "",
    every: str = "2",
) -> None:
    """Show traffic, servers, databases and alerts, live."""
    session = open_session(lab)
    limit = _limit(once, seconds)
    pause = number(every, "--every", 0.5, 60)
    metrics.monitoring_machine(session.lab)
    with session.fleet() as fleet:
        if document.requested():
            publish(values(session.context, metrics.read_view(fleet, BACK)))
            return

        def draw(width: int) -> Any:
            return screen(session.context, metrics.read_view(fleet, BACK), width)

        _live(draw, limit, pause)


@task(
    result=results.Rates,
    positional=["server"],
    help={
        "server": "a web server (default: all)",
        "minutes": "time range in minutes",
        "once": "print it once (default when stdout is not a terminal)",
        "seconds": "stop after this many (default: 0, never)",
    },
)
def qps(
    c: Any,
    server: str = "",
    lab: str = "",
    minutes: str = "5",
    once: bool = False,
    seconds: str = "",
) -> None:
    """Show queries per second, in total and per server."""
    session = open_session(lab)
    limit = _limit(once, seconds)
    back = int(number(minutes, "--minutes", 1, 360) * 60)
    metrics.monitoring_machine(session.lab)
    names = server_names(session.lab)
    if server and server not in names:
        raise not_among(f"{server!r} is not a web server", server, names)
    with session.fleet() as fleet:
        if document.requested():
            view = metrics.read_view(fleet, back)
            lines = [
                results.RateLine(server=n, requests_per_second=view.line("requests", server=n))
                for n in names
                if server in ("", n)
            ]
            publish(results.Rates(seconds=view.seconds, step_seconds=view.step, servers=lines))
            return

        def draw(width: int) -> Any:
            return rate(session.context, metrics.read_view(fleet, back), server, width)

        _live(draw, limit, 2.0)


@task(result=results.Alerts, help={"all": "include pending alerts"})
def alerts(c: Any, lab: str = "", all: bool = False) -> None:
    """List firing alerts; exit with 1 if there are any."""
    session = open_session(lab)
    metrics.monitoring_machine(session.lab)
    with session.fleet() as fleet:
        shown = [a for a in metrics.read_alerts(fleet) if all or a.state == "firing"]
    if publish(results.Alerts(alerts=[alert_values(a) for a in shown])):
        pass
    elif not shown:
        print("no alert")
    else:
        console().print(alert_table(shown))
    if any(a.state == "firing" for a in shown):
        raise SystemExit(ExitStatus.FAILED)


def _limit(once: bool, seconds: str) -> float:
    """Seconds until the display stops; 0 prints it once."""
    if once:
        return 0.0
    if not seconds:
        return float("inf") if sys.stdout.isatty() else 0.0
    return number(seconds, "--seconds", 0, 86400) or float("inf")


def _live(draw: Callable[[int], Any], limit: float, pause: float) -> None:
    """Draw for the width of the screen again and again; Ctrl-C is the normal way to stop it."""
    end = time.monotonic() + limit
    with tables.Screen(console()) as display, contextlib.suppress(KeyboardInterrupt):
        while True:
            display.update(draw(console().width))
            if time.monotonic() + pause > end or output.reader_is_gone():
                return
            time.sleep(pause)
