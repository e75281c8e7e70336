"""`lb.*`: the balancer's servers: status, drain, ready, weights, mode and algorithm."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from provision.commands import document, output, tables
from provision.commands.base import console, number, open_session, publish, task
from provision.commands.results import site as results
from provision.commands.show import server_values
from provision.core.errors import UsageError
from provision.engine.context import Context
from provision.services.haproxy import runtime, traffic
from provision.services.haproxy.statistics import ServerStatistics

LAYOUT = tables.layout(
    "lb.status",
    tables.Column("SERVER"),
    tables.Column("STATUS"),
    tables.Column("CHECK", 5),
    tables.Column("WEIGHT", 1, right=True),
    tables.Column("OPEN", 2, right=True),
    tables.Column("RATE", 3, right=True),
    tables.Column("TOTAL", 6, right=True),
    tables.Column("ERRORS", 4, right=True),
    tables.Column("RETRIES", 7, right=True),
)


def _rows(views: Mapping[str, Iterable[ServerStatistics]]) -> list[list[str]]:
    several = len(views) > 1
    return [
        [
            (f"{name}: " if several else "") + v.name + (" (backup)" if v.backup else ""),
            v.status,
            v.check,
            str(v.weight),
            str(v.sessions),
            f"{v.rate}/s",
            str(v.total),
            str(v.errors),
            str(v.retries),
        ]
        for name, servers in views.items()
        for v in servers
    ]


def _show(context: Context, views: Mapping[str, Iterable[ServerStatistics]]) -> None:
    values = results.Balancing(
        algorithm=context.balance.algorithm,
        mode=context.balance.mode,
        balancers=[
            results.Balancer(balancer=name, servers=[server_values(v) for v in servers])
            for name, servers in views.items()
        ],
    )
    if publish(values):
        return
    tables.show(console(), LAYOUT, _rows(views))
    print(f"\n{context.balance.algorithm}, {context.balance.mode}")


@task(result=results.Balancing)
def status(c: Any, lab: str = "") -> None:
    """Show the balancer's servers."""
    session = open_session(lab)
    with session.fleet() as fleet:
        views = runtime.statistics(session.context, fleet)
    _show(session.context, views)


@task(
    result=results.Balancing,
    positional=["server"],
    help={"deadline": "seconds to wait for open sessions"},
)
def drain(c: Any, server: str, deadline: str = "30", lab: str = "") -> None:
    """Drain a server: no new sessions."""
    session = open_session(lab)
    limit = number(deadline, "--deadline", 0, 3600)
    with session.lock(), session.fleet() as fleet:
        context = traffic.drain(
            session.context, fleet, server, limit, lambda text: print(text, file=sys.stderr)
        )
        _show(context, runtime.statistics(context, fleet))


@task(result=results.Balancing, positional=["server"])
def ready(c: Any, server: str, lab: str = "") -> None:
    """Put a server back into rotation."""
    session = open_session(lab)
    with session.lock(), session.fleet() as fleet:
        context = traffic.ready(session.context, fleet, server)
        runtime.wait_until_up(context, fleet, server)
        _show(context, runtime.statistics(context, fleet))


@task(
    result=results.Balancing,
    positional=["server", "weight"],
    help={"weight": "1 to 256; the default weight is 1"},
)
def weight(c: Any, server: str, weight: str, lab: str = "") -> None:
    """Set the weight of a server, now and permanently."""
    session = open_session(lab)
    if not weight.isdecimal():
        raise UsageError(f"invalid weight {weight!r}", "use an integer from 1 to 256")
    with session.lock(), session.fleet() as fleet:
        context = traffic.weight(session.context, fleet, server, int(weight))
        _show(context, runtime.statistics(context, fleet))


@task(
    result=results.Balancing,
    positional=["mode"],
    help={"mode": "active-active or active-passive"},
)
def mode(c: Any, mode: str, lab: str = "") -> None:
    """Use all servers, or one with the others as backup."""
    session = open_session(lab)
    with session.lock(), session.fleet() as fleet:
        context = traffic.mode(session.context, fleet, mode)
        _show(context, runtime.statistics(context, fleet))


@task(
    result=results.Balancing,
    positional=["algorithm"],
    help={"algorithm": "roundrobin, leastconn, static-rr, source"},
)
def algorithm(c: Any, algorithm: str, lab: str = "") -> None:
    """Set the load balancing algorithm."""
    session = open_session(lab)
    with session.lock(), session.fleet() as fleet:
        context = traffic.algorithm(session.context, fleet, algorithm)
        _show(context, runtime.statistics(context, fleet))


@task(
    result=results.Balancing,
    help={"seconds": "stop after this many (default: 0, never)", "every": "interval in seconds"},
)
def watch(c: Any, seconds: str = "0", every: str = "1", lab: str = "") -> None:
    """Watch rates, states and weights of the servers."""
    session = open_session(lab)
    limit = number(seconds, "--seconds", 0, 86400)
    pause = number(every, "--every", 0.2, 60)
    if document.requested():  # once: one document
        with session.fleet() as fleet:
            _show(session.context, runtime.statistics(session.context, fleet))
        return
    end = time.monotonic() + limit if limit else float("inf")
    # Ctrl-C is the normal way to stop it.
    with (
        session.fleet() as fleet,
        tables.Screen(console()) as screen,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            screen.update(tables.Grid(LAYOUT, _rows(runtime.statistics(session.context, fleet))))
            if time.monotonic() + pause > end or output.reader_is_gone():
                return
            time.sleep(pause)
