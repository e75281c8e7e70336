"""Open a lab: its name, its topology and its network, combined into a `Lab`. Writes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from provision import topology as topologies
from provision.core import state as states
from provision.core.errors import UsageError
from provision.core.lab import DEFAULT_LAB, LAB_NAME, ROOT, Lab, rebase
from provision.core.state import State, lab_names
from provision.topology.networks import choose_network
from provision.topology.record import database_machines


def open_lab(
    name: str = DEFAULT_LAB,
    *,
    topology: str | None = None,
    network: str | None = None,
    root: Path = ROOT,
    keep_addresses: bool = False,
    continued: bool = False,
) -> tuple[Lab, State | None]:
    """A lab, and its recorded state if it was brought up before.

    Args:
        name: 1 to 15 of a-z, 0-9 and ``-``.
        topology: a name or a path; default: the recorded one, then ``LAB_TOPOLOGY`` of the
            environment, then ``distributed``.
        network: such as ``10.1.2.0/24``; default: the recorded one, then the one that machines
            of this lab are on, then the topology's own for the default lab, then a free one.
        keep_addresses: whether the machines exist already, so that the topology's addresses apply
            in every lab; they also do when the topology has ``ssh:`` for a machine.
        continued: open an unfinished change of topology as its target, which `lab.up` works
            towards, instead of the topology that describes the machines now.

    Raises:
        UsageError: for an invalid name or network, or another network than the recorded one.
        TopologyError: when the topology does not exist or is invalid.
        LabError: when the recorded state is damaged, or no network is free.
    """
    if not LAB_NAME.fullmatch(name):
        names = ", ".join(lab_names(root))
        raise UsageError(
            f"invalid lab name {name!r}: expected 1 to 15 of a-z, 0-9 and '-', no '-' first",
            f"existing labs: {names}" if names else "omit --lab, or use a name such as two",
        )
    state = states.load(root / ".lab" / name)
    chosen = topology or (_recorded_topology(state, root, continued) if state else "")
    chosen = chosen or os.environ.get("LAB_TOPOLOGY", "") or "distributed"
    loaded = topologies.load(topologies.find(chosen, root))
    place = choose_network(Lab(name, root, loaded), state, network, keep_addresses)
    return Lab(name, root, rebase(loaded, place)), state


def _recorded_topology(state: State, root: Path, continued: bool) -> str:
    """The topology to open a lab with."""
    current, target = state.current_topology, state.target
    if continued:
        return target or current
    # The change may have been interrupted after the data was moved, before this was recorded.
    if target and state.primary not in database_machines(current, root):
        return target if state.primary in database_machines(target, root) else current
    return current


def delete_directory(lab: Lab) -> None:
    """Remove a lab's directory with its state and secrets, after its machines were removed."""
    shutil.rmtree(lab.directory, ignore_errors=True)
    if lab.name == DEFAULT_LAB:
        (lab.root / ".lab" / "ssh_config").unlink(missing_ok=True)
