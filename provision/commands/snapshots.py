"""`lab.snapshot`, `lab.restore`, `lab.snapshots`: all machines kept under a name, and back."""

from __future__ import annotations

from typing import Any

from provision.commands.base import session, show_json, task
from provision.commands.progress import Progress
from provision.core.errors import LabError


@task(positional=["name"])
def snapshot(c: Any, name: str, lab: str = "") -> None:
    """Keep the state of all machines under a name."""
    now = session(lab)
    with now.lock(), Progress() as report:
        now.provider.snapshot(now.lab, name, report)
    print(f"kept as {name}; invoke lab.restore {name} brings it back")


@task(positional=["name"])
def restore(c: Any, name: str, lab: str = "") -> None:
    """Bring all machines back to a snapshot."""
    now = session(lab)
    with now.lock(), Progress() as report:
        now.provider.restore(now.lab, name, report)
        states = now.provider.state(now.lab)
    down = sorted(machine for machine, word in states.items() if word != "running")
    if len(down) == len(states):
        print(f"back to {name}; the machines are halted, as they were")
    elif down:
        raise LabError(f"after going back to {name}, {', '.join(down)} do not run", "invoke lab.up")
    else:
        print(f"back to {name}; invoke lab.check looks whether all is well")


@task(help={"json": "for programs"})
def snapshots(c: Any, lab: str = "", json: bool = False) -> None:
    """List the snapshots there are."""
    now = session(lab)
    found = list(now.provider.snapshots(now.lab))
    if json:
        show_json(found)
    else:
        print("\n".join(found) or "no snapshot yet: invoke lab.snapshot NAME")
