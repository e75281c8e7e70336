"""Run tasks in the labs of a class, with progress and a summary."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from provision.classroom.running import Runner, TeamRun, Words, at_once
from provision.commands import tables
from provision.commands.base import console
from provision.commands.progress import Progress
from provision.commands.results import classroom as results
from provision.core import classroom
from provision.core.classroom import Class, Team
from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT
from provision.core.locks import lab_lock

SUMMARY = tables.layout(
    "class.each",
    tables.Column("TEAM"),
    tables.Column("LAB", 2),
    tables.Column("EXIT", right=True),
    tables.Column("TIME", 1, right=True),
    tables.Column("ERROR", prose=True),
)


def locked() -> contextlib.AbstractContextManager[None]:
    """Refuse other commands that change the class."""
    folder = classroom.folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return lab_lock(folder, "the class")


def chosen(record: Class, names: str) -> tuple[Team, ...]:
    """The teams that an option ``--team`` names, separated by commas; all without it.

    Raises:
        UsageError: when one does not exist, or the class has none.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    teams = tuple(record.team(name) for name in dict.fromkeys(wanted)) or record.teams
    if not teams:
        raise UsageError("the class has no teams", "invoke class.up FILE")
    return teams


def run(
    teams: Sequence[Team],
    tasks: Callable[[Team], Sequence[Words]],
    *,
    parallel: int = 0,
    done: Callable[[TeamRun], None] = lambda _run: None,
) -> list[TeamRun]:
    """Run tasks in the teams' labs, some at a time."""
    if not teams:
        return []
    with Progress() as report:
        return Runner(ROOT, report, at_once(len(teams), parallel)).each(teams, tasks, done)


def values(tasks: Sequence[str], runs: Sequence[TeamRun]) -> results.ClassRuns:
    """What the tasks did, as values."""
    return results.ClassRuns(
        tasks=list(tasks),
        task_runs=[
            results.ClassRun(
                team=run.team.name,
                lab=run.team.lab,
                exit_code=run.status,
                seconds=round(run.seconds, 1),
                error=run.error,
                task_output=run.output,
            )
            for run in runs
        ],
        failed=sum(not run.ok for run in runs),
    )


def show(runs: Sequence[TeamRun]) -> None:
    """Print the summary."""
    rows = [
        [run.team.name, run.team.lab, str(run.status), f"{run.seconds:.0f} s", run.error]
        for run in runs
    ]
    tables.show(console(), SUMMARY, rows)


def require_success(runs: Sequence[TeamRun], hint: str) -> None:
    """Fail when a task failed in a lab.

    Raises:
        LabError: naming each team, and why.
    """
    failed = [run for run in runs if not run.ok]
    if failed:
        lines = [f"  - {run.team.name}: {run.error}" for run in failed]
        what = f"it failed for {len(failed)} of {len(runs)} teams:"
        log = classroom.folder() / "logs" / f"{failed[0].team.lab}.log"
        raise LabError("\n".join([what, *lines]), f"less {log}; {hint}")
