"""The way of one request: asked once, with a mark in its query, and looked up at every hop.

What is shown is what each hop said itself: the name server's answer, HAProxy's and Nginx's lines in
their own logs, the application's headers, the newest row of the database that was read.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from provision.checks.observation import Page
from provision.checks.observe import request
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.dns import names

ACCESS_LOG = "/var/log/nginx/access.log"
LOGGED = 3.0
"""Seconds in which a request is in the logs."""

ROW = "SELECT seq, id, author, text, host, created FROM foobar.notes ORDER BY seq DESC LIMIT 1"


@dataclass(frozen=True)
class Hop:
    """One station of a request.

    Args:
        what: its part, such as ``web server``.
        where: program and machine.
        said: names and values, in the order in which they are shown.
        ok: False where the way ends although it should go on.
    """

    what: str
    where: str
    said: tuple[tuple[str, str], ...]
    ok: bool = True

    def values(self) -> dict[str, Any]:
        """The hop as plain values, for programs."""
        return {"what": self.what, "where": self.where, "ok": self.ok, "said": dict(self.said)}


def trace(context: Context, fleet: Fleet, path: str) -> list[Hop]:
    """Ask for one page and follow it.

    Args:
        context: the lab.
        fleet: its running machines.
        path: of the page, with its query.
    """
    return list(_hops(context, fleet, path))


def _hops(context: Context, fleet: Fleet, path: str) -> Iterator[Hop]:
    lab = context.lab
    mark = secrets.token_hex(6)
    marked = f"{path}{'&' if '?' in path else '?'}trace={mark}"
    yield name_hop(lab)
    began = time.monotonic()
    page = request(lab, marked)
    took = time.monotonic() - began
    yield client_hop(lab, marked, page, took)
    if page.error:
        return
    balancer = page.header("x-balanced-by")
    web = page.header("x-served-by")
    if balancer:
        line = _logged(fleet, balancer, ["journalctl", "-q", "-o", "cat", "-u", "haproxy"], mark)
        yield balancer_hop(balancer, context, web, line)
    if not web:
        yield Hop("web server", "Nginx", (("said", "none of them answered"),), False)
        return
    line = _logged(fleet, web, ["tail", "-n", "500", ACCESS_LOG], mark)
    yield Hop("web server", f"Nginx on {web}", (("log", line),), page.status < 500)
    app = page.header("x-app-host")
    if not app:
        return  # a file, or an error: Nginx's own answer
    said = [
        ("release", page.header("x-app-version")),
        ("request", page.header("x-request-id")),
        ("answered", f"status {page.status}, {len(page.body)} characters"),
    ]
    yield Hop("application", f"gunicorn and Flask on {app}", tuple(said), page.status < 500)
    read = page.header("x-read-from")
    if read:
        yield _row(context, fleet, read)


def name_hop(lab: Lab) -> Hop:
    """What the lab's name server says of the site; what the hosts file would say without one."""
    servers = lab.with_role("dns")
    if not servers:
        answer = f"{lab.site} is {lab.address} in every machine's /etc/hosts"
        return Hop("name", "no name server in this topology", (("answered", answer),))
    reply = names.Reply()
    where = ""
    for server in servers:
        reply = names.ask(str(server.address), lab.site)
        where = f"dnsmasq on {server.name} ({server.address} port 53)"
        if reply.code:
            break
    if not reply.code:
        return Hop("name", where, (("asked", f"{lab.site} A"), ("said", reply.error)), False)
    shown = [f"{r.kind} {r.value}, for {r.ttl} s" for r in reply.records] or [reply.code]
    said = (
        ("asked", f"{lab.site} A"),
        ("answered", f"{'; '.join(shown)} ({reply.seconds * 1000:.1f} ms)"),
    )
    return Hop("name", where, said, reply.values("A") == (str(lab.address),))


def client_hop(lab: Lab, path: str, page: Page, seconds: float) -> Hop:
    """What the controller, in the browser's place, sent and got."""
    said = [("sent", f"GET {path} HTTP/1.1, Host: {lab.site}")]
    if page.error:
        said.append(("got", page.error))
    else:
        kind = page.header("content-type") or "no type"
        said.append(("got", f"{page.status}, {kind}, after {seconds * 1000:.0f} ms"))
    return Hop("browser", f"this computer, to {lab.url}", tuple(said), not page.error)


def balancer_hop(balancer: str, context: Context, web: str, line: str) -> Hop:
    """What HAProxy did with it."""
    said = [("chose", f"{web or 'nobody'} ({context.balance.algorithm})"), ("log", line)]
    found = re.search(r" (-?\d+)/(-?\d+)/(-?\d+)/(-?\d+)/(-?\d+) ", line)
    if found:
        words = ("waiting for the request", "queue", "connecting", "the server's answer", "in all")
        times = ", ".join(f"{w} {ms} ms" for w, ms in zip(words, found.groups(), strict=True))
        said.insert(1, ("times", times))
    return Hop("balancer", f"HAProxy on {balancer}", tuple(said), bool(web))


def _logged(fleet: Fleet, machine: str, argv: list[str], mark: str) -> str:
    """The line of a machine's log with this mark in it; logs are written a moment later."""
    if argv[0] == "journalctl":
        argv = [*argv, "-n", "500"]
    deadline = time.monotonic() + LOGGED
    while True:
        try:
            text = fleet.host(machine).run(*argv, timeout=10).out
        except LabError as error:
            return f"not known: {error.what}"
        found = [line for line in text.splitlines() if mark in line]
        if found:
            return found[-1].strip()
        if time.monotonic() > deadline:
            return "not in its log"
        time.sleep(0.1)


def _row(context: Context, fleet: Fleet, name: str) -> Hop:
    """The newest row of the guest book on the database that was read."""
    role = "primary" if name == context.state.primary else "replica"
    where = f"MySQL on {name} ({role})"
    try:
        host: Host = fleet.host(name)
        done = host.run("mysql", "--batch", "--skip-column-names", input=ROW + ";\n", timeout=10)
    except LabError as error:
        return Hop("database", where, (("said", error.what),), False)
    row = done.out.strip().replace("\t", " | ")
    shown = row or ("the guest book has no entry yet" if done.ok else done.err.strip())
    said = (("query", ROW), ("row" if row else "said", shown))
    return Hop("database", where, said, done.ok)
