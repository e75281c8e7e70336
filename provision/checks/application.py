"""Checks of the application: health on every web server, one release, the site's page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.timeouts import FAST_INTERVAL
from provision.core.waiting import timeout_factor
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.context import Context
from provision.services.app.interface import HEALTH, application
from provision.services.tls import interface as tls

DETAIL = 400
"""Characters of an unexpected response that are shown."""

VERSION = "/version"
TIMEOUT = 3.0 * timeout_factor()

HEALTH_TIMEOUT = 1.5 * timeout_factor()
HEALTH_AGAIN = FAST_INTERVAL / 1000
"""Seconds for which a failed health check is repeated: a single one does not make a server DOWN on
the balancer either."""


def health_probe(context: Context, web: Machine) -> Probe[HttpResponse]:
    """The health check of one web server; a failed one is repeated, as the balancer does."""
    request = _request(context, web, HEALTH, HEALTH_TIMEOUT)
    return http_probe(f"{web.name} {HEALTH}", request, until=200, deadline=HEALTH_AGAIN)


def version_probe(context: Context, web: Machine) -> Probe[HttpResponse]:
    """The release that one web server's guest book names."""
    return http_probe(f"{web.name} {VERSION}", _request(context, web, VERSION, TIMEOUT))


def _request(context: Context, web: Machine, path: str, timeout: float) -> HttpRequest:
    """A request to one web server, as the balancer sends it."""
    https = context.lab.topology.https
    return HttpRequest(
        path,
        address=str(web.address),
        port=443 if https else 80,
        host=context.lab.site,
        ca=tls.CA if https else "",
        timeout=timeout,
    )


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Health and version of every web server, requested by the front machine."""
    if machine == context.lab.front:
        for web in context.lab.with_role("nginx"):
            yield health_probe(context, web)
            if application(context).is_guest_book:
                yield version_probe(context, web)


def checks(context: Context) -> Iterator[Check]:
    """Checks of the application on every web server, then of the site."""
    for machine in context.lab.with_role("nginx"):
        yield _healthy(context, machine)
    yield _version(context)
    yield _page(context)


def _response(
    context: Context, observation: Observation, probe: Probe[HttpResponse]
) -> HttpResponse:
    return observation.result(context.lab.front.name, probe) or HttpResponse(error="unknown")


def _healthy(context: Context, web: Machine) -> Check:
    name, front, expected = web.name, context.lab.front.name, f"200 from {web.name}"

    def judge(observation: Observation) -> Verdict:
        response = _response(context, observation, health_probe(context, web))
        got = f"{response.status} from {response.headers.get('x-served-by') or 'no web server'}"
        got = response.error or got
        detail = "" if got == expected else response.body.strip()[:DETAIL]
        return Verdict(got == expected, expected, got, detail, cause=f"health check: {got}")

    if context.lab.topology.https:
        curl = f"curl -si --cacert {tls.CA} https://{name}{HEALTH}"
    else:
        curl = f"curl -si http://{web.address}{HEALTH}"
    # With gunicorn on another machine, what fails between two servers that answer is the proxy.
    service = "foobar" if "app" in web.roles else "nginx"
    hint = f"invoke lab.ssh {front} -- {curl}"
    prerequisites = (*requires.machine(front), *requires.web_server(context, web))
    return Check(f"web/{name}", name, service, hint, judge, prerequisites)


def _version(context: Context) -> Check:
    webs = context.lab.with_role("nginx")

    def judge(observation: Observation) -> Verdict:
        versions = {
            web.name: _response(context, observation, version_probe(context, web)).headers.get(
                "x-app-version", "unknown"
            )
            for web in webs
        }
        got = ", ".join(f"{name} {version}" for name, version in versions.items())
        # A web server without a response fails its own check.
        known = set(versions.values()) - {"unknown"}
        return Verdict(len(known) == 1, "the same release everywhere", got)

    releases = (f"release/{m.name}" for m in context.lab.with_role("app"))
    prerequisites = (*(f"web/{web.name}" for web in webs), *releases)
    application = context.lab.with_role("app")[0].name
    return Check("version", application, "foobar", "invoke lab.up", judge, prerequisites)


def _page(context: Context) -> Check:
    front = context.lab.front
    service = "haproxy" if "haproxy" in front.roles else "nginx"
    own = not application(context).is_guest_book

    def judge(observation: Observation) -> Verdict:
        pages = observation.pages
        failed = [p for p in pages if p.status != 200 or not (p.header("x-read-from") or own)]
        expected = f"status 200 {'' if own else 'with data from a database, '}every time"
        if pages and not failed:
            return Verdict(True, expected, f"{len(pages)} of {len(pages)}")
        reason = (failed[0].error or f"status {failed[0].status}") if failed else "not requested"
        got = f"{len(failed)} of {len(pages)} failed: {reason}"
        return Verdict(False, expected, got, cause=f"the site: {got}")

    hint = f"invoke lab.logs {front.name} --service {service}"
    return Check("site", front.name, service, hint, judge, requires.site(context))
