"""Forced promotion: db.promote --old-primary-is-dead. `promotion` explains the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from provision.core.errors import HostError, LabError
from provision.database.agent.requests import ApplyRelayLog, FenceDeadPrimary, Inspect
from provision.database.agent.results import ServerInspection
from provision.database.operations import execute
from provision.database.promotion import (
    Promotion,
    commit,
    complete,
    next_epoch,
    require_database,
)
from provision.database.role import record
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import RemoteError
from provision.providers.base import Provider


def promote_after_death(
    context: Context,
    fleet: Fleet,
    provider: Provider,
    name: str,
    *,
    seconds: float = 30.0,
) -> Promotion:
    """Promote a replica although the primary cannot hand over.

    Args:
        provider: reports whether the old primary's machine runs.
        seconds: how long the replica may take to apply what it has received.

    Raises:
        UsageError: when the machine has no database.
        LabError: when the old primary is not dead, another replica has received more, or received
            transactions cannot be applied in time. Nothing has changed then.
    """
    require_database(context, name)
    old = context.state.primary
    if old == name:
        return complete(context, fleet, old, seconds)
    after = next_epoch(context, name)
    others = [
        m.name for m in context.lab.with_role("mysql") if m.name in fleet.hosts and m.name != old
    ]
    if name not in others:
        raise LabError(f"{name} is not running", f"invoke lab.start {name}")
    peers = {old: str(context.lab.machine(old).address)}
    servers = fleet.each(lambda host: execute(host, Inspect(host.name, peers)), others)
    machine_runs = _confirm_death(fleet, provider, old, servers, after)
    _require_most_complete(servers, name)
    try:
        execute(fleet.host(name), ApplyRelayLog(seconds))
    except RemoteError as error:
        raise LabError(
            f"{name} is not promoted: {error.what}. These transactions were received on {name} but "
            "not applied; promoting it now would lose them",
            f"wait longer (--deadline {2 * seconds:.0f}), or fix what stops it: "
            f"invoke lab.logs {name} --service mysql",
            output=error.output,
        ) from None
    done = complete(commit(after), fleet, old, seconds, dead=(old,))
    reason = "its mysqld is stopped" if machine_runs else "it is not running"
    hint = f"{reason}; when it is back: invoke db.rejoin {old}"
    chosen = servers[name].status
    return replace(
        done,
        not_repointed={**done.not_repointed, old: hint},
        applied=chosen.executed | chosen.received,
    )


def _confirm_death(
    fleet: Fleet,
    provider: Provider,
    old: str,
    servers: Mapping[str, ServerInspection],
    after: Context,
) -> bool:
    """Make sure that the old primary cannot accept writes; True when its machine still runs.

    Raises:
        LabError: when its database responds, or its state cannot be determined.
    """
    planned = f"invoke db.promote {after.state.primary}"
    if old in fleet.hosts:
        host = fleet.host(old)
        try:
            itself = execute(host, Inspect(old), 15)
        except HostError:
            itself = None
        if itself and itself.status.up:
            raise LabError(
                f"{old} is not dead: its database responds",
                f"{planned} (it hands over)",
            )
        if itself:
            execute(host, FenceDeadPrimary(record(after, old)), 120)
            return True
    if provider.state(after.lab).get(old) == "running":
        raise LabError(
            f"{old} cannot be reached, but its machine runs: perhaps only the network is cut, and "
            "it is still writable",
            f"stop it first: invoke lab.kill {old}, then repeat this command",
        )
    for name, server in servers.items():
        if any(peer.up for peer in server.peers.values()):
            raise LabError(f"{old} is not dead: its database responds to {name}", planned)
    return False


def _require_most_complete(servers: Mapping[str, ServerInspection], name: str) -> None:
    """No other replica may have received transactions that the chosen one lacks."""
    chosen = servers[name].status
    if not chosen.up:
        raise LabError(f"the database on {name} does not respond: {chosen.error}")
    for other, server in servers.items():
        if other == name or not server.status.up:
            continue
        if server.status.writable or server.status.epoch > chosen.epoch:
            reason = "is writable" if server.status.writable else "has seen a later promotion"
            raise LabError(f"{other} {reason}", "invoke db.status shows all databases")
        more = (server.status.executed | server.status.received) - (
            chosen.executed | chosen.received
        )
        if more:
            raise LabError(
                f"{other} has received {more.count} transactions that {name} lacks: {more}",
                f"invoke db.promote {other} --old-primary-is-dead",
            )
