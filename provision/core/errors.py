"""The errors that a user sees: what happened, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable

from provision.core import next_steps
from provision.core.exit_status import ExitStatus
from provision.core.suggestions import suggestion

OUTPUT_LINES = 20


class LabError(Exception):
    """A problem, described in one message.

    Args:
        what: what happened and where, in one or a few lines.
        hint: what to do next, with a command where there is one. Commands are written without
            ``--lab``; the top level inserts it (`hints.for_lab`).
        output: what the failed program printed; its last lines are shown.
        status: the exit status of the command, an `ExitStatus`.
    """

    def __init__(
        self, what: str, hint: str = "", *, output: str = "", status: int = ExitStatus.FAILED
    ) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.output = output
        self.status = status

    def __str__(self) -> str:
        parts = [self.what]
        if self.output.strip():
            lines = self.output.strip().splitlines()[-OUTPUT_LINES:]
            parts += ["  | " + line for line in lines]
        if self.hint:
            parts.append(next_steps.labelled(self.hint))
        return "\n".join(parts)


class UsageError(LabError):
    """An invalid argument: an unknown machine, a malformed number."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint, status=ExitStatus.USAGE)


def not_among(what: str, word: str, choices: Iterable[str], otherwise: str = "") -> UsageError:
    """The error for a word that is not one of the choices; the most similar one is suggested.

    Args:
        what: happened, such as ``unknown layer 'wbe'``.
        otherwise: what else is possible, such as ``, or use the path of a file``.
    """
    listed = tuple(choices)
    return UsageError(what + suggestion(word, listed), choose_from(listed, otherwise))


def choose_from(choices: Iterable[str], otherwise: str = "") -> str:
    """The hint that lists the choices."""
    return f"choose from {', '.join(choices)}{otherwise}"


class TopologyError(LabError):
    """All errors of one topology file."""


class HostError(LabError):
    """A machine could not be reached, or an operation on it failed."""


class ProviderError(LabError):
    """Machines could not be created, started or removed."""


class HostKeyError(HostError):
    """A machine presents another host key than the pinned one; nothing was sent to it."""
