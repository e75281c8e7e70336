"""Restoring a backup: db.restore.

The backup file is verified completely first. Then the primary loads it into a schema beside the
live one, and both exchange their tables in one statement; replicas receive everything through the
binary log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provision.core.errors import HostError, LabError
from provision.core.report import Log
from provision.database import recovery
from provision.database.agent import backup_file as archive
from provision.database.agent.backup_file import BackupError
from provision.database.agent.backup_place import SCHEMA
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import BeginRestore, CatchUp, CountRows, SwapTables
from provision.database.operations import LONG_TIMEOUT, execute
from provision.engine import stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

PREFIX = "lab_restore_"
"""Prefix of the schemas that backups are loaded into."""


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did.

    Args:
        rows: number of rows per table afterwards.
        replayed: number of transactions replayed from the binary logs.
        last: commit time of the last of them; None without any.
        replicated: replicas that have applied the restore.
        pending: replicas that have not applied it yet.
    """

    rows: Mapping[str, int]
    replayed: int
    last: datetime | None
    replicated: tuple[str, ...]
    pending: tuple[str, ...]


def restore(
    context: Context,
    fleet: Fleet,
    path: Path,
    until: int | None = None,
    *,
    seconds: float = 300.0,
    log: Log = lambda _text: None,
) -> RestoreResult:
    """Replace the live data by the data of a backup.

    Args:
        path: a file from `backup.backup`, of this lab or another.
        until: also replay transactions committed after the backup, up to this time (microseconds
            since 1970), from the binary logs.
        seconds: how long replicas may take to apply the restore.

    Raises:
        LabError: when the file is damaged, or anything fails; the live data is unchanged then.
    """
    log("verifying the backup")
    try:
        manifest = archive.verify(str(path))
    except BackupError as error:
        raise LabError(f"{error}; nothing was changed") from None
    primary = fleet.host(context.state.primary)
    schema = f"{PREFIX}{datetime.now(UTC):%Y%m%d%H%M%S}"
    replay = None
    if until is not None:
        log("reading the binary logs")
        replay = recovery.plan_replay(context, fleet, manifest, until)
    execute(primary, BeginRestore(schema, PREFIX))
    log("loading the backup beside the live data")
    _load(primary, schema, path)
    loaded = execute(primary, CountRows(schema), LONG_TIMEOUT).rows
    if loaded != manifest.rows:
        raise LabError(
            f"the backup was not loaded completely: {_difference(manifest.rows, loaded)}; the "
            "live data is unchanged"
        )
    if replay is not None and replay.gtids:
        log(f"replaying {len(replay.gtids)} transactions from the binary logs")
        recovery.replay(context, fleet, primary, schema, replay)
        loaded = execute(primary, CountRows(schema), LONG_TIMEOUT).rows
    note = f"{path.name}, made {manifest.made}"
    executed = execute(primary, SwapTables(SCHEMA, schema, PREFIX, note), LONG_TIMEOUT)
    replicated, pending = _wait_for_replicas(context, fleet, executed, seconds)
    return RestoreResult(
        loaded,
        len(replay.gtids) if replay else 0,
        replay.last_commit if replay else None,
        replicated,
        pending,
    )


def _chunks(path: Path) -> Iterator[bytes]:
    """The lines of the dump in chunks of about 64 KiB."""
    chunk = bytearray()
    for line in archive.lines(str(path)):
        chunk += line
        if len(chunk) >= stream.CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _load(host: Host, schema: str, path: Path) -> None:
    client = ["mysql", "--binary-mode", "--default-character-set=utf8mb4", schema]
    try:
        stream.feed(host, stream.pipeline(client), _chunks(path))
    except HostError as error:
        raise LabError(
            f"{host.name}: loading failed; the live data is unchanged",
            f"invoke lab.logs {host.name} --service mysql",
            output=error.output,
        ) from None


def _difference(expected: Mapping[str, int], actual: Mapping[str, int]) -> str:
    return ", ".join(
        f"{table} has {actual.get(table, 0)} of {expected.get(table, 0)} rows"
        for table in sorted({*expected, *actual})
        if expected.get(table) != actual.get(table)
    )


def _wait_for_replicas(
    context: Context, fleet: Fleet, gtids: GtidSet, seconds: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [m.name for m in context.lab.with_role("mysql") if m.name != context.state.primary]

    def caught_up(host: Host) -> bool:
        try:
            return not execute(host, CatchUp(gtids, seconds)).missing
        except HostError:
            return False

    running = [name for name in names if name in fleet.hosts]
    results = fleet.each(caught_up, running) if running else {}
    replicated = tuple(name for name, done in results.items() if done)
    return replicated, tuple(name for name in names if name not in replicated)
