"""The age of the newest scheduled backup on a machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from provision.database.agent.backup_place import FOLDER
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector


@dataclass(frozen=True)
class BackupAge:
    """The scheduled backups on a machine.

    Args:
        count: of backups.
        age: of the newest one, in seconds; without one, of their folder.
        size: of the newest one, in bytes.
    """

    count: int = 0
    age: float = 0.0
    size: int = 0


def backup_age_probe() -> Probe[BackupAge]:
    """The newest backup of the machine."""
    return Probe("backup-age", "backup age", {"folder": FOLDER}, BackupAge)


@collector("backup-age")
def collect_backup_age(args: Args) -> BackupAge:
    """See `backup_age_probe`."""
    folder = args["folder"]
    if not os.path.isdir(folder):
        return BackupAge()
    with os.scandir(folder) as entries:
        archives = [
            entry.stat(follow_symlinks=False)
            for entry in entries
            if entry.name.endswith(".tar") and entry.is_file(follow_symlinks=False)
        ]
    newest = max(archives, key=lambda status: status.st_mtime, default=None)
    if newest is None:
        return BackupAge(0, time.time() - os.lstat(folder).st_mtime)
    return BackupAge(len(archives), time.time() - newest.st_mtime, newest.st_size)
