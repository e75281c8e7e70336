"""What db.autopromote adds to the checks: all three parties run, and somebody is promotable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from provision import registry as roles
from provision.checks.base import Check, Verdict
from provision.checks.observation import Seen
from provision.core.lab import Machine
from provision.database.failover import role
from provision.engine.context import Context


def checks(context: Context) -> Iterator[Check]:
    """The checks; none while it is off."""
    third = role.supervisor(context.lab)
    if third is None or not role.wanted(context):
        return
    for machine in role.parties(context.lab):
        yield _runs(context, machine)
    name = third.name

    def stands(seen: Seen) -> Verdict:
        known = _word(seen, name)
        others = [m.name for m in context.lab.with_role("mysql") if m.name != context.state.primary]
        expected = f"{context.state.primary} leads, {' or '.join(others)} is promotable"
        if not known:
            return Verdict(False, expected, "not known")
        if known.get("order"):
            return Verdict(False, expected, "the replica has been told to take over")
        if known.get("primary") == context.state.primary and known.get("promotable"):
            return Verdict(True, expected, expected)
        who = known.get("primary") or "nobody"
        promotable = "the other" if known.get("promotable") else "nobody"
        return Verdict(False, expected, f"{who} leads, {promotable} is promotable")

    yield Check("autopromote", name, "lab-autopromote", "invoke db.autopromote status", stands)


def _runs(context: Context, machine: Machine) -> Check:
    place = len(roles.services(machine))

    def runs(seen: Seen) -> Verdict:
        answers = seen.answers.get(machine.name, {}).get("service", [])
        got = answers[place]["ActiveState"] if place < len(answers) else "not known"
        return Verdict(got == "active", "active", got)

    return Check(
        f"service/{machine.name}/lab-autopromote",
        machine.name,
        "lab-autopromote",
        f"invoke lab.logs {machine.name} --service lab-autopromote",
        runs,
    )


def _word(seen: Seen, machine: str) -> Mapping[str, Any]:
    """What the supervisor has decided; empty when it cannot be told."""
    for answer in seen.answers.get(machine, {}).get("command", []):
        if answer["out"].startswith('{"serial"'):
            try:
                found: Mapping[str, Any] = json.loads(answer["out"])
            except ValueError:
                return {}
            return found
    return {}
