"""Asking before a change of topology takes machines away (a part of `lab.up`)."""

from __future__ import annotations

import sys

from provision.commands.progress import Progress
from provision.core import state
from provision.core.errors import UsageError
from provision.core.lab import Lab
from provision.core.state import State
from provision.operations import stages
from provision.operations.stages import Step
from provision.providers.base import Provider


def agreed(new: Lab, recorded: State | None, provider: Provider, yes: bool) -> Step | None:
    """What a change of topology takes away, once somebody agrees to it; nothing is changed.

    Args:
        new: the lab as it shall be.
        recorded: what it is now; None when it is new.
        provider: of its machines.
        yes: agreed already.

    Returns:
        None when somebody said no.

    Raises:
        UsageError: when nobody can be asked.
        LabError: when the data would have nowhere to stay.
    """
    if recorded is None:
        return Step(new)
    step = stages.step(new, recorded, provider)
    if not step.leaving:
        return step
    names = [each.machine for each in step.leaving]
    loses = [each.machine for each in step.leaving if each.loses]
    head = f"the topology {new.topology.name} does not have {', '.join(names)}; removed with them:"
    text = "\n".join([head, *step.lines()])
    if not yes:
        if not sys.stdin.isatty():
            keep = f"say so with --yes; first, to keep it: {state.up(new.directory, 'db.backup')}"
            raise UsageError(text, keep if loses else "say so with --yes")
        print(text)
        more = f" Data of {', '.join(loses)} may be lost." if loses else ""
        if input(f"remove {', '.join(names)}?{more} [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was changed")
            return None
    else:
        print(text)
    sys.stdout.flush()
    return step


def removed(step: Step, provider: Provider) -> None:
    """Remove the machines that go, with everything on them."""
    if step.leaving:
        with Progress() as report:
            provider.remove(step.old, [each.machine for each in step.leaving], report)
