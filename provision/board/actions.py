"""What the page's buttons do: the functions of `drill.*`, one at a time per lab, in a thread."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from provision.board.access import BoardRoom, Visitor
from provision.board.lab_watch import LabWatch
from provision.core.errors import LabError, UsageError, not_among
from provision.core.hints import for_lab
from provision.drills import catalogue, flow
from provision.drills.course import CourseItem, load_course
from provision.drills.hints import give_hint
from provision.drills.run import of_lab, require_current
from provision.operations.session import Session

KINDS = ("hint", "check", "start", "reset", "finish", "give-up")
LEARNERS = ("hint", "check", "reset")
"""What a team may always do; the others only where learners are free."""

LINES = 8
"""Progress messages that are shown."""


class Actions:
    """Starts commands on the labs of a room."""

    def __init__(self, room: BoardRoom) -> None:
        self._room = room

    def require_allowed(self, visitor: Visitor, kind: str) -> None:
        """Refuse what a visitor may not do.

        Raises:
            UsageError: naming who may.
        """
        if kind not in KINDS:
            raise not_among(f"unknown action {kind!r}", kind, KINDS)
        if not visitor.teacher and not self._room.free and kind not in LEARNERS:
            raise UsageError(f"only the teacher can {kind.replace('-', ' ')} a drill")

    def begin(self, watch: LabWatch, kind: str, options: Mapping[str, Any], by: str) -> None:
        """Start a command in a thread; the lab's document shows its progress and its result.

        Raises:
            UsageError: when another command of the board works on the lab.
        """
        if not watch.busy.acquire(blocking=False):
            doing = (watch.activity or {}).get("kind") or "the proofs are being tested"
            raise UsageError(f"lab {watch.seat.lab} is busy: {doing}", "wait until it is done")
        work = threading.Thread(
            target=self._run, args=(watch, kind, options, by), name=f"{kind} {watch.seat.lab}"
        )
        work.daemon = True
        work.start()

    def _run(self, watch: LabWatch, kind: str, options: Mapping[str, Any], by: str) -> None:
        activity: dict[str, Any] = {"kind": kind, "by": by, "lines": [], "running": True}
        watch.set_activity(activity)

        def report(machine: str, text: str) -> None:
            activity["lines"] = [*activity["lines"], f"{machine}: {text}"][-LINES:]
            watch.set_activity(dict(activity))

        error, result = "", ""
        try:
            session = watch.opened()
            result = _WORK[kind](self, watch, session, options, report)
        except LabError as problem:
            error = for_lab(str(problem), watch.seat.lab)
            with contextlib.suppress(LabError):
                error = watch.opened().context.secrets.redact(error)
        except Exception as problem:
            error = f"unexpected {type(problem).__name__}: {problem}"
        finally:
            watch.busy.release()
        done = {"kind": kind, "by": by, "running": False, "error": error, "result": result}
        watch.set_activity({**done, "lines": [], "time": time.time()})

    # --- each command ----------------------------------------------------------------------------

    def _hint(self, watch: LabWatch, session: Session, *_: Any) -> str:
        hint = give_hint(session)
        return "" if hint.text else "there is no further hint for the present state"

    def _check(self, watch: LabWatch, session: Session, _: Any, report: Any) -> str:
        run = require_current(session.lab.directory)
        with session.lock():
            graded = flow.grade(session, run, report)
            flow.record_grade(session, run, graded)
        watch.proofs.take(graded)
        if graded.shortcuts:
            return "does not count: " + "; ".join(graded.shortcuts)
        return f"{graded.held} of {len(graded.results)} proofs hold"

    def _start(
        self, watch: LabWatch, session: Session, options: Mapping[str, Any], report: Any
    ) -> str:
        name, exam = str(options.get("drill", "")), options.get("exam") is True
        team = "" if self._room.free else watch.seat.team
        seed = self._room.seeds.get(watch.seat.team) or secrets.token_hex(3)
        minutes = 0
        if self._room.course:
            items = load_course(Path(self._room.course)).items
            name = name or next_of_course(items, session, team)
            minutes = next((i.minutes for i in items if i.drill.id == name), 0)
        if name not in catalogue.ids():  # a path would be read from the controller's disk
            raise UsageError(f"there is no drill {name!r}", "choose one from the list")
        with session.lock():
            flow.start(
                session,
                flow.drill_of(name),
                seed,
                report,
                exam=exam,
                minutes=minutes,
                team=team,
            )
        return ""

    def _reset(self, watch: LabWatch, session: Session, _: Any, report: Any) -> str:
        require_current(session.lab.directory, begun=False)
        with session.lock():
            flow.reset(session, report)
        return "the fault is there again, from the beginning"

    def _finish(self, watch: LabWatch, session: Session, _: Any, report: Any) -> str:
        return self._end(session, report, "finished")

    def _give_up(self, watch: LabWatch, session: Session, _: Any, report: Any) -> str:
        return self._end(session, report, "given-up")

    def _end(self, session: Session, report: Any, kind: str) -> str:
        require_current(session.lab.directory, begun=False)
        with session.lock():
            flow.finish(session, report, kind)
        return "the lab is in its good state again"


def next_of_course(items: Sequence[CourseItem], session: Session, team: str) -> str:
    """The first drill of the class's course that a team has not solved.

    Raises:
        UsageError: when all are solved.
    """
    solved = {r.drill for r in of_lab(session.lab.directory) if r.team == team and r.solved}
    for item in items:
        if item.drill.id not in solved:
            return item.drill.id
    raise UsageError("all drills of the course are solved")


_WORK: Mapping[str, Callable[..., str]] = {
    "hint": Actions._hint,
    "check": Actions._check,
    "start": Actions._start,
    "reset": Actions._reset,
    "finish": Actions._finish,
    "give-up": Actions._give_up,
}
