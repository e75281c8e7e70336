"""What scripts/doctor found, as text for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provision.setup.problem import PreflightProblem
from provision.setup.system import System

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ProviderReport:
    """What one provider needs and this computer lacks.

    Args:
        name: ``lxc``, ``virtualbox``, ``libvirt``, ``incus`` or ``ssh``.
        machines: what it makes.
        select: options of ``lab.up`` that select it.
        obstacle: ``not configured`` or ``unreachable``, for a server that is not on this computer.
    """

    name: str
    machines: str
    select: str
    problems: tuple[PreflightProblem, ...] = ()
    obstacle: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can make machines here."""
        return not any(problem.fatal for problem in self.problems)

    @property
    def state(self) -> str:
        """``ready``, or why it is not."""
        return "ready" if self.ready else self.obstacle or "not ready"


@dataclass(frozen=True)
class ComputerReport:
    """All that scripts/doctor shows.

    Args:
        python: the version.
        common: what every provider needs and this computer lacks.
        provider: the one that is asked about, or that a new lab would use.
        reason: why it would use that one.
    """

    system: System
    python: str
    common: tuple[PreflightProblem, ...]
    providers: tuple[ProviderReport, ...]
    provider: str
    reason: str

    @property
    def chosen(self) -> ProviderReport:
        """The report on `provider`."""
        return next(report for report in self.providers if report.name == self.provider)

    @property
    def ready(self) -> bool:
        """Whether a lab can be made with the provider."""
        return self.chosen.ready and not any(problem.fatal for problem in self.common)

    @property
    def next_step(self) -> str:
        """What to do next: the first fix, or the command that makes a lab."""
        if self.ready:
            command = "scripts\\up.cmd" if self.system.kind == "Windows" else "scripts/up"
            return f"{command} {self.chosen.select}".rstrip()
        return next(p.hint for p in (*self.common, *self.chosen.problems) if p.fatal)


def as_json(report: ComputerReport) -> dict[str, Any]:
    """The document that ``--json`` prints; schemas/doctor.schema.json describes it."""
    system = report.system
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "doctor",
        "system": {
            "kind": system.kind,
            "name": system.name,
            "family": system.family,
            "version": system.version,
            "architecture": system.arch,
        },
        "python": report.python,
        "common": _values(report.common),
        "providers": [
            {
                "provider": provider.name,
                "ready": provider.ready,
                "state": provider.state,
                "requirements": _values(provider.problems),
            }
            for provider in report.providers
        ],
        "provider": report.provider,
        "reason": report.reason,
        "ready": report.ready,
        "next": report.next_step,
    }


def _values(problems: Sequence[PreflightProblem]) -> list[dict[str, str]]:
    return [
        {"severity": _severity(problem), "what": problem.what, "next": problem.hint}
        for problem in problems
    ]


def _severity(problem: PreflightProblem) -> str:
    return "missing" if problem.fatal else "note"


def as_text(report: ComputerReport) -> str:
    """The same for people."""
    system = report.system
    lines = [f"{system.name}, {system.arch}, Python {report.python}", ""]
    if report.common:
        lines += ["every provider:", *_described(report.common)]
    for provider in report.providers:
        lines += [f"{provider.name} ({provider.machines}): {provider.state}"]
        lines += _described(provider.problems)
    lines += ["", f"provider: {report.provider} ({report.reason})", f"next: {report.next_step}"]
    return "\n".join(lines)


def _described(problems: Sequence[PreflightProblem]) -> list[str]:
    """Two lines per problem, the fatal ones first; a fix is one line, so that it can be pasted."""
    lines = []
    for problem in sorted(problems, key=lambda p: not p.fatal):
        lines += [f"  {_severity(problem)}: {problem.what}", f"    fix: {problem.hint}"]
    return lines
