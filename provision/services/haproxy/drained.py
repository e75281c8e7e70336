"""Taking a server out of rotation while something restarts it, and back in when it is healthy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from provision.core.errors import LabError
from provision.core.lab import Machine
from provision.core.report import Report
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.services.app.interface import listen_address
from provision.services.haproxy import role as haproxy
from provision.services.haproxy import runtime
from provision.services.haproxy.traffic import servers_up
from provision.services.nginx.interface import FAIL_TIMEOUT

DRAIN_SECONDS = 30.0
"""The time for open sessions to end."""


class DrainTimeout(LabError):  # noqa: N818 - named like TimeoutError
    """A server's sessions did not end in time; it was not changed and is back in rotation."""


@contextlib.contextmanager
def drained(context: Context, fleet: Fleet, machine: Machine, report: Report) -> Iterator[None]:
    """Drain a server during the body, and wait until it is healthy after it.

    The drain is not recorded: if the controller dies, the next lab.up ends it. If no other server
    is up, the server stays in rotation, since a drain would make the outage longer. A server whose
    body failed stays drained until it is fixed; one whose body is interrupted is put back. Other
    machines than backend servers are unaffected.

    An application server on a machine of its own has no drain: web servers detect its failure.
    Nginx does not report which servers it avoids, but for how long is configured; that time must
    pass before the next server goes down, or Nginx would have none left.

    Raises:
        DrainTimeout: before the body, when sessions are open after `DRAIN_SECONDS`.
        LabError: after the body, when health checks fail.
    """
    if _in_backend(context, machine):
        _drain(context, fleet, machine.name, report)
    try:
        yield
    except KeyboardInterrupt:
        # Its health check decides whether it gets requests: no interruption leaves it drained.
        if _in_backend(context, machine):
            report(machine.name, "interrupted: back in rotation")
            state = _recorded_state(context, machine.name)
            runtime.set_server_state(context, fleet, machine.name, state)
        raise
    put_back(context, fleet, machine, report)
    if "app" in machine.roles and listen_address(machine):
        report(machine.name, "waiting until web servers use it again")
        time.sleep(2 * FAIL_TIMEOUT)


def _in_backend(context: Context, machine: Machine) -> bool:
    return "nginx" in machine.roles and bool(context.lab.with_role("haproxy"))


def _recorded_state(context: Context, name: str) -> str:
    return dict(haproxy.server_states(context))[name]


def _drain(context: Context, fleet: Fleet, name: str, report: Report) -> None:
    if not servers_up(context, fleet) - {name}:
        report(name, "stays in rotation: no other server is up")
        return
    report(name, "draining")
    runtime.set_server_state(context, fleet, name, "drain")
    try:
        runtime.wait_until_idle(
            context, fleet, name, DRAIN_SECONDS, lambda message: report(name, message)
        )
    except KeyboardInterrupt:
        runtime.set_server_state(context, fleet, name, _recorded_state(context, name))
        raise
    except LabError as error:
        runtime.set_server_state(context, fleet, name, _recorded_state(context, name))
        raise DrainTimeout(f"{error.what}; it was not changed and is back in rotation") from None


def put_back(context: Context, fleet: Fleet, machine: Machine, report: Report) -> None:
    """Set a server's recorded state, and wait for its health check.

    Raises:
        LabError: when the health check fails.
    """
    if not _in_backend(context, machine):
        return
    state = _recorded_state(context, machine.name)
    runtime.set_server_state(context, fleet, machine.name, state)
    if state not in ("drain", "maint"):
        report(machine.name, "waiting for the balancer's health check")
        runtime.wait_until_up(context, fleet, machine.name)
