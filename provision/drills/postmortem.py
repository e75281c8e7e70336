"""A draft of a post-mortem from the log of a run."""

from __future__ import annotations

from provision.drills.drill import Exercise
from provision.drills.events import DrillEvent
from provision.drills.run import DrillRun

TEXTS = {
    "starting": "the good state was saved",
    "started": "the fault was there",
    "resetting": "the exercise was reset",
    "solution": "the solution was shown",
    "solve": "the solution was typed by the lab",
    "solved": "all proofs held: the service was restored",
    "finished": "the exercise ended",
    "given-up": "the exercise was given up",
    "lab.up": "lab.up was used",
    "lab.restart": "lab.restart was used",
    "lab.check": "lab.check was used",
    "lab.plan": "lab.plan was used",
}
"""By the kind of an event, the line of the timeline; others are composed."""

UNKNOWN = "_to be written_"


def post_mortem(run: DrillRun, exercise: Exercise) -> str:
    """Markdown with summary, timeline, root cause, resolution and corrective measures."""
    minutes = run.seconds / 60
    state = f"resolved after {minutes:.0f} minutes" if run.solved else run.outcome
    cause = exercise.cause
    blamed = f"{cause.service} on {cause.machine}" if cause.machine else cause.cannot
    symptoms = [f"- {probe.name}: not so" for probe in exercise.symptoms]
    parts = [
        f"# Post-mortem: {exercise.title}",
        f"Date: {run.started:%Y-%m-%d}. Severity: {UNKNOWN}. Author: {UNKNOWN}.",
        "## Summary",
        f"From {run.started:%H:%M} UTC, the following did not hold; the incident was {state}.",
        "\n".join(symptoms),
        "## Report",
        "\n".join(f"> {line}".rstrip() for line in exercise.story.strip().splitlines()),
        "## Timeline",
        "Times are in UTC.",
        "\n".join(timeline(run)),
        "## Root cause",
        f"{blamed}. {UNKNOWN}: what exactly was wrong, and how it came to be.",
        "## Resolution",
        _resolution(run),
        "## Corrective measures",
        f"- Prevent: {UNKNOWN}\n- Detect: {UNKNOWN}\n- React: {UNKNOWN}",
        f"What this exercise teaches: {exercise.lesson.strip()}",
    ]
    return "\n\n".join(parts) + "\n"


def timeline(run: DrillRun) -> list[str]:
    """One line per event."""
    rows = ["| time | event |", "|---|---|"]
    for event in run.events:
        text = _text(event)
        if text:
            rows.append(f"| {event.time:%H:%M:%S} | {text} |")
    return rows


def _text(event: DrillEvent) -> str:
    values = event.values
    if event.kind == "hint":
        return f"hint {int(values.get('number', 0)) + 1} was read"
    if event.kind in ("check", "watched", "final"):
        text = f"checked: {values.get('held')} of {values.get('total')} proofs hold"
        taken = "; ".join(map(str, values.get("shortcuts", ())))
        return text + (f"; does not count: {taken}" if taken else "")
    if event.kind == "failed":
        return f"the exercise could not start: {values.get('why', '')}"
    return TEXTS.get(event.kind, "")


def _resolution(run: DrillRun) -> str:
    if not run.commands:
        return f"{UNKNOWN}: what was changed. The shells have recorded no commands."
    blocks = [f"{UNKNOWN}: which of these commands made the difference."]
    for machine, rows in run.commands.items():
        blocks.append(f"On {machine}:\n\n```\n" + "\n".join(rows) + "\n```")
    return "\n\n".join(blocks)
