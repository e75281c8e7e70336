"""`postmortem.new`: a draft from the log of a drill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provision.commands.base import open_session, publish, task
from provision.commands.results import drills as results
from provision.core.atomic import create_file
from provision.core.errors import UsageError
from provision.drills import flow
from provision.drills.postmortem import post_mortem
from provision.drills.run import of_lab


@task(
    result=results.PostMortem,
    help={
        "run": "number of the run in drill.report (default: the last one)",
        "write": "a new file for the text (default: it is printed)",
    },
)
def new(c: Any, run: str = "", write: str = "", lab: str = "") -> None:
    """Draft a post-mortem of a drill, as Markdown."""
    session = open_session(lab)
    runs = of_lab(session.lab.directory)
    if not runs:
        raise UsageError("no drill was started in this lab", "invoke drill.list")
    chosen = [item for item in runs if str(item.number) == run] if run else runs[-1:]
    if not chosen:
        raise UsageError(f"there is no run {run!r}", "invoke drill.report lists all runs")
    text = post_mortem(chosen[0], flow.exercise_of(session, chosen[0]))
    if write:
        create_file(Path(write).expanduser(), text)
    if publish(results.PostMortem(drill=chosen[0].drill, text=text, file=write)):
        return
    print(f"{write} is written" if write else text, end="\n" if write else "")
