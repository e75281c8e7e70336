"""Taking a backup of the database: db.backup.

A replica makes the backup file (agent/backup.py). The controller fetches it over SSH and verifies
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provision.core.errors import LabError
from provision.core.growth import BACKUP_BYTES, BACKUPS_KEPT
from provision.core.retention import keep_newest
from provision.database import servers
from provision.database.agent import backup_file as archive
from provision.database.agent.backup_file import BackupError
from provision.database.agent.backup_place import FOLDER as BACKUP_FOLDER
from provision.database.agent.backup_place import SCHEMA
from provision.database.agent.requests import MakeBackup
from provision.database.operations import LONG_TIMEOUT, execute
from provision.engine import stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet

FOLDER = "backups"
"""Default folder for backups, below the lab's directory."""

MAX_LAG_SECONDS = 30
"""Replication lag up to which a replica may still make a backup."""


@dataclass(frozen=True)
class Backup:
    """A verified backup file on the controller.

    Args:
        machine: the machine that made it.
        rows: number of rows per table.
        gtids: the transactions that it contains, as a GTID set.
        size: in bytes.
    """

    path: Path
    machine: str
    rows: Mapping[str, int]
    gtids: str
    size: int


def backup(context: Context, fleet: Fleet, folder: Path | None = None) -> Backup:
    """Make a consistent backup while the lab serves, and fetch it to the controller.

    Args:
        folder: ``.lab/<lab>/backups`` by default, where only the newest are kept.

    Raises:
        LabError: when no database can make a backup, or the file did not arrive complete.
    """
    name = _choose_machine(context, fleet)
    host = fleet.host(name)
    file = f"{SCHEMA}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
    remote = f"{BACKUP_FOLDER}/taken/{file}"
    local = (folder or context.lab.directory / FOLDER).expanduser() / file
    execute(host, MakeBackup(remote), LONG_TIMEOUT)
    try:
        stream.fetch(host, stream.pipeline(["cat", remote]), local)
    finally:
        host.run("rm", "-f", remote)
    try:
        manifest = archive.verify(str(local))
    except BackupError as error:
        local.unlink(missing_ok=True)
        raise LabError(f"the backup did not arrive complete: {error}") from None
    if folder is None:
        keep_newest(local.parent.glob(f"{SCHEMA}-*.tar"), BACKUPS_KEPT, BACKUP_BYTES)
    return Backup(local, name, manifest.rows, manifest.gtids, local.stat().st_size)


def _choose_machine(context: Context, fleet: Fleet) -> str:
    """An up-to-date replica, otherwise the primary."""
    databases = servers.status(context, fleet)
    for database in databases:
        status = database.status
        if database.role != "replica" or database.errant or not status.replicating:
            continue
        if status.lag is not None and status.lag <= MAX_LAG_SECONDS:
            return database.machine
    for database in databases:
        if database.role == "primary" and database.status.up:
            return database.machine
    raise LabError(
        "no database can make a backup: no replica is up to date, and the primary does not respond",
        "invoke db.status",
    )
