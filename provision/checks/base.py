"""What a check is, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from provision.checks.observation import Observation
from provision.engine.check import Verdict

__all__ = ["UNKNOWN", "Check", "CheckResult", "Status", "Verdict", "equals", "passed_if"]

UNKNOWN = "unknown"
"""What a check got when its probe has no result."""


@dataclass(frozen=True)
class Check:
    """A named check, with the machine and service at fault when it fails.

    Args:
        name: unique and stable, such as ``round-robin`` or ``replication/web-02``.
        hint: the command to run after a failure.
        requires: names of prerequisites. When one of them fails, this check's failure is a
            consequence. A final ``*`` matches any rest of a name; names that a lab does not have
            are ignored.
    """

    name: str
    machine: str
    service: str
    hint: str
    judge: Callable[[Observation], Verdict]
    requires: tuple[str, ...] = ()


Status = Literal["ok", "failed", "skipped", "warning"]


@dataclass(frozen=True)
class CheckResult:
    """A check and its verdict.

    Args:
        blocked_by: names of the failed checks that this failure is a consequence of; only those
            that have no failed prerequisite themselves.
    """

    check: Check
    verdict: Verdict
    blocked_by: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """``skipped`` for a failure that is a consequence of another one, or without relevance."""
        if self.verdict.skipped:
            return "skipped"
        if self.verdict.ok:
            return "ok"
        if self.verdict.severity == "warning" and not (self.verdict.passing and self.blocked_by):
            return "warning"
        return "skipped" if self.blocked_by else "failed"

    @property
    def ok(self) -> bool:
        """Whether it passed; a warning passes, and a check that does not apply."""
        return self.verdict.ok or self.status == "warning"

    @property
    def settled(self) -> bool:
        """Whether it passed, and waiting would change nothing."""
        return self.ok and (self.verdict.ok or not self.verdict.passing)


def passed_if(ok: bool, expected: str, got: str) -> Verdict:
    """A verdict that shows the expectation itself when it is met."""
    return Verdict(ok, expected, expected if ok else got)


def equals(expected: str, got: str) -> Verdict:
    """A verdict that passes when both texts are the same."""
    return Verdict(got == expected, expected, got)
