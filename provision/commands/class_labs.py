"""`class.each`, `class.reset`, `class.destroy`: work on the labs of a class together."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from provision.classroom.running import TeamRun, Words, fill_in
from provision.commands import class_runs, document, usage
from provision.commands.base import number, publish, remainder, task
from provision.commands.classroom import START
from provision.commands.confirmation import confirmed
from provision.commands.results import classroom as results
from provision.core import classroom
from provision.core.classroom import Team
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.lab import ROOT
from provision.drills import events
from provision.drills.run import current
from provision.operations import snapshot_archive as archive

NOT_IN_LABS = ("class.", "board.", "box.", "bundle.", "lab.list", "lab.prune", "lab.completion")
"""Tasks, or namespaces, that are not about one lab."""

TEAM_HELP = "only these teams, separated by commas (default: all)"


@task(
    result=results.ClassRuns,
    remainder="TASK",
    remainder_required=True,
    help={
        "parallel": "labs at a time (default: one per processor)",
        "team": TEAM_HELP,
        "quiet": "print the summary only",
    },
)
def each(c: Any, parallel: str = "", team: str = "", quiet: bool = False) -> None:
    """Run a task in the lab of every team.

    The task follows --, as in: class.each -- lab.check --only site. In it, {team}, {lab}, {seed}
    and {course} stand for those of the team. Exit status 1 if it fails in one lab.
    """
    record = classroom.require()
    words = remainder()
    _require_task(words)
    limit = int(number(parallel, "--parallel", 1, 100)) if parallel else 0
    teams = class_runs.chosen(record, team)
    by_team = {member.name: fill_in(words, record, member) for member in teams}

    def show_output(run: TeamRun) -> None:
        if not quiet and not document.requested():
            print(f"== {run.team.name} ({run.team.lab})\n{run.output}", flush=True)

    runs = class_runs.run(teams, lambda m: [by_team[m.name]], parallel=limit, done=show_output)
    publish(class_runs.values(words, runs))
    class_runs.show(runs)
    if not all(run.ok for run in runs):
        raise SystemExit(ExitStatus.FAILED)


def _require_task(words: Sequence[str]) -> None:
    """Refuse a task that does not exist, or is not about a lab.

    Raises:
        UsageError: with the task that was probably meant.
    """
    example = "invoke class.each -- lab.check"
    if not words:
        raise UsageError("no task is given", f"it follows --, as in: {example}")
    name = words[0]
    if name not in usage.known_tasks():
        meant = usage.similar_task(name)
        raise UsageError(f"unknown task {name!r}{usage.did_you_mean(meant)}", "invoke --list")
    if name.startswith(NOT_IN_LABS):
        raise UsageError(f"{name} is not about one lab", f"such as: {example}")
    if any(word in ("--lab", "-l") or word.startswith("--lab=") for word in words):
        raise UsageError("class.each chooses the lab itself", "leave out --lab")


@task(
    result=results.ClassRuns,
    help={"team": TEAM_HELP, "yes": "do not ask for confirmation"},
)
def reset(c: Any, team: str = "", yes: bool = False) -> None:
    """Return every lab to its state after class.up.

    Drills that run end as given up; what was changed on the machines is lost.
    """
    record = classroom.require()
    teams = class_runs.chosen(record, team)
    names = ", ".join(member.name for member in teams)
    if not confirmed(f"reset the labs of {names}, and lose all changes?", yes):
        print("nothing was changed")
        return
    lost = [m.name for m in teams if START not in archive.names(ROOT / ".lab" / m.lab)]
    if lost:
        raise LabError(
            f"the labs of {', '.join(lost)} have no snapshot {START}; nothing was changed",
            "invoke class.up brings them up, and takes it",
        )
    with class_runs.locked():
        for member in teams:
            _end_drill(member)
        runs = class_runs.run(teams, lambda _team: [["lab.restore", START]])
        # The checkout may have changed since the snapshot.
        failed = [run.team for run in runs if not run.ok]
        repaired = {r.team: r for r in class_runs.run(failed, lambda _team: [["lab.up"]])}
        runs = [repaired.get(run.team, run) for run in runs]
    publish(class_runs.values(["lab.restore", START], runs))
    class_runs.show(runs)
    class_runs.require_success(runs, "invoke class.reset again")


def _end_drill(team: Team) -> None:
    directory = ROOT / ".lab" / team.lab
    running = current(directory)
    if running is not None:
        events.append(directory, running.number, "given-up")
        print(f"{team.name}: drill {running.drill} has ended", file=sys.stderr)


@task(
    result=results.ClassRuns,
    help={"team": TEAM_HELP, "yes": "do not ask for confirmation"},
)
def destroy(c: Any, team: str = "", yes: bool = False) -> None:
    """Remove the labs of the class, and the class."""
    record = classroom.load()
    if record is None:
        publish(class_runs.values(["lab.destroy"], []))
        print("there is no class: nothing to do")
        return
    teams = class_runs.chosen(record, team)
    names = ", ".join(member.name for member in teams)
    if not confirmed(f"remove the labs of {names} and all their data?", yes):
        print("nothing was removed")
        return
    words: Words = ["lab.destroy", "--yes"]
    with class_runs.locked():
        runs = class_runs.run(teams, lambda _team: [words])
        removed = tuple(run.team.name for run in runs if run.ok)
        remaining = record.without(removed)
        if remaining.teams:
            classroom.save(remaining)
    if not remaining.teams:
        with contextlib.suppress(OSError):
            shutil.rmtree(classroom.folder())
    publish(class_runs.values(words, runs))
    class_runs.show(runs)
    class_runs.require_success(runs, "invoke class.destroy --yes again")
    print("the class is removed" if not remaining.teams else f"removed: {names}")
