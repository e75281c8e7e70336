"""`drill.watch`: the proofs, live; the drill completes by itself."""

from __future__ import annotations

import time
from typing import Any

from provision.commands import document, output, show_drill
from provision.commands.base import console, number, open_session, publish, task
from provision.commands.results import drills as results
from provision.commands.tables import Lines, Screen
from provision.core.errors import LabError
from provision.core.exit_status import ExitStatus
from provision.core.hints import for_lab
from provision.drills import flow
from provision.drills.completion import Completion
from provision.drills.disruptions import plain
from provision.drills.drill import Exercise
from provision.drills.probes import Judge, ProbeResult
from provision.drills.run import DrillRun, require_current
from provision.operations.session import Session

EVERY = 2.0
"""Seconds between two looks at the proofs."""


@task(
    result=results.DrillGrade,
    help={"seconds": "stop after this many (default: 0, when it is solved)"},
)
def watch(c: Any, seconds: str = "0", lab: str = "") -> None:
    """Watch the proofs until the drill is solved.

    It is solved when all proofs have held for some seconds, and survive what they have to.
    """
    session = open_session(lab)
    run = require_current(session.lab.directory)
    exercise = flow.exercise_of(session, run)
    limit = number(seconds, "--seconds", 0, 86400)
    end = time.monotonic() + limit if limit else float("inf")
    completion = Completion(plain(exercise.proofs))
    graded: flow.Grade | None = None
    while graded is None or not graded.passed:
        ready = _until_ready(session, run, exercise, completion, end)
        if not ready:
            raise SystemExit(ExitStatus.FAILED)
        with session.lock():
            run = require_current(session.lab.directory)
            graded = flow.grade(session, run, _progress)
            if graded.passed:
                flow.record_grade(session, run, graded, "watched")
        completion.judged()
        if not graded.passed:
            show_drill.print_proofs(graded.results)
            for text in graded.shortcuts:
                print(f"does not count: {text}")
    run = require_current(session.lab.directory)
    if not publish(show_drill.grade_values(run, graded)):
        print(show_drill.summary(run))
        print(for_lab("next: invoke drill.finish", session.lab.name))


def _progress(machine: str, text: str) -> None:
    if not document.requested():
        print(f"{machine}: {text}")


def _until_ready(
    session: Session, run: DrillRun, exercise: Exercise, completion: Completion, end: float
) -> bool:
    """Show the proofs until all have held for a while; False when the time is over."""
    shown: list[str] = []
    with Screen(console()) as screen:
        while True:
            results_now = _judge(session, exercise)
            rows = show_drill.proof_rows(results_now)
            left = show_drill.duration(run.seconds_left)
            terminal = console().is_terminal
            if rows != shown or terminal:
                screen.update(Lines([*rows, f"{left} left"]))
                shown = rows
            if completion.is_ready(results_now, time.monotonic()):
                return True
            if time.monotonic() + EVERY > end or output.reader_is_gone():
                return False
            time.sleep(EVERY)


def _judge(session: Session, exercise: Exercise) -> tuple[ProbeResult, ...]:
    proofs = plain(exercise.proofs)
    try:
        with session.fleet() as fleet:
            return Judge(session, fleet).judge(proofs)
    except LabError as error:
        return tuple(ProbeResult(proof, False, error.what) for proof in proofs)
