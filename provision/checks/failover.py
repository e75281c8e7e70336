"""Checks of automatic failover: it is ready, and no machine holds what it saved in a rejoin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.database.agent.errant_files import errant_files_probe
from provision.database.failover import feature
from provision.database.failover.agent.rules import DECISION_FILE, Decision, from_json
from provision.engine.agent.commands import command_probe
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context

DECISION = command_probe(["cat", DECISION_FILE], "decision of the witness")


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The file in which the witness keeps its decision; saved errant transactions."""
    if not feature.enabled(context):
        return
    if machine == feature.witness(context.lab):
        yield DECISION
    if "mysql" in machine.roles:
        yield errant_files_probe()


def checks(context: Context) -> Iterator[Check]:
    """The checks; none while automatic failover is off."""
    witness = feature.witness(context.lab)
    if witness is not None and feature.enabled(context):
        yield _ready(context, witness.name)
        for machine in context.lab.with_role("mysql"):
            yield _errant(machine.name)


def _errant(name: str) -> Check:
    expected = "no errant transactions that wait to be looked at"

    def judge(observation: Observation) -> Verdict:
        result = observation.result(name, errant_files_probe())
        if result is None:
            return Verdict(False, expected, UNKNOWN)
        if not result.paths:
            return Verdict(True, expected, expected)
        got = f"{name} rejoined after a failover; what only it had is in {', '.join(result.paths)}"
        return Verdict(False, expected, got, cause=got)

    hint = "invoke lab.up moves the file to this computer"
    return Check(f"errant/{name}", name, "lab-autopromote", hint, judge, (f"machine/{name}",))


def _ready(context: Context, witness: str) -> Check:
    primary = context.state.primary
    replicas = [m.name for m in context.lab.with_role("mysql") if m.name != primary]
    expected = f"{primary} is primary, {' or '.join(replicas)} is eligible for promotion"

    def judge(observation: Observation) -> Verdict:
        decision = _decision(observation, witness)
        if decision is None:
            return Verdict(False, expected, UNKNOWN)
        if decision.order:
            return Verdict(False, expected, "a failover is in progress")
        eligible = bool(decision.promotable)
        got = f"{decision.primary or 'no server'} is primary, "
        got += f"{'a' if eligible else 'no'} replica is eligible for promotion"
        return passed_if(eligible and decision.primary == primary, expected, got)

    hint = "invoke db.autopromote status"
    members = [m.name for m in feature.members(context.lab)]
    prerequisites = (
        *(name for member in members for name in requires.service(member, "lab-autopromote")),
        *requires.databases(context),
        *(f"replication/{name}" for name in replicas),
        *(f"data/{name}" for name in replicas),
    )
    return Check("autopromote", witness, "lab-autopromote", hint, judge, prerequisites)


def _decision(observation: Observation, witness: str) -> Decision | None:
    result = observation.result(witness, DECISION)
    try:
        return from_json(Decision, json.loads(result.stdout)) if result else None
    except (ValueError, TypeError):
        return None
