"""Take a drill through everything that a learner can meet: broken, wrong fix, solved, restored.

`drill.try` and the acceptance test call `attempt` with a lab whose good state is saved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from provision import checks
from provision.core.errors import LabError
from provision.core.report import Report
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.database.failover import control as failover
from provision.drills import flow, shortcuts
from provision.drills.disruptions import AFTER_SECONDS, disrupt, judge_all, plain
from provision.drills.drill import Drill, Exercise, TypedLines
from provision.drills.hints import next_hint
from provision.drills.probes import Judge, ProbeResult
from provision.drills.render import age_minutes, render
from provision.drills.shortcuts import Baseline
from provision.drills.terminal import type_lines
from provision.drills.traces import find_traces
from provision.engine.converge import plans
from provision.engine.plan import Plan
from provision.operations import up as steps
from provision.operations.session import Session

CAUSE_SECONDS = 20.0
"""In which lab.check must blame the right service."""

WRONG_SETTLE_SECONDS = 4.0
PLAN_SHOWN = 6

Say = Callable[[str], None]


class TrialError(LabError):
    """A drill does not do what its file says."""


@dataclass
class Trial:
    """What a trial has measured, in seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)


def attempt(
    session: Session, drill: Drill, seed: str, report: Report, say: Say, *, restore: bool = True
) -> Trial:
    """Go through all phases; the good state is restored at the end, also after a failure.

    Args:
        session: of a healthy lab whose good state was saved (`flow.save_good_state`).
        say: receives one line per phase.
        restore: False leaves the state after the solution, which passes all checks.

    Raises:
        TrialError: with the first thing that is not as the file says.
    """
    flow.require_topology(session, drill)
    changed = float(int(time.time())) - 60 * age_minutes(seed)
    trial = Trial()
    with session.fleet() as fleet:
        primary = failover.adopt(session.context, fleet).state.primary
        baseline = shortcuts.read_baseline(session.context, fleet)
    exercise = render(drill, flow.lab_values(session, primary, changed), seed)
    exercise.require_solution()
    current = session

    def phase(name: str, started: float) -> float:
        trial.seconds[name] = time.monotonic() - started
        say(f"{name:<9} {trial.seconds[name]:5.1f} s")
        return time.monotonic()

    moment = time.monotonic()
    try:
        _require_good(current, exercise, report)
        moment = phase("healthy", moment)
        _break(current, exercise, changed, report)
        moment = phase("broken", moment)
        _require_wrong_fix_refused(current, exercise, baseline, report)
        moment = phase("wrong fix", moment)
        current = flow.restore_good_state(current, report)
        moment = phase("reset", moment)
        flow.cause(current, exercise, changed, report)
        _require_reboot_symptoms(current, exercise, report)
        moment = phase("again", moment)
        _require_solved(current, exercise, baseline, report)
        moment = phase("solved", moment)
        restore = restore or bool(exercise.plan)
    except BaseException:
        restore = True
        raise
    finally:
        if restore:
            flow.restore_good_state(current, report)
            phase("restored", moment)
    return trial


def _require_good(session: Session, exercise: Exercise, report: Report) -> None:
    """Before the fault, all proofs hold and no shortcut was taken."""
    with flow.judging(session, report) as judge:
        results = judge.settle([*plain(exercise.proofs), *exercise.guarded], 10.0)
    _require_held(exercise, results, "before the fault, a proof does not hold")


def _break(session: Session, exercise: Exercise, changed: float, report: Report) -> None:
    started = time.time() - 1
    flow.cause(session, exercise, changed, report)
    with flow.judging(session, report) as judge:
        results = judge.judge(plain(exercise.proofs))
        after = [proof for proof in exercise.proofs if proof.after]
        if all(result.held for result in results) and not after:
            raise TrialError(f"drill {exercise.id}: all proofs hold although the fault is there")
        traces = find_traces(judge.fleet, exercise, started)
        if traces:
            text = "; ".join(f"{name}: {', '.join(rows[:4])}" for name, rows in traces.items())
            raise TrialError(f"drill {exercise.id}: traces of the drill: {text}")
        _require_root_cause(judge, exercise)
        _require_hints(judge, exercise)


def _require_root_cause(judge: Judge, exercise: Exercise) -> None:
    expected = exercise.cause
    if expected.cannot:
        return
    blamed: list[str] = []

    def right() -> bool:
        causes = checks.root_causes(judge.checks())
        blamed[:] = [f"{c.result.check.machine} {c.result.check.service}" for c in causes]
        return f"{expected.machine} {expected.service}" in blamed

    try:
        wait_until(right, CAUSE_SECONDS * timeout_factor(), "the root cause", interval=0.5)
    except Timeout:
        raise TrialError(
            f"drill {exercise.id}: lab.check blames {', '.join(blamed) or 'nothing'}, not "
            f"{expected.machine} {expected.service}"
        ) from None


def _require_hints(judge: Judge, exercise: Exercise) -> None:
    """At least one hint is given in the broken state, and every text is one."""
    if next_hint(exercise.hints, (), judge.holds) is None:
        raise TrialError(f"drill {exercise.id}: no hint fits the broken state")


def _require_reboot_symptoms(session: Session, exercise: Exercise, report: Report) -> None:
    """Symptoms with ``after`` are there after what they name."""
    with flow.judging(session, report) as judge:
        for probe in exercise.symptoms:
            if probe.after is None:
                continue
            disrupt(judge, probe.after, report)
            results = judge.settle([probe], 20.0, held=False)
            if results[0].held:
                raise TrialError(
                    f"drill {exercise.id}: the symptom {probe.name!r} is not there after "
                    f"{probe.after}"
                )


def _require_wrong_fix_refused(
    session: Session, exercise: Exercise, baseline: Baseline, report: Report
) -> None:
    shown = _type(session, exercise.wrong_fix)
    with flow.judging(session, report) as judge:
        results = judge_all(judge, exercise.proofs, report, settle=WRONG_SETTLE_SECONDS)
        taken = shortcuts.used(judge, exercise, baseline, _commands(exercise.wrong_fix))
    if all(result.held for result in results) and not taken:
        raise TrialError(f"drill {exercise.id}: the wrong fix is accepted", output=shown)


def _require_solved(
    session: Session, exercise: Exercise, baseline: Baseline, report: Report
) -> None:
    shown = _type(session, exercise.solution)
    with flow.judging(session, report) as judge:
        results = judge_all(judge, exercise.proofs, report, settle=AFTER_SECONDS)
        _require_held(exercise, results, "after the solution, a proof does not hold", shown)
        taken = shortcuts.used(judge, exercise, baseline, _commands(exercise.solution))
        if taken:
            raise TrialError(f"drill {exercise.id}: the solution counts as {'; '.join(taken)}")
        context = judge.context
        checked = steps.check_until_ok(context, judge.fleet, session.provider, report)
        causes = checks.root_causes(checked)
        if causes:
            text = "; ".join(cause.text for cause in causes)
            raise TrialError(f"drill {exercise.id}: after the solution: {text}", output=shown)
        planned = plans(judge.fleet, context.desired_of(judge.fleet.hosts))
    changes = [f"{name}: {text}" for name, plan in planned.items() for text in _changes(plan)]
    if changes and not exercise.plan:
        text = ", ".join(changes[:PLAN_SHOWN])
        raise TrialError(
            f"drill {exercise.id}: after the solution, the plan is not empty: {text}",
            "complete the solution, or say why with the key plan",
            output=shown,
        )


def _require_held(
    exercise: Exercise, results: Sequence[ProbeResult], what: str, shown: str = ""
) -> None:
    failed = [result for result in results if not result.held]
    if failed:
        text = "; ".join(f"{result.probe.name}: {result.got}" for result in failed)
        raise TrialError(f"drill {exercise.id}: {what}: {text}", output=shown)


def _type(session: Session, typed: Sequence[TypedLines]) -> str:
    """Type lines; returns what the terminals showed."""
    rows: list[str] = []
    with session.fleet() as fleet:
        type_lines(fleet, session.lab, typed, lambda name, row: rows.append(f"{name}: {row}"))
    return "\n".join(rows)


def _commands(typed: Sequence[TypedLines]) -> list[str]:
    """The lab's commands among typed lines."""
    words = (line.split() for step in typed for line in step.lines)
    return [row[1] for row in words if row[:1] == ["invoke"] and len(row) > 1]


def _changes(planned: Plan) -> list[str]:
    """What lab.up would change on one machine."""
    rows = [change.resource.name for unit in planned.units for change in unit.changes]
    return rows + [f"{u.verb} {u.unit.service}" for u in planned.units if u.needs_reload]
