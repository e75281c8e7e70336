"""Trace one request: send it with a unique query parameter and find it at every hop.

Each hop is shown by its own output: the reply of the name server, the log lines of HAProxy and
Nginx, the headers of the application, the newest row of the database that was read.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.core.waiting import Timeout, wait_until
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.dns import lookup
from provision.services.tls.https import SiteResponse, request

LOG_SECONDS = 3.0
"""Time for a request to appear in the logs."""

ROW = "SELECT seq, id, author, text, host, created FROM foobar.notes ORDER BY seq DESC LIMIT 1"


@dataclass(frozen=True)
class Hop:
    """One hop of a request; ``details`` are names and values in display order."""

    component: str
    location: str
    details: tuple[tuple[str, str], ...]
    ok: bool = True


def trace(context: Context, fleet: Fleet, path: str) -> list[Hop]:
    """Request one page and trace it; ``path`` may have a query."""
    return list(_hops(context, fleet, path))


def _hops(context: Context, fleet: Fleet, path: str) -> Iterator[Hop]:
    lab = context.lab
    trace_id = secrets.token_hex(6)
    traced_path = f"{path}{'&' if '?' in path else '?'}trace={trace_id}"
    yield name_hop(lab)
    begin = time.monotonic()
    page = request(lab, traced_path)
    seconds = time.monotonic() - begin
    yield client_hop(lab, traced_path, page, seconds)
    if page.error:
        return
    balancer = page.header("x-balanced-by")
    web = page.header("x-served-by")
    if balancer:
        line = _logged(fleet, balancer, "haproxy", trace_id)
        yield balancer_hop(balancer, context, web, line)
    if not web:
        yield Hop("web server", "Nginx", (("error", "no web server responded"),), False)
        return
    line = _logged(fleet, web, "nginx", trace_id)
    yield Hop("web server", f"Nginx on {web}", (("log", line),), page.status < 500)
    app = page.header("x-app-host")
    if not app:
        return  # a static file or an error, sent by Nginx
    details = [
        ("release", page.header("x-app-version")),
        ("request", page.header("x-request-id")),
        ("response", f"status {page.status}, {len(page.body)} characters"),
    ]
    yield Hop("application", f"gunicorn and Flask on {app}", tuple(details), page.status < 500)
    read = page.header("x-read-from")
    if read:
        yield _row(context, fleet, read)


def name_hop(lab: Lab) -> Hop:
    """The reply of the lab's name server; without one, the entry in the hosts files."""
    servers = lab.with_role("dns")
    if not servers:
        entry = f"{lab.address} {lab.site} in /etc/hosts of every machine"
        return Hop("name resolution", "no name server in this topology", (("hosts file", entry),))
    reply = lookup.DnsReply()
    location = ""
    for server in servers:
        reply = lookup.query(str(server.address), lab.site)
        location = f"dnsmasq on {server.name} ({server.address} port 53)"
        if reply.code:
            break
    if not reply.code:
        error = (("query", f"{lab.site} A"), ("error", reply.error))
        return Hop("name resolution", location, error, False)
    records = [f"{r.kind} {r.value}, TTL {r.ttl} s" for r in reply.records] or [reply.code]
    details = (
        ("query", f"{lab.site} A"),
        ("reply", f"{'; '.join(records)} ({reply.seconds * 1000:.1f} ms)"),
    )
    return Hop("name resolution", location, details, reply.values("A") == (str(lab.address),))


def client_hop(lab: Lab, path: str, page: SiteResponse, seconds: float) -> Hop:
    """Request and response of the controller, which acts as the browser."""
    details = [("request", f"GET {path} HTTP/1.1, Host: {lab.site}")]
    if page.error:
        details.append(("error", page.error))
    else:
        content_type = page.header("content-type") or "no content type"
        details.append(
            ("response", f"{page.status}, {content_type}, after {seconds * 1000:.0f} ms")
        )
    return Hop("browser", f"this computer, to {lab.url}", tuple(details), not page.error)


def balancer_hop(balancer: str, context: Context, web: str, line: str) -> Hop:
    """The server that HAProxy selected, and its timers (configuration manual, 8.4)."""
    details = [("selected", f"{web or 'no server'} ({context.balance.algorithm})"), ("log", line)]
    timers = re.search(r" (-?\d+)/(-?\d+)/(-?\d+)/(-?\d+)/(-?\d+) ", line)
    if timers:
        names = ("client request", "queue", "connect", "server response", "total")
        times = ", ".join(
            f"{name} {ms} ms" for name, ms in zip(names, timers.groups(), strict=True)
        )
        details.insert(1, ("timers", times))
    return Hop("balancer", f"HAProxy on {balancer}", tuple(details), bool(web))


def _logged(fleet: Fleet, machine: str, unit: str, trace_id: str) -> str:
    """The line of a service's log with this trace id; logs are written a moment later."""
    argv = ["journalctl", "-q", "-o", "cat", "-u", unit, "-n", "500"]

    def newest_line() -> str:
        log = fleet.host(machine).run(*argv, timeout=10).stdout
        lines = [line.strip() for line in log.splitlines() if trace_id in line]
        return lines[-1] if lines else ""

    try:
        return wait_until(newest_line, LOG_SECONDS, "the request to appear in the log")
    except Timeout:
        return "not in the log"
    except LabError as error:
        return f"unknown: {error.what}"


def _row(context: Context, fleet: Fleet, name: str) -> Hop:
    """The newest row of the guest book on the database that was read."""
    role = "primary" if name == context.state.primary else "replica"
    location = f"MySQL on {name} ({role})"
    try:
        host: Host = fleet.host(name)
        result = host.run("mysql", "--batch", "--skip-column-names", input=ROW + ";\n", timeout=10)
    except LabError as error:
        return Hop("database", location, (("error", error.what),), False)
    row = result.stdout.strip().replace("\t", " | ")
    if not result.ok:
        details = (("query", ROW), ("error", result.stderr.strip()))
    else:
        details = (("query", ROW), ("row", row or "the guest book is empty"))
    return Hop("database", location, details, result.ok)
