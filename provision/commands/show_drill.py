"""Drills as JSON values and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from provision.commands.base import console
from provision.commands.results import drills as results
from provision.drills.drill import DrillProbe, Exercise, TypedLines
from provision.drills.flow import Grade
from provision.drills.probes import ProbeResult
from provision.drills.run import COUNTED, DrillRun


def time_text(moment: datetime | None) -> str:
    """A time in JSON (RFC 3339); empty for None."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment else ""


def duration(seconds: float) -> str:
    """Minutes and seconds, such as ``4:07``; negative ones with a minus sign."""
    whole = abs(round(seconds))
    return f"{'-' if seconds < 0 else ''}{whole // 60}:{whole % 60:02}"


def run_values(run: DrillRun, *, with_commands: bool = False) -> results.DrillRunValues:
    """A run as JSON values."""
    counted = Counter(event.kind for event in run.events if event.kind in COUNTED)
    values = results.DrillRunValues(
        run=run.number,
        drill=run.drill,
        seed=run.seed,
        team=run.team,
        outcome=run.outcome,  # type: ignore[typeddict-item]
        started=time_text(run.started),
        solved=time_text(run.solved),
        ended=time_text(run.ended),
        seconds=round(run.seconds, 1),
        minutes=run.minutes,
        exam=run.exam,
        hints=run.hints,
        checks=run.checks,
        assisted=run.assisted,
        shortcuts=list(run.shortcuts),
        counted_commands=dict(counted),
    )
    if with_commands and run.commands:
        values["commands"] = {name: list(rows) for name, rows in run.commands.items()}
    return values


def proof_values(probed: Sequence[ProbeResult]) -> list[results.ProofValues]:
    """Judged proofs as JSON values."""
    return [
        results.ProofValues(
            proof=result.probe.name,
            held=result.held,
            after=str(result.probe.after or ""),
            got=result.public,
        )
        for result in probed
    ]


def grade_values(run: DrillRun, graded: Grade) -> results.DrillGrade:
    """A grade as JSON values."""
    return results.DrillGrade(
        drill=run.drill,
        passed=graded.passed,
        held_count=graded.held,
        proof_count=len(graded.results),
        proofs=proof_values(graded.results),
        shortcuts=list(graded.shortcuts),
    )


def typed_values(steps: Sequence[TypedLines]) -> list[results.TypedStep]:
    """Lines to type as JSON values."""
    return [results.TypedStep(machine=step.machine, lines=list(step.lines)) for step in steps]


def proof_rows(probed: Sequence[ProbeResult]) -> list[str]:
    """One line per proof, as Rich's markup."""
    return [proof_row(result.probe, result.held, result.public) for result in probed]


def proof_row(probe: DrillProbe, held: bool, got: str = "") -> str:
    """A proof in one line, as Rich's markup."""
    from rich.markup import escape

    mark = "[green]ok[/]     " if held else "[red]not yet[/]"
    after = f" (after {probe.after})" if probe.after and str(probe.after) not in probe.name else ""
    text = escape(probe.name + after + (f": {got}" if got else ""))
    return f"{mark}  {text}"


def print_proofs(probed: Sequence[ProbeResult]) -> None:
    """Print one line per proof."""
    for row in proof_rows(probed):
        console().print(row)


def headline(run: DrillRun, exercise: Exercise) -> str:
    """Id, title, level and time of a drill."""
    exam = ", exam" if run.exam else ""
    seed = f"seed {run.seed}"
    return f"{exercise.id}: {exercise.title} (level {exercise.level}, {seed}{exam})"


def summary(run: DrillRun) -> str:
    """The result of a run in one line."""
    parts = [run.outcome, f"{duration(run.seconds)} of {run.minutes}:00 minutes"]
    parts.append(f"{run.hints} hint{'s' * (run.hints != 1)}")
    parts.append(f"{run.checks} check{'s' * (run.checks != 1)}")
    if run.assisted:
        parts.append("assisted")
    counted = Counter(event.kind for event in run.events if event.kind in COUNTED)
    parts += [f"{name} used {count} ×" for name, count in sorted(counted.items())]
    parts += [f"forbidden: {text}" for text in run.shortcuts]
    return ", ".join(parts)
