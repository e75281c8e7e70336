"""Values of `lab.snapshot`, `lab.restore` and `lab.snapshots`."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from provision.commands.results.lab import Checks
from provision.commands.results.units import Bytes, Time


class SnapshotValues(TypedDict):
    """One snapshot."""

    snapshot: str
    created: Time
    size_bytes: Bytes
    topology: str
    note: str
    problem: Annotated[str, "why it cannot be restored; empty when it can"]


class Snapshots(TypedDict):
    """The snapshots of a lab, the oldest first."""

    size_bytes: Bytes
    snapshots: list[SnapshotValues]


class SnapshotTaken(TypedDict):
    """A snapshot that was saved or deleted."""

    snapshot: str
    deleted: bool
    size_bytes: NotRequired[Bytes]
    paused_seconds: NotRequired[Annotated[float, "seconds for which the machines stood still"]]


class RestoredValues(TypedDict):
    """A restored lab."""

    snapshot: str
    removed_machines: Annotated[list[str], "machines that the snapshot does not have"]
    halted_machines: Annotated[list[str], "machines that were halted in the snapshot"]
    topology_copy: Annotated[str, "the snapshot's topology file, when it has changed since"]
    checks: NotRequired[Checks]
