"""Planned promotion: db.promote while the old primary runs. `promotion` explains the steps."""

from __future__ import annotations

import time

from provision.core import state as records
from provision.core.errors import HostError, LabError
from provision.database.agent.requests import BecomePrimary, CatchUp, Fence, Inspect
from provision.database.agent.results import ServerInspection
from provision.database.operations import execute
from provision.database.promotion import (
    OnStep,
    Promotion,
    commit,
    complete,
    next_epoch,
    require_database,
)
from provision.database.role import record
from provision.engine.context import Context
from provision.engine.fleet import Fleet


def promote(
    context: Context,
    fleet: Fleet,
    name: str,
    *,
    seconds: float = 30.0,
    on_step: OnStep = lambda _step: None,
) -> Promotion:
    """Move the primary to another machine while both run; no write is lost.

    Args:
        seconds: how long the new primary may take to catch up.

    Raises:
        UsageError: when the machine has no database.
        LabError: when the promotion fails; the old primary is writable again then.
    """
    require_database(context, name)
    old = context.state.primary
    if old == name:
        return complete(context, fleet, old, seconds, on_step)
    if old not in fleet.hosts:
        raise LabError(
            f"the primary {old} is not running, so it cannot hand over",
            f"invoke lab.start {old}, or, when it is lost: "
            f"invoke db.promote {name} --old-primary-is-dead",
        )
    servers = fleet.each(lambda host: execute(host, Inspect(host.name)), [old, name])
    if not servers[old].status.up:
        raise LabError(
            f"the database on the primary {old} does not respond: {servers[old].status.error}",
            f"when it does not come back: invoke db.promote {name} --old-primary-is-dead",
        )
    _require_replica_of(context, servers[name], old)
    # Catch up before the fence, so that the pause is short.
    progress = execute(fleet.host(name), CatchUp(servers[old].status.executed, seconds))
    if progress.missing:
        raise LabError(
            f"{name} did not catch up with {old}; it lacks {progress.missing}",
            "invoke db.status shows the lag; --deadline waits longer",
            output=progress.error,
        )
    on_step("checked")

    after = next_epoch(context, name)
    started = time.monotonic()
    try:
        executed = execute(fleet.host(old), Fence(record(after, old)))
        on_step("fenced")
        missing = execute(fleet.host(name), CatchUp(executed, seconds)).missing
        if missing:
            raise LabError(f"{name} did not receive {missing} in {seconds:.0f} s")
        on_step("caught up")
        after = commit(after)
    except (LabError, KeyboardInterrupt) as error:
        if not _roll_back(context, fleet, seconds) or isinstance(error, KeyboardInterrupt):
            raise
        raise LabError(
            f"{error.what}; nothing was lost, and {old} is writable again",
            error.hint,
            output=error.output,
        ) from None
    return complete(after, fleet, old, seconds, on_step, started)


def _require_replica_of(context: Context, server: ServerInspection, source: str) -> None:
    name = server.machine
    if not server.status.up:
        raise LabError(
            f"the database on {name} does not respond: {server.status.error}",
            f"invoke lab.logs {name} --service mysql",
        )
    if server.status.source != str(context.lab.machine(source).address):
        raise LabError(
            f"{name} does not replicate from {source}",
            f"invoke db.rejoin {name} makes it a replica first",
        )


def _roll_back(context: Context, fleet: Fleet, seconds: float) -> bool:
    """Make the old primary writable again, unless the lab's record already names another one."""
    old = context.state.primary
    recorded = records.load(context.lab.directory)
    if recorded is None or recorded.primary != old:
        return False
    try:
        execute(fleet.host(old), BecomePrimary(record(context, old), seconds))
    except HostError:
        return False  # read-only and recorded as primary: lab.up continues from here
    return True
