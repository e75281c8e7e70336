"""Operator settings of the balancer: drain, weights, mode and algorithm, persistent across reloads.

A setting is recorded first. Then it is written into HAProxy's configuration and applied to the
running process by runtime commands, or by a reload where these are not enough. So the next reload,
reboot and lab.up keep it.
"""

from __future__ import annotations

from dataclasses import replace

from provision.core import state
from provision.core.errors import UsageError, not_among
from provision.core.lab import Machine
from provision.core.report import Log
from provision.engine.apply import apply_unit, inspect_unit
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Unit
from provision.services.haproxy import role as haproxy
from provision.services.haproxy import runtime
from provision.services.haproxy.interface import WEIGHT
from provision.topology import ALGORITHMS, MODES

RETRY = "the setting is recorded: invoke lab.up tries again"
APPLY_SECONDS = 60.0


# --- settings ------------------------------------------------------------------------------------


def require_server(context: Context, name: str) -> None:
    """Check that the backend has a server of that name.

    Raises:
        UsageError: with the valid names.
    """
    if not context.lab.with_role("haproxy"):
        raise UsageError("this lab has no balancer", "lab.up --topology distributed has one")
    names = [m.name for m in context.lab.with_role("nginx")]
    if name not in names:
        is_app = name in {m.name for m in context.lab.with_role("app")}
        why = ": web servers detect its failure automatically" if is_app else ""
        raise not_among(f"the balancer has no server {name!r}{why}", "" if is_app else name, names)


def drain(
    context: Context, fleet: Fleet, name: str, deadline: float, log: Log = lambda _message: None
) -> Context:
    """Drain a server and wait until its sessions have ended, at most ``deadline`` seconds.

    Raises:
        UsageError: when no other server is up.
        LabError: when sessions are open at the deadline; the server stays drained.
    """
    require_server(context, name)
    disabled = {server for server, admin in context.state.admin.items() if admin != "ready"}
    if not servers_up(context, fleet) - {name} - disabled:
        raise UsageError(
            f"no other server is up: draining {name} would stop the site",
            "invoke lb.status shows the servers; invoke lb.ready SERVER enables one",
        )
    drained = record_and_apply(context, fleet, admin={**context.state.admin, name: "drain"})
    runtime.wait_until_idle(drained, fleet, name, deadline, log)
    return drained


def servers_up(context: Context, fleet: Fleet) -> set[str]:
    """The servers that every balancer reports as up, backups included."""
    reports = runtime.statistics(context, fleet).values()
    up = [{server.name for server in servers if server.up} for servers in reports]
    return set.intersection(*up) if up else set()


def ready(context: Context, fleet: Fleet, name: str) -> Context:
    """End a server's drain or maintenance."""
    require_server(context, name)
    admin = {server: value for server, value in context.state.admin.items() if server != name}
    return record_and_apply(context, fleet, admin=admin)


def weight(context: Context, fleet: Fleet, name: str, value: int) -> Context:
    """Set a server's weight, from 1 to 256."""
    require_server(context, name)
    if not 1 <= value <= 256:
        raise UsageError(
            f"invalid weight {value}", f"1 to 256; for no requests at all: invoke lb.drain {name}"
        )
    weights = {server: w for server, w in context.state.weights.items() if server != name}
    if value != WEIGHT:
        weights[name] = value
    return record_and_apply(context, fleet, weights=weights)


def mode(context: Context, fleet: Fleet, value: str) -> Context:
    """Set active-active, or active-passive with the first server active."""
    return record_and_apply(context, fleet, mode=_choice("mode", value, MODES))


def algorithm(context: Context, fleet: Fleet, value: str) -> Context:
    """Set HAProxy's balancing algorithm."""
    return record_and_apply(context, fleet, algorithm=_choice("algorithm", value, ALGORITHMS))


def _choice(what: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise not_among(f"unknown {what} {value!r}", value, choices)
    return value


def overrides(context: Context) -> tuple[str, ...]:
    """The recorded settings that differ from the topology, one line each."""
    lab, recorded = context.lab, context.state
    names = {m.name for m in lab.with_role("nginx")}
    admin = [f"{name}: {value}" for name, value in sorted(recorded.admin.items()) if name in names]
    weights = [
        f"{name}: weight {value} instead of {WEIGHT}"
        for name, value in sorted(recorded.weights.items())
        if name in names
    ]
    default, current = lab.topology.balance, context.balance
    balance = [
        f"{what} {value} instead of {usual}"
        for what, value, usual in (
            ("mode", current.mode, default.mode),
            ("algorithm", current.algorithm, default.algorithm),
        )
        if value != usual
    ]
    return (*admin, *weights, *balance)


# --- applying ------------------------------------------------------------------------------------


def record_and_apply(context: Context, fleet: Fleet, **changes: object) -> Context:
    """Record settings (fields of `State`) and apply them to every balancer.

    Raises:
        LabError: when a balancer cannot apply them; they stay recorded, and lab.up tries again.
    """
    balancers = [machine.name for machine in context.lab.with_role("haproxy")]
    for name in balancers:
        fleet.host(name)  # raises before anything is recorded
    changed = replace(context, state=state.change(context.lab.directory, **changes))
    fleet.each(lambda host: _apply(host, context, changed), balancers)
    return changed


def applies_at_runtime(before: Context, after: Context) -> bool:
    """Whether runtime commands can apply a change, so that HAProxy needs no reload.

    Mode and algorithm are read only at start. With static-rr a weight cannot change at run time
    either (configuration manual, "balance": the runtime API then accepts only 0 % and 100 % of the
    initial weight), so there only a drain works without a reload.
    """
    if haproxy.balance_keyword(before) != haproxy.balance_keyword(after):
        return False
    new = set(haproxy.server_states(after)) - set(haproxy.server_states(before))
    return haproxy.balance_keyword(after) != "static-rr" or all(s == "drain" for _, s in new)


def _apply(host: Host, before: Context, after: Context) -> None:
    """Apply the difference between two settings to one balancer."""
    machine = after.lab.machine(host.name)
    up_to_date = not inspect_unit(host, _unit(before, machine, "haproxy")).needs_reload
    config = inspect_unit(host, _unit(after, machine, "haproxy"))
    # The process has loaded the old file, and the runtime commands below have the effect of the
    # new one: record the new one as loaded. A reload that was already due stays due.
    config = replace(config, already_loaded=up_to_date and applies_at_runtime(before, after))
    apply_unit(host, config, hint=RETRY, timeout=APPLY_SECONDS)
    servers = inspect_unit(host, _unit(after, machine, "haproxy-servers"))
    apply_unit(host, servers, hint=RETRY, timeout=APPLY_SECONDS)


def _unit(context: Context, machine: Machine, name: str) -> Unit:
    return next(unit for unit in haproxy.units(context, machine) if unit.name == name)
