"""The drill of a lab as the page shows it, and for the teacher's overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.board.markdown import nodes
from provision.drills.drill import DrillProbe, Exercise
from provision.drills.probes import ProbeResult
from provision.drills.run import DrillRun

Values = dict[str, Any]

Judged = Mapping[int, ProbeResult]
"""The newest results by the number of the proof."""


def drill_values(run: DrillRun, exercise: Exercise | None, judged: Judged) -> Values:
    """A run for the page.

    Args:
        exercise: None when its file cannot be read any more.
    """
    values: Values = {
        "run": run.number,
        "drill": run.drill,
        "team": run.team,
        "minutes": run.minutes,
        "exam": run.exam,
        "begun": run.begun,
        "started": run.started.timestamp(),
        "solved": run.solved.timestamp() if run.solved else None,
        "ended": run.ended.timestamp() if run.ended else None,
        "outcome": run.outcome,
        "checks": run.checks,
        "hints": [nodes(text) for text in hint_texts(run)],
        "assisted": run.assisted,
        "shortcuts": list(run.shortcuts),
        "title": run.drill,
        "proofs": [],
        "hints_left": 0,
    }
    if exercise is None:
        return values
    given = {event.values.get("number") for event in run.events if event.kind == "hint"}
    values |= {
        "title": exercise.title,
        "level": exercise.level,
        "layer": exercise.layer,
        "story": nodes(exercise.story) if run.begun or run.ended else [],
        "proofs": proof_values(exercise.proofs, run, judged),
        "hints_left": len(exercise.hints) - len(given),
    }
    if run.ended and run.outcome != "failed":
        values["lesson"] = nodes(exercise.lesson)
        values["explain"] = exercise.explain
    return values


def hint_texts(run: DrillRun) -> list[str]:
    """The hints that were given, in order; Markdown."""
    return [str(e.values.get("text", "")) for e in run.events if e.kind == "hint"]


def proof_values(proofs: Sequence[DrillProbe], run: DrillRun, judged: Judged) -> list[Values]:
    """Each proof and whether it holds; None while that is not known."""
    rows = []
    for number, proof in enumerate(proofs):
        result = judged.get(number)
        held = True if run.solved else (result.held if result else None)
        rows.append(
            {
                "name": proof.name,
                "held": held,
                "after": str(proof.after or ""),
                "got": result.public if result and not run.solved else "",
            }
        )
    return rows
