"""Ask before a change of topology removes machines (a part of `lab.up`)."""

from __future__ import annotations

import sys

from provision.commands.confirmation import confirmed
from provision.commands.progress import Progress
from provision.core.lab import Lab
from provision.core.state import State
from provision.operations.topology_change import TopologyChange, topology_change
from provision.providers.base import Provider


def confirmed_change(
    new: Lab, recorded: State | None, provider: Provider, yes: bool
) -> TopologyChange | None:
    """The consequences of a change of topology, after the user has confirmed them. Read only.

    Args:
        recorded: None for a new lab.
        yes: confirmed on the command line.

    Returns:
        None when the user refuses.

    Raises:
        UsageError: when the user cannot be asked.
        LabError: when the data would have nowhere to stay.
    """
    if recorded is None:
        return TopologyChange(new)
    change = topology_change(new, recorded, provider)
    if not change.removed:
        return change
    names = ", ".join(removed.machine for removed in change.removed)
    loses = [removed.machine for removed in change.removed if removed.loses_data]
    title = f"the topology {new.topology.name} does not have {names}; removed with them:"
    text = "\n".join([title, *change.lines()])
    if yes or sys.stdin.isatty():
        print(text)
    warning = f" Data of {', '.join(loses)} may be lost." if loses else ""
    hint = "pass --yes to confirm" + ("; to keep a copy: invoke db.backup" if loses else "")
    if not confirmed(f"remove {names}?{warning}", yes, refused=text, hint=hint):
        print("nothing was changed")
        return None
    sys.stdout.flush()
    return change


def remove_machines(change: TopologyChange, provider: Provider) -> None:
    """Remove the machines of a confirmed change, with everything on them."""
    if change.removed:
        with Progress() as report:
            names = [removed.machine for removed in change.removed]
            provider.remove(change.old, names, report)
