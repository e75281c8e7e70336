"""Trace a request over every path: each balancer, web server, application server and database.

Each hop is requested by the machine before it, so that a path shows where it ends, whichever path
the site itself would choose. A path stops at its first hop that fails.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.checks.answers import TIMEOUT, app_probe
from provision.checks.site_requests import SECONDS, marker_path, write_marker
from provision.core import clock
from provision.core.errors import HostError
from provision.core.lab import Lab, Machine
from provision.core.parallel import finish_in_time
from provision.core.waiting import timeout_factor
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe, Results
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.services.app import interface as app
from provision.services.app.role import local_request
from provision.services.tls import interface as tls
from provision.services.tls.https import request

DEADLINE = 12.0 * timeout_factor()
"""Seconds for all hops of all paths."""

ROW_SECONDS = 3.0
"""Until the row is readable on a replica, multiplied by `timeout_factor`."""

WORKSTATION = "workstation"


@dataclass(frozen=True)
class PathHop:
    """One hop: ``client`` requests something from ``service`` on ``server``."""

    client: str
    server: str
    service: str

    def __str__(self) -> str:
        return f"{self.client} → {self.service} on {self.server}"


@dataclass(frozen=True)
class TracedPath:
    """One path, and what its first failed hop responded; ``error`` is empty without one."""

    hops: tuple[PathHop, ...]
    failed: PathHop | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the request reached the row in the database."""
        return self.failed is None

    @property
    def text(self) -> str:
        """The machines of the path, in order."""
        names = [f"{hop.server} ({hop.service})" for hop in self.hops]
        return " → ".join([WORKSTATION, *names])


def paths(lab: Lab, *, to_databases: bool = True) -> Iterator[tuple[PathHop, ...]]:
    """All paths from the workstation to a database, in the topology's order.

    Args:
        to_databases: False ends them at the application, as with one of the user's own, of which
            it is not known what it reads.
    """
    databases = lab.with_role("mysql") if to_databases else (None,)
    for balancer, web, database in itertools.product(
        lab.with_role("haproxy") or (None,), lab.with_role("nginx"), databases
    ):
        for server in (web,) if "app" in web.roles else lab.with_role("app"):
            yield _path(balancer, web, server, database)


def _path(
    balancer: Machine | None, web: Machine, server: Machine, database: Machine | None
) -> tuple[PathHop, ...]:
    first = [PathHop(WORKSTATION, balancer.name, "haproxy")] if balancer else []
    client = balancer.name if balancer else WORKSTATION
    return (
        *first,
        PathHop(client, web.name, "nginx"),
        PathHop(web.name, server.name, "foobar"),
        *((PathHop(server.name, database.name, "mysql"),) if database else ()),
    )


def traced(
    listed: Iterable[tuple[PathHop, ...]], errors: Mapping[PathHop, str]
) -> tuple[TracedPath, ...]:
    """Every path up to its first hop with an error.

    Args:
        listed: see `paths`.
        errors: of each hop; empty for one that works.
    """
    results = []
    for hops in listed:
        failed = next((hop for hop in hops if errors[hop]), None)
        results.append(TracedPath(hops, failed, errors[failed] if failed else ""))
    return tuple(results)


def trace_paths(context: Context, fleet: Fleet) -> tuple[TracedPath, ...]:
    """Write a row through the site, and request it over every path, within `DEADLINE`."""
    lab, end = context.lab, clock.now() + DEADLINE
    guest_book = app.application(context).is_guest_book
    listed = tuple(paths(lab, to_databases=guest_book))
    hops = tuple(dict.fromkeys(hop for path in listed for hop in path))
    marker = secrets.token_hex(8)
    written = guest_book and write_marker(lab, marker).status in (200, 201)
    probes = {
        hop: hop_probe(context, hop, marker, written) for hop in hops if hop.client != WORKSTATION
    }
    late = f"no response in {DEADLINE:g} s"
    failures: dict[str, str] = {}

    def gather(name: str) -> Results | None:
        wanted = [probe for hop, probe in probes.items() if hop.client == name]
        remaining = end - clock.now()
        try:
            return fleet.host(name).gather(wanted, remaining, each=max(1.0, remaining - 1))
        except HostError as error:
            failures[name] = error.what
            return None

    clients = {hop.client for hop in probes}
    work: dict[Any, Callable[[], Any]] = {name: _bind(gather, name) for name in clients}
    for hop in hops:
        if hop.client == WORKSTATION:
            work[hop] = _bind(lambda hop: _workstation_error(lab, hop), hop)
    done = finish_in_time(work, end - clock.now())
    for name in clients & fleet.hosts.keys() - done.keys():
        fleet.hosts[name].close()
    errors = {}
    for hop in hops:
        if hop.client == WORKSTATION:
            errors[hop] = done.get(hop, late)
        elif results := done.get(hop.client):
            errors[hop] = hop_error(hop, results.get(probes[hop]), written)
        else:
            errors[hop] = failures.get(hop.client, f"{hop.client}: {late}")
    return traced(listed, errors)


def _bind(function: Callable[[Any], Any], value: Any) -> Callable[[], Any]:
    return lambda: function(value)


def _workstation_error(lab: Lab, hop: PathHop) -> str:
    """Any HTTP response shows that the first server works; its errors are those of later hops."""
    address = str(lab.machine(hop.server).address)
    return request(lab, "/static/none", address=address, timeout=SECONDS).error


def hop_probe(context: Context, hop: PathHop, marker: str, written: bool) -> Probe[HttpResponse]:
    """The request of a machine over one hop."""
    server = context.lab.machine(hop.server)
    if hop.service == "nginx":
        wanted = _web_request(context, server)
    elif hop.service == "foobar":
        if hop.client == hop.server:
            return app_probe(context, server)
        wanted = _app_request(context, server)
    else:
        path = f"{marker_path(marker)}?from={hop.server}"
        wanted = local_request(context, context.lab.machine(hop.client), path)
        until = 200 if written else 0
        wanted = replace(wanted, timeout=TIMEOUT)
        deadline = ROW_SECONDS * timeout_factor() if written else 0.0
        return http_probe(f"hop {hop}", wanted, until=until, deadline=deadline)
    return http_probe(f"hop {hop}", wanted)


def _web_request(context: Context, web: Machine) -> HttpRequest:
    https = context.lab.topology.https
    return HttpRequest(
        "/static/none",
        address=str(web.address),
        port=443 if https else 80,
        host=context.lab.site,
        ca=tls.CA if https else "",
        timeout=TIMEOUT,
    )


def _app_request(context: Context, server: Machine) -> HttpRequest:
    release = app.application(context)
    return HttpRequest(
        "/version" if release.is_guest_book else release.health,
        address=str(server.address),
        port=app.PORT,
        host=context.lab.site,
        ca=tls.CA if context.lab.topology.https else "",
        timeout=TIMEOUT,
    )


def hop_error(hop: PathHop, response: HttpResponse | None, written: bool) -> str:
    """Why a hop failed; empty when it works."""
    if response is None:
        return f"{hop.client} could not send the request"
    if response.error:
        return response.error
    # Nginx has no such file; without a row to read, the application says that there is none.
    expected = {"nginx": {404}, "foobar": {200}, "mysql": {200} if written else {200, 404}}
    if response.status in expected[hop.service]:
        return ""
    body = " ".join(response.body.split())[:200]
    return f"status {response.status}: {body}" if body else f"status {response.status}"
