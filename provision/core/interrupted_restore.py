"""The mark of a restore that has begun and not finished: the lab is partly the old one.

A killed ``lab.restore`` leaves it behind. Until the restore is repeated, no command works on the
machines, because files and machines may not belong together.
"""

from __future__ import annotations

from pathlib import Path

from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import read_text

FILE = "restoring"


def begin(directory: Path, snapshot: str) -> None:
    """Record that the lab in a directory is being restored from a snapshot."""
    write_atomically(directory / FILE, snapshot + "\n")


def finish(directory: Path) -> None:
    """Record that machines and files are those of the snapshot."""
    (directory / FILE).unlink(missing_ok=True)


def refuse_interrupted(directory: Path) -> None:
    """Refuse to work on a lab whose restore was interrupted.

    Raises:
        LabError: with the command that finishes the restore.
    """
    snapshot = (read_text(directory / FILE) or "").strip()
    if snapshot:
        raise LabError(
            f"lab {directory.name} is incomplete: restoring snapshot {snapshot} was interrupted",
            f"invoke lab.restore {snapshot}",
        )
