"""Checks of firewalls: the confirmed rules are loaded, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.services.firewall.agent.trial import firewall_probe
from provision.services.firewall.role import RULES, SERVICE


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The loaded rules."""
    if "firewall" in machine.roles:
        yield firewall_probe(RULES)


def checks(context: Context) -> Iterator[Check]:
    """One check per firewall."""
    for machine in context.lab.with_role("firewall"):
        yield _loaded(machine.name)


def _loaded(name: str) -> Check:
    unit = SERVICE.removesuffix(".service")

    def judge(observation: Observation) -> Verdict:
        expected = "the confirmed rules are loaded"
        facts = observation.result(name, firewall_probe(RULES))
        if facts is None:
            return Verdict(False, expected, UNKNOWN)
        if not facts.listing:
            return Verdict(False, expected, "no rules are loaded: all ports are open")
        return passed_if(facts.unchanged, expected, "the loaded rules were changed by hand")

    prerequisites = (*requires.configured(name, unit), f"service/{name}/{unit}")
    return Check(f"firewall/{name}", name, unit, "invoke lab.plan", judge, prerequisites)
