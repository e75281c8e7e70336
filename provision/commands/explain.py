"""`lab.explain`, `lab.spof`: explanations with the values of the running lab, and fault tests."""

from __future__ import annotations

from typing import Any

from provision.checks.observation import Observation
from provision.checks.observe import observe
from provision.commands import tables
from provision.commands.base import (
    Session,
    console,
    number,
    open_session,
    print_markdown,
    publish,
    task,
)
from provision.commands.progress import Progress
from provision.commands.results import teaching as results
from provision.core.errors import LabError
from provision.core.hints import for_lab
from provision.teaching import explain as texts
from provision.teaching import faults
from provision.teaching import spof as failures
from provision.teaching.clients import Impact

TOPICS = tables.layout(
    "lab.explain",
    tables.Column("TOPIC"),
    tables.Column("QUESTION", prose=True),
)
FAULTS = tables.layout(
    "lab.spof",
    tables.Column("MACHINE"),
    tables.Column("DOWN"),
    tables.Column("READS", 2, prose=True),
    tables.Column("WRITES", 3, prose=True),
    tables.Column("NAME", 5, prose=True),
    tables.Column("RECOVERY", 4, right=True),
    tables.Column("SINGLE POINT OF FAILURE", prose=True),
)


def observe_lab(session: Session) -> Observation:
    """An observation without requests to the site; only states when the lab does not run."""
    states = session.machine_states()
    try:
        with session.fleet() as fleet:
            return observe(session.context, fleet, states, with_requests=False)
    except LabError:
        return Observation(states)


@task(
    result=results.Explanation,
    positional=["topic"],
    help={"topic": "a topic; lists all topics by default"},
)
def explain(c: Any, topic: str = "", lab: str = "") -> None:
    """Explain a topic with the values of this lab."""
    session = open_session(lab)
    if not topic:
        topics = [
            results.Topic(topic=name, question=question, text="")
            for name, question in texts.TOPICS.items()
        ]
        if publish(results.Explanation(topics=topics)):
            return
        rows = [[name, question] for name, question in texts.TOPICS.items()]
        tables.show(console(), TOPICS, rows)
        print(for_lab("\ninvoke lab.explain spof", session.lab.name))
        return
    if topic not in texts.TOPICS:
        texts.text(session.context, topic, Observation({}))  # raises
    markdown = texts.text(session.context, topic, observe_lab(session))
    shown = results.Topic(topic=topic, question=texts.TOPICS[topic], text=markdown)
    if publish(results.Explanation(topics=[shown])):
        return
    print_markdown(markdown)


@task(
    result=results.Spof,
    positional=["what"],
    help={
        "what": "a machine, a role such as mysql, or 'machine' (default: all)",
        "seconds": "downtime of each component (default: 3)",
    },
)
def spof(c: Any, what: str = "", seconds: str = "3", lab: str = "") -> None:
    """Stop each component and show what clients see."""
    session = open_session(lab)
    length = number(seconds, "--seconds", 1, 30)
    powered = session.provider.name != "ssh"
    chosen = faults.components(session.context, what, machines=powered)
    rows: list[failures.FaultResult] = []
    try:
        with session.lock(), session.fleet() as fleet, Progress() as report:
            failures.wait_until_healthy(session.context, fleet, session.provider, report)
            for component in chosen:
                rows.append(
                    failures.measure(
                        session.context, fleet, session.provider, component, length, report
                    )
                )
    finally:
        publish(results.Spof(components=[fault_values(row) for row in rows]))
        if rows:
            _table(rows)
    if not powered:
        print("machines were not powered off: provider ssh cannot start them again")


def fault_values(row: failures.FaultResult) -> results.ComponentFault:
    """One component's failure as JSON values."""
    return results.ComponentFault(
        machine=row.component.machine,
        component=row.component.part,
        reads=_impact(row.reads),
        writes=_impact(row.writes),
        names=_impact(row.names),
        single_point_of_failure=bool(row.lost),
        lost=list(row.lost),
        down_seconds=round(row.seconds_down, 1),
        recovery_seconds=round(row.seconds_to_recover, 1),
    )


def _impact(measured: Impact) -> results.ImpactValues:
    return results.ImpactValues(
        requests=measured.requests,
        failed=measured.failed,
        longest_gap_seconds=round(measured.gap, 2),
        ok=not measured.unavailable,
    )


def _table(rows: list[failures.FaultResult]) -> None:
    cells = []
    for row in rows:
        color = "red" if row.lost else "green"
        verdict = f"[{color}]{row.verdict}[/]"
        watches = [str(watch) for watch in (row.reads, row.writes, row.names)]
        cells.append(
            [
                row.component.machine,
                row.component.part,
                *watches,
                f"{row.seconds_to_recover:.1f} s",
                verdict,
            ]
        )
    tables.show(console(), FAULTS, cells)
