"""Checks of one service on one machine, as roles declare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from provision.engine.agent.protocol import Probe

R = TypeVar("R")


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check, in human-readable words.

    Args:
        got: one short line.
        detail: the program's own last lines, such as a failed unit's journal or MySQL's error.
        severity: a failure with ``warning`` is shown and does not fail `lab.check`.
        cause: the failure as a clause for the summary, such as ``nginx is stopped``; without it
            the summary shows the service and ``got``.
        hint: the command that fixes this failure, if the check's own does not.
        skipped: the check does not apply; ``got`` says why, and ``ok`` is True.
        passing: a warning that usually ends soon; ``lab.up`` and ``lab.restart`` wait for that.
    """

    ok: bool
    expected: str
    got: str
    detail: str = ""
    severity: Literal["error", "warning"] = "error"
    cause: str = ""
    hint: str = ""
    skipped: bool = False
    passing: bool = False


@dataclass(frozen=True)
class ProbeCheck(Generic[R]):
    """A check that one probe's result decides.

    Args:
        name: unique and stable, such as ``status/web-01``.
        probe: what is collected on the machine.
        judge: turns the result into a verdict.
        hint: the command to run after a failure.
        requires: as for `provision.checks.base.Check`.
    """

    name: str
    probe: Probe[R]
    judge: Callable[[R], Verdict]
    hint: str
    requires: tuple[str, ...] = ()
