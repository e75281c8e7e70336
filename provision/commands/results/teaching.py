"""Values of `lab.diagram`, `lab.explain` and `lab.spof`."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from provision.commands.results.units import Count, Seconds


class Program(TypedDict):
    """One service in a diagram."""

    service: str
    state: Annotated[str, "systemd's state; empty when unknown"]
    ok: bool


class Box(TypedDict):
    """One machine in a diagram."""

    machine: str
    address: str
    state: str
    color: Literal["green", "orange", "red", "grey"]
    note: str
    programs: list[Program]


class DiagramLayer(TypedDict):
    """The machines of one tier."""

    role: str
    title: str
    connection: Annotated[str, "how the tier above connects to it"]
    boxes: list[Box]


class ReplicationArrow(TypedDict):
    """A replica and the machine that it replicates from."""

    source: str
    replica: str


class DiagramValues(TypedDict):
    """A diagram of a lab or of a topology."""

    title: str
    site: str
    layers: list[DiagramLayer]
    replication: list[ReplicationArrow]
    files: Annotated[list[str], "the files that were written"]


class Topic(TypedDict):
    """A topic of lab.explain."""

    topic: str
    question: str
    text: Annotated[str, "Markdown; empty in a list of topics"]


class Explanation(TypedDict):
    """Topics, or the text of one."""

    topics: list[Topic]


class ImpactValues(TypedDict):
    """The impact of a fault on one kind of request."""

    requests: Count
    failed: Count
    longest_gap_seconds: Annotated[float, "the longest time without a good response"]
    ok: Annotated[bool, "requests succeeded at the end of the fault"]


class ComponentFault(TypedDict):
    """One component that was taken down."""

    machine: str
    component: str
    reads: ImpactValues
    writes: ImpactValues
    names: ImpactValues
    single_point_of_failure: bool
    lost: Annotated[list[str], "what was unavailable: reads, writes, names"]
    down_seconds: Seconds
    recovery_seconds: Seconds


class Spof(TypedDict):
    """Components that were taken down one at a time."""

    components: list[ComponentFault]
