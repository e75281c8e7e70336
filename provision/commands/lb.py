"""`lb.*`: the balancer's servers: watch them, take them out and in, weigh them."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from provision.commands import show
from provision.commands.base import console, number, session, show_json, task
from provision.core.errors import UsageError
from provision.engine.context import Context
from provision.services.haproxy import runtime as balancer
from provision.services.haproxy import traffic
from provision.services.haproxy.runtime import ServerView

HEADER = ("SERVER", "STATUS", "CHECK", "WEIGHT", "OPEN", "RATE", "TOTAL", "ERRORS", "RETRIES")


def _rows(views: Mapping[str, Iterable[ServerView]]) -> list[list[str]]:
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
        for name, each in views.items()
        for v in each
    ]


def _show(context: Context, views: Mapping[str, Iterable[ServerView]]) -> None:
    show.grid(console(), HEADER, _rows(views))
    print(f"\n{context.balance.algorithm}, {context.balance.mode}")


@task(help={"json": "for programs"})
def status(c: Any, lab: str = "", json: bool = False) -> None:
    """Show what the balancer knows of its servers."""
    now = session(lab)
    with now.fleet() as fleet:
        views = balancer.look(now.context, fleet)
    if json:
        show_json({name: [asdict(v) for v in each] for name, each in views.items()})
    else:
        _show(now.context, views)


@task(positional=["server"], help={"deadline": "seconds to wait for its sessions to end"})
def drain(c: Any, server: str, deadline: str = "30", lab: str = "") -> None:
    """Send a server no new requests and wait until its sessions have ended."""
    now = session(lab)
    limit = number(deadline, "--deadline", 0, 3600)
    with now.lock(), now.fleet() as fleet:
        context = traffic.drain(
            now.context, fleet, server, limit, lambda text: print(text, file=sys.stderr)
        )
        _show(context, balancer.look(context, fleet))


@task(positional=["server"])
def ready(c: Any, server: str, lab: str = "") -> None:
    """Take a server back into rotation."""
    now = session(lab)
    with now.lock(), now.fleet() as fleet:
        context = traffic.ready(now.context, fleet, server)
        balancer.wait_until_up(context, fleet, server)
        _show(context, balancer.look(context, fleet))


@task(positional=["server", "weight"], help={"weight": "1 to 256; 1 is usual"})
def weight(c: Any, server: str, weight: str, lab: str = "") -> None:
    """Give a server a larger or smaller share, at once and for good."""
    now = session(lab)
    if not weight.isdecimal():
        raise UsageError(f"a weight of {weight!r}", "a whole number from 1 to 256")
    with now.lock(), now.fleet() as fleet:
        context = traffic.weight(now.context, fleet, server, int(weight))
        _show(context, balancer.look(context, fleet))


@task(positional=["mode"], help={"mode": "active-active or active-passive"})
def mode(c: Any, mode: str, lab: str = "") -> None:
    """Let all servers serve, or the first one while the others wait for its failure."""
    now = session(lab)
    with now.lock(), now.fleet() as fleet:
        context = traffic.mode(now.context, fleet, mode)
        _show(context, balancer.look(context, fleet))


@task(positional=["algorithm"], help={"algorithm": "roundrobin, leastconn, static-rr, source"})
def algorithm(c: Any, algorithm: str, lab: str = "") -> None:
    """Choose how requests are spread over the servers."""
    now = session(lab)
    with now.lock(), now.fleet() as fleet:
        context = traffic.algorithm(now.context, fleet, algorithm)
        _show(context, balancer.look(context, fleet))


@task(help={"seconds": "how long (0: until Ctrl-C)", "every": "seconds between looks"})
def watch(c: Any, seconds: str = "0", every: str = "1", lab: str = "") -> None:
    """Watch rates, states and weights of the servers live."""
    now = session(lab)
    limit = number(seconds, "--seconds", 0, 86400)
    pause = number(every, "--every", 0.2, 60)
    end = time.monotonic() + limit if limit else float("inf")
    # Ctrl-C is how it ends.
    with now.fleet() as fleet, show.Screen() as screen, contextlib.suppress(KeyboardInterrupt):
        while True:
            screen.update(HEADER, _rows(balancer.look(now.context, fleet)))
            if time.monotonic() + pause > end:
                return
            time.sleep(pause)
