"""What a check is, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from provision.checks.observation import Observation
from provision.engine.check import Verdict

__all__ = ["UNKNOWN", "Check", "CheckResult", "Verdict", "equals", "passed_if"]

UNKNOWN = "unknown"
"""What a check got when its probe has no result."""


@dataclass(frozen=True)
class Check:
    """A named check, with the machine and service at fault when it fails.

    Args:
        name: unique and stable, such as ``round-robin`` or ``replication/web-02``.
        hint: the command to run after a failure.
    """

    name: str
    machine: str
    service: str
    hint: str
    judge: Callable[[Observation], Verdict]


@dataclass(frozen=True)
class CheckResult:
    """A check and its verdict."""

    check: Check
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return self.verdict.ok

    def values(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        check = self.check
        return {
            "name": check.name,
            "machine": check.machine,
            "service": check.service,
            "next": check.hint,
            **asdict(self.verdict),
        }


def passed_if(ok: bool, expected: str, got: str) -> Verdict:
    """A verdict that shows the expectation itself when it is met."""
    return Verdict(ok, expected, expected if ok else got)


def equals(expected: str, got: str) -> Verdict:
    """A verdict that passes when both texts are the same."""
    return Verdict(got == expected, expected, got)
