"""Checks that everything that grows stays within its bound (``provision/core/growth.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.ceilings import size_text
from provision.checks.observation import Observation
from provision.core import growth
from provision.core.growth import Growth
from provision.core.lab import Machine
from provision.core.pool.store import default_folder
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.services.growth.agent.measure import GrowthFacts, growth_probe, measure

TOLERANCE = 1.25
"""By which a bound may be exceeded until it is enforced again."""

EXPECTED = "everything within its bound"


def facts_probe(machine: Machine) -> Probe[GrowthFacts]:
    """What grows on a machine with its roles."""
    entries = growth.on_machine(machine.roles)
    return growth_probe({entry.what: entry.paths for entry in entries}, growth.WATCHED)


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """What grows on the machine."""
    yield facts_probe(machine)


def checks(context: Context) -> Iterator[Check]:
    """One check per machine, and one of the lab's folder on the controller."""
    for machine in context.lab.machines:
        yield _machine(context, machine)
    yield _controller(context)


def _machine(context: Context, machine: Machine) -> Check:
    name, service = machine.name, growth.HOURLY.removesuffix(".timer")

    def judge(observation: Observation) -> Verdict:
        facts = observation.result(name, facts_probe(machine))
        if facts is None:
            return Verdict(False, EXPECTED, UNKNOWN)
        return judge_growth(growth.on_machine(machine.roles), facts, owned=context.owns_machines)

    hint = f"invoke lab.ssh {name} -- sudo systemctl start {service}"
    prerequisites = (*requires.configured(name, f"{service}.timer"), f"timer/{name}/{service}")
    return Check(f"growth/{name}", name, service, hint, judge, prerequisites)


def _controller(context: Context) -> Check:
    directory = context.lab.directory
    folders = {f".lab/{directory.name}": growth.CONTROLLER, str(default_folder()): growth.HOST}

    def judge(_observation: Observation) -> Verdict:
        facts = controller_facts(directory)
        verdicts = {where: judge_growth(entries, facts) for where, entries in folders.items()}
        where, verdict = next(
            (item for item in verdicts.items() if not item[1].ok), next(iter(verdicts.items()))
        )
        cause = f"this computer, {where}: {verdict.got}"
        return replace(verdict, cause=cause, severity="warning")  # no machine is at risk

    front, hint = context.lab.front.name, "invoke lab.snapshots"
    return Check("growth/controller", front, "disk", hint, judge, requires.machine(front))


def controller_facts(directory: Path) -> GrowthFacts:
    """What grows in a lab's folder, and in the package pool."""
    folders = ((directory, growth.CONTROLLER), (default_folder(), growth.HOST))
    return measure(
        {e.what: [str(top / path) for path in e.paths] for top, entries in folders for e in entries}
    )


def judge_growth(entries: Sequence[Growth], facts: GrowthFacts, *, owned: bool = True) -> Verdict:
    """Bounds that are exceeded; with a warning, files that no entry covers.

    Args:
        owned: False for an existing machine, whose own files need no entry.
    """
    problems = [text for entry in entries if (text := _excess(entry, facts))]
    if problems:
        return Verdict(False, EXPECTED, problems[0], "\n".join(problems[1:]), cause=problems[0])
    if facts.uncovered and owned:
        text = f"no bound is declared for {', '.join(facts.uncovered)}"
        return Verdict(False, EXPECTED, text, severity="warning", cause=text)
    return Verdict(True, EXPECTED, EXPECTED)


def _excess(entry: Growth, facts: GrowthFacts) -> str:
    size = facts.sizes.get(entry.what)
    if size is None:
        return ""
    if entry.count and size.count > entry.count * TOLERANCE:
        return f"{entry.what}: {size.count}, the bound is {entry.count} ({entry.by})"
    if size.bytes > entry.limit * TOLERANCE:
        bound = size_text(entry.limit)
        return f"{entry.what}: {size_text(size.bytes)}, the bound is {bound} ({entry.by})"
    return ""
