"""Values of `class.*`."""

from __future__ import annotations

from typing import Annotated, TypedDict

from provision.commands.results.units import Count, Seconds


class ClassLab(TypedDict):
    """The lab of one team."""

    team: str
    lab: str
    network: str
    url: Annotated[str, "of its site; empty while there is no lab"]
    state: Annotated[str, "up, absent, incomplete, halted, degraded, restoring or unknown"]
    running: Annotated[int, "machines that run"]
    machines: Count
    member: Annotated[str, "of a cluster of Incus, that has the machines; empty without a cluster"]
    problem: Annotated[str, "what is wrong, and the next command; empty when it is up"]
    drill: Annotated[str, "that runs; empty for none"]
    minutes_left: Annotated[float | None, "of that drill; negative when it is late; null for none"]
    hints: Annotated[int, "given in that drill"]
    drills_solved: Annotated[int, "drills that the team has solved"]


class ClassStatus(TypedDict):
    """All labs of a class."""

    title: str
    topology: str
    course: Annotated[str, "the path of its course; empty without"]
    class_labs: list[ClassLab]


class ClassRun(TypedDict):
    """What a task did in one lab."""

    team: str
    lab: str
    exit_code: int
    seconds: Seconds
    error: Annotated[str, "why it failed; empty after a success"]
    task_output: Annotated[str, "of the task, both streams"]


class ClassRuns(TypedDict):
    """What a task did in several labs."""

    tasks: list[str]
    task_runs: list[ClassRun]
    failed: Count


class ClassSheet(TypedDict):
    """A file with access sheets."""

    file: str
    teams: list[str]
