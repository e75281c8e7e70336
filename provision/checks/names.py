"""Checks of name servers: the site's name resolves to the site's address."""

from __future__ import annotations

from collections.abc import Iterator

from provision.checks import prerequisites as requires
from provision.checks.base import Check, Verdict, equals
from provision.checks.observation import Observation
from provision.engine.context import Context


def checks(context: Context) -> Iterator[Check]:
    """One check per name server."""
    for machine in context.lab.with_role("dns"):
        yield _resolves(context, machine.name)


def _resolves(context: Context, name: str) -> Check:
    site = context.lab.site

    def judge(observation: Observation) -> Verdict:
        resolved = observation.resolved.get(name, "not queried")
        return equals(f"{site} A {context.lab.address}", f"{site} A {resolved}")

    prerequisites = requires.service(name, "dnsmasq")
    return Check(f"dns/{name}", name, "dnsmasq", "invoke dns.trace", judge, prerequisites)
