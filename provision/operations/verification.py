"""Verify that a server runs a release, and responds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from provision.core.errors import LabError
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.context import Context
from provision.engine.host import Host
from provision.services.app import role as app
from provision.services.app.agent.running import running_probe
from provision.services.app.interface import HEALTH, SERVICE, application

READY_SECONDS = 10.0
"""Until a server responds with its new release."""


def running_version(host: Host) -> str:
    """The release that a machine's application runs; empty when it does not run."""
    probe = running_probe(SERVICE)
    return host.gather([probe])[probe].version


def verify_release(context: Context, host: Host, version: str) -> None:
    """Check health and version of one server, through its own web server if it has one.

    Raises:
        LabError: when it is unhealthy or runs another version.
    """
    machine, release = context.lab.machine(host.name), application(context)

    def probe(path: str) -> Probe[HttpResponse]:
        if "nginx" in machine.roles:
            request = HttpRequest(path, address="127.0.0.1")
        else:
            request = app.local_request(context, machine, path)
        request = replace(request, host=context.lab.site)
        return http_probe(path, request, until=200, deadline=READY_SECONDS)

    health_path = HEALTH if "nginx" in machine.roles else release.health
    health_probe, version_probe, running = (
        probe(health_path),
        probe("/version"),
        running_probe(SERVICE),
    )
    probes: list[Probe[Any]] = [health_probe, running]
    results = host.gather([*probes, version_probe] if release.is_guest_book else probes)
    health = results[health_probe]
    if health.status != 200:
        raise LabError(
            f"{host.name}: {release.health} responds with {health.status or health.error}",
            "" if release.is_guest_book else "--health names a path that responds with status 200",
            output=health.body,
        )
    values = {"the process's release": results[running].version}
    if release.is_guest_book:
        response = results[version_probe]
        values["the version in /version"] = _version(response)
        values["X-App-Version"] = response.headers.get("x-app-version", "")
    for source, value in values.items():
        if value != version:
            raise LabError(f"{host.name}: {source} is {value!r}, not {version!r}")


def _version(response: HttpResponse) -> str:
    try:
        return str(json.loads(response.body)["version"])
    except (ValueError, KeyError, TypeError):
        return ""
