"""On the machine and on the controller: a backup is one tar file that says what is in it.

``manifest.json`` (when, where, which GTID position, rows a table, a digest of the dump),
``dump.sql.gz`` and ``SHA256SUMS``. The scheduled backup (lab-mysql-backup.service) and db.backup
make the same file with this module; db.restore reads all of it before it touches a database.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

FOLDER = "/var/backups/lab-mysql"
KEEP = 7
FORM = 1
SCHEMA = "foobar"
MANIFEST, DUMP, SUMS = "manifest.json", "dump.sql.gz", "SHA256SUMS"
NAMES = (MANIFEST, DUMP, SUMS)

MYSQLDUMP = (
    "mysqldump",
    "--single-transaction",  # one consistent snapshot, while others go on writing
    "--set-gtid-purged=COMMENTED",  # the position, without changing a server that it is loaded into
    "--skip-extended-insert",  # a line a row, so that rows can be counted on the way
    "--no-autocommit",
    "--hex-blob",
    "--routines",
    "--triggers",
    "--events",
    "--no-tablespaces",
    "--skip-lock-tables",
    SCHEMA,
)
_INSERT = re.compile(rb"INSERT INTO `((?:[^`]|``)+)` ")
_TABLE = re.compile(rb"CREATE TABLE `((?:[^`]|``)+)` \(")
_GTIDS = re.compile(rb"GTID_PURGED=(?:/\*.*?\*/)? *'([^']*)", re.DOTALL)
END = b"-- Dump completed"
UNLOGGED = (b"SET @MYSQLDUMP_TEMP_LOG_BIN", b"SET @@SESSION.SQL_LOG_BIN")
"""Lines by which mysqldump would keep a restore out of the binary log, and so from replicas."""


class BackupError(Exception):
    """A backup that could not be made, or cannot be trusted."""


class Reader:
    """Learns from a dump while it passes by: rows a table, the GTID position, its end."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.gtids = ""
        self.complete = False
        self._open = b""

    def line(self, line: bytes) -> None:
        """Look at one line of the dump."""
        if match := _INSERT.match(line):
            name = match.group(1).decode()
            self.rows[name] = self.rows.get(name, 0) + 1
        elif match := _TABLE.match(line):
            self.rows.setdefault(match.group(1).decode(), 0)
        elif self._open or b"GTID_PURGED=" in line:
            self._open += line
            if b";" in line:
                if found := _GTIDS.search(self._open):
                    self.gtids = found.group(1).decode().replace("\n", "").lstrip("+")
                self._open = b""
        elif line.startswith(END):
            self.complete = True


def make(path: str, say: Callable[[str], None] = lambda _text: None) -> dict[str, Any]:
    """Back the local server up into a file, mode 0600.

    Args:
        path: the file; it is there when all of it is.
        say: reports progress.

    Returns:
        The manifest.

    Raises:
        BackupError: when mysqldump fails, or the disk is full; then there is no file.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    dump, part = f"{path}.dump", f"{path}.part"
    say("dumping the database")
    try:
        reader = _dump(dump)
        manifest = {
            "form": FORM,
            "schema": SCHEMA,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": os.uname().nodename,
            "version": _version(),
            "gtids": reader.gtids,
            "rows": reader.rows,
            "size": os.path.getsize(dump),
            "sha256": _digest_of(dump),
        }
        _pack(part, manifest, dump)
        os.replace(part, path)
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        for name in (dump, part):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    return manifest


def _dump(path: str) -> Reader:
    reader = Reader()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3, mtime=0) as packed,
        subprocess.Popen(
            list(MYSQLDUMP), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith(UNLOGGED):
                continue
            reader.line(line)
            packed.write(line)
        said = process.stderr.read().decode(errors="replace")
    if process.returncode != 0 or not reader.complete:
        raise BackupError(f"mysqldump ended with {process.returncode}: {said.strip()}")
    return reader


def _version() -> str:
    done = subprocess.run(["mysqld", "--version"], capture_output=True, check=False)
    found = re.search(rb"Ver (\S+)", done.stdout)
    return found.group(1).decode() if found else ""


def _digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(path: str, manifest: dict[str, Any], dump: str) -> None:
    text = json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"
    digest = hashlib.sha256(text).hexdigest()
    sums = f"{digest}  {MANIFEST}\n{manifest['sha256']}  {DUMP}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, MANIFEST, io.BytesIO(text), len(text))
            with open(dump, "rb") as file:
                _add(archive, DUMP, file, manifest["size"])
            _add(archive, SUMS, io.BytesIO(sums), len(sums))
        raw.flush()
        os.fsync(raw.fileno())


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    archive.addfile(entry, file)


# --- reading -------------------------------------------------------------------------------------


def verify(path: str) -> dict[str, Any]:
    """Read a whole backup and compare every digest and count; its manifest.

    Raises:
        BackupError: when it is truncated, altered, or not a backup.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            names = tuple(archive.getnames())
            if names != NAMES:
                raise BackupError(f"{path} is not a backup, or not all of one")
            manifest = _manifest(path, archive)
            digest, size = _digest(archive)
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{path} is not a backup, or not all of one ({error})") from None
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}") from None
    if (digest, size) != (manifest["sha256"], manifest["size"]):
        raise BackupError(f"{path} was altered: the dump is not the one that was made")
    reader = Reader()
    for line in lines(path):
        reader.line(line)
    if not reader.complete or reader.rows != manifest["rows"]:
        raise BackupError(f"{path}: the dump does not hold the rows that the manifest names")
    return manifest


def _manifest(path: str, archive: tarfile.TarFile) -> dict[str, Any]:
    text, sums = _member(archive, MANIFEST), _member(archive, SUMS).decode(errors="replace")
    try:
        manifest: dict[str, Any] = json.loads(text)
        form, digest = manifest["form"], manifest["sha256"]
    except (ValueError, KeyError, TypeError):
        raise BackupError(f"{path} was altered: its manifest cannot be read") from None
    expected = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n{digest}  {DUMP}\n"
    if sums != expected:
        raise BackupError(f"{path} was altered: its checksums do not fit")
    if form != FORM:
        raise BackupError(f"{path} is of form {form}; this checkout knows form {FORM}")
    return manifest


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise BackupError(f"{name} is not a file")
    return file.read(1 << 24)


def _digest(archive: tarfile.TarFile) -> tuple[str, int]:
    file = archive.extractfile(DUMP)
    if file is None:
        raise BackupError(f"{DUMP} is not a file")
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def lines(path: str) -> Iterator[bytes]:
    """The dump's lines.

    Raises:
        BackupError: when it cannot be unpacked.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            file = archive.extractfile(DUMP)
            if file is None:
                raise BackupError(f"{path}: {DUMP} is not a file")
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from unpacked
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(f"{path} cannot be unpacked ({error})") from None


# --- on a schedule -------------------------------------------------------------------------------


def listed(folder: str = FOLDER) -> list[dict[str, Any]]:
    """The backups in a folder, newest first: ``path``, ``made``, ``size`` in bytes, ``gtids``."""
    found = []
    try:
        names = sorted((n for n in os.listdir(folder) if n.endswith(".tar")), reverse=True)
    except FileNotFoundError:
        return []
    for name in names:
        path = f"{folder}/{name}"
        try:
            with tarfile.open(path, mode="r:") as archive:
                manifest = json.loads(_member(archive, MANIFEST))
            kept = {"made": manifest["made"], "gtids": manifest["gtids"]}
        except (tarfile.TarError, OSError, ValueError, KeyError, BackupError):
            kept = {"made": "not readable", "gtids": ""}
        found.append({"path": path, "size": os.path.getsize(path), **kept})
    return found


def main() -> int:
    """Make the scheduled backup on a replica (or the only database), keep the newest ones."""
    from provision.database.agent import role as mysql_role

    record = mysql_role.read(mysql_role.RECORD)
    if record.get("primary") == record.get("machine") and record.get("peers"):
        print("this is the primary: a replica makes the backup")
        return 0
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = f"{FOLDER}/{SCHEMA}-{moment}.tar"
    try:
        manifest = make(path)
        verify(path)
    except BackupError as error:
        print(f"<3>{error}")
        return 1
    print(f"{path}: {sum(manifest['rows'].values())} rows, {os.path.getsize(path)} bytes")
    for old in listed()[KEEP:]:
        os.unlink(old["path"])
        print(f"removed {old['path']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
