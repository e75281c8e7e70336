"""Snapshots: copies of the machines' own files, beside the machines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.providers.lxc import places
from provision.providers.lxc.inventory import Inventory
from provision.providers.lxc.privileged import run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# -a keeps what an overlay's upper layer is made of: device nodes that hide, extended attributes.
COPY = ("cp", "-a", "--reflink=auto", "-T", "--")


def check_new(name: str, there: Inventory) -> None:
    """Refuse a name that cannot be used for a new snapshot.

    Raises:
        ProviderError: with what is wrong.
    """
    if not _NAME.fullmatch(name):
        raise ProviderError(
            f"{name!r} cannot be the name of a snapshot: letters, digits, and . _ - after the first"
        )
    if name in dict(there.snapshots):
        raise ProviderError(f"there is a snapshot {name} already", "choose another name")


def members(name: str, there: Inventory) -> frozenset[str]:
    """The machines that are in a snapshot and still exist.

    Raises:
        ProviderError: when there is no such snapshot; the message lists those there are.
    """
    known = dict(there.snapshots)
    if name not in known:
        names = ", ".join(known) or "none yet"
        raise ProviderError(f"there is no snapshot {name!r}", f"snapshots there are: {names}")
    return known[name] & there.machines


def keep(lab: Lab, name: str, machines: Sequence[str]) -> None:
    """Copy halted machines' data; the snapshot has its name when it is complete."""
    at = places.of(lab)
    new = at.snapshots / f".new.{name}"
    doing = f"keeping snapshot {name}"
    run(doing, ["install", "-d", "-m", "700", "--", at.snapshots])
    run(doing, ["rm", "-rf", "--one-file-system", "--", new])
    for machine in machines:
        folder = new / machine
        run(doing, ["install", "-d", "-m", "700", "--", folder])
        run(doing, [*COPY, at.machine(machine) / "delta", folder / "delta"])
        run(doing, ["cp", "-a", "--", at.machine(machine) / "config", folder / "config"])
    run(doing, ["mv", "-T", "--", new, at.snapshots / name])


def restore(lab: Lab, name: str, machine: str) -> None:
    """Bring a halted machine's data back to a snapshot: all of it, or (when cut off) none."""
    at = places.of(lab)
    folder, kept = at.machine(machine), at.snapshots / name / machine
    mend(lab, machine)
    doing = f"restoring {machine}"
    run(doing, [*COPY, kept / "delta", folder / "delta.new"])
    run(doing, ["mv", "-T", "--", folder / "delta", folder / "delta.old"])
    run(doing, ["mv", "-T", "--", folder / "delta.new", folder / "delta"])
    run(doing, ["cp", "-a", "--", kept / "config", folder / "config"])
    mend(lab, machine)


def mend(lab: Lab, machine: str) -> None:
    """Clear up after a restore, also one that was cut off: with no data, the old data are back."""
    folder = places.of(lab).machine(machine)
    doing = f"mending {machine}"
    if run(doing, ["test", "-d", folder / "delta"], ok=(0, 1)).status == 1:
        run(doing, ["mv", "-T", "--", folder / "delta.old", folder / "delta"])
    leftovers = [folder / "delta.new", folder / "delta.old"]
    run(doing, ["rm", "-rf", "--one-file-system", "--", *leftovers])
