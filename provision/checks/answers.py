"""Checks that each server answers by itself: HAProxy, Nginx and gunicorn, every one directly.

systemd calls a process that hangs or listens elsewhere active; only an answer shows that it works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.waiting import timeout_factor
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.context import Context
from provision.services.app.interface import application
from provision.services.app.role import local_request
from provision.services.tls import interface as tls

TIMEOUT = 3.0 * timeout_factor()
"""Seconds for one answer."""

DETAIL = 400
"""Characters of an unexpected response that are shown."""

NO_FILE = "/static/none"
"""Nginx answers 404 by itself."""


def nginx_probe(context: Context, web: Machine) -> Probe[HttpResponse]:
    """Request a file that does not exist from one Nginx, as the front machine."""
    https = context.lab.topology.https
    request = HttpRequest(
        NO_FILE,
        address=str(web.address),
        port=443 if https else 80,
        host=context.lab.site,
        ca=tls.CA if https else "",
        timeout=TIMEOUT,
    )
    return http_probe(f"{web.name} {NO_FILE}", request)


def app_probe(context: Context, machine: Machine) -> Probe[HttpResponse]:
    """Request the version, or an own application's health path, from the machine's gunicorn."""
    app = application(context)
    path = "/version" if app.is_guest_book else app.health
    request = replace(local_request(context, machine, path), timeout=TIMEOUT)
    return http_probe(f"{machine.name} gunicorn {path}", request)


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Requests of the front machine to each Nginx, and of each machine to its gunicorn."""
    if machine == context.lab.front:
        for web in context.lab.with_role("nginx"):
            yield nginx_probe(context, web)
    if "app" in machine.roles:
        yield app_probe(context, machine)


def checks(context: Context) -> Iterator[Check]:
    """One check per process that answers requests, except MySQL (see `database`)."""
    lab = context.lab
    for machine in lab.with_role("app"):
        yield _answers(machine, machine, "foobar", app_probe(context, machine), 200)
    for machine in lab.with_role("nginx"):
        yield _answers(machine, lab.front, "nginx", nginx_probe(context, machine), 404)
    for machine in lab.with_role("haproxy"):
        yield _balancer(machine)


def restart_hint(machine: str, service: str) -> str:
    """The command that ends a process that hangs, and starts the service again."""
    return f"invoke lab.ssh {machine} -- sudo systemctl restart {service}"


def _answers(
    server: Machine,
    client: Machine,
    service: str,
    probe: Probe[HttpResponse],
    status: int,
) -> Check:
    def judge(observation: Observation) -> Verdict:
        response = observation.result(client.name, probe)
        if response is None:
            response = HttpResponse(error=observation.problem(client.name, probe))
        got = response.error or f"status {response.status}"
        detail = "" if response.status == status else response.body.strip()[:DETAIL]
        ok = response.status == status
        return Verdict(
            ok, f"status {status}", got, detail, cause=f"{service} does not answer: {got}"
        )

    name = f"answer/{server.name}/{service}"
    hint = restart_hint(server.name, service)
    prerequisites = (*requires.machine(client.name), *requires.service(server.name, service))
    return Check(name, server.name, service, hint, judge, prerequisites)


def _balancer(machine: Machine) -> Check:
    name = machine.name

    def judge(observation: Observation) -> Verdict:
        response = observation.response(f"balancer/{name}")
        got = response.error or f"status {response.status}"
        cause = f"haproxy does not answer: {got}"
        return Verdict(response.status > 0, "an HTTP response", got, cause=cause)

    hint = restart_hint(name, "haproxy")
    prerequisites = requires.service(name, "haproxy")
    return Check(f"answer/{name}/haproxy", name, "haproxy", hint, judge, prerequisites)
