"""Terminal output of checks: one line each, what failed in detail, and the root causes last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from provision.checks import CheckResult, root_causes, summary
from provision.checks.graph import skipped_because
from provision.checks.paths import TracedPath
from provision.commands.results.lab import Checks, CheckValues, TracedPathValues
from provision.core import next_steps
from provision.core.hints import for_lab

MARKS = {
    "ok": "[green]ok[/]    ",
    "failed": "[red]FAIL[/]  ",
    "skipped": "[yellow]skip[/]  ",
    "warning": "[yellow]warn[/]  ",
}


def check_values(results: Sequence[CheckResult], only: str = "") -> Checks:
    """The results as JSON values, each with the text of the root cause that it is, if any.

    Args:
        only: those whose name contains this.
    """
    causes = {cause.result.check.name: cause.text for cause in root_causes(results)}
    shown = [result for result in results if only in result.check.name]
    by_status = Counter(result.status for result in shown)
    return Checks(
        counts={status: by_status[status] for status in ("ok", "warning", "failed", "skipped")},
        checks=[
            CheckValues(
                check=result.check.name,
                status=result.status,
                machine=result.check.machine,
                service=result.check.service,
                expected=result.verdict.expected,
                got=result.verdict.got,
                detail=result.verdict.detail,
                next=result.check.hint,
                blocked_by=list(result.blocked_by),
                root_cause=causes.get(result.check.name, ""),
            )
            for result in shown
        ],
    )


def path_values(path: TracedPath) -> TracedPathValues:
    """A traced path as JSON values."""
    return TracedPathValues(
        hops=[str(hop) for hop in path.hops],
        ok=path.ok,
        stops_at=str(path.failed or ""),
        error=path.error,
    )


def print_checks(
    console: Any, results: Sequence[CheckResult], only: str = "", *, only_bad: bool = False
) -> None:
    """Print the checks, their counts, and the root causes.

    Args:
        results: of all checks.
        only: print those whose name contains this.
        only_bad: leave out those that passed.
    """
    shown = [result for result in results if only in result.check.name]
    for result in shown:
        if not (only_bad and result.status == "ok"):
            _print_check(console, result, results)
    console.print(counts(shown))
    names = {result.check.name for result in shown}
    blocking = names | {name for result in shown for name in result.blocked_by}
    relevant = [r for r in results if r.check.name in blocking]
    for line in summary(relevant):
        console.print(line, markup=False)


def _print_check(console: Any, result: CheckResult, results: Sequence[CheckResult]) -> None:
    check, verdict = result.check, result.verdict
    text = f"{check.machine}: {check.service}"
    if result.status == "ok":
        text = verdict.got
    elif result.status == "skipped":
        text = f"skipped: {skipped_because(result, results)}"
    console.print(MARKS[result.status] + f"{check.name:<26} ", end="")
    console.print(text, markup=False)
    if result.status in ("ok", "skipped"):
        return
    lines = [f"expected  {verdict.expected}", f"got       {verdict.got}"]
    lines += [f"          {line}" for line in verdict.detail.splitlines()]
    steps = next_steps.lines_of(check.hint)
    lines += [f"{'' if number else 'next':<10}{step}" for number, step in enumerate(steps)]
    for line in lines:
        console.print(f"        {line}", markup=False)


def counts(results: Sequence[CheckResult]) -> str:
    """How many checks passed, failed, were skipped, and warn."""
    by_status = Counter(result.status for result in results)
    passed = by_status["ok"] + by_status["warning"]
    more = [
        f"{by_status['failed']} failed" if by_status["failed"] else "",
        f"{by_status['skipped']} skipped" if by_status["skipped"] else "",
        f"{by_status['warning']} with a warning" if by_status["warning"] else "",
    ]
    listed = ", ".join(text for text in more if text)
    return f"{passed} of {len(results)} checks passed" + (f": {listed}" if listed else "")


def hint_after_up(results: Sequence[CheckResult]) -> str:
    """The next command for the first root cause, when lab.up itself has just run."""
    check = root_causes(results)[0].result.check
    if not check.hint.startswith("invoke lab.up"):
        return check.hint
    return f"invoke lab.logs {check.machine} shows why"


def print_paths(console: Any, paths: Sequence[TracedPath], lab: str) -> None:
    """Print every path, where it stops, and the next command."""
    for path in paths:
        mark = MARKS["ok" if path.ok else "failed"]
        console.print(f"{mark}{path.text}")
        if path.failed:
            console.print(f"        stops at  {path.failed}", markup=False)
            console.print(f"        got       {path.error}", markup=False)
    complete = sum(path.ok for path in paths)
    to_databases = any(path.hops[-1].service == "mysql" for path in paths)
    end = "the database" if to_databases else "the application"
    console.print(f"{complete} of {len(paths)} paths reach {end}")
    if complete < len(paths):
        hint = for_lab("invoke lab.check names the root cause", lab)
        console.print(next_steps.labelled(hint), markup=False)
