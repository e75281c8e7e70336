"""Automatic failover from the controller: switch it on or off, show it, and adopt its promotions.

The lab may have promoted a replica since the last command. `adopt` updates the record from the
machines before a command would revert that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from provision.core import state as records
from provision.core.errors import HostError, LabError, UsageError
from provision.core.parallel import finish_in_time
from provision.core.state import State
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.database.agent.requests import Inspect
from provision.database.agent.results import ServerInspection
from provision.database.failover import feature, saved
from provision.database.failover.agent.rules import DECISION_FILE, Decision, from_json
from provision.database.operations import execute
from provision.engine.apply import apply_unit, inspect_unit
from provision.engine.context import Context
from provision.engine.converge import converge
from provision.engine.fleet import Fleet
from provision.engine.host import Host

LEASE_SECONDS = 15.0
"""How long the guard of the primary may take to get its first lease."""


@dataclass(frozen=True)
class FailoverStatus:
    """The status of automatic failover.

    Args:
        on: as recorded.
        witness: the witness's machine; empty when the lab cannot have automatic failover.
        active: by machine, the ActiveState of its service.
        primary: as the witness knows it.
        promotable: the machine that is eligible for promotion; empty: none.
        order: whether the replica was ordered to take over, and has not reported its result.
    """

    on: bool
    witness: str = ""
    active: Mapping[str, str] | None = None
    primary: str = ""
    promotable: str = ""
    order: bool = False

    @property
    def summary(self) -> str:
        """Human-readable, one line."""
        if not self.on:
            return "automatic failover is off"
        if self.order:
            return "automatic failover is on: the replica is taking over"
        if self.promotable:
            return f"automatic failover is on: {self.promotable} is eligible for promotion"
        return "automatic failover is on, but no replica is eligible for promotion"


def adopted_state(servers: Mapping[str, ServerInspection], state: State) -> State:
    """The record, updated from the database machines. A pure function.

    A machine whose own record names it as primary in a later epoch has been promoted, even when it
    is not writable yet or has just restarted.

    Raises:
        LabError: when the machines contradict each other.
    """
    claims = {
        name: server.record.epoch
        for name, server in servers.items()
        if server.record and server.record.is_primary and server.record.epoch > state.epoch
    }
    if not claims:
        return state
    statuses = {name: server.status for name, server in servers.items() if server.status.up}
    writable = [name for name, status in statuses.items() if status.writable]
    highest = max((status.epoch for status in statuses.values()), default=0)
    new, epoch = max(claims.items(), key=lambda claim: claim[1])
    if len(claims) > 1 or any(name != new for name in writable) or highest > epoch:
        raise LabError(
            f"the primary cannot be determined: recorded in a later epoch: {', '.join(claims)}; "
            f"writable: {', '.join(writable) or 'none'}; highest epoch: {highest}",
            "invoke db.autopromote status; the journal of lab-autopromote.service says more",
        )
    return replace(state, primary=new, epoch=epoch)


def adopt(context: Context, fleet: Fleet, seconds: float = 30.0) -> Context:
    """Record a promotion by automatic failover.

    Args:
        seconds: after which a machine that has not responded has no vote, multiplied by
            `timeout_factor`.

    Raises:
        LabError: when the machines contradict each other.
    """
    if not context.state.autopromote:
        return context
    servers: dict[str, ServerInspection] = {}

    def inspect(host: Host) -> None:
        with contextlib.suppress(HostError):  # a machine that does not respond has no vote
            servers[host.name] = execute(host, Inspect(host.name), 15)

    hosts = [fleet.hosts[m.name] for m in context.lab.with_role("mysql") if m.name in fleet.hosts]
    done = finish_in_time(
        {host.name: partial(inspect, host) for host in hosts}, seconds * timeout_factor()
    )
    for host in hosts:
        if host.name not in done:
            host.close()  # so that it can be used again
    state = adopted_state(dict(servers), context.state)
    if state == context.state:
        return context
    recorded = records.change(context.lab.directory, primary=state.primary, epoch=state.epoch)
    return replace(context, state=recorded)


def switch(context: Context, fleet: Fleet, on: bool) -> Context:
    """Turn automatic failover on or off: record it, and configure the machines.

    Raises:
        UsageError: when the lab cannot have it.
        LabError: when a machine could not be configured.
    """
    witness = feature.witness(context.lab)
    if on and witness is None:
        raise UsageError(
            "automatic failover needs two databases and a balancer on a machine of its own",
            "the topologies distributed, secured and scaled have them",
        )
    # Turning it off is safe without the witness: an order has no effect without a guard.
    if on and witness is not None and witness.name not in fleet.hosts:
        raise LabError(f"{witness.name} is not running", "invoke lab.up")
    context = adopt(context, fleet)
    saved.collect(context, fleet)
    after = replace(context, state=records.change(context.lab.directory, autopromote=on))
    outcomes = converge(fleet, after.desired_of(fleet.hosts)).values()
    errors = [str(outcome.error) for outcome in outcomes if outcome.error is not None]
    if errors:
        raise LabError("\n\n".join(errors))
    if on and after.state.primary in fleet.hosts:
        _wait_until_writable(fleet.hosts[after.state.primary])
    return after


def _wait_until_writable(primary: Host) -> None:
    """Wait until the guard has a lease: from its start on, only it makes the server writable.

    Raises:
        LabError: when it gets none.
    """

    def writable() -> bool:
        return execute(primary, Inspect(primary.name), 15).status.writable

    try:
        wait_until(writable, LEASE_SECONDS * timeout_factor(), f"writes to {primary.name}")
    except Timeout:
        raise LabError(
            f"automatic failover is on, and {primary.name} is not writable: "
            "neither the witness nor the replica grants a lease",
            "invoke db.autopromote status",
        ) from None


def turn_off_for_topology_change(context: Context, fleet: Fleet) -> Context:
    """Turn automatic failover off before a topology change removes one of its machines.

    It is recorded, and the service is removed from the running machines: first from the witness,
    whose orders the guards execute. Nothing else is configured.

    Raises:
        LabError: when a machine fails.
    """
    context = adopt(context, fleet)
    after = replace(context, state=records.change(context.lab.directory, autopromote=False))
    for machine in feature.members(context.lab):
        if machine.name in fleet.hosts:
            host = fleet.host(machine.name)
            for unit in feature.absent(after, machine):
                apply_unit(host, inspect_unit(host, unit))
    return after


def status(context: Context, fleet: Fleet) -> FailoverStatus:
    """Query the status on the machines."""
    witness = feature.witness(context.lab)
    if not context.state.autopromote or witness is None:
        return FailoverStatus(context.state.autopromote, witness.name if witness else "")

    def active(host: Host) -> str:
        try:
            return host.run("systemctl", "is-active", feature.SERVICE).stdout.strip()
        except HostError as error:
            return error.what

    names = [machine.name for machine in feature.members(context.lab)]
    states = fleet.each(active, [name for name in names if name in fleet.hosts])
    decision = Decision()
    if witness.name in fleet.hosts:
        decision = _read_decision(fleet.host(witness.name))
    replicas = [m.name for m in context.lab.with_role("mysql") if m.name != decision.primary]
    return FailoverStatus(
        True,
        witness.name,
        {name: states.get(name, "it is not running") for name in names},
        decision.primary,
        replicas[0] if decision.promotable and len(replicas) == 1 else "",
        bool(decision.order),
    )


def _read_decision(host: Host) -> Decision:
    """The witness's decision; an empty one when it cannot be read."""
    try:
        result = host.run("cat", DECISION_FILE)
        return from_json(Decision, json.loads(result.stdout)) if result.ok else Decision()
    except (HostError, ValueError):
        return Decision()
