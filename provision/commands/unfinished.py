"""Notes about a change of topology that is not finished."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from provision.core.errors import LabError
from provision.core.hints import for_lab
from provision.core.state import State, load
from provision.topology.record import unfinished


def note_unfinished(recorded: State | None, lab: str) -> None:
    """Say on stderr how an unfinished change of topology is completed."""
    text = unfinished(recorded) if recorded is not None else ""
    if text:
        print(f"note: {for_lab(text, lab)}", file=sys.stderr)


@contextlib.contextmanager
def unfinished_noted(directory: Path) -> Iterator[None]:
    """Say so when the change of topology fails or is interrupted."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(LabError):
            note_unfinished(load(directory), directory.name)
        raise
