"""The controller's requests to the site for the checks: pages, files, a row, names, TLS."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from provision.checks.answers import NO_FILE
from provision.checks.contents import static_files
from provision.checks.database import READ_BACK_SECONDS
from provision.checks.distribution import LARGEST_SAMPLE, sample_is_complete
from provision.checks.observation import NOT_SENT
from provision.core import clock
from provision.core.lab import Lab
from provision.core.parallel import finish_in_time
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.engine.context import Context
from provision.services.app.interface import application
from provision.services.dns.lookup import query
from provision.services.tls.https import (
    SiteResponse,
    TlsHandshake,
    connect,
    handshake,
    request,
)

STATIC = "/static/foobar.css"
PARALLEL = 4
"""Requests for pages at once, as a few visitors send them."""

SECONDS = 4.0
"""For one response, multiplied by `timeout_factor`."""

LATE = SiteResponse(error="no response in time")


@dataclass(frozen=True)
class SiteObservation:
    """What the requests returned; see `Observation`."""

    pages: tuple[SiteResponse, ...] = ()
    responses: dict[str, SiteResponse] = field(default_factory=dict)
    resolved: dict[str, str] = field(default_factory=dict)
    tls: TlsHandshake | None = None


def marker_path(marker: str) -> str:
    """Where a row with this marker is written and read."""
    return f"/api/markers/{marker}"


def write_marker(lab: Lab, marker: str) -> SiteResponse:
    """Write a row through the site."""
    return request(lab, marker_path(marker), "PUT", timeout=SECONDS)


@dataclass
class Marker:
    """The row that is written through the site, and read back from every database."""

    text: str = field(default_factory=lambda: secrets.token_hex(8))
    response: SiteResponse = NOT_SENT
    sent: threading.Event = field(default_factory=threading.Event)

    def write(self, lab: Lab) -> None:
        """Write the row."""
        try:
            self.response = write_marker(lab, self.text)
        finally:
            self.sent.set()

    def is_written(self, end: float) -> bool:
        """Wait for the response; whether the row is written."""
        self.sent.wait(max(0.0, end - clock.now()))
        return self.response.status in (200, 201)


def observe_site(context: Context, marker: Marker, end: float) -> SiteObservation:
    """Send all requests, in parallel; those without a response by the end are errors.

    Args:
        marker: is written through the guest book, and read back afterwards.
        end: in the time of `clock.now`.
    """
    # Threads that import it for the first time at once would see it half imported.
    import urllib3.connection  # noqa: F401

    lab = context.lab
    work = _single_requests(context)
    if application(context).is_guest_book:
        work["write"] = lambda: marker.write(lab)
        work |= _read_back(lab, marker, end)
    else:
        marker.sent.set()
    work["pages"] = lambda: _pages(context, end)
    work["resolved"] = lambda: _resolve(lab)
    if lab.topology.https:
        work["tls"] = lambda: handshake(lab, SECONDS * timeout_factor())
    done = finish_in_time(work, end - clock.now())
    others = ("write", "pages", "resolved", "tls")
    responses = {name: done.get(name, LATE) for name in work if name not in others}
    return SiteObservation(
        done.get("pages", (LATE,)),
        {**responses, "write": marker.response if marker.sent.is_set() else LATE},
        done.get("resolved", {}),
        done.get("tls", TlsHandshake(error=LATE.error)) if lab.topology.https else None,
    )


def static_path(context: Context) -> str:
    """A static file of the recorded release; one that is missing when it has none."""
    if application(context).is_guest_book:
        return STATIC
    return next(iter(static_files(context)), NO_FILE)


def _single_requests(context: Context) -> dict[str, Callable[[], Any]]:
    lab, page = context.lab, application(context).page

    def get(path: str, **options: Any) -> Callable[[], SiteResponse]:
        return lambda: request(lab, path, timeout=SECONDS, **options)

    work = {"static": get(static_path(context)), "missing": get("/no-such-page")}
    for balancer in lab.with_role("haproxy"):
        work[f"balancer/{balancer.name}"] = get(page, address=str(balancer.address))
    if lab.topology.https:
        work["redirect"] = get(page, plain=True)
    return work


def _read_back(lab: Lab, marker: Marker, end: float) -> dict[str, Callable[[], SiteResponse]]:
    """Read the row from each database; where a web server is on the same machine, that one does."""

    def read(name: str) -> Callable[[], SiteResponse]:
        path = f"{marker_path(marker.text)}?from={name}"

        def written() -> SiteResponse:
            if not marker.is_written(end):
                return NOT_SENT
            return _request_until_found(lab, path, min(READ_BACK_SECONDS, end - clock.now()))

        return written

    databases = [m.name for m in lab.with_role("mysql") if "nginx" not in m.roles]
    return {f"read-back/{name}": read(name) for name in databases}


def _request_until_found(lab: Lab, path: str, seconds: float) -> SiteResponse:
    """The last response, with status 200 unless that took too long."""
    response = SiteResponse()

    def found() -> bool:
        nonlocal response
        response = request(lab, path, timeout=SECONDS)
        return response.status == 200

    with contextlib.suppress(Timeout):
        wait_until(found, seconds, "the row to be readable", interval=0.05)
    return response


def _pages(context: Context, end: float) -> tuple[SiteResponse, ...]:
    """Pages, requested `PARALLEL` at a time while another connection stays open and idle.

    More than the first few only while their servers differ from what the lab is configured for, and
    while there is time. The first few are always requested.
    """
    pages: tuple[SiteResponse, ...] = ()
    path = application(context).page
    with _idle_connection(context.lab):
        while True:
            work = {n: lambda: request(context.lab, path, timeout=SECONDS) for n in range(PARALLEL)}
            pages += tuple(finish_in_time(work, end - clock.now()).values())
            if sample_is_complete(context, pages) or clock.now() > end - SECONDS:
                break
    return pages[:LARGEST_SAMPLE] or (LATE,)


@contextlib.contextmanager
def _idle_connection(lab: Lab) -> Iterator[None]:
    """A keep-alive connection that has received one response, as a browser keeps it open."""
    import http.client

    from urllib3.exceptions import HTTPError

    connection = connect(lab, str(lab.address), SECONDS * timeout_factor())
    with contextlib.closing(connection):
        # Whether the site responds is what the other requests show.
        with contextlib.suppress(OSError, http.client.HTTPException, HTTPError):
            connection.request("GET", NO_FILE, headers={"Host": lab.site})
            connection.getresponse().read()
        yield


def _resolve(lab: Lab) -> dict[str, str]:
    resolved = {}
    for server in lab.with_role("dns"):
        reply = query(str(server.address), lab.site)
        resolved[server.name] = " ".join(reply.values("A")) or reply.error or reply.code
    return resolved
