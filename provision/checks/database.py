"""Checks of MySQL servers: writable or read-only as recorded, a row written and read back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.waiting import timeout_factor
from provision.database.agent.probes import server_probe
from provision.database.agent.server_status import ServerStatus
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.context import Context

READ_BACK_SECONDS = 5.0
"""Time in which a row that was written is readable on every database."""

READ_BACK_TIMEOUT = 2.0 * timeout_factor()
"""Seconds for one attempt."""

READ_BACK = "the row written through the site can be read here"


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The status of the machine's MySQL server."""
    if "mysql" in machine.roles:
        yield server_probe()


def read_back_probe(site: str = "", marker: str = "") -> Probe[HttpResponse]:
    """Read a row from the machine's own database, through the web server on the same machine."""
    path = f"/api/markers/{marker}?from=local"
    request = HttpRequest(path, address="127.0.0.1", host=site, timeout=READ_BACK_TIMEOUT)
    return http_probe("read back", request, until=200, deadline=READ_BACK_SECONDS)


def checks(context: Context) -> Iterator[Check]:
    """Checks of every database, and of a write through the site."""
    for machine in context.lab.with_role("mysql"):
        yield _role(context, machine.name)
        yield _read_back(context, machine)
    yield _write(context)


def server_status(observation: Observation, machine: str) -> ServerStatus:
    """The status of a machine's MySQL server; ``up`` is False when unknown."""
    status = observation.result(machine, server_probe())
    return status or ServerStatus(error=observation.problem(machine, server_probe()))


def _role(context: Context, name: str) -> Check:
    expected = "writable" if name == context.state.primary else "read only"

    def judge(observation: Observation) -> Verdict:
        status = server_status(observation, name)
        if not status.up:
            cause = f"MySQL does not accept connections: {status.error or UNKNOWN}"
            hint = f"invoke lab.ssh {name} -- sudo systemctl restart mysql"
            return Verdict(False, expected, status.error or UNKNOWN, cause=cause, hint=hint)
        got = "writable" if status.writable else "read only"
        return Verdict(got == expected, expected, got, cause=f"MySQL is {got}, not {expected}")

    hint = f"invoke lab.logs {name} --service mysql"
    return Check(f"database/{name}", name, "mysql", hint, judge, requires.service(name, "mysql"))


def _write(context: Context) -> Check:
    primary = context.state.primary

    def judge(observation: Observation) -> Verdict:
        response = observation.response("write")
        written_to = response.header("x-written-to")
        ok = response.status in (200, 201) and written_to == primary
        got = response.error or f"status {response.status}, written to {written_to or 'nothing'}"
        return passed_if(ok, f"a row is written to {primary}", got)

    prerequisites = requires.site(context)
    return Check("write", primary, "mysql", "invoke db.status", judge, prerequisites)


def _read_back(context: Context, machine: Machine) -> Check:
    name = machine.name

    def through_the_site(observation: Observation) -> Verdict:
        response = observation.response(f"read-back/{name}")
        got = response.error or f"status {response.status}"
        return passed_if(response.status == 200, READ_BACK, got)

    def on_the_machine(observation: Observation) -> Verdict:
        if observation.response("write").status not in (200, 201):
            return Verdict(False, READ_BACK, "not written: see check write")
        response = observation.result(name, read_back_probe()) or HttpResponse(error="unknown")
        got = response.error or f"status {response.status} after {response.seconds} s"
        return passed_if(response.status == 200, READ_BACK, got)

    judge = on_the_machine if "nginx" in machine.roles else through_the_site
    prerequisites = ("write", f"replication/{name}", f"data/{name}", *requires.site(context))
    return Check(f"read-back/{name}", name, "mysql", "invoke db.status", judge, prerequisites)
