"""Backend servers that go down and up again: transitions in HAProxy's log."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from provision.engine.agent.http import socket_command
from provision.engine.agent.process import must
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector

CHANGE = re.compile(r"Server web/(\S+) (enters drain state|is DOWN|is UP)(.*)")
UPTIME = re.compile(r"^Uptime_sec: ([0-9]+)$", re.MULTILINE)

STARTUP_SECONDS = 15.0
"""After the start of HAProxy, when all machines may still be booting: nothing is counted."""

LEAVES_DRAIN = "(leaving forced drain)"
"""Ends the line on the state of a server that gets requests again."""


@dataclass(frozen=True)
class Transitions:
    """How often each server went down, of those whose state changed a moment ago."""

    downs: Mapping[str, int] = field(default_factory=dict)


def transitions_probe(socket: str, window: float, quiet: float) -> Probe[Transitions]:
    """Servers that keep going down.

    Args:
        socket: HAProxy's runtime socket.
        window: seconds in which transitions are counted.
        quiet: seconds after which a state counts as stable.
    """
    args = {"socket": socket, "window": window, "quiet": quiet}
    return Probe("transitions", "transitions of servers", args, Transitions)


@collector("transitions")
def collect_transitions(args: Args) -> Transitions:
    """See `transitions_probe`; the journal is read only when a state has just changed."""
    reply = socket_command(args["socket"], "show stat")
    unstable = set() if reply.error else changed(reply.text, args["quiet"])
    if not unstable:
        return Transitions()
    info = socket_command(args["socket"], "show info")
    since = f"--since=@{first_counted(info.text, time.time(), args['window']):.0f}"
    argv = ["journalctl", "--quiet", "--no-pager", "-o", "cat", since, "-u", "haproxy.service"]
    downs = count_downs(must(argv, timeout=5).stdout)
    return Transitions({name: count for name, count in downs.items() if name in unstable})


def first_counted(info: str, now: float, window: float) -> float:
    """From when on transitions count, in seconds since 1970.

    A server that boots later than its balancer is DOWN at first; that is not flapping.

    Args:
        info: the response to ``show info``.
    """
    match = UPTIME.search(info)
    started = now - int(match[1]) if match else 0.0
    return max(now - window, started + STARTUP_SECONDS)


def changed(statistics: str, seconds: float) -> set[str]:
    """The servers that changed their state so recently (management guide, 9.1, ``lastchg``)."""
    rows = csv.DictReader(statistics.removeprefix("# ").splitlines())
    servers = (
        row
        for row in rows
        if row["pxname"] == "web" and row["svname"] not in ("FRONTEND", "BACKEND")
    )
    return {
        row["svname"]
        for row in servers
        if row["chkdown"].isdigit() and int(row["chkdown"]) > 0
        if row["lastchg"].isdigit() and int(row["lastchg"]) <= seconds
    }


def count_downs(log: str) -> dict[str, int]:
    """Lines ``Server web/web-01 is DOWN`` by server.

    A drained server gets no requests and is restarted on purpose: it does not count.
    """
    counts: dict[str, int] = {}
    drained: set[str] = set()
    for name, state, rest in CHANGE.findall(log):
        if state == "enters drain state":
            drained.add(name)
        elif LEAVES_DRAIN in rest:
            drained.discard(name)
        elif state == "is DOWN" and name not in drained:
            counts[name] = counts.get(name, 0) + 1
    return counts
