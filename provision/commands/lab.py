"""`lab.*`: bring a lab up, inspect it, remove it.

Roles and checks are imported where they are used: machines are logged in to in the meantime.
"""

from __future__ import annotations

import sys
from typing import Any

from provision import providers
from provision.commands import tables
from provision.commands.base import (
    console,
    lab_name,
    open_session,
    publish,
    task,
)
from provision.commands.confirmation import confirmed
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.commands.unfinished import note_unfinished
from provision.core.exit_status import ExitStatus
from provision.core.interrupted_restore import refuse_interrupted
from provision.core.locks import lab_lock
from provision.core.state import lab_names
from provision.core.suggestions import suggestion
from provision.engine.fleet import Fleet
from provision.operations.early_login import begin_login
from provision.topology import labs
from provision.topology.record import progress


@task(
    result=results.Up,
    help={
        "topology": "a name from configs/topologies, or a file (default: the recorded one, "
        "otherwise LAB_TOPOLOGY, otherwise distributed)",
        "network": "network of a new lab, such as 192.168.57.0/24 (default: the "
        "topology's, otherwise a free one)",
        "provider": "lxc, vagrant, incus, or ssh for existing machines (default: LAB_PROVIDER, "
        "otherwise what this host supports)",
        "inventory": "provider ssh: a file with addresses, users and keys of the machines "
        "(default: those of the topology)",
        "pin": "provider ssh: accept unknown host keys once",
        "yes": "do not ask before machines are removed, or while a drill runs",
    },
)
def up(
    c: Any,
    lab: str = "",
    topology: str = "",
    network: str = "",
    provider: str = "",
    inventory: str = "",
    pin: bool = False,
    yes: bool = False,
) -> None:
    """Boot, configure and check the lab.

    A second run changes only what differs.
    """
    opened, recorded = labs.open_lab(
        lab_name(lab),
        topology=topology or None,
        network=network or None,
        keep_addresses=providers.requested(provider) == "ssh",
        continued=True,
    )
    chosen, reason = providers.choose(provider, recorded)
    providers.set_ssh_options(chosen, inventory, pin)
    with lab_lock(opened.directory):
        refuse_interrupted(opened.directory)
        with begin_login(opened, recorded, chosen) as early:
            from provision.commands import bring_up  # the machines start in the meantime

            session = bring_up.OpenedLab(opened, recorded, chosen, reason)
            bring_up.run(session, early, yes=yes)


@task(
    result=results.PlanValues,
    help={"detailed-exitcode": "exit with 3 if something would change, otherwise 0"},
)
def plan(c: Any, lab: str = "", detailed_exitcode: bool = False) -> None:
    """Show what lab.up would change, as a diff."""
    session = open_session(lab)
    note_unfinished(session.state, session.lab.name)
    states = session.machine_states()
    with session.fleet() as fleet:
        fleet.start()
        from provision.commands import observing  # the machines start in the meantime

        pending = observing.plan(session, fleet, states)
    if detailed_exitcode and pending:
        raise SystemExit(ExitStatus.CHANGES_PENDING)


@task(result=results.LabStatusValues)
def status(c: Any, lab: str = "") -> None:
    """Show machines, services and replication."""
    session = open_session(lab)
    note_unfinished(session.state, session.lab.name)
    thawed = session.thaw()
    if thawed:
        print(f"note: thawed {', '.join(thawed)}; a snapshot was interrupted", file=sys.stderr)
    states = session.machine_states()
    reachable = not session.provider.network_problem(session.lab) and "running" in states.values()
    with session.fleet() if reachable else Fleet(session.lab, {}) as fleet:
        fleet.start()
        from provision.commands import observing  # the machines start in the meantime

        observing.status(session, fleet, states)


@task(
    result=results.Checks, help={"only": "only the checks whose names contain this (default: all)"}
)
def check(c: Any, lab: str = "", only: str = "") -> None:
    """Run all checks; exit with 1 if one fails."""
    session = open_session(lab)
    note_unfinished(session.state, session.lab.name)
    with session.fleet() as fleet:
        fleet.start()
        from provision.commands import observing  # the machines start in the meantime

        ok = observing.check(session, fleet, only)
    if not ok:
        raise SystemExit(ExitStatus.FAILED)


@task(result=results.ActionValues, help={"yes": "do not ask for confirmation"})
def destroy(c: Any, lab: str = "", yes: bool = False) -> None:
    """Remove a lab with its machines and data.

    Its network, snapshots and secrets are removed too.
    """
    name = lab_name(lab)
    opened, recorded = labs.open_lab(name)
    provider, _ = providers.choose("", recorded)
    leftovers = recorded is None and provider.leftover_machines(opened)
    if recorded is None and not leftovers and not opened.directory.exists():
        publish(results.ActionValues(machines=[], changed=False))
        print(f"there is no lab {name}: nothing to do{suggestion(name, lab_names())}")
        return
    question = f"remove lab {name}, its machines and all their data?"
    if not confirmed(question, yes, refused=f"this removes lab {name} and its data"):
        publish(results.ActionValues(machines=[], changed=False))
        print("nothing was removed")
        return
    with lab_lock(opened.directory), Progress() as report:
        provider.destroy(opened, report)
    labs.delete_directory(opened)
    publish(results.ActionValues(machines=[m.name for m in opened.machines], changed=True))
    print(f"lab {name} is removed")


LABS = tables.layout(
    "lab.list",
    tables.Column("LAB"),
    tables.Column("TOPOLOGY", 1),
    tables.Column("NETWORK", 2),
    tables.Column("PROVIDER", 3),
    tables.Column("RUNNING"),
)


@task(result=results.Labs, name="list")
def list_(c: Any) -> None:
    """List the labs of this checkout."""
    labs_of_checkout = []
    for name in lab_names():
        session = open_session(name)
        states = session.machine_states()
        running = sum(state == "running" for state in states.values())
        labs_of_checkout.append(
            results.LabSummary(
                lab=name,
                topology=session.state.topology,
                target=session.state.target,
                network=str(session.lab.network),
                provider=session.state.provider,
                running=running,
                machines=len(states),
            )
        )
    if publish(results.Labs(labs=labs_of_checkout)):
        return
    if not labs_of_checkout:
        print("no lab yet: invoke lab.up")
        return
    rows = [
        (
            row["lab"],
            progress(row["topology"], row["target"]),
            row["network"],
            row["provider"],
            f"{row['running']} of {row['machines']}",
        )
        for row in labs_of_checkout
    ]
    tables.show(console(), LABS, rows)
