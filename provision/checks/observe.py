"""Observe a running lab in bounded time: requests to the site, and one gather per machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from provision import checks
from provision.checks.database import read_back_probe
from provision.checks.observation import Observation
from provision.checks.site_requests import Marker, SiteObservation, observe_site
from provision.core import clock
from provision.core.errors import HostError
from provision.core.lab import Machine
from provision.core.parallel import finish_in_time
from provision.core.waiting import timeout_factor
from provision.engine.agent.protocol import Probe, Results
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host, ProbeFailedError

DEADLINE = 9.0 * timeout_factor()
"""Seconds for one observation; what has not responded by then has failed."""

MARGIN = 2.0 * timeout_factor()
"""Seconds before the end at which a machine responds without the probes that hang."""

SITE_MARGIN = 0.3 * timeout_factor()
"""Seconds before the end at which requests without a response are errors; the others count."""

READ_BACK_LEAST = 0.5
"""Seconds that the request for the row has, however late it is written."""

SITE = "the site"
"""The key of the requests among those of the machines."""


def observe(
    context: Context,
    fleet: Fleet,
    states: Mapping[str, str],
    *,
    with_requests: bool = True,
    probes_of: Callable[[Context, Machine], Iterable[Probe[Any]]] = checks.probes,
) -> Observation:
    """Collect everything that checks judge, within `DEADLINE`.

    Args:
        states: according to the provider, by machine.
        with_requests: False skips requests to the site, and the row that they write.
        probes_of: what is asked of each machine.
    """
    end = clock.now() + DEADLINE
    fleet.start()  # while the templates are rendered
    gathered: dict[str, Results] = {}
    errors: dict[str, str] = {}
    hints: dict[str, str] = {}
    marker = Marker()
    probes = {name: list(probes_of(context, context.lab.machine(name))) for name in fleet.hosts}
    if not with_requests:
        marker.sent.set()

    def gather(host: Host) -> None:
        name = host.name
        try:
            results = gathered[name] = _gather(host, probes[name], end, MARGIN)
            read_back = _read_back(context, name, marker)
            if read_back and marker.is_written(end - MARGIN):
                more = _gather(host, read_back, end, READ_BACK_LEAST)
                responses = {**results.responses, **more.responses}
                gathered[name] = Results(name, responses, ProbeFailedError)
        except HostError as error:
            if name not in gathered:  # otherwise only the row is not found
                errors[name], hints[name] = error.what, error.hint
        except Exception as error:  # the other machines are still judged
            errors[name] = f"{name}: {type(error).__name__}: {error}"

    work: dict[str, Callable[[], Any]] = {n: _bind(gather, host) for n, host in fleet.hosts.items()}
    if with_requests:
        work[SITE] = lambda: observe_site(context, marker, end - SITE_MARGIN)
    done = finish_in_time(work, end - clock.now())
    for name in fleet.hosts.keys() - done.keys():
        fleet.hosts[name].close()  # ends the thread that waits for it
        if name not in gathered:
            errors[name] = f"{name}: no response in {DEADLINE:g} s"
    requested: SiteObservation = done.pop(SITE, SiteObservation())
    return Observation(
        states,
        dict(gathered),
        dict(errors),
        requested.pages,
        requested.responses,
        requested.resolved,
        requested.tls,
        dict(hints),
    )


def _gather(host: Host, probes: list[Probe[Any]], end: float, least: float) -> Results:
    """Collect facts; probes that hang fail `MARGIN` before the end, so that the others arrive.

    Args:
        least: seconds that every probe has.
    """
    host.start()  # takes its time before the rest is shared out
    remaining = end - clock.now()
    return host.gather(probes, remaining, each=max(least, remaining - MARGIN))


def _bind(function: Callable[[Host], Any], host: Host) -> Callable[[], Any]:
    return lambda: function(host)


def _read_back(context: Context, name: str, marker: Marker) -> list[Probe[Any]]:
    if {"nginx", "mysql"} <= set(context.lab.machine(name).roles):
        return [read_back_probe(context.lab.site, marker.text)]
    return []
