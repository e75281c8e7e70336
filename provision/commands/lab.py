"""`lab.*`: bring a lab up, inspect it, remove it."""

from __future__ import annotations

import sys
from typing import Any

from provision import checks, providers
from provision.checks.observation import Observation
from provision.checks.observe import observe
from provision.commands import show, show_checks, tables
from provision.commands.base import (
    Session,
    console,
    lab_name,
    open_session,
    publish,
    task,
)
from provision.commands.confirm_change import (
    confirmed_change,
    note_unfinished,
    remove_machines,
    unfinished_noted,
)
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.interrupted_restore import refuse_interrupted
from provision.core.lab import Lab
from provision.core.locks import lab_lock
from provision.core.state import lab_names
from provision.core.waiting import timeout_factor
from provision.database import promote
from provision.database.failover import control as failover
from provision.engine.converge import plans
from provision.engine.fleet import Fleet
from provision.operations import up as steps
from provision.operations.original_state import record_originals
from provision.services.haproxy import traffic
from provision.topology import labs
from provision.topology.record import progress, record_lab, record_reached, record_target

ADOPT_SECONDS = 4.0 * timeout_factor()
"""For the databases to tell lab.check which one automatic failover has promoted."""


@task(
    result=results.Up,
    help={
        "topology": "a name from configs/topologies, or a file (default: the recorded one, "
        "otherwise LAB_TOPOLOGY, otherwise distributed)",
        "network": "network of a new lab, such as 192.168.57.0/24 (default: the "
        "topology's, otherwise a free one)",
        "provider": "lxc, vagrant, or ssh for existing machines (default: LAB_PROVIDER, "
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
        for note in steps.require_ready(opened, chosen):
            print(f"note: {note.what}; {note.hint}", file=sys.stderr)
        if recorded is None:
            print(f"lab {opened.name}: provider {chosen.name} ({reason}), network {opened.network}")
        else:
            recorded = steps.adopt_failover(opened, recorded, chosen)
        change = confirmed_change(opened, recorded, chosen, yes)
        if change is None:
            return
        if recorded is not None:
            record_target(opened)
            with unfinished_noted(opened.directory):
                recorded = steps.turn_off_failover(Session(change.old, recorded, chosen), opened)
                if change.intermediate is not None:
                    _move_data(Session(change.intermediate, recorded, chosen), opened)
        remove_machines(change, chosen)
        session = Session(opened, record_lab(opened, chosen.name), chosen)
        with unfinished_noted(opened.directory):
            with Progress() as report:
                fleet = steps.boot(session, report)
            with fleet:
                if chosen.name == "ssh":
                    record_originals(session.context, fleet)
                configured = configure(session, fleet)
            record_reached(opened)
        publish(
            results.Up(
                **configured,
                topology=opened.topology.name,
                provider=chosen.name,
                network=str(opened.network),
            )
        )


def _move_data(intermediate: Session, new: Lab) -> None:
    """Replicate the data to a database machine of the new topology, and promote it."""
    old, target = intermediate.state.primary, new.topology.primary
    print(f"moving the data from {old} to {target}: {target} replicates it, then it is promoted")
    with Progress() as report:
        fleet = steps.boot(intermediate, report)
    with fleet:
        configure(intermediate, fleet)
        promotion = promote.promote(intermediate.context, fleet, target)
    print(f"{promotion.new} is primary; writes were interrupted for {promotion.seconds:.1f} s\n")


def configure(session: Session, fleet: Fleet) -> results.Configured:
    """Converge, check, print and publish the results.

    Raises:
        LabError: when a machine could not be configured, or a check fails.
    """
    with Progress() as report:
        converged = steps.configure(session, fleet, report)
    outcomes = [show.outcome_values(outcome) for outcome in converged.outcomes]
    values = results.Configured(url=f"{session.lab.url}/", machines=outcomes)
    publish(values)
    show.outcomes(console(), converged.outcomes)
    for line in show.copies(converged.outcomes):
        print(session.context.secrets.redact(line))
    for line in converged.saved:
        print(line)
    for note in dict.fromkeys(converged.context.authority.notes):
        print(f"note: {note}", file=sys.stderr)
    if converged.errors:
        raise LabError("\n\n".join(str(error) for error in converged.errors))
    with Progress() as report:
        checked = steps.check_until_ok(converged.context, fleet, session.provider, report)
    values["checks"] = show_checks.check_values(checked)
    failed = [result for result in checked if result.status == "failed"]
    if failed:
        show_checks.print_checks(console(), checked, only_bad=True)
        hint = show_checks.hint_after_up(checked)
        causes = "; ".join(cause.text for cause in checks.root_causes(checked))
        raise LabError(f"{len(failed)} of {len(checked)} checks failed: {causes}", hint)
    show_checks.print_checks(console(), checked, only_bad=True)
    lab = session.lab
    steps.record_served(lab)
    balancers = " or ".join(machine.name for machine in lab.with_role("haproxy"))
    print(f"\n{lab.url}/ is {lab.site}, through {balancers or lab.front.name}")
    return values


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
        context = failover.adopt(session.context, fleet)
        planned = plans(fleet, context.desired_of(fleet.hosts))
    text, count = show.plans(planned)
    overrides = traffic.overrides(session.context)
    publish(
        results.PlanValues(
            count=count,
            machines=[show.plan_values(n, state, planned.get(n)) for n, state in states.items()],
            overrides=list(overrides),
        )
    )
    print(session.context.secrets.redact(text))
    if overrides:
        print("recorded, and kept by lab.up:")
        print("\n".join(f"    {line}" for line in overrides))
    down = [name for name in states if name not in planned]
    for name in down:
        print(f"{name}: {states[name]}; lab.up starts it")
    if detailed_exitcode and (count or down):
        raise SystemExit(ExitStatus.CHANGES_PENDING)


@task(result=results.LabStatusValues)
def status(c: Any, lab: str = "") -> None:
    """Show machines, services and replication."""
    session = open_session(lab)
    note_unfinished(session.state, session.lab.name)
    thawed = session.thaw()
    if thawed:
        print(f"note: thawed {', '.join(thawed)}; a snapshot was interrupted", file=sys.stderr)
    context, states = session.context, session.machine_states()
    observation = Observation(states)
    if not session.provider.network_problem(session.lab) and "running" in states.values():
        with session.fleet() as fleet:
            context = failover.adopt(context, fleet)
            observation = observe(context, fleet, states, with_requests=False)
    values = show.status_values(context, observation)
    if not publish(values):
        show.status(console(), context, observation, values)


@task(
    result=results.Checks, help={"only": "only the checks whose names contain this (default: all)"}
)
def check(c: Any, lab: str = "", only: str = "") -> None:
    """Run all checks; exit with 1 if one fails."""
    session = open_session(lab)
    note_unfinished(session.state, session.lab.name)
    with session.fleet() as fleet:
        context = failover.adopt(session.context, fleet, ADOPT_SECONDS)
        observation = observe(context, fleet, session.machine_states())
    judged = checks.judge(context, observation)
    selected = [result for result in judged if only in result.check.name]
    if not selected:
        raise UsageError(f"no check has {only!r} in its name", "invoke lab.check lists all checks")
    if not publish(show_checks.check_values(judged, only)):
        show_checks.print_checks(console(), judged, only)
    if not all(result.ok for result in selected):
        raise SystemExit(ExitStatus.FAILED)


@task(result=results.ActionValues, help={"yes": "do not ask for confirmation"})
def destroy(c: Any, lab: str = "", yes: bool = False) -> None:
    """Remove a lab with its machines and data.

    Its network, snapshots and secrets are removed too.
    """
    name = lab_name(lab)
    opened, recorded = labs.open_lab(name)
    if recorded is None and not opened.directory.exists():
        publish(results.ActionValues(machines=[], changed=False))
        print(f"there is no lab {name}: nothing to do")
        return
    provider, _ = providers.choose("", recorded)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this removes lab {name} and its data", "pass --yes to confirm")
        if input(f"remove lab {name}, its machines and all their data? [y/N] ").lower() != "y":
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
