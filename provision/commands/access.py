"""`lab.*`, when SSH to a machine is broken: pin its host key, get in anyway, recreate it."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from provision.commands import document
from provision.commands.base import open_session, publish, remainder, task
from provision.commands.bring_up import configure
from provision.commands.confirmation import confirmed
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.core.errors import UsageError
from provision.core.hints import for_lab
from provision.operations import rebuild as rebuilding
from provision.operations import rescue as rescuing
from provision.operations import trust as trusting
from provision.operations import up as steps
from provision.operations.machine_access import run_on_terminal
from provision.operations.session import Session
from provision.providers.ssh.host_key import fingerprint


@task(
    result=results.HostKeysValues,
    positional=["machine"],
    help={"yes": "pin it without asking"},
)
def trust(c: Any, machine: str, yes: bool = False, lab: str = "") -> None:
    """Pin the changed host key of a machine.

    The key is compared with the machine's own first.
    """
    session = open_session(lab)
    keys = trusting.read_host_keys(session, machine)
    print("\n".join(keys.lines()))
    values = results.HostKeysValues(
        machine=keys.machine,
        address=keys.address,
        pinned=_fingerprint(keys.pinned),
        presented=_fingerprint(keys.presented),
        own=_fingerprint(keys.own),
        changed=False,
    )
    publish(values)
    if keys.is_pinned:
        print("it is pinned already: nothing to do")
        return
    if not confirmed("pin the presented key?", yes):
        print("nothing was changed")
        return
    with session.lock():
        trusting.pin(session, keys)
    publish({**values, "changed": True})
    print(for_lab("pinned; next: invoke lab.up", session.lab.name))


@task(
    result=results.Rescued,
    positional=["machine"],
    remainder="COMMAND",
    help={"fix": "restore the controller's access, then do what lab.up does"},
)
def rescue(c: Any, machine: str, fix: bool = False, lab: str = "") -> None:
    """Open a root shell without SSH, or repair access.

    A command follows --, as in: lab.rescue web-01 -- ip address
    """
    session = open_session(lab)
    session.lab.machine(machine)
    if not fix:
        if document.requested():
            raise UsageError(
                "--json is for --fix only", f"invoke lab.rescue {machine} --fix --json"
            )
        sys.stdout.flush()
        raise SystemExit(run_on_terminal(session, machine, remainder()))
    with session.lock():
        with Progress() as report:
            restored = rescuing.restore_access(session, machine, report)
        for line in restored.repaired or ("nothing: access was not broken",):
            print(f"{machine}: repaired {line}" if restored.repaired else f"{machine}: {line}")
        if restored.copies:
            print(f"{machine}: copies of replaced files are in {restored.copies}")
        configured = _up(session)
        repaired = list(restored.repaired)
        publish(results.Rescued(**configured, machine=machine, repaired=repaired))


@task(
    result=results.Rebuilt,
    positional=["machine"],
    help={
        "yes": "do not ask for confirmation",
        "accept-data-loss": "also rebuild a primary, or a replica with transactions of its own",
    },
)
def rebuild(
    c: Any, machine: str, yes: bool = False, accept_data_loss: bool = False, lab: str = ""
) -> None:
    """Recreate one machine and configure it."""
    session = open_session(lab)
    plan = rebuilding.plan_rebuild(session, machine, accept_data_loss)
    text = f"{machine} is removed and created again" + (f"; {plan.data}" if plan.data else "")
    print(text)
    if not confirmed(f"rebuild {machine}?", yes):
        print("nothing was changed")
        return
    target = session.lab.machine(machine)
    with session.lock(), contextlib.ExitStack() as stack:
        with Progress() as report:
            stack.enter_context(rebuilding.out_of_rotation(session, target, report))
            current = rebuilding.remove_for_rebuild(session, plan, report)
        publish(results.Rebuilt(**_up(current), machine=machine))


def _fingerprint(key: str) -> str:
    return fingerprint(key) if key else ""


def _up(session: Session) -> results.Configured:
    """Boot, configure and check."""
    with Progress() as report:
        fleet = steps.boot(session, report)
    with fleet:
        return configure(session, fleet)
