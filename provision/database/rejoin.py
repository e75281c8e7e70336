"""Bringing a database server back into the lab without losing what only it has: db.rejoin."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provision.core.errors import LabError, UsageError
from provision.database.agent.binlog import commits, count
from provision.database.servers import CLONE_TIMEOUT, call, following, typed
from provision.engine import stream as db_stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet


@dataclass(frozen=True)
class Rejoined:
    """How a server came back.

    Args:
        machine: its name.
        how: ``attached`` or ``cloned``.
        errant: the transactions that only it had, as a GTID set.
        count: how many.
        saved: the file that holds them, or None when there were none.
    """

    machine: str
    how: str
    errant: str = ""
    count: int = 0
    saved: Path | None = None


def rejoin(
    context: Context,
    fleet: Fleet,
    name: str,
    *,
    rebuild: bool = False,
    discard: bool = False,
    stage: Callable[[str], None] = lambda _stage: None,
) -> Rejoined:
    """Make a machine a replica of the recorded primary again.

    Args:
        context: the lab.
        fleet: its running machines.
        name: the machine.
        rebuild: copy everything from the primary even when attaching would do.
        discard: go on although not all of its own transactions can be saved.
        stage: told ``saved`` when they are in a file.

    Raises:
        UsageError: when it is the primary, or has no database.
        LabError: when it cannot be done; its own transactions are still there then.
    """
    if "mysql" not in context.lab.machine(name).roles:
        raise UsageError(f"{name} has no database")
    if name == context.state.primary:
        raise UsageError(
            f"{name} is the primary: others follow it",
            f"{typed(context, 'db.promote MACHINE')} makes another one the primary first",
        )
    host = fleet.host(name)
    fleet.host(context.state.primary)
    wanted = following(context, context.lab.machine(name))
    found = call(host, "errant", 240, record=wanted["record"])
    if not found["gtids"] and not rebuild:
        call(host, "follow", CLONE_TIMEOUT, **wanted)
        return Rejoined(name, "attached")
    saved = None
    if found["gtids"]:
        saved = _save(context, fleet, name, found, discard)
        stage("saved")
    call(host, "rebuild", CLONE_TIMEOUT, **wanted)
    return Rejoined(name, "cloned", found["gtids"], found["count"], saved)


def _save(
    context: Context, fleet: Fleet, name: str, found: dict[str, object], discard: bool
) -> Path | None:
    """Keep the errant transactions of a server in a file of the controller.

    Raises:
        LabError: when the file does not hold them all.
    """
    gtids, wanted, logs = str(found["gtids"]), count(str(found["gtids"])), found["logs"]
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = context.lab.directory / "errant" / f"{name}-{moment}.sql.gz"
    assert isinstance(logs, list)
    # The rows as comments for people (-vv), the events for mysql; both in one file.
    program = ["mysqlbinlog", "-vv", f"--include-gtids={gtids}", *map(str, logs)]
    db_stream.fetch(fleet.host(name), db_stream.pipeline(program, ["gzip", "-c"]), path)
    with gzip.open(path) as file:
        held = len(commits(file))
    if held < wanted and not discard:
        path.unlink()
        raise LabError(
            f"{name} has {wanted} transactions of its own, but its binary logs hold only {held} of "
            "them; it was not touched",
            f"{typed(context, f'db.rejoin {name} --discard')} goes on without the others",
        )
    return path
