"""Judge the proofs of a running drill again and again; a drill completes by itself.

The same rule as in `drill.watch`: when all proofs have held for some seconds, everything is
graded, with what the fix must survive, and the run is recorded as solved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from provision.board.limits import JUDGE_SECONDS
from provision.core.errors import LabError
from provision.drills import flow
from provision.drills.completion import Completion
from provision.drills.disruptions import plain
from provision.drills.drill import Exercise
from provision.drills.probes import Judge, ProbeResult
from provision.drills.run import DrillRun, current

if TYPE_CHECKING:
    from provision.board.lab_watch import LabWatch

CONNECTED_SECONDS = 30.0
"""After which the machines are looked up again: one may have been started."""


class ProofWatch:
    """The proofs of the drill in one lab."""

    def __init__(self, watch: LabWatch) -> None:
        self.exercise: Exercise | None = None
        self.judged: dict[int, ProbeResult] = {}
        """By the number of the proof, from 0."""
        self.testing = ""
        self._watch = watch
        self._of: tuple[int, str] | None = None
        self._completion = Completion(())
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, run: DrillRun | None) -> None:
        """Judge this run from now on. Called when the log of drills has changed."""
        if run is None:
            self.exercise, self._of = None, None
            return
        attempt = (run.number, run.started.isoformat())
        if attempt != self._of or self.exercise is None:
            self.judged, self.exercise = {}, None
            try:
                self.exercise = flow.exercise_of(self._watch.opened(), run)
            except LabError:
                return
            self._of = attempt
            self._completion = Completion(plain(self.exercise.proofs))
        alive = self._thread is not None and self._thread.is_alive()
        if _is_open(run) and not alive and not self._stopped.is_set():
            name = f"proofs {self._watch.seat.lab}"
            self._thread = threading.Thread(target=self._judge_all, name=name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def take(self, graded: flow.Grade) -> None:
        """Show the results of a grade that somebody asked for."""
        self.judged = dict(enumerate(graded.results))

    def _judge_all(self) -> None:
        """Until the run is solved or has ended."""
        while not self._stopped.is_set():
            run = self._watch.run
            if run is None or not _is_open(run):
                return
            if self._watch.idle or self._watch.busy.locked() or self.exercise is None:
                self._stopped.wait(JUDGE_SECONDS)
                continue
            try:
                self._judge_while_open()
            except LabError as error:
                self._fail(error.what.splitlines()[0])
            except Exception as error:
                self._fail(f"{type(error).__name__}: {error}")
            self._stopped.wait(JUDGE_SECONDS)

    def _fail(self, why: str) -> None:
        exercise = self.exercise
        if exercise is not None:
            self._show([ProbeResult(proof, False, why) for proof in plain(exercise.proofs)])

    def _show(self, results: Sequence[ProbeResult]) -> None:
        """Show the results of the proofs that are judged at any time."""
        if self.exercise is not None:
            numbers = (n for n, proof in enumerate(self.exercise.proofs) if proof.after is None)
            judged = dict(zip(numbers, results, strict=True))
            for number, result in judged.items():
                before = self.judged.get(number)
                if before is not None and before.held != result.held and self._watch.run:
                    verb = "holds" if result.held else "does not hold any more"
                    self._watch.mark(self._watch.run.number, f"{verb}: {result.probe.name}")
            self.judged = self.judged | judged

    def _judge_while_open(self) -> None:
        """Judge with connections that stay open."""
        session = self._watch.opened()
        end = time.monotonic() + CONNECTED_SECONDS
        with session.fleet() as fleet:
            while not self._stopped.is_set() and time.monotonic() < end:
                run, exercise = self._watch.run, self.exercise
                if run is None or exercise is None or not _is_open(run):
                    return
                if self._watch.idle or self._watch.busy.locked():
                    return
                started = time.monotonic()
                judge = Judge(self._watch.session or session, fleet)
                results = judge.judge(plain(exercise.proofs))
                self._show(results)
                if self._completion.is_ready(results, time.monotonic()):
                    self._grade(run)
                    return
                self._stopped.wait(max(0.1, JUDGE_SECONDS - (time.monotonic() - started)))

    def _grade(self, run: DrillRun) -> None:
        """Test everything, unless a command works on the lab."""
        watch = self._watch
        if not watch.busy.acquire(blocking=False):
            return
        try:
            session = watch.opened()
            with session.lock():
                present = current(session.lab.directory)
                if present is None or present.number != run.number or present.solved:
                    return
                graded = flow.grade(session, present, self._report)
                self.take(graded)
                if graded.passed:
                    flow.record_grade(session, present, graded, "watched")
            self._completion.judged()
        finally:
            self.testing = ""
            watch.busy.release()

    def _report(self, machine: str, text: str) -> None:
        self.testing = f"{machine}: {text}"


def _is_open(run: DrillRun) -> bool:
    return run.begun and run.ended is None and run.solved is None
