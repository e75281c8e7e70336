"""The status of a lab on this host: its machines and snapshots, complete and unfinished ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from provision.providers.lxc import paths
from provision.providers.lxc.container import running_machines
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run


@dataclass(frozen=True)
class LabStatus:
    """The content of a lab's folder at one moment.

    Args:
        machines: completely created machines, running or not.
        partial: machines whose creation was interrupted.
        interrupted: machines whose restore was interrupted.
        snapshots: the machines in each snapshot.
    """

    machines: frozenset[str] = frozenset()
    partial: frozenset[str] = frozenset()
    interrupted: frozenset[str] = frozenset()
    snapshots: Mapping[str, frozenset[str]] = field(default_factory=dict)
    running: frozenset[str] = frozenset()

    def state(self, machine: str) -> str:
        """``running``, ``halted`` or ``absent``."""
        if machine in self.running:
            return "running"
        return "halted" if machine in self.machines else "absent"


def read_status(lab: LabPaths) -> LabStatus:
    """The current status of a lab."""
    if not lab.directory.exists():
        return LabStatus()
    # The third level is the inside of a machine's root file system, except for snapshots.
    depth = ["-mindepth", "1", "-maxdepth", "2", "-printf", "%y %P\\n"]
    lines = run("reading the lab's folder", ["find", lab.directory, *depth], ok=(0, 1)).stdout
    members = ["-mindepth", "2", "-maxdepth", "2", "-printf", f"d {paths.SNAPSHOTS}/%P\\n"]
    if f"d {paths.SNAPSHOTS}\n" in lines:
        lines += run("reading snapshots", ["find", lab.snapshots, *members], ok=(0, 1)).stdout
    return parse_status(lines.splitlines(), running_machines(lab))


def parse_status(lines: Iterable[str], running: frozenset[str]) -> LabStatus:
    """The status from a listing.

    Args:
        lines: type and relative path of each entry: ``d web-01``, ``f web-01/config`` …
    """
    folders: dict[str, set[str]] = {}
    snapshots: dict[str, set[str]] = {}
    for line in lines:
        kind, _, path = line.partition(" ")
        first, *rest = path.split("/")
        if first == paths.SNAPSHOTS:
            if rest and not rest[0].startswith("."):
                snapshots.setdefault(rest[0], set()).update(rest[1:2])
        elif kind == "d" and not rest and not first.startswith("."):
            folders.setdefault(first, set())
        elif len(rest) == 1 and not first.startswith("."):
            folders.setdefault(first, set()).add(rest[0])
    complete = {name for name, entries in folders.items() if "config" in entries}
    return LabStatus(
        machines=frozenset(complete),
        partial=frozenset(set(folders) - complete),
        interrupted=frozenset(
            name for name in complete if folders[name] & {"delta.old", "delta.new"}
        ),
        snapshots={name: frozenset(members) for name, members in sorted(snapshots.items())},
        running=running,
    )
