"""`lab.explain`, `lab.spof`: what the lab teaches, from what it is right now."""

from __future__ import annotations

import sys
from typing import Any

from provision.checks.observation import Seen
from provision.checks.observe import observe
from provision.commands import show
from provision.commands.base import Session, console, number, session, show_json, task
from provision.commands.progress import Progress
from provision.core.errors import LabError
from provision.teaching import explain as texts
from provision.teaching import spof as failures


def seen_now(now: Session) -> Seen:
    """What the running lab says of itself; of one that does not run, only that."""
    states = now.provider.state(now.lab)
    try:
        with now.fleet() as fleet:
            return observe(now.context, fleet, states, requests_too=False)
    except LabError:
        return texts.nothing(states)


@task(positional=["topic"], help={"topic": "what about; without it, what there is to ask"})
def explain(c: Any, topic: str = "", lab: str = "") -> None:
    """Explain one thing with this lab's own values, and a command that shows it happening."""
    now = session(lab)
    if not topic:
        rows = [[name, question] for name, question in texts.TOPICS.items()]
        show.grid(console(), ["TOPIC", "QUESTION"], rows)
        print(f"\n{texts.command(now.lab, 'lab.explain spof')}")
        return
    if topic not in texts.TOPICS:
        texts.text(now.context, topic, texts.nothing({}))  # says what there is
    markdown = texts.text(now.context, topic, seen_now(now))
    if not sys.stdout.isatty():
        print(markdown, end="")
        return
    from rich.markdown import Markdown

    console().print(Markdown(markdown))


@task(
    positional=["what"],
    help={
        "what": "only this: a machine, a role such as mysql, or 'machine' for their power",
        "seconds": "how long each is down",
        "json": "for programs",
    },
)
def spof(c: Any, what: str = "", seconds: str = "3", lab: str = "", json: bool = False) -> None:
    """Take down every component in turn, watch a visitor, and show what each failure means."""
    now = session(lab)
    length = number(seconds, "--seconds", 1, 30)
    powered = now.provider.name != "ssh"
    chosen = failures.components(now.lab, what, machines=powered)
    rows: list[failures.Row] = []
    try:
        with now.lock(), now.fleet() as fleet, Progress() as report:
            failures.whole(now.context, fleet, now.provider, report)
            for component in chosen:
                rows.append(
                    failures.try_out(now.context, fleet, now.provider, component, length, report)
                )
    finally:
        if json:
            show_json([row.values() for row in rows])
        elif rows:
            _table(rows)
    if not json and not powered:
        print("machines were not switched off: provider ssh cannot switch them on again")


def _table(rows: list[failures.Row]) -> None:
    shown = []
    for row in rows:
        lost = bool(row.lost)
        verdict = f"[red]{row.verdict}[/]" if lost else f"[green]{row.verdict}[/]"
        watches = [str(w) for w in (row.reads, row.writes, row.looked_up)]
        shown.append(
            [row.component.machine, row.component.part, *watches, f"{row.back:.1f} s", verdict]
        )
    header = [
        "MACHINE",
        "DOWN",
        "READS",
        "WRITES",
        "NAME",
        "WHOLE AFTER",
        "SINGLE POINT OF FAILURE",
    ]
    show.grid(console(), header, shown)
