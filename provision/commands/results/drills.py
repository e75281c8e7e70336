"""Values of `drill.*`, `postmortem.new` and `lab.load`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from provision.commands.results.units import Count, Seconds, Time


class DrillSummary(TypedDict):
    """One drill of the catalogue."""

    drill: Annotated[str, "its id"]
    title: str
    level: Annotated[int, "1 to 4"]
    minutes: Annotated[int, "time for the exercise"]
    layer: str
    topologies: list[str]
    done: Annotated[bool, "solved in this lab without assistance"]
    best_seconds: Annotated[float | None, "the shortest time of a solved run; null without one"]


class DrillList(TypedDict):
    """Drills, in order of level."""

    drills: list[DrillSummary]


class ProofValues(TypedDict):
    """One proof of a drill."""

    proof: str
    held: bool
    after: Annotated[str, "what a fix must survive before it is judged; empty for nothing"]
    got: Annotated[str, "what a request has shown; empty where that gives the cause away"]


class DrillRunValues(TypedDict):
    """One run of a drill."""

    run: Annotated[int, "its number in this lab"]
    drill: str
    seed: str
    team: str
    outcome: Literal["running", "solved", "unsolved", "given up", "failed"]
    started: Time
    solved: Time
    ended: Time
    seconds: Seconds
    minutes: Annotated[int, "time for the exercise"]
    exam: bool
    hints: Count
    checks: Count
    assisted: Annotated[bool, "the solution was shown or typed"]
    shortcuts: Annotated[list[str], "forbidden ones that were taken"]
    counted_commands: Annotated[
        dict[str, int], "uses of commands that reveal much about a fault, by name"
    ]
    commands: NotRequired[
        Annotated[
            dict[str, list[str]], "commands in the history of the learner's shells, by machine"
        ]
    ]


class DrillStatusValues(TypedDict):
    """A running drill."""

    drill_run: DrillRunValues
    title: str
    story: Annotated[str, "Markdown"]
    seconds_left: Annotated[float, "seconds; negative when the time is over"]
    proofs: Annotated[list[ProofValues], "empty while the machines cannot be observed"]


class DrillGrade(TypedDict):
    """The result of drill.check."""

    drill: str
    passed: bool
    held_count: Annotated[int, "how many proofs hold"]
    proof_count: Annotated[int, "how many proofs there are"]
    proofs: list[ProofValues]
    shortcuts: Annotated[list[str], "forbidden ones that were taken"]


class DrillHint(TypedDict):
    """A hint."""

    drill: str
    text: Annotated[str, "Markdown; empty when there is none left"]
    given: Annotated[int, "hints given so far"]
    left: Annotated[int, "hints that may follow, depending on the state"]


class TypedStep(TypedDict):
    """Lines for one machine."""

    machine: str
    lines: list[str]


class DrillSolution(TypedDict):
    """The solution of a drill."""

    drill: str
    steps: list[TypedStep]
    typed: Annotated[bool, "whether they were typed now"]
    lesson: str
    explain: Annotated[str, "a topic of lab.explain"]


class DrillEnd(TypedDict):
    """A run that has ended; the good state is back."""

    drill_run: DrillRunValues
    lesson: str
    explain: Annotated[str, "a topic of lab.explain"]
    restore_seconds: Seconds


class LintedFile(TypedDict):
    """One drill file."""

    file: str
    wrong: Annotated[list[str], "errors, each with file, line and key"]


class DrillLint(TypedDict):
    """Drill files and their errors."""

    drill_files: list[LintedFile]


class DrillSkeleton(TypedDict):
    """A new drill file."""

    file: str


class DrillTrial(TypedDict):
    """A drill that was tried on a lab."""

    drill: str
    seed: str
    phase_seconds: Annotated[dict[str, float], "by phase"]


class CourseDrill(TypedDict):
    """One drill of a course."""

    drill: str
    title: str
    minutes: int
    outcome: Annotated[str, "of the last run of the team; empty when there was none"]
    run_seconds: Annotated[float | None, "of that run; null without one"]


class CourseValues(TypedDict):
    """A course and its progress for one team."""

    title: str
    team: str
    seed: str
    course_drills: list[CourseDrill]
    next: Annotated[str, "the next command; empty when all are solved"]


class DrillReport(TypedDict):
    """All runs of drills in a lab, the oldest first."""

    runs: list[DrillRunValues]


class DrillRecording(TypedDict):
    """One recorded terminal."""

    machine: str
    started: Time
    seconds: Seconds
    file: Annotated[str, "asciicast v2"]


class DrillRecordings(TypedDict):
    """The recorded terminals of a run."""

    run: Annotated[int, "its number in this lab"]
    recordings: list[DrillRecording]


class PostMortem(TypedDict):
    """A draft of a post-mortem."""

    drill: str
    text: Annotated[str, "Markdown"]
    file: Annotated[str, "where it was written; empty when it was printed"]


class LoadValues(TypedDict):
    """What a load on the site has measured."""

    requests: Count
    write_requests: Annotated[int, "requests that wrote a row"]
    failed: Count
    seconds: Seconds
    requests_per_second: Annotated[float, "per second"]
    median_seconds: Seconds
    p95_seconds: Seconds
    p99_seconds: Seconds
    slowest_seconds: Seconds
    statuses: Annotated[dict[str, int], "requests by HTTP status, or no response"]
    servers: Annotated[dict[str, int], "successful requests by web server"]
    reasons: Annotated[list[str], "why requests had no response"]
