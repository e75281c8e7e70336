"""The named checks of HTTPS and of the firewalls: a part of the list in provision/checks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from provision.checks.base import Check, Verdict
from provision.checks.observation import Seen
from provision.core.lab import Machine
from provision.engine.context import Context
from provision.services.app import role as app
from provision.services.firewall import role as firewall
from provision.services.tls import role as tls
from provision.services.tls.resources import clock_words

DAYS = tls.DAYS - 1
"""Days that a certificate must still have: what renews them should have done so before."""

DAY = 86400


def checks(context: Context) -> Iterator[Check]:
    """The checks of what the topology has of all this."""
    for machine in context.lab.with_role("firewall"):
        yield _firewall(machine)
    if not context.lab.topology.https:
        return
    for asker, asked in behind(context).items():
        for place, machine in enumerate(asked):
            yield _behind(asker, place, machine)
    yield from _front(context)
    for machine in context.lab.with_role("hardening"):
        yield _clock(machine)


def questions(context: Context, machine: Machine) -> dict[str, list[dict[str, Any]]]:
    """What a machine is asked for these checks: see provision/remote."""
    found: dict[str, list[dict[str, Any]]] = {}
    if "firewall" in machine.roles:
        found["firewall"] = [{"path": firewall.RULES}]
    if context.lab.topology.https:
        if "hardening" in machine.roles:
            found["clock"] = [{}]
        if asked := behind(context).get(machine.name):
            found["tls"] = [_handshake(context, each) for each in asked]
    return found


def behind(context: Context) -> dict[str, tuple[Machine, ...]]:
    """By machine, those whose TLS it verifies: the front asks web servers, one of those the rest.

    A firewall lets nobody else in.
    """
    lab = context.lab
    webs, apps = lab.with_role("nginx"), tuple(m for m in lab.with_role("app") if app.address(m))
    found = {lab.front.name: webs}
    if apps:
        found[webs[0].name] = apps
    return found


def _handshake(context: Context, machine: Machine) -> dict[str, Any]:
    web = "nginx" in machine.roles
    return {
        "address": str(machine.address),
        "port": 443 if web else app.PORT,
        "ca": tls.CA,
        "name": machine.name if web else tls.service_name(context.lab),
    }


def _first(seen: Seen, machine: str, kind: str) -> Mapping[str, Any] | None:
    answers = seen.answers.get(machine, {}).get(kind, [])
    found: Mapping[str, Any] | None = answers[0] if answers else None
    return found


def _firewall(machine: Machine) -> Check:
    def active(seen: Seen) -> Verdict:
        expected = "loaded, as it was confirmed"
        answer = _first(seen, machine.name, "firewall")
        if answer is None:
            return Verdict(False, expected, "not known")
        if not answer["listing"]:
            return Verdict(False, expected, "no rules are loaded: everything is open")
        if not answer["unchanged"]:
            return Verdict(False, expected, "the loaded rules were changed by hand")
        return Verdict(True, expected, expected)

    name = machine.name
    return Check(f"firewall/{name}", name, "lab-firewall", "invoke lab.plan", active)


def _left(ends: float) -> str:
    return f"{(ends - time.time()) / DAY:.0f} days left"


def _behind(asker: str, place: int, machine: Machine) -> Check:
    def verified(seen: Seen) -> Verdict:
        expected = f"TLS, certified as {machine.name}, at least {DAYS} days left"
        answers = seen.answers.get(asker, {}).get("tls", [])
        if place >= len(answers):
            return Verdict(False, expected, "not known")
        answer = answers[place]
        if answer["error"]:
            return Verdict(False, expected, answer["error"])
        got = f"{answer['version']}, {_left(answer['ends'])}"
        return Verdict(answer["ends"] - time.time() >= DAYS * DAY, expected, got)

    service = "nginx" if "nginx" in machine.roles else "foobar"
    return Check(f"tls/{machine.name}", machine.name, service, "invoke tls.show", verified)


def _front(context: Context) -> Iterator[Check]:
    front = context.lab.front.name

    def secure(seen: Seen) -> Verdict:
        shown = seen.tls
        expected = f"TLS 1.2 or 1.3, certified as {context.lab.site}"
        ok = shown is not None and shown.version in ("TLSv1.2", "TLSv1.3")
        got = (shown.error or f"{shown.version}, {shown.cipher}") if shown else "not asked"
        return Verdict(ok, expected, got)

    yield Check("https", front, "haproxy", "invoke tls.show", secure)

    def days(seen: Seen) -> Verdict:
        expected = f"at least {DAYS} days left"
        if seen.tls is None or seen.tls.error:
            return Verdict(False, expected, "not known")
        return Verdict(seen.tls.ends - time.time() >= DAYS * DAY, expected, _left(seen.tls.ends))

    yield Check("certificate", front, "haproxy", "invoke lab.up", days)

    def redirect(seen: Seen) -> Verdict:
        page = seen.pages["redirect"]
        expected = f"301 to https://{context.lab.site}/"
        got = page.error or f"{page.status} to {page.header('location') or 'nowhere'}"
        return Verdict(got == expected, expected, got)

    yield Check("redirect", front, "haproxy", "invoke lab.plan", redirect)

    def strict(seen: Seen) -> Verdict:
        header = "strict-transport-security"
        got = seen.rounds[0][0].header(header) if seen.rounds else "not asked"
        return Verdict("max-age=" in got, f"{header}: max-age=…", got or "no such header")

    yield Check("hsts", front, "haproxy", "invoke lab.plan", strict)


def _clock(machine: Machine) -> Check:
    def right(seen: Seen) -> Verdict:
        expected = "right"
        answer = _first(seen, machine.name, "clock")
        if answer is None:
            return Verdict(False, expected, "not known")
        got = clock_words(answer["now"] - time.time())
        return Verdict(got == expected, expected, got)

    name = machine.name
    return Check(f"clock/{name}", name, "clock", f"invoke lab.ssh {name} -- timedatectl", right)
