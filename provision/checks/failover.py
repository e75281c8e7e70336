"""The check of automatic failover: the witness knows the primary and a replica to promote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.database.failover import feature
from provision.database.failover.agent.rules import DECISION_FILE, Decision, from_json
from provision.engine.agent.commands import command_probe
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context

DECISION = command_probe(["cat", DECISION_FILE], "decision of the witness")


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """The file in which the witness keeps its decision."""
    if feature.enabled(context) and machine == feature.witness(context.lab):
        yield DECISION


def checks(context: Context) -> Iterator[Check]:
    """The check; none while automatic failover is off."""
    witness = feature.witness(context.lab)
    if witness is not None and feature.enabled(context):
        yield _ready(context, witness.name)


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
