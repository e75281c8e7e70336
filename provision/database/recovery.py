"""Point-in-time recovery: replaying the binary logs on top of a backup (db.restore --to)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provision.core.errors import HostError, LabError, UsageError
from provision.database import backup
from provision.database.agent.backup_file import Manifest
from provision.database.agent.backup_place import SCHEMA
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import FindLogged, ListRestores
from provision.database.operations import LONG_TIMEOUT, execute
from provision.engine import stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host


@dataclass(frozen=True)
class Replay:
    """Transactions between a backup and a point in time.

    Args:
        machine: the machine whose binary logs hold them.
        gtids: one GTID per transaction.
        logs: the paths of the binary logs, oldest first.
        last_commit: when the last of them was committed; None without any.
    """

    machine: str
    gtids: tuple[str, ...]
    logs: tuple[str, ...]
    last_commit: datetime | None


def parse_time(text: str) -> int:
    """A point in time as microseconds since 1970.

    Args:
        text: ``2026-11-21 14:30:05.5`` in this computer's time zone, with ``Z`` or ``+01:00`` in
            that time zone, or ``14:30:05`` for today.

    Raises:
        UsageError: when the text is not a time.
    """
    value = text.strip()
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?", value):
        hour, _, rest = value.partition(":")
        value = f"{datetime.now().astimezone():%Y-%m-%d} {hour.zfill(2)}:{rest}"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(
            f"--to is {text!r}",
            "such as '2026-11-21 14:30:05' (this computer's time) or …Z (UTC)",
        ) from None
    return round(moment.astimezone(UTC).timestamp() * 1_000_000)


def plan_replay(context: Context, fleet: Fleet, manifest: Manifest, until: int) -> Replay:
    """Find the transactions between a backup and a point in time, and a server that holds them.

    Args:
        manifest: of the backup.
        until: microseconds since 1970.

    Raises:
        LabError: when no server's binary logs reach back to the backup, or a restore lies between.
    """
    primary, after = context.state.primary, GtidSet(manifest.gtids)
    made = round(datetime.fromisoformat(manifest.made).timestamp() * 1_000_000)
    if until < made - 1_000_000:
        raise LabError(
            f"the backup was made at {manifest.made}, after the requested time",
            "use an earlier backup: invoke db.status lists them",
        )
    for restored in execute(fleet.host(primary), ListRestores(after)).restores:
        if restored.moment <= until:
            raise LabError(
                f"a restore replaced the data at {_utc(restored.moment):%Y-%m-%d %H:%M:%S} "
                f"UTC ({restored.note}); the binary logs cannot be replayed across it",
                "use a backup that was made after the restore, or an earlier time",
            )
    names = [primary, *(m.name for m in context.lab.with_role("mysql") if m.name != primary)]
    gaps = []
    for name in names:
        if name not in fleet.hosts:
            continue
        logged = execute(fleet.host(name), FindLogged(after, until), LONG_TIMEOUT)
        # Binary logs that lack the first transactions after the backup are of no use.
        if not logged.purged:
            last = _utc(logged.last_commit) if logged.last_commit else None
            return Replay(name, logged.gtids, logged.logs, last)
        gaps.append(f"{name} no longer has {logged.purged}")
    raise LabError(
        f"no binary logs reach back to the backup: {'; '.join(gaps)}",
        "use a newer backup, or leave out --to",
    )


def _utc(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def replay(
    context: Context, fleet: Fleet, primary: Host, schema: str, transactions: Replay
) -> None:
    """Apply transactions of the live schema to the restored one.

    Raises:
        LabError: when they cannot be applied; the live data is unchanged.
    """
    mysqlbinlog = [
        "mysqlbinlog",
        "--skip-gtids",
        f"--include-gtids={GtidSet(','.join(transactions.gtids))}",
        # Rewriting comes first, so the filter names the new schema (MySQL manual, mysqlbinlog).
        f"--rewrite-db={SCHEMA}->{schema}",
        f"--database={schema}",
        *transactions.logs,
    ]
    client = ["mysql", "--binary-mode"]
    if transactions.machine == primary.name:
        command = stream.pipeline(mysqlbinlog, client)
        chunks: Iterator[bytes] = iter(())
    else:
        copy = context.lab.directory / backup.FOLDER / f".{schema}.sql"
        stream.fetch(fleet.host(transactions.machine), stream.pipeline(mysqlbinlog), copy)
        command = stream.pipeline(client)
        chunks = _read_and_remove(copy)
    try:
        stream.feed(primary, command, chunks)
    except HostError as error:
        raise LabError(
            f"{primary.name}: the binary logs could not be replayed; the live data is unchanged",
            output=error.output,
        ) from None


def _read_and_remove(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(stream.CHUNK):
                yield chunk
    finally:
        path.unlink(missing_ok=True)
