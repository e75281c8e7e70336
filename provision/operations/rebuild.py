"""Recreate one machine with the same name and address, and configure it.

Killed half way, `lab.up` finishes it: a removed machine is created again, and a replica clones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provision.core import state as records
from provision.core.errors import HostError, LabError, ProviderError, UsageError
from provision.core.lab import Machine
from provision.core.report import Report
from provision.database.failover import control as failover
from provision.database.failover import feature
from provision.database.forced_promotion import promote_after_death
from provision.database.servers import status as database_status
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.operations.session import Session
from provision.services.haproxy.drained import drained


@dataclass(frozen=True)
class RebuildPlan:
    """What a rebuild of a machine means for the lab's data.

    Args:
        data: what happens to the data on it, as a clause; empty when it has none.
        successor: the machine whose database becomes primary first; empty for none.
    """

    machine: str
    data: str = ""
    successor: str = ""


def plan_rebuild(session: Session, name: str, accept_data_loss: bool) -> RebuildPlan:
    """What the rebuild does, before anything is changed.

    Raises:
        UsageError: when the machine does not exist, or its data would be lost.
        ProviderError: when the provider did not create the machine.
    """
    machine = session.lab.machine(name)
    if session.provider.name == "ssh":
        raise ProviderError(
            f"provider ssh cannot rebuild {name}: it did not create it",
            f"reinstall {name} with Debian, then invoke lab.trust {name} and invoke lab.up",
        )
    if "mysql" not in machine.roles:
        return RebuildPlan(name)
    context, errant = _databases(session, name)
    others = [m.name for m in session.lab.with_role("mysql") if m.name != name]
    if name != context.state.primary:
        if errant and not accept_data_loss:
            raise UsageError(
                f"{name} has transactions that {context.state.primary} does not have: {errant}",
                f"invoke db.rejoin {name} saves them in a file; or pass --accept-data-loss",
            )
        return RebuildPlan(name, f"its data is copied from {context.state.primary} again")
    if not accept_data_loss:
        first = (
            f"invoke db.promote {others[0]} makes another one the primary first"
            if others
            else ("invoke db.backup saves its data")
        )
        raise UsageError(
            f"{name} is the primary: its data may be lost", f"{first}; or pass --accept-data-loss"
        )
    states = session.machine_states()
    running = [other for other in others if states.get(other) == "running"]
    if others and not running:
        raise UsageError(
            f"{name} is the primary, and no other database runs", f"invoke lab.start {others[0]}"
        )
    if running:
        text = f"writes that {running[0]} has not received are lost; {running[0]} becomes primary"
        return RebuildPlan(name, text, running[0])
    return RebuildPlan(name, "ALL ITS DATA IS LOST: no other machine has a copy")


def remove_for_rebuild(session: Session, plan: RebuildPlan, report: Report) -> Session:
    """Move the primary, shut a balancer down cleanly, and remove the machine.

    Returns:
        The session with its new recorded state.
    """
    lab, name = session.lab, plan.machine
    session = _turn_failover_off(session, name, report)
    if plan.successor:
        report(name, "cutting its power")
        session.provider.kill(lab, name)
        with _without(session, name, report) as fleet:
            report(plan.successor, "becoming primary")
            promote_after_death(session.context, fleet, session.provider, plan.successor)
        session = _reopened(session)
    elif "keepalived" in lab.machine(name).roles and _responds(session, name):
        # A clean shutdown hands the virtual address over.
        session.provider.halt(lab, report, [name])
    session.provider.remove(lab, [name], report)
    return session


@contextlib.contextmanager
def out_of_rotation(session: Session, machine: Machine, report: Report) -> Iterator[None]:
    """Drain a backend server during the body, unless that is impossible."""
    with contextlib.ExitStack() as stack:
        try:
            fleet = stack.enter_context(_without(session, machine.name, report))
            stack.enter_context(drained(session.context, fleet, machine, report))
        except LabError as error:
            report(machine.name, f"is not drained: {error.what}")
        yield


def _turn_failover_off(session: Session, name: str, report: Report) -> Session:
    """Turn automatic failover off on the machines while a member of it is replaced.

    A member that loses its files has forgotten its promises, which failover relies on. It stays
    recorded as on, so that the next configuration turns it on again.
    """
    members = {machine.name for machine in feature.members(session.lab)}
    if not session.state.autopromote or name not in members:
        return session
    report(name, "turning automatic failover off")
    with _without(session, name, report) as fleet:
        failover.turn_off_for_topology_change(session.context, fleet)
    records.change(session.lab.directory, autopromote=True)
    return _reopened(session)


def _databases(session: Session, name: str) -> tuple[Context, str]:
    """The context with the current primary, and a machine's errant transactions if known."""
    context = session.context
    with contextlib.suppress(LabError), session.fleet() as fleet:
        context = failover.adopt(context, fleet)
        for server in database_status(context, fleet):
            if server.machine == name and server.status.up and server.errant:
                return context, str(server.errant)
    return context, ""


def _without(session: Session, name: str, report: Report) -> Fleet:
    """The other running machines."""
    with session.fleet(report) as fleet:
        endpoints = {other: end for other, end in fleet.endpoints.items() if other != name}
    return Fleet(session.lab, endpoints, report)


def _responds(session: Session, name: str) -> bool:
    try:
        with session.fleet() as fleet:
            return fleet.host(name).run("true").ok
    except HostError:
        return False


def _reopened(session: Session) -> Session:
    state = records.load(session.lab.directory) or session.state
    return replace(session, state=state)
