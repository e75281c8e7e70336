"""Make backups of the local server with mysqldump, on request and on a schedule.

lab-mysql-backup.service runs this module as a program; db.backup makes the same file through it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import subprocess
import sys
import time

from provision.database.agent.backup_file import (
    FORM,
    BackupError,
    DumpScanner,
    Manifest,
    pack,
    read_manifest,
    verify,
)
from provision.database.agent.backup_place import FOLDER, SCHEMA
from provision.database.agent.results import BackupFile

KEEP = 7

MYSQLDUMP = (
    "mysqldump",
    "--single-transaction",  # a consistent snapshot while others write
    "--set-gtid-purged=COMMENTED",  # the position, without changing a server that it is loaded into
    "--skip-extended-insert",  # one line per row, so that rows can be counted
    "--no-autocommit",
    "--hex-blob",
    "--routines",
    "--triggers",
    "--events",
    "--no-tablespaces",
    "--skip-lock-tables",
    SCHEMA,
)
UNLOGGED = (b"SET @MYSQLDUMP_TEMP_LOG_BIN", b"SET @@SESSION.SQL_LOG_BIN")
"""Lines by which mysqldump would keep a restore out of the binary log, and so from replicas."""


def make(path: str) -> Manifest:
    """Back up the local server into a file; it exists only when it is complete.

    Raises:
        BackupError: when mysqldump fails, or the disk is full.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    dump, partial = f"{path}.dump", f"{path}.part"
    try:
        scanner = _dump(dump)
        manifest = Manifest(
            form=FORM,
            schema=SCHEMA,
            made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            machine=os.uname().nodename,
            version=_mysql_version(),
            gtids=scanner.gtids,
            rows=scanner.rows,
            size=os.path.getsize(dump),
            sha256=file_digest(dump),
        )
        pack(partial, manifest, dump)
        os.replace(partial, path)
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        for name in (dump, partial):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    return manifest


def _dump(path: str) -> DumpScanner:
    scanner = DumpScanner()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3, mtime=0) as compressed,
        subprocess.Popen(
            list(MYSQLDUMP), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith(UNLOGGED):
                continue
            scanner.scan(line)
            compressed.write(line)
        stderr = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0 or not scanner.complete:
        raise BackupError(f"mysqldump exited with {process.returncode}: {stderr}")
    return scanner


def _mysql_version() -> str:
    result = subprocess.run(["mysqld", "--version"], capture_output=True, check=False)
    match = re.search(rb"Ver (\S+)", result.stdout)
    return match.group(1).decode() if match else ""


def file_digest(path: str) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- on a schedule -------------------------------------------------------------------------------


def list_backups(folder: str = FOLDER) -> tuple[BackupFile, ...]:
    """The backups in a folder, newest first."""
    try:
        names = sorted((n for n in os.listdir(folder) if n.endswith(".tar")), reverse=True)
    except FileNotFoundError:
        return ()
    return tuple(_describe(f"{folder}/{name}") for name in names)


def _describe(path: str) -> BackupFile:
    size = os.path.getsize(path)
    try:
        manifest = read_manifest(path)
    except BackupError:
        return BackupFile(path, "not readable", size, "")
    return BackupFile(path, manifest.made, size, manifest.gtids)


def main() -> int:
    """Make the scheduled backup on a replica, or on the only database; remove old ones."""
    from provision.database.agent.role_store import load_record

    record = load_record()
    if record and record.is_primary and record.peers:
        print("this is the primary: a replica makes the backup")
        return 0
    path = f"{FOLDER}/{SCHEMA}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar"
    try:
        manifest = make(path)
        verify(path)
    except BackupError as error:
        print(f"<3>{error}")
        return 1
    print(f"{path}: {sum(manifest.rows.values())} rows, {os.path.getsize(path)} bytes")
    for old in list_backups()[KEEP:]:
        os.unlink(old.path)
        print(f"removed {old.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
