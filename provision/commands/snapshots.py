"""`lab.snapshot`, `lab.restore`, `lab.snapshots`: save and restore all machines."""

from __future__ import annotations

from typing import Any

from provision.commands.base import open_session, show_json, task
from provision.commands.progress import Progress
from provision.core.errors import LabError


@task(positional=["name"])
def snapshot(c: Any, name: str, lab: str = "") -> None:
    """Save the state of all machines under a name."""
    session = open_session(lab)
    with session.lock(), Progress() as report:
        session.provider.snapshot(session.lab, name, report)
    print(f"snapshot {name} is saved; restore it with: invoke lab.restore {name}")


@task(positional=["name"])
def restore(c: Any, name: str, lab: str = "") -> None:
    """Restore all machines from a snapshot."""
    session = open_session(lab)
    with session.lock(), Progress() as report:
        session.provider.restore(session.lab, name, report)
        states = session.provider.state(session.lab)
    down = sorted(machine for machine, state in states.items() if state != "running")
    if len(down) == len(states):
        print(f"restored {name}; the machines are halted, as they were before")
    elif down:
        raise LabError(f"restored {name}, but not running: {', '.join(down)}", "invoke lab.up")
    else:
        print(f"restored {name}; next: invoke lab.check")


@task(help={"json": "print JSON"})
def snapshots(c: Any, lab: str = "", json: bool = False) -> None:
    """List the snapshots."""
    session = open_session(lab)
    names = list(session.provider.snapshots(session.lab))
    if json:
        show_json(names)
    else:
        print("\n".join(names) or "no snapshot yet: invoke lab.snapshot NAME")
