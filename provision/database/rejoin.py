"""Bringing a database server back as a replica without losing its own transactions: db.rejoin."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from provision.core.errors import LabError, UsageError
from provision.database import saved_transactions
from provision.database.agent.binlog import parse_commits
from provision.database.agent.errant_files import SUFFIX
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import FindErrant, Rebuild
from provision.database.agent.results import ErrantTransactions
from provision.database.operations import CLONE_TIMEOUT, execute
from provision.database.promotion import require_database
from provision.database.replication_health import describe_differences
from provision.database.role import assume_role, compare_with_primary
from provision.engine import stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host


@dataclass(frozen=True)
class RejoinResult:
    """How a server became a replica again.

    Args:
        errant: transactions that only this server had.
        saved: how many of them ``file`` holds; its binary logs no longer had the others.
        file: None when it would hold none.
        differences: tables of an attached server that differ from the primary's; empty for none.
    """

    machine: str
    how: Literal["attached", "cloned"]
    errant: GtidSet = field(default_factory=GtidSet)
    saved: int = 0
    file: Path | None = None
    differences: str = ""

    @property
    def summary(self) -> str:
        """What was done with errant transactions, in one line."""
        kept = f"{count_errant(self.saved)} ({self.errant}) kept in {self.file}"
        return f"{self.machine}: {kept}; then it was {self.how} as a replica"


def count_errant(number: int) -> str:
    """A number of errant transactions in words."""
    return f"{number} errant transaction{'' if number == 1 else 's'}"


def rejoin(
    context: Context,
    fleet: Fleet,
    name: str,
    *,
    rebuild: bool = False,
    discard: bool = False,
    on_step: Callable[[str], None] = lambda _step: None,
) -> RejoinResult:
    """Make a machine a replica of the recorded primary again.

    Args:
        rebuild: clone the primary even when attaching would suffice.
        discard: continue although not all errant transactions can be saved.
        on_step: called with ``saved`` when the errant transactions are in a file.

    Raises:
        UsageError: when the machine is the primary, or has no database.
        LabError: when the server cannot rejoin; it still has its errant transactions then.
    """
    require_database(context, name)
    if name == context.state.primary:
        raise UsageError(
            f"{name} is the primary: others replicate from it",
            "invoke db.promote MACHINE makes another one the primary first",
        )
    host = fleet.host(name)
    fleet.host(context.state.primary)
    role = assume_role(context, name)
    errant = execute(host, FindErrant(role.record), 240)
    if not errant.gtids and not rebuild:
        execute(host, role, CLONE_TIMEOUT)
        compare = compare_with_primary(context)
        compared = host.gather([compare])[compare]
        return RejoinResult(name, "attached", differences=describe_differences(compared))
    saved, file = 0, None
    if errant.gtids:
        saved, file = _save(context, host, errant, discard)
        on_step("saved")
    execute(host, Rebuild(role.record, role.account), CLONE_TIMEOUT)
    return RejoinResult(name, "cloned", errant.gtids, saved, file)


def rejoin_errant(
    context: Context, fleet: Fleet, names: Iterable[str]
) -> tuple[tuple[RejoinResult, ...], dict[str, LabError]]:
    """Rejoin those of some replicas that have errant transactions, which are saved first.

    Returns:
        what was done, and by machine why it could not be done.
    """
    done: list[RejoinResult] = []
    failed: dict[str, LabError] = {}
    for name in names:
        host = fleet.host(name)
        try:
            errant = execute(host, FindErrant(assume_role(context, name).record), 240)
        except LabError:
            continue  # neither this server nor its errant transactions can be read
        if not errant.gtids:
            continue
        host.log("saving its errant transactions, then cloning the primary")
        try:
            done.append(rejoin(context, fleet, name))
        except LabError as error:
            failed[name] = error
    return tuple(done), failed


def _save(
    context: Context, host: Host, errant: ErrantTransactions, discard: bool
) -> tuple[int, Path | None]:
    """Save the errant transactions of a server in a file on the controller.

    Args:
        discard: continue when the binary logs do not hold all of them.

    Returns:
        How many transactions the file holds, and the file; no file when there are none.

    Raises:
        LabError: when the file does not hold all of them, unless they may be discarded.
    """
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = saved_transactions.folder(context) / f"{host.name}-{moment}{SUFFIX}"
    # -vv adds the rows as readable comments to the events that mysql can replay.
    program = ["mysqlbinlog", "-vv", f"--include-gtids={errant.gtids}", *errant.logs]
    stream.fetch(host, stream.pipeline(program, ["gzip", "-c"]), path)
    with gzip.open(path) as file:
        saved = len(parse_commits(file))
    if saved < errant.gtids.count and not discard:
        path.unlink()
        raise LabError(
            f"{host.name} has {count_errant(errant.gtids.count)}, but its binary logs hold only "
            f"{saved} of them; nothing was changed",
            f"invoke db.rejoin {host.name} --discard continues without the others",
        )
    if not saved:
        path.unlink()
        return 0, None
    saved_transactions.keep_newest_files(context, host.log)
    return saved, path
