"""The next hint of a drill: the first one that was not given and that fits the present state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from provision.drills import events, flow
from provision.drills.drill import DrillProbe, Hint
from provision.drills.run import require_current
from provision.operations.session import Session


@dataclass(frozen=True)
class GivenHint:
    """A hint that was given.

    Args:
        text: Markdown; empty when none fits the present state.
        given: hints so far.
        left: hints that may follow.
    """

    drill: str
    text: str
    given: int
    left: int


def give_hint(session: Session) -> GivenHint:
    """Record the next hint of the running drill.

    Raises:
        LabError: when no drill runs, or the machines cannot be reached.
    """
    run = require_current(session.lab.directory)
    exercise = flow.exercise_of(session, run)
    given = {int(event.values["number"]) for event in run.events if event.kind == "hint"}
    with flow.judging(session, lambda *_: None) as judge:
        number = next_hint(exercise.hints, given, judge.holds)
    text = ""
    if number is not None:
        text = exercise.hints[number].text
        events.append(session.lab.directory, run.number, "hint", number=number, text=text)
        given.add(number)
    return GivenHint(run.drill, text, len(given), len(exercise.hints) - len(given))


def next_hint(
    hints: Sequence[Hint], given: Collection[int], holds: Callable[[DrillProbe], bool]
) -> int | None:
    """The number of the next hint, from 0; None when there is none left.

    Args:
        given: numbers of hints that were given.
        holds: whether a condition holds now.
    """
    for number, hint in enumerate(hints):
        if number in given:
            continue
        if hint.only_if is not None and not holds(hint.only_if):
            continue
        if hint.unless is not None and holds(hint.unless):
            continue
        return number
    return None
