"""Tell root causes from consequences: the graph of checks and their prerequisites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from provision.checks.base import Check, CheckResult, Verdict
from provision.checks.observation import Observation
from provision.core import next_steps


@dataclass(frozen=True)
class RootCause:
    """A failed check without a failed prerequisite, and what depends on it.

    Args:
        also: other failed checks of the same service on the same machine.
        dependants: skipped checks.
    """

    result: CheckResult
    also: tuple[CheckResult, ...] = ()
    dependants: tuple[CheckResult, ...] = ()

    @property
    def text(self) -> str:
        """Machine and fault, such as ``web-01: nginx is stopped``."""
        check, verdict = self.result.check, self.result.verdict
        return f"{check.machine}: {verdict.cause or f'{check.service}: {verdict.got}'}"


def evaluate(checks: Iterable[Check], observation: Observation) -> tuple[CheckResult, ...]:
    """Judge all checks; a failure whose prerequisite fails too is skipped, with `blocked_by`."""
    judged = {check.name: _judge(check, observation) for check in checks}
    failed = {name for name, result in judged.items() if not result.ok}
    position = {name: number for number, name in enumerate(judged)}
    open_ones = (name for name, result in judged.items() if not result.settled)
    reachable = {name: _upstream(name, judged) & failed for name in open_ones}
    upstream = {
        # Of two checks that require each other, the earlier one is the prerequisite.
        name: {u for u in above if name not in reachable[u] or position[u] < position[name]}
        for name, above in reachable.items()
    }
    results = []
    for name, result in judged.items():
        # Order is that of the list of checks, which starts with machines.
        roots = tuple(
            cause for cause in judged if cause in upstream.get(name, ()) and not upstream[cause]
        )
        results.append(CheckResult(result.check, result.verdict, roots))
    return tuple(results)


def _judge(check: Check, observation: Observation) -> CheckResult:
    try:
        verdict = check.judge(observation)
    except Exception as error:  # of one check; the others still have verdicts
        verdict = Verdict(False, "a verdict", f"{type(error).__name__}: {error}")
    # The repair may depend on the failure.
    return CheckResult(replace(check, hint=verdict.hint) if verdict.hint else check, verdict)


def _upstream(name: str, judged: Mapping[str, CheckResult]) -> set[str]:
    """All prerequisites of a check, transitively, without itself."""
    seen = {name}
    remaining = [name]
    while remaining:
        for pattern in judged[remaining.pop()].check.requires:
            for required in _matching(pattern, judged):
                if required not in seen:
                    seen.add(required)
                    remaining.append(required)
    return seen - {name}


def _matching(pattern: str, names: Mapping[str, CheckResult]) -> list[str]:
    """The check of that name, or all whose names start with what precedes a final ``*``."""
    if pattern.endswith("*"):
        return [name for name in names if name.startswith(pattern[:-1])]
    return [pattern] if pattern in names else []


def summary(results: Sequence[CheckResult]) -> tuple[str, ...]:
    """One line per root cause, each followed by the commands that repair it."""
    lines = []
    for cause in root_causes(results):
        count = len(cause.dependants)
        depends = f" ({count} check{'s depend' if count != 1 else ' depends'} on it)"
        lines.append(f"root cause: {cause.text}{depends if count else ''}")
        lines += next_steps.labelled(cause.result.check.hint).splitlines()
    return tuple(lines)


def skipped_because(result: CheckResult, results: Sequence[CheckResult]) -> str:
    """Why a check is skipped: machine and service of the first root cause, or no relevance."""
    if result.verdict.skipped:
        return result.verdict.got
    by_name = {r.check.name: r.check for r in results}
    cause = by_name[result.blocked_by[0]]
    return f"depends on {cause.machine} {cause.service}"


def root_causes(results: Sequence[CheckResult]) -> tuple[RootCause, ...]:
    """One cause per machine and service that is at fault, in the order of the checks."""
    groups: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        if result.status == "failed":
            groups.setdefault((result.check.machine, result.check.service), []).append(result)
    causes = []
    for group in groups.values():
        names = {result.check.name for result in group}
        dependants = tuple(r for r in results if r.status == "skipped" and names & {*r.blocked_by})
        causes.append(RootCause(group[0], tuple(group[1:]), dependants))
    return tuple(causes)
