"""The record of virtual machines: their pinned host keys, and Vagrant's own list of machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provision.core.lab import Lab
from provision.engine.agent.codec import decode
from provision.providers.files import load_record, save_record
from provision.providers.vagrant.client import dotfile_folder

FILE = "vagrant.json"


@dataclass(frozen=True)
class PinnedMachine:
    """A machine whose host key is pinned.

    Args:
        id: changes when the machine is created again.
        host_key: in OpenSSH's format.
    """

    id: str
    user: str
    host_key: str


def load(lab: Lab) -> dict[str, PinnedMachine]:
    """The pinned machines by name.

    Raises:
        LabError: when the file is damaged.
    """
    return load_record(
        lab, FILE, lambda data: {n: decode(PinnedMachine, v) for n, v in data.items()}, {}
    )


def save(lab: Lab, machines: Mapping[str, PinnedMachine]) -> None:
    """Write the record atomically."""
    save_record(lab, FILE, machines)


def created_machines(lab: Lab) -> dict[str, tuple[str, str]]:
    """By name, the provider and the id of the machines that Vagrant has created.

    This reads Vagrant's files, because running Vagrant takes one to three seconds.
    """
    machines = {}
    for path in sorted(dotfile_folder(lab).glob("machines/*/*/id")):
        number = path.read_text(encoding="utf-8", errors="replace").strip()
        if number:
            machines[path.parent.parent.name] = (path.parent.name, number)
    return machines


def pinned_machines(lab: Lab) -> dict[str, PinnedMachine]:
    """The pinned machines of the topology that have not been created again since."""
    created, pinned = created_machines(lab), load(lab)
    return {
        m.name: pinned[m.name]
        for m in lab.machines
        if m.name in created and m.name in pinned and created[m.name][1] == pinned[m.name].id
    }
