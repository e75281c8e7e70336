"""What a drill is: its file, and the exercise that it is in one lab with one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.core.errors import LabError

CONTROLLER = "controller"
"""Where lines are typed that are no commands of a machine."""


@dataclass(frozen=True)
class Drill:
    """A drill's file, before its templates are rendered.

    Args:
        front: its front matter, validated.
        story: Markdown.
        lines: by the path of a key, such as ``break[0].run``, its line in the file.
    """

    path: Path
    front: Mapping[str, Any]
    story: str
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> str:
        """Its unique name."""
        return str(self.front["id"])

    @property
    def title(self) -> str:
        """One line, before rendering."""
        return str(self.front["title"])

    @property
    def level(self) -> int:
        """1 to 4."""
        return int(self.front["level"])

    @property
    def minutes(self) -> int:
        """Time for the exercise."""
        return int(self.front["minutes"])

    @property
    def layer(self) -> str:
        """The part of the lab that it is about; the name of its folder."""
        return str(self.front["layer"])

    @property
    def topologies(self) -> tuple[str, ...]:
        """In which it works."""
        return tuple(self.front["topologies"])


@dataclass(frozen=True)
class Expectation:
    """What is expected of a probe.

    Args:
        exit: the status of a command.
        status: the HTTP status of every response.
        output: a regular expression in the output or the body.
        absent: a regular expression that must not be there.
        headers: a regular expression by header.
        servers: who answered, over all requests; empty for anybody.
        balanced: whether their shares must be equal.
        seconds: the longest time of one request or command; 0 for any.
    """

    exit: int = 0
    status: int = 200
    output: str = ""
    absent: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    balanced: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class LoadProbe:
    """Requests of which none may fail."""

    path: str = "/"
    requests: int = 200
    concurrent: int = 10


@dataclass(frozen=True)
class Disruption:
    """What a fix must survive: ``reboot`` of a machine, ``restart`` of a service, or ``load``."""

    kind: str
    machine: str = ""
    service: str = ""

    def __str__(self) -> str:
        if self.kind == "reboot":
            return f"a reboot of {self.machine}"
        if self.kind == "restart":
            return f"a restart of {self.service} on {self.machine}"
        return "load on the site"


@dataclass(frozen=True)
class DrillProbe:
    """Something that holds or does not: exactly one of check, get, run and load.

    Args:
        name: for people; empty in a condition.
        machine: where ``run`` runs; whom ``get`` asks directly.
        times: how often ``get`` is sent.
    """

    name: str = ""
    check: str = ""
    get: str = ""
    run: str = ""
    load: LoadProbe | None = None
    machine: str = ""
    times: int = 1
    expect: Expectation = Expectation()
    after: Disruption | None = None


@dataclass(frozen=True)
class BreakStep:
    """A shell script, a file to write, or a reboot, on one machine."""

    machine: str
    run: str = ""
    file: str = ""
    content: str = ""
    mode: str = "0644"
    owner: str = "root:root"
    reboot: bool = False


@dataclass(frozen=True)
class Hint:
    """A text, and the state in which it is given."""

    text: str
    only_if: DrillProbe | None = None
    unless: DrillProbe | None = None


@dataclass(frozen=True)
class TypedLines:
    """Lines to type on a machine, or on the controller."""

    machine: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ExpectedCause:
    """What lab.check must blame, or why it cannot."""

    machine: str = ""
    service: str = ""
    cannot: str = ""


@dataclass(frozen=True)
class Exercise:
    """A drill in one lab with one seed: all templates are rendered.

    Args:
        shortcuts: keywords of ``forbidden``.
        guarded: probes of ``forbidden``, which must hold all the time.
        plan: why the plan is not empty afterwards; empty when it must be.
    """

    id: str
    title: str
    level: int
    minutes: int
    layer: str
    seed: str
    story: str
    variables: Mapping[str, Any]
    steps: tuple[BreakStep, ...]
    symptoms: tuple[DrillProbe, ...]
    cause: ExpectedCause
    proofs: tuple[DrillProbe, ...]
    shortcuts: tuple[str, ...]
    guarded: tuple[DrillProbe, ...]
    hints: tuple[Hint, ...]
    solution: tuple[TypedLines, ...]
    wrong_fix: tuple[TypedLines, ...]
    wrong_why: str
    lesson: str
    explain: str
    plan: str = ""

    def require_solution(self) -> None:
        """Refuse what needs the solution in a copy of the project that has none.

        Raises:
            LabError: when it was left out (``bundle.create --for-learners``).
        """
        if not self.solution:
            raise LabError(
                f"drill {self.id}: this copy of the project has no solutions",
                "invoke drill.hint shows the next hint; the teacher's copy has the solution",
            )
