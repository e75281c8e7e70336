"""Observe a running lab: requests to the site, and one gather per machine."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import replace

from provision import checks
from provision.checks.balancer import alternates
from provision.checks.database import READ_BACK_SECONDS, read_back_probe
from provision.checks.observation import Observation
from provision.core.errors import HostError
from provision.core.lab import Lab
from provision.core.waiting import Timeout, wait_until
from provision.engine.agent.protocol import Results
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.dns.lookup import query
from provision.services.tls.https import SiteResponse, handshake, request

ROUNDS = 3
"""Attempts to see servers alternate; requests of other clients may come in between."""

STATIC = "/static/foobar.css"


def observe(
    context: Context, fleet: Fleet, states: Mapping[str, str], *, with_requests: bool = True
) -> Observation:
    """Collect everything that checks judge.

    Args:
        states: according to the provider, by machine.
        with_requests: False skips requests to the site, and the row that they write.
    """
    lab, marker = context.lab, secrets.token_hex(8)
    observation = _request_site(context, states, marker) if with_requests else Observation(states)
    written = observation.response("write").status in (200, 201)
    errors: dict[str, str] = {}

    def gather(host: Host) -> Results | None:
        machine = lab.machine(host.name)
        probes = list(checks.probes(context, machine))
        if written and {"nginx", "mysql"} <= set(machine.roles):
            probes.append(read_back_probe(lab.site, marker))
        try:
            return host.gather(probes)
        except HostError as error:
            errors[host.name] = error.what
            return None

    results = {name: value for name, value in fleet.each(gather).items() if value is not None}
    return replace(observation, results=results, errors=errors)


def _request_site(context: Context, states: Mapping[str, str], marker: str) -> Observation:
    lab = context.lab
    servers = len(lab.with_role("nginx"))
    rounds: list[tuple[SiteResponse, ...]] = []
    while len(rounds) < ROUNDS and not (rounds and alternates(rounds[-1], servers)):
        rounds.append(tuple(request(lab, "/") for _ in range(2 * servers)))
    responses = {
        "static": request(lab, STATIC),
        "missing": request(lab, "/no-such-page"),
        "write": request(lab, f"/api/markers/{marker}", "PUT"),
    }
    resolved = {}
    for server in lab.with_role("dns"):
        reply = query(str(server.address), lab.site)
        resolved[server.name] = " ".join(reply.values("A")) or reply.error or reply.code
    if lab.topology.https:
        responses["redirect"] = request(lab, "/", plain=True)
    for database in lab.with_role("mysql"):
        # Where a web server is on the same machine, that machine reads the row itself.
        if "nginx" not in database.roles:
            path = f"/api/markers/{marker}?from={database.name}"
            responses[f"read-back/{database.name}"] = _request_until_found(lab, path)
    tls = handshake(lab) if lab.topology.https else None
    return Observation(states, {}, {}, tuple(rounds), responses, resolved, tls)


def _request_until_found(lab: Lab, path: str) -> SiteResponse:
    """The last response, with status 200 unless that took too long."""
    response = SiteResponse()

    def found() -> bool:
        nonlocal response
        response = request(lab, path)
        return response.status == 200

    with contextlib.suppress(Timeout):
        wait_until(found, READ_BACK_SECONDS, "the row to be readable", interval=0.05)
    return response
