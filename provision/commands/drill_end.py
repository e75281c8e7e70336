"""`drill.solution`, `drill.solve`, `drill.finish`, `drill.give-up`: how a drill ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from provision.commands import show_drill
from provision.commands.base import open_session, print_markdown, publish, task
from provision.commands.progress import Progress
from provision.commands.results import drills as results
from provision.core.errors import LabError
from provision.core.hints import for_lab
from provision.drills import events, flow
from provision.drills.drill import Exercise, TypedLines
from provision.drills.run import require_current
from provision.drills.terminal import type_lines
from provision.operations.session import Session


@task(result=results.DrillSolution)
def solution(c: Any, lab: str = "") -> None:
    """Show the solution; the run counts as assisted."""
    session = open_session(lab)
    run = require_current(session.lab.directory)
    exercise = flow.exercise_of(session, run)
    exercise.require_solution()
    events.append(session.lab.directory, run.number, "solution")
    if publish(_solution_values(exercise, typed=False)):
        return
    _print_steps(exercise.solution)
    _print_lesson(session, exercise.lesson, exercise.explain)


@task(result=results.DrillSolution)
def solve(c: Any, lab: str = "") -> None:
    """Type the solution on the machines over SSH."""
    session = open_session(lab)
    run = require_current(session.lab.directory)
    exercise = flow.exercise_of(session, run)
    exercise.require_solution()
    events.append(session.lab.directory, run.number, "solve")
    with session.fleet() as fleet:
        steps = exercise.solution
        type_lines(fleet, session.lab, steps, lambda name, row: print(f"{name}: {row}"))
    publish(_solution_values(exercise, typed=True))
    print(for_lab("next: invoke drill.check", session.lab.name))


def _solution_values(exercise: Exercise, *, typed: bool) -> results.DrillSolution:
    return results.DrillSolution(
        drill=exercise.id,
        steps=show_drill.typed_values(exercise.solution),
        typed=typed,
        lesson=exercise.lesson,
        explain=exercise.explain,
    )


def _print_steps(steps: Sequence[TypedLines]) -> None:
    for step in steps:
        print(f"on {step.machine}:")
        print("\n".join(f"    {line}" for line in step.lines))


def _print_lesson(session: Session, lesson: str, explain: str) -> None:
    print()
    print_markdown(lesson)
    print(for_lab(f"more: invoke lab.explain {explain}", session.lab.name))


@task(result=results.DrillEnd)
def finish(c: Any, lab: str = "") -> None:
    """End the drill, and restore the good state."""
    _end(lab, "finished")


@task(result=results.DrillEnd, name="give-up")
def give_up(c: Any, lab: str = "") -> None:
    """End the drill unsolved, and show the solution."""
    _end(lab, "given-up")


def _end(lab: str, kind: str) -> None:
    session = open_session(lab)
    run = require_current(session.lab.directory, begun=False)
    exercise = None
    with contextlib.suppress(LabError):  # its file was changed or removed meanwhile
        exercise = flow.exercise_of(session, run)
    with session.lock(), Progress() as report:
        begun = time.monotonic()
        ended = flow.finish(session, report, kind)
        seconds = time.monotonic() - begun
    values = results.DrillEnd(
        drill_run=show_drill.run_values(ended, with_commands=True),
        lesson=exercise.lesson if exercise else "",
        explain=exercise.explain if exercise else "",
        restore_seconds=round(seconds, 1),
    )
    if publish(values):
        return
    print(f"drill {run.drill}: {show_drill.summary(ended)}")
    if exercise is not None:
        if kind == "given-up":
            _print_steps(exercise.solution)
        _print_lesson(session, exercise.lesson, exercise.explain)
    print(f"the lab is in its good state again ({seconds:.1f} s)")
