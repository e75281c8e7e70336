"""The exit statuses of the command line; the table in README.md lists the same."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command ends with.

    Tasks that run another program (``lab.ssh``, ``lab.rescue``, ``db.shell`` and ``lab.logs
    --follow``) end with the status of that program once it has started.
    """

    SUCCESS = 0, "the command did what was asked"
    FAILED = 1, "a check or an operation failed, or its output could not be written"
    USAGE = (
        2,
        "unknown task, option, lab, name or value; a confirmation is missing; nothing was changed",
    )
    CHANGES_PENDING = 3, "`lab.plan --detailed-exitcode`: `lab.up` would change something"
    BUG = 70, "an error in the lab's own code (sysexits.h, EX_SOFTWARE)"
    INTERRUPTED = 130, "interrupted by Ctrl-C, SIGTERM or a closed terminal (128 + SIGINT)"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitStatus:
        """A status with its meaning, as a sentence of the README."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member
