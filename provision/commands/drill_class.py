"""`drill.course`, `drill.report`: for a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provision.commands import document, show_drill, tables
from provision.commands.base import console, open_session, publish, task
from provision.commands.progress import Progress
from provision.commands.results import drills as results
from provision.core.errors import UsageError
from provision.core.hints import for_lab
from provision.drills import flow, reports
from provision.drills.course import Course, CourseItem, load_course
from provision.drills.run import DrillRun, of_lab
from provision.operations.session import Session

COURSE = tables.layout(
    "drill.course",
    tables.Column("DRILL"),
    tables.Column("MINUTES", 2, right=True),
    tables.Column("OUTCOME"),
    tables.Column("TIME", 1, right=True),
    tables.Column("TITLE", 3, prose=True),
)
REPORT = tables.layout(
    "drill.report",
    tables.Column("RUN", right=True),
    tables.Column("TEAM", 4),
    tables.Column("DRILL"),
    tables.Column("OUTCOME"),
    tables.Column("START", 5),
    tables.Column("TIME", right=True),
    tables.Column("HINTS", 1, right=True),
    tables.Column("CHECKS", 2, right=True),
    tables.Column("ASSISTED", 3),
    tables.Column("FORBIDDEN", 6, prose=True),
)


@task(
    result=results.CourseValues,
    positional=["file"],
    help={
        "file": "a YAML file with drills: and optionally title: and teams:",
        "team": "whose seed is used; required when the course has teams (default: none)",
        "start": "start the next drill that is not solved",
        "exam": "with --start: refuse lab.check, lab.plan, lab.up, lab.restart and the solution",
    },
)
def course(
    c: Any, file: str, team: str = "", start: bool = False, exam: bool = False, lab: str = ""
) -> None:
    """Show a course and its progress, or go on with it."""
    loaded = load_course(Path(file))
    session = open_session(lab)
    seed = loaded.seed(team)
    runs = {run.drill: run for run in of_lab(session.lab.directory) if run.team == team}
    if start:
        _start(session, loaded, team, runs, exam)
        runs = {run.drill: run for run in of_lab(session.lab.directory) if run.team == team}
    following = _next(loaded, runs)
    command = f"invoke drill.course {file}{f' --team {team}' if team else ''} --start"
    command = for_lab(command, session.lab.name)
    values = results.CourseValues(
        title=loaded.title,
        team=team,
        seed=seed,
        course_drills=[_item_values(item, runs.get(item.drill.id)) for item in loaded.items],
        next=command if following and not start else "",
    )
    if publish(values):
        return
    print(f"{loaded.title}{f', team {team}' if team else ''}\n")
    rows = [
        [
            item["drill"],
            str(item["minutes"]),
            item["outcome"],
            show_drill.duration(item["run_seconds"]) if item["run_seconds"] is not None else "",
            item["title"],
        ]
        for item in values["course_drills"]
    ]
    tables.show(console(), COURSE, rows)
    after = f"next: {command}" if following else "all drills are solved"
    print(for_lab("next: invoke drill.status" if start else after, session.lab.name))


def _next(course: Course, runs: dict[str, DrillRun]) -> CourseItem | None:
    unsolved = (i for i in course.items if i.drill.id not in runs or not runs[i.drill.id].solved)
    return next(unsolved, None)


def _start(
    session: Session, course: Course, team: str, runs: dict[str, DrillRun], exam: bool
) -> None:
    item = _next(course, runs)
    if item is None:
        raise UsageError("all drills of the course are solved", "invoke drill.report")
    with session.lock(), Progress() as report:
        flow.start(
            session,
            item.drill,
            course.seed(team),
            report,
            exam=exam,
            minutes=item.minutes,
            team=team,
        )


def _item_values(item: CourseItem, run: DrillRun | None) -> results.CourseDrill:
    return results.CourseDrill(
        drill=item.drill.id,
        title=item.drill.title,
        minutes=item.minutes,
        outcome=run.outcome if run else "",
        run_seconds=round(run.seconds, 1) if run else None,
    )


@task(
    result=results.DrillReport,
    help={"csv": "one line per run, for a spreadsheet", "html": "one page, for a browser"},
)
def report(c: Any, csv: bool = False, html: bool = False, lab: str = "") -> None:
    """Report all runs: times, hints, checks, shortcuts."""
    session = open_session(lab)
    if csv + html + document.requested() > 1:
        raise UsageError("--csv, --html and --json exclude each other", "leave out all but one")
    runs = of_lab(session.lab.directory)
    values = [show_drill.run_values(run, with_commands=True) for run in runs]
    if publish(results.DrillReport(runs=values)):
        return
    if csv:
        print(reports.as_csv(values), end="")
    elif html:
        print(reports.as_html(values, f"Drills in lab {session.lab.name}"), end="")
    elif not runs:
        print("no drill was started in this lab")
        print(for_lab("next: invoke drill.list", session.lab.name))
    else:
        tables.show(console(), REPORT, [_row(run) for run in runs])
        solved = sum(bool(run.solved) for run in runs)
        print(f"{len(runs)} run{'s' * (len(runs) != 1)}, {solved} solved")


def _row(run: DrillRun) -> list[str]:
    return [
        str(run.number),
        run.team,
        run.drill,
        run.outcome,
        f"{run.started:%Y-%m-%d %H:%M}",
        show_drill.duration(run.seconds),
        str(run.hints),
        str(run.checks),
        "yes" if run.assisted else "",
        "; ".join(run.shortcuts),
    ]
