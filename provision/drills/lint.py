"""Everything about a drill file that can be verified without a lab."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from provision import checks, registry
from provision import topology as topologies
from provision.core.errors import LabError
from provision.core.lab import ROOT, Lab
from provision.core.state import State
from provision.core.suggestions import suggestion
from provision.drills.drill import CONTROLLER, Drill, DrillProbe, Exercise
from provision.drills.render import LabValues, RenderError, render
from provision.drills.source import load, relative
from provision.teaching import explain

SEEDS = ("1", "2", "3")
"""With which every drill is rendered in each of its topologies."""


@cache
def _folder() -> str:
    """Of labs that do not exist; removed with the process."""
    directory = tempfile.TemporaryDirectory(prefix="drill-lint-")
    atexit.register(directory.cleanup)
    return directory.name


@cache
def sample_lab(topology: str) -> Lab:
    """A lab of a topology that does not exist."""
    loaded = topologies.load(topologies.find(topology, ROOT))
    return Lab("default", Path(_folder()), loaded)


@cache
def _checks(topology: str) -> tuple[checks.Check, ...]:
    lab = sample_lab(topology)
    context = registry.context(lab, State(primary=lab.topology.primary, topology=topology))
    return checks.checks(context)


def lint(path: Path) -> list[str]:
    """All errors of one file, each with file, line and key; empty when there are none."""
    try:
        drill = load(path)
    except LabError as error:
        return error.what.splitlines()
    file, problems = relative(path), []
    for topology in drill.topologies:
        lab = sample_lab(topology)
        for seed in SEEDS:
            try:
                exercise = render(drill, LabValues(lab, lab.topology.primary), seed)
            except RenderError as error:
                problems.append((_line(drill, error.where), f"{error.what} (in {topology})"))
                continue
            found = _problems(exercise, topology)
            problems += [(_line(drill, key), f"{key}: {text}") for key, text in found]
    unique = sorted(dict.fromkeys(problems))
    return [f"{file}:{line}: {text}" for line, text in unique]


def _line(drill: Drill, where: str) -> int:
    """The line of a key, or of the closest key above it."""
    while where and where not in drill.lines:
        where = where[: max(where.rfind("."), where.rfind("["), 0)]
    return drill.lines.get(where, 1)


def _problems(exercise: Exercise, topology: str) -> list[tuple[str, str]]:
    """What is wrong with a rendered drill, by the path of a key."""
    lab = sample_lab(topology)
    names = [machine.name for machine in lab.machines]
    problems = []

    def machine(where: str, name: str, *, typed: bool = False) -> None:
        if name and name not in names and not (typed and name == CONTROLLER):
            what = f"topology {topology} has no machine {name!r}{suggestion(name, names)}"
            problems.append((where, what))

    for number, step in enumerate(exercise.steps):
        machine(f"break[{number}].machine", step.machine)
    for where, probe in _probes(exercise):
        machine(f"{where}.machine", probe.machine)
        if probe.after:
            machine(f"{where}.after", probe.after.machine)
        for server in probe.expect.servers:
            machine(f"{where}.expect.servers", server)
        if probe.check and not matching_checks(probe.check, _names(topology)):
            what = f"topology {topology} has no check {probe.check!r}"
            what += suggestion(probe.check, _names(topology))
            problems.append((f"{where}.check", what))
    for key, typed in (("solution", exercise.solution), ("wrong_fix.steps", exercise.wrong_fix)):
        for number, step_typed in enumerate(typed):
            where = f"{key}[{number}]"
            machine(f"{where}.machine", step_typed.machine, typed=True)
            if step_typed.machine == CONTROLLER:
                wrong = [row for row in step_typed.lines if row and not row.startswith("invoke ")]
                problems += [(f"{where}.type", f"{w!r} is no invoke command") for w in wrong]
    cause = exercise.cause
    if not cause.cannot:
        machine("root_cause.machine", cause.machine)
        blamable = {c.service for c in _checks(topology) if c.machine == cause.machine}
        if cause.machine in names and cause.service not in blamable:
            services = ", ".join(sorted(blamable))
            what = f"no check blames {cause.service!r} of {cause.machine} (services: {services})"
            problems.append(("root_cause.service", what))
    if exercise.explain not in explain.TOPICS:
        what = f"lab.explain has no topic {exercise.explain!r}"
        what += f"{suggestion(exercise.explain, explain.TOPICS)}"
        problems.append(("lesson.explain", f"{what} (topics: {', '.join(explain.TOPICS)})"))
    return problems


def _probes(exercise: Exercise) -> Iterable[tuple[str, DrillProbe]]:
    for key, probes in (("symptoms", exercise.symptoms), ("proofs", exercise.proofs)):
        for number, probe in enumerate(probes):
            yield f"{key}[{number}]", probe
    for probe in exercise.guarded:
        yield "forbidden", probe
    for number, hint in enumerate(exercise.hints):
        for key, condition in (("if", hint.only_if), ("unless", hint.unless)):
            if condition is not None:
                yield f"hints[{number}].{key}", condition


def _names(topology: str) -> tuple[str, ...]:
    return tuple(check.name for check in _checks(topology))


def matching_checks(pattern: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names that a probe's ``check`` means: itself, or all with what precedes a ``*``."""
    if pattern.endswith("*"):
        return tuple(name for name in names if name.startswith(pattern[:-1]))
    return tuple(name for name in names if name == pattern)
