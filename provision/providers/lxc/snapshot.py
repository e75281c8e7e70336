"""Snapshots: copies of the machines' own files, stored in the lab's folder."""

from __future__ import annotations

from collections.abc import Sequence

from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import make_folders, remove_tree, run

# -a preserves what overlayfs stores in an upper layer: whiteout devices and extended attributes.
COPY = ("cp", "-a", "--reflink=auto", "-T", "--")


def create(lab: LabPaths, name: str, machines: Sequence[str]) -> None:
    """Copy the data of halted machines. The snapshot gets its name once it is complete."""
    new = lab.snapshots / f".new.{name}"
    action = f"creating snapshot {name}"
    make_folders(lab.snapshots, mode="700")
    remove_tree(new)
    for machine in machines:
        folder = new / machine
        make_folders(folder, mode="700")
        run(action, [*COPY, lab.machine(machine) / "delta", folder / "delta"])
        run(action, ["cp", "-a", "--", lab.machine(machine) / "config", folder / "config"])
    run(action, ["mv", "-T", "--", new, lab.snapshots / name])


def restore(lab: LabPaths, name: str, machine: str) -> None:
    """Restore a halted machine from a snapshot: completely or, when interrupted, not at all."""
    folder, source = lab.machine(machine), lab.snapshots / name / machine
    finish_restore(lab, machine)
    action = f"restoring {machine}"
    run(action, [*COPY, source / "delta", folder / "delta.new"])
    run(action, ["mv", "-T", "--", folder / "delta", folder / "delta.old"])
    run(action, ["mv", "-T", "--", folder / "delta.new", folder / "delta"])
    run(action, ["cp", "-a", "--", source / "config", folder / "config"])
    finish_restore(lab, machine)


def finish_restore(lab: LabPaths, machine: str) -> None:
    """Remove the working copies of a restore; roll back one that was interrupted."""
    folder = lab.machine(machine)
    action = f"finishing the restore of {machine}"
    if run(action, ["test", "-d", folder / "delta"], ok=(0, 1)).status == 1:
        run(action, ["mv", "-T", "--", folder / "delta.old", folder / "delta"])
    remove_tree(folder / "delta.new", folder / "delta.old")
