"""Runs of drills, read from the log of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from provision.core.errors import UsageError
from provision.drills import events
from provision.drills.events import DrillEvent

ENDS = ("finished", "given-up", "failed")
"""Kinds of events that end a run."""

COUNTED = ("lab.check", "lab.plan")
"""Commands that reveal much about a fault; their use is counted."""


@dataclass(frozen=True)
class DrillRun:
    """One run of a drill.

    Args:
        number: in its lab, from 1.
        minutes: for the exercise.
        begun: whether the fault is in place; False while ``drill.start`` works, or after it was
            killed.
        started: when the fault was in place, the last time.
        team: of a course; empty without.
        ended: None while it runs.
        outcome: ``running``, ``solved``, ``unsolved``, ``given up`` or ``failed``.
        events: of this run, the oldest first.
    """

    number: int
    drill: str
    seed: str
    minutes: int
    exam: bool
    begun: bool
    started: datetime
    team: str = ""
    solved: datetime | None = None
    ended: datetime | None = None
    events: tuple[DrillEvent, ...] = field(default=(), repr=False)

    @property
    def latest(self) -> tuple[DrillEvent, ...]:
        """The events since the fault is in place."""
        begun = [n for n, event in enumerate(self.events) if event.kind == "started"]
        return self.events[begun[-1] :] if begun else self.events

    def count(self, *kinds: str) -> int:
        """How many events of some kinds there are since the fault is in place."""
        return sum(event.kind in kinds for event in self.latest)

    @property
    def hints(self) -> int:
        """Hints that were given, in all attempts of the run."""
        return sum(event.kind == "hint" for event in self.events)

    @property
    def checks(self) -> int:
        """How often the learner had it graded."""
        return sum(event.kind == "check" for event in self.events)

    @property
    def assisted(self) -> bool:
        """Whether the solution was shown or typed."""
        return any(event.kind in ("solution", "solve") for event in self.events)

    @property
    def shortcuts(self) -> tuple[str, ...]:
        """Forbidden shortcuts that a check has found, without duplicates."""
        found = (s for e in self.events for s in e.values.get("shortcuts", ()))
        return tuple(dict.fromkeys(map(str, found)))

    @property
    def commands(self) -> Mapping[str, Sequence[str]]:
        """By machine, the commands in the history of the learner's shells."""
        for event in reversed(self.events):
            if event.kind == "commands":
                return dict(event.values.get("machines", {}))
        return {}

    @property
    def outcome(self) -> str:
        """Its state, or how it ended."""
        last = next((e.kind for e in reversed(self.events) if e.kind in ENDS), "")
        if last in ("given-up", "failed"):
            return last.replace("-", " ")
        if self.solved:
            return "solved"
        return "unsolved" if self.ended else "running"

    @property
    def seconds(self) -> float:
        """From the fault to its solution, otherwise to the end, otherwise until now."""
        return ((self.solved or self.ended or datetime.now(UTC)) - self.started).total_seconds()

    @property
    def seconds_left(self) -> float:
        """Until the time for the exercise is over; negative afterwards."""
        return self.minutes * 60 - self.seconds


def runs(recorded: Iterable[DrillEvent]) -> tuple[DrillRun, ...]:
    """All runs, the oldest first."""
    by_number: dict[int, list[DrillEvent]] = {}
    for event in recorded:
        by_number.setdefault(event.run, []).append(event)
    found = (_run(number, by_number[number]) for number in sorted(by_number))
    return tuple(run for run in found if run is not None)


def _run(number: int, recorded: Sequence[DrillEvent]) -> DrillRun | None:
    first = recorded[0]
    if first.kind != "starting":
        return None  # the beginning of the file was removed
    attempts = [n for n, event in enumerate(recorded) if event.kind in ("starting", "resetting")]
    begun = [n for n, event in enumerate(recorded) if event.kind == "started"]
    started = recorded[begun[-1]].time if begun else first.time
    latest = recorded[begun[-1] if begun else 0 :]
    solved = [event.time for event in latest if event.kind == "solved"]
    ended = [event.time for event in recorded if event.kind in ENDS]
    return DrillRun(
        number=number,
        drill=str(first.values.get("drill", "")),
        seed=str(first.values.get("seed", "")),
        minutes=int(first.values.get("minutes", 0)),
        exam=bool(first.values.get("exam", False)),
        team=str(first.values.get("team", "")),
        begun=bool(begun) and begun[-1] > attempts[-1],
        started=started,
        solved=solved[0] if solved else None,
        ended=ended[-1] if ended else None,
        events=tuple(recorded),
    )


def of_lab(directory: Path) -> tuple[DrillRun, ...]:
    """All runs in a lab, the oldest first."""
    return runs(events.read(directory))


def current(directory: Path) -> DrillRun | None:
    """The run that has not ended; None when there is none."""
    last = of_lab(directory)[-1:]
    return last[0] if last and last[0].ended is None else None


def require_current(directory: Path, *, begun: bool = True) -> DrillRun:
    """The run that has not ended.

    Args:
        begun: whether its fault must be in place.

    Raises:
        UsageError: when no drill runs, or its start was interrupted.
    """
    run = current(directory)
    if run is None:
        raise UsageError("no drill is running", "invoke drill.list, then invoke drill.start ID")
    if begun and not run.begun:
        raise UsageError(
            f"the start of drill {run.drill} was interrupted",
            "invoke drill.reset starts it again; invoke drill.finish returns to the good state",
        )
    return run
