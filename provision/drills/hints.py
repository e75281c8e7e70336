"""The next hint of a drill: the first one that was not given and that fits the present state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from provision.drills.drill import DrillProbe, Hint


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
