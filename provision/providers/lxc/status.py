"""The status of a lab on this host: its machines, complete and partly created ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from provision.providers.lxc.container import frozen_machines, running_machines
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run


@dataclass(frozen=True)
class LabStatus:
    """The content of a lab's folder at one moment.

    Args:
        machines: completely created machines, running or not.
        partial: machines whose creation was interrupted.
    """

    machines: frozenset[str] = frozenset()
    partial: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()

    def state(self, machine: str) -> str:
        """``running``, ``frozen``, ``halted`` or ``absent``."""
        if machine in self.running:
            return "frozen" if machine in self.frozen else "running"
        return "halted" if machine in self.machines else "absent"


def read_status(lab: LabPaths) -> LabStatus:
    """The current status of a lab."""
    if not lab.lxc.exists():
        return LabStatus()
    # The third level is the inside of a machine's root file system.
    depth = ["-mindepth", "1", "-maxdepth", "2", "-printf", "%y %P\\n"]
    lines = run("reading the lab's folder", ["find", lab.lxc, *depth], ok=(0, 1)).stdout
    status = parse_status(lines.splitlines(), running_machines(lab))
    return replace(status, frozen=frozen_machines(lab))


def parse_status(lines: Iterable[str], running: frozenset[str]) -> LabStatus:
    """The status from a listing.

    Args:
        lines: type and relative path of each entry: ``d web-01``, ``f web-01/config`` …
    """
    folders: dict[str, set[str]] = {}
    for line in lines:
        kind, _, path = line.partition(" ")
        first, *rest = path.split("/")
        if kind == "d" and not rest and not first.startswith("."):
            folders.setdefault(first, set())
        elif len(rest) == 1 and not first.startswith("."):
            folders.setdefault(first, set()).add(rest[0])
    complete = {name for name, entries in folders.items() if "config" in entries}
    return LabStatus(
        machines=frozenset(complete),
        partial=frozenset(set(folders) - complete),
        running=running,
    )
