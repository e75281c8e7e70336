"""Checks of what a MySQL server runs with: variables and accounts as lab.up sets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.database.resources import Account, Replication
from provision.database.role import all_accounts, replication, settings
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.engine.plan import Difference, Resource

EXPECTED = "variables and accounts as configured"
OF_THE_ROLE = ("password", "epoch")
"""Attributes of a server's role that no other check judges, on a replica."""

OF_THE_PRIMARY = ("source", "epoch")
TITLES = {"unknown": "unknown account", "persisted": "persisted"}
"""Attributes that must be empty."""

SHOWN = 2
"""Differences that a verdict names."""


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Variables and accounts of the machine's server."""
    for resource in _resources(context, machine):
        yield resource.probe()


def checks(context: Context) -> Iterator[Check]:
    """One check per database."""
    for machine in context.lab.with_role("mysql"):
        yield _check(context, machine)


def _resources(context: Context, machine: Machine) -> tuple[Resource[Any], ...]:
    if "mysql" not in machine.roles:
        return ()
    accounts = all_accounts(context, machine)
    return (settings(context, machine), *accounts, replication(context, machine))


def _check(context: Context, machine: Machine) -> Check:
    name, primary = machine.name, context.state.primary
    of_the_role = OF_THE_PRIMARY if name == primary else OF_THE_ROLE

    def judge(observation: Observation) -> Verdict:
        texts = []
        for resource in _resources(context, machine):
            result = observation.result(name, resource.probe())
            if result is None:
                return Verdict(False, EXPECTED, UNKNOWN)
            texts += [
                _text(resource, item)
                for item in resource.differences(result)
                if not isinstance(resource, Replication) or item.key in of_the_role
            ]
        if not texts:
            return Verdict(True, EXPECTED, EXPECTED)
        more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
        got = "; ".join(texts[:SHOWN]) + more
        return Verdict(False, EXPECTED, got, cause=f"MySQL: {got}")

    # A replica receives the primary's accounts, and their faults.
    source = () if name == primary else (f"database-settings/{primary}",)
    prerequisites = (*requires.service(name, "mysql"), f"database/{name}", *source)
    return Check(f"database-settings/{name}", name, "mysql", "invoke lab.up", judge, prerequisites)


def _text(resource: Resource[Any], difference: Difference) -> str:
    key, before = difference.key, difference.before
    after = difference.after or "empty"
    if isinstance(resource, Account):
        if not before:
            return f"{resource.name} is missing"
        changed = difference.secret
        return f"{resource.name}: {key} {'was changed' if changed else f'{before}, not {after}'}"
    if difference.secret:
        return f"the replication {key} was changed"
    if key in TITLES:
        return f"{TITLES[key]}: {before}"
    return f"{key} is {before}, not {after}" if before else f"{key} is missing"
