"""What a check is, and how it came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from provision.checks.observation import Seen


@dataclass(frozen=True)
class Verdict:
    """How a check came out, in words for people."""

    ok: bool
    expected: str
    got: str


@dataclass(frozen=True)
class Check:
    """One named check.

    Args:
        name: unique and stable, such as ``round-robin`` or ``replication/web-02``.
        machine: which machine is to blame when it fails.
        service: which service on it.
        next: the command to type then.
        judge: understands what was seen.
    """

    name: str
    machine: str
    service: str
    next: str
    judge: Callable[[Seen], Verdict]


@dataclass(frozen=True)
class Result:
    """A check and how it came out."""

    check: Check
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return self.verdict.ok

    def values(self) -> dict[str, Any]:
        """The result as plain values, for programs."""
        check = {k: v for k, v in vars(self.check).items() if k != "judge"}
        return check | asdict(self.verdict)
