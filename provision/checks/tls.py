"""Checks of HTTPS: the site's TLS, redirect and HSTS, TLS behind the balancer, clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, equals
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.services.app import interface as app
from provision.services.tls import interface as tls
from provision.services.tls.agent.probes import Handshake, clock_probe, handshake_probe
from provision.services.tls.clock import describe_skew

DAY = 86400

MINIMUM_DAYS = tls.RENEWAL_DAYS - 1
"""Certificates are renewed `tls.RENEWAL_DAYS` before they expire, with a day of tolerance."""


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Handshakes with the servers that the machine verifies, and its clock."""
    if not context.lab.topology.https:
        return
    for server in verified_servers(context).get(machine.name, ()):
        yield server_handshake(context, server)
    if "hardening" in machine.roles:
        yield clock_probe()


def checks(context: Context) -> Iterator[Check]:
    """Checks of a topology with HTTPS; none without."""
    if not context.lab.topology.https:
        return
    for client, servers in verified_servers(context).items():
        for server in servers:
            yield _behind_balancer(context, client, server)
    yield from _site(context)
    for machine in context.lab.with_role("hardening"):
        yield _clock(machine.name)


def verified_servers(context: Context) -> dict[str, tuple[Machine, ...]]:
    """By machine, the servers whose TLS it verifies, as firewalls allow.

    The front machine verifies web servers, the first web server the application servers.
    """
    lab = context.lab
    webs = lab.with_role("nginx")
    servers = {lab.front.name: webs}
    apps = tuple(m for m in lab.with_role("app") if app.listen_address(m))
    if apps:
        servers[webs[0].name] = apps
    return servers


def server_handshake(context: Context, server: Machine) -> Probe[Handshake]:
    """A handshake with a web server or an application server."""
    web = "nginx" in server.roles
    return handshake_probe(
        str(server.address),
        443 if web else app.PORT,
        tls.CA,
        server.name if web else tls.app_name(context.lab),
    )


def _days_left(expires: float) -> str:
    return f"{(expires - time.time()) / DAY:.0f} days left"


def _valid(expires: float) -> bool:
    return expires - time.time() >= MINIMUM_DAYS * DAY


def _behind_balancer(context: Context, client: str, server: Machine) -> Check:
    expected = f"TLS, certificate of {server.name}, at least {MINIMUM_DAYS} days left"
    probe = server_handshake(context, server)

    def judge(observation: Observation) -> Verdict:
        handshake = observation.result(client, probe)
        if handshake is None:
            return Verdict(False, expected, UNKNOWN)
        if handshake.error:
            return Verdict(False, expected, handshake.error)
        got = f"{handshake.version}, {_days_left(handshake.expires)}"
        return Verdict(_valid(handshake.expires), expected, got)

    service = "nginx" if "nginx" in server.roles else "foobar"
    prerequisites = (*requires.machine(client), *requires.service(server.name, service))
    hint = "invoke tls.show"
    return Check(f"tls/{server.name}", server.name, service, hint, judge, prerequisites)


def _site(context: Context) -> Iterator[Check]:
    front, site = context.lab.front.name, context.lab.site
    page = app.application(context).page

    def version(observation: Observation) -> Verdict:
        handshake = observation.tls
        expected = f"TLS 1.2 or 1.3, certificate of {site}"
        if handshake is None:
            return Verdict(False, expected, UNKNOWN)
        ok = handshake.version in ("TLSv1.2", "TLSv1.3")
        return Verdict(ok, expected, handshake.error or f"{handshake.version}, {handshake.cipher}")

    def certificate(observation: Observation) -> Verdict:
        expected = f"at least {MINIMUM_DAYS} days left"
        if observation.tls is None or observation.tls.error:
            return Verdict(False, expected, UNKNOWN)
        expires = observation.tls.ends
        return Verdict(_valid(expires), expected, _days_left(expires))

    def redirect(observation: Observation) -> Verdict:
        response = observation.response("redirect")
        got = f"{response.status} to {response.header('location') or 'nowhere'}"
        return equals(f"301 to https://{site}{page}", response.error or got)

    def hsts(observation: Observation) -> Verdict:
        header = "strict-transport-security"
        pages = observation.pages
        got = pages[0].header(header) if pages else "not requested"
        return Verdict("max-age=" in got, f"{header}: max-age=…", got or "no such header")

    service = "haproxy" if context.lab.with_role("haproxy") else "nginx"
    up = requires.front(context)
    yield Check("https", front, service, "invoke tls.show", version, up)
    yield Check("certificate", front, service, "invoke lab.up", certificate, (*up, "https"))
    yield Check("redirect", front, service, "invoke lab.plan", redirect, up)
    yield Check("hsts", front, service, "invoke lab.plan", hsts, (*up, "https", "site"))


def _clock(name: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        clock = observation.result(name, clock_probe())
        got = describe_skew(clock.seconds - time.time()) if clock else UNKNOWN
        return equals(describe_skew(0.0), got)

    hint = f"invoke lab.ssh {name} -- timedatectl"
    return Check(f"clock/{name}", name, "system", hint, judge, requires.machine(name))
