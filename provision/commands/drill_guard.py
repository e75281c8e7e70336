"""What other commands do while a drill runs: ask first, count their use, or refuse in an exam."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provision.commands.confirmation import confirmed
from provision.core.errors import UsageError
from provision.core.lab import LAB_NAME, ROOT

ASKED = {
    "lab.up": "lab.up may undo the fault",
    "lab.restart": "lab.restart changes what the drill is about",
}
"""Commands that ask first; their use is recorded."""

COUNTED = ("lab.check", "lab.plan")
"""Commands that reveal much about a fault; their use is recorded too."""

IN_EXAM = (*ASKED, *COUNTED, "drill.solution", "drill.solve")
"""Refused while an exam runs."""


def before(kind: str, lab: str, arguments: Mapping[str, Any], root: Path = ROOT) -> None:
    """Call it before a command works on a lab.

    Args:
        kind: of the command, such as ``lab.up``.
        arguments: of the command.

    Raises:
        UsageError: when the command is refused, or not confirmed.
    """
    if kind not in IN_EXAM or not LAB_NAME.fullmatch(lab):
        return
    directory = root / ".lab" / lab
    if not (directory / "drills").is_dir():
        return
    from provision.drills import events
    from provision.drills.run import current

    run = current(directory)
    if run is None:
        return
    if run.exam:
        raise UsageError(
            f"{kind} is not allowed while drill {run.drill} runs as an exam",
            "invoke drill.status shows the task; invoke drill.finish ends it",
        )
    if kind in ASKED:
        _confirm(f"drill {run.drill} is running, and {ASKED[kind]}", bool(arguments.get("yes")))
    elif kind in COUNTED:
        text = f"note: drill {run.drill} is running; this use of {kind} is counted"
        print(text, file=sys.stderr)
    else:
        return  # drill.solution and drill.solve record themselves
    events.append(directory, run.number, kind)


def _confirm(what: str, yes: bool) -> None:
    hint = "pass --yes to do it nevertheless; it is recorded"
    if not confirmed(f"{what}; continue?", yes, refused=what, hint=hint):
        raise UsageError("nothing was changed", "invoke drill.status shows the drill")
