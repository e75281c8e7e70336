"""Start, grade, reset and end a drill in a lab."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from provision import checks
from provision.core.errors import LabError, UsageError
from provision.core.parallel import in_parallel
from provision.core.report import Report
from provision.database.failover import control as failover
from provision.drills import events, inject, shortcuts
from provision.drills.catalogue import find
from provision.drills.disruptions import SETTLE_SECONDS, judge_all
from provision.drills.drill import Drill, Exercise
from provision.drills.probes import Judge, ProbeResult
from provision.drills.render import LabValues, age_minutes, render
from provision.drills.run import DrillRun, current, of_lab, require_current
from provision.drills.shortcuts import Baseline
from provision.drills.source import load
from provision.operations import restore as restoring
from provision.operations import snapshot as snapshotting
from provision.operations import snapshot_archive as archive
from provision.operations import spare as sparing
from provision.operations import up as steps
from provision.operations.session import Session

GOOD_STATE = "drill-good-state"
"""The snapshot to which a drill returns."""

SYMPTOM_SECONDS = 40.0
"""In which all symptoms must be there after the fault was caused."""

HISTORY = "cat /root/.bash_history /home/*/.bash_history 2>/dev/null || true"


@dataclass(frozen=True)
class Grade:
    """The result of one check of a drill.

    Args:
        shortcuts: forbidden ones that were taken, in words.
    """

    results: tuple[ProbeResult, ...]
    shortcuts: tuple[str, ...] = ()

    @property
    def held(self) -> int:
        """How many proofs hold."""
        return sum(result.held for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether the fault counts as fixed."""
        return self.held == len(self.results) and not self.shortcuts


def lab_values(session: Session, primary: str, changed: float) -> LabValues:
    """What the variables of a drill depend on.

    Args:
        changed: when the fault was made, in seconds since 1970.
    """
    moment = datetime.fromtimestamp(changed, UTC).strftime("%H:%M")
    return LabValues(session.lab, primary, moment)


def exercise_of(session: Session, run: DrillRun) -> Exercise:
    """The exercise of a run, as it was when the run started.

    Raises:
        LabError: when its file cannot be read any more.
    """
    values = run.events[0].values
    drill = load(Path(str(values["path"])))
    lab = lab_values(session, str(values["primary"]), float(values["changed"]))
    return render(drill, lab, run.seed)


def require_topology(session: Session, drill: Drill) -> None:
    """Refuse a drill of another topology.

    Raises:
        UsageError: with the command that changes the lab's topology.
    """
    own = session.lab.topology.name
    if own not in drill.topologies:
        raise UsageError(
            f"drill {drill.id} needs topology {' or '.join(drill.topologies)}, and lab "
            f"{session.lab.name} has {own}",
            f"invoke lab.up --topology {drill.topologies[0]}",
        )


def require_healthy(session: Session, report: Report) -> None:
    """Refuse a lab with a machine that is off or a check that fails.

    Raises:
        LabError: naming what is wrong first.
    """
    off = [f"{n} is {state}" for n, state in session.machine_states().items() if state != "running"]
    if off:
        raise LabError(f"a drill needs all machines: {', '.join(off)}", "invoke lab.up")
    with session.fleet() as fleet:
        context = failover.adopt(session.context, fleet)
        results = steps.check_until_ok(context, fleet, session.provider, report)
    causes = checks.root_causes(results)
    if causes:
        text = "; ".join(cause.text for cause in causes)
        raise LabError(
            f"the lab is not healthy before the drill: {text}", causes[0].result.check.hint
        )


def start(
    session: Session,
    drill: Drill,
    seed: str,
    report: Report,
    *,
    exam: bool = False,
    minutes: int = 0,
    team: str = "",
    spare: bool = False,
) -> DrillRun:
    """Save the good state, and cause the fault. Call it with the lab locked.

    Args:
        exam: whether commands that give much away are refused.
        minutes: instead of the drill's own.
        spare: whether a copy of the good state is booted (`provision.operations.spare`).

    Raises:
        LabError: when the drill cannot start; the lab is then as it was.
    """
    directory = session.lab.directory
    running = current(directory)
    if running is not None:
        raise UsageError(
            f"drill {running.drill} is running in lab {session.lab.name}",
            "invoke drill.finish ends it; invoke drill.status shows it",
        )
    require_topology(session, drill)
    changed = float(int(time.time())) - 60 * age_minutes(seed)
    render(drill, lab_values(session, session.state.primary, changed), seed)  # errors first
    require_healthy(session, report)
    number = max((run.number for run in of_lab(directory)), default=0) + 1
    with session.fleet() as fleet:
        primary = failover.adopt(session.context, fleet).state.primary
        baseline = shortcuts.read_baseline(session.context, fleet)
    values = {
        "drill": drill.id,
        "path": str(drill.path.absolute()),
        "seed": seed,
        "minutes": minutes or drill.minutes,
        "level": drill.level,
        "layer": drill.layer,
        "topology": session.lab.topology.name,
        "exam": exam,
        "team": team,
        "spare": spare,
        "primary": primary,
        "changed": changed,
        "baseline": asdict(baseline),
    }
    save_good_state(session, f"before drill {drill.id}", report)
    events.append(directory, number, "starting", **values)
    return _begin(session, report)


def save_good_state(session: Session, note: str, report: Report) -> None:
    """Take the snapshot to which a drill returns, instead of an older one."""
    if GOOD_STATE in archive.names(session.lab.directory):
        snapshotting.delete(session.lab, session.provider, GOOD_STATE, report)
    snapshotting.take(session, GOOD_STATE, note, report)


def restore_good_state(session: Session, report: Report) -> Session:
    """Bring the good state back, and wait until the checks pass.

    Raises:
        LabError: when it cannot be restored, or a check fails.
    """
    restored = restoring.restore(session.lab.name, GOOD_STATE, report, session.lab.root).session
    with restored.fleet() as fleet:
        results = restoring.check_restored(restored, fleet, report)
    causes = checks.root_causes(results)
    if causes:
        text = "; ".join(cause.text for cause in causes)
        raise LabError(f"the good state is restored, but: {text}", "invoke lab.up")
    return restored


def _begin(session: Session, report: Report) -> DrillRun:
    """Cause the fault, and wait for the symptoms; restore the good state if that fails."""
    run = require_current(session.lab.directory, begun=False)
    exercise = exercise_of(session, run)
    try:
        values = run.events[0].values
        changed = float(values["changed"])

        def break_it() -> None:
            cause(session, exercise, changed, lambda *_: report("host", "preparing the drill"))

        def boot_spare() -> None:
            try:
                sparing.prepare(session, GOOD_STATE, report)
            except LabError as error:
                report("host", f"continuing without a spare: {error.what.splitlines()[0]}")

        both = {"fault": break_it, "spare": boot_spare}
        in_parallel(both if values.get("spare") else {"fault": break_it})
    except LabError as error:
        restore_good_state(session, report)
        events.append(session.lab.directory, run.number, "failed", why=error.what)
        raise LabError(f"{error.what}\nthe lab is in its good state again", error.hint) from None
    events.append(session.lab.directory, run.number, "started")
    return require_current(session.lab.directory)


def cause(session: Session, exercise: Exercise, changed: float, report: Report) -> None:
    """Cause the fault, and wait until every symptom is there.

    Symptoms with ``after`` would need a reboot; they are what the learner is told about.

    Raises:
        LabError: when a step fails, or a symptom is not there.
    """
    with session.fleet(report) as fleet:
        inject.cause_fault(fleet, exercise, changed, report)
        judge = Judge(session, fleet)
        symptoms = [probe for probe in exercise.symptoms if probe.after is None]
        report("host", "waiting for the symptoms")
        missing = [r for r in judge.settle(symptoms, SYMPTOM_SECONDS, held=False) if r.held]
    if missing:
        names = "; ".join(f"{result.probe.name} ({result.got})" for result in missing)
        raise LabError(f"drill {exercise.id}: the fault has no effect: still true: {names}")


@contextlib.contextmanager
def judging(session: Session, report: Report) -> Iterator[Judge]:
    """A judge with connections to the machines that run."""
    with session.fleet(report) as fleet:
        yield Judge(session, fleet)


def grade(
    session: Session, run: DrillRun, report: Report, *, settle: float = SETTLE_SECONDS
) -> Grade:
    """Judge all proofs, and look for shortcuts; nothing is recorded."""
    exercise = exercise_of(session, run)
    baseline = Baseline.of(run.events[0].values.get("baseline", {}))
    taken = [event.kind for event in run.latest]
    with judging(session, report) as judge:
        results = judge_all(judge, exercise.proofs, report, settle=settle)
        return Grade(results, shortcuts.used(judge, exercise, baseline, taken))


def record_grade(session: Session, run: DrillRun, graded: Grade, kind: str = "check") -> None:
    """Record a grade, and that the drill is solved when it passes for the first time."""
    directory = session.lab.directory
    events.append(
        directory,
        run.number,
        kind,
        held=graded.held,
        total=len(graded.results),
        shortcuts=list(graded.shortcuts),
    )
    if graded.passed and run.solved is None:
        events.append(directory, run.number, "solved")


def reset(session: Session, report: Report) -> DrillRun:
    """The fault again, from the beginning. Call it with the lab locked."""
    run = require_current(session.lab.directory, begun=False)
    events.append(session.lab.directory, run.number, "resetting")
    return _begin(restore_good_state(session, report), report)


def finish(session: Session, report: Report, kind: str = "finished") -> DrillRun:
    """End the drill, and return to the good state. Call it with the lab locked.

    Args:
        kind: of the event that ends the run.
    """
    directory = session.lab.directory
    run = require_current(directory, begun=False)
    if run.begun:
        _record_commands(session, run)
        if kind == "finished" and run.solved is None:
            with contextlib.suppress(LabError):  # a machine may be off
                record_grade(session, run, grade(session, run, report, settle=2.0), "final")
    if GOOD_STATE not in archive.names(directory):
        events.append(directory, run.number, kind)
        raise LabError(
            f"drill {run.drill} has ended, but the snapshot {GOOD_STATE} of its good state is gone",
            "invoke lab.up repairs the configuration",
        )
    restored = restore_good_state(session, report)
    snapshotting.delete(restored.lab, restored.provider, GOOD_STATE, report)
    events.append(directory, run.number, kind)
    return of_lab(directory)[-1]


def _record_commands(session: Session, run: DrillRun) -> None:
    """Record what the shells on the machines have saved of the learner's commands."""
    typed: dict[str, list[str]] = {}
    with contextlib.suppress(LabError), session.fleet() as fleet:
        for name, host in fleet.hosts.items():
            with contextlib.suppress(LabError):
                rows = host.run("sh", "-c", HISTORY, timeout=10).stdout.splitlines()
                typed[name] = [session.context.secrets.redact(row) for row in rows[-1000:]]
    typed = {name: rows for name, rows in typed.items() if rows}
    if typed:
        events.append(session.lab.directory, run.number, "commands", machines=typed)


def drill_of(text: str) -> Drill:
    """The drill with an id, or of a file."""
    return load(find(text))
