"""Change the topology of an existing lab: which machines are removed, and what is lost with them.

Removed machines are listed with their data before anything changes, so that the user can refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from provision import registry
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.core.state import State
from provision.database.servers import DatabaseServer
from provision.database.servers import status as database_status
from provision.engine.context import Context
from provision.engine.fleet import running
from provision.providers.base import Provider
from provision.topology import labs
from provision.topology.record import require_primary_in

KEPT_ROLES = ("mysql", "firewall", "hardening")
"""What remains of the old primary while the new databases copy its data."""


@dataclass(frozen=True)
class RemovedMachine:
    """A machine that the new topology does not have.

    Args:
        loss: what is lost with it, in words.
        loses_data: whether no other machine may have its data.
    """

    machine: str
    loss: str
    loses_data: bool = False


@dataclass(frozen=True)
class TopologyChange:
    """The consequences of a change of topology.

    Args:
        old: the lab before the change.
        intermediate: a topology to apply first, so that the data can move to the new database
            machines; None when a database machine remains.
    """

    old: Lab
    removed: tuple[RemovedMachine, ...] = ()
    intermediate: Lab | None = None

    def lines(self) -> list[str]:
        """The removed machines, one line per machine."""
        width = max((len(removed.machine) for removed in self.removed), default=0)
        return [f"  {removed.machine:<{width}}  {removed.loss}" for removed in self.removed]


def topology_change(new: Lab, recorded: State, provider: Provider) -> TopologyChange:
    """What changes from the recorded topology to a new one. Read only.

    Raises:
        LabError: when no database machine remains and the data cannot be moved to a new one.
    """
    try:
        old, _ = labs.open_lab(new.name, root=new.root)
    except LabError:
        old = new  # the old file no longer exists: its machines are reported as orphaned
    intermediate = intermediate_topology(old, new, recorded)
    # Vagrant manages one topology at a time, and existing machines may not reach each other.
    if intermediate is None or not recorded.in_containers:
        require_primary_in(new, recorded)
        intermediate = None
    remaining = {machine.name for machine in new.machines}
    existing = list(provider.orphaned_machines(old))
    if any(machine.name not in remaining for machine in old.machines):
        states = provider.state(old)
        existing = [name for name, state in states.items() if state != "absent"] + existing
    names = [name for name in existing if name not in remaining]
    target = new.topology.primary if intermediate else ""
    removed = _removed(registry.context(old, recorded), provider, names, target)
    return TopologyChange(old, removed, intermediate)


def intermediate_topology(old: Lab, new: Lab, recorded: State) -> Lab | None:
    """A topology between two that have no database machine in common.

    It is the new one, with a database also on the present primary. The new databases replicate
    from it; after the promotion of one of them the old primary is no longer needed.

    Returns:
        None when a database machine remains, or one of the topologies has none.
    """
    before = {machine.name for machine in old.with_role("mysql")}
    after = {machine.name for machine in new.with_role("mysql")}
    if recorded.primary not in before or not after or before & after:
        return None
    primary = old.machine(recorded.primary)
    machines = [
        replace(m, roles=(*m.roles, "mysql")) if m.name == primary.name else m for m in new.machines
    ]
    if primary.name not in {machine.name for machine in machines}:
        roles = tuple(role for role in primary.roles if role in KEPT_ROLES)
        machines.append(replace(primary, roles=roles))
    return replace(new, topology=replace(new.topology, machines=tuple(machines)))


def _removed(
    context: Context, provider: Provider, names: Sequence[str], target: str
) -> tuple[RemovedMachine, ...]:
    """Describe the loss of each machine.

    Args:
        target: the machine that the primary's data moves to first; empty for none.
    """
    roles = {machine.name: machine.roles for machine in context.lab.machines}
    databases = {name for name in names if "mysql" in roles.get(name, ())}
    servers = _database_servers(context, provider) if databases else {}
    removed = []
    for name in names:
        listed = ", ".join(roles.get(name, ()))
        if name not in roles:
            text = "unknown contents: the machine is in no topology"
            removed.append(RemovedMachine(name, text, True))
        elif target and name == context.state.primary:
            removed.append(RemovedMachine(name, f"{listed}; its data moves to {target} first"))
        elif name in databases:
            removed.append(_removed_replica(context, name, listed, servers.get(name)))
        else:
            removed.append(RemovedMachine(name, f"{listed}; no data"))
    return tuple(removed)


def _database_servers(context: Context, provider: Provider) -> dict[str, DatabaseServer]:
    try:
        with running(context.lab, provider) as fleet:
            return {server.machine: server for server in database_status(context, fleet)}
    except LabError:
        return {}


def _removed_replica(
    context: Context, name: str, roles: str, server: DatabaseServer | None
) -> RemovedMachine:
    primary = context.state.primary
    if server is None or not server.status.up or server.missing is None:
        text = f"{roles}; its data; whether {primary} has all of it is unknown (no response)"
        return RemovedMachine(name, text, True)
    if server.errant:
        text = f"{roles}; transactions that {primary} does not have: {server.errant}"
        return RemovedMachine(name, text, True)
    return RemovedMachine(name, f"{roles}; a copy of data that {primary} has")
