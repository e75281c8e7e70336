"""The format of a backup: one tar file that describes itself, written and verified.

It holds ``manifest.json`` (time, machine, GTID position, rows per table, digest of the dump),
``dump.sql.gz`` and ``SHA256SUMS``. The controller uses this module too: db.restore verifies the
whole file before it touches a database.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import BinaryIO

FORM = 1
MANIFEST, DUMP, SUMS = "manifest.json", "dump.sql.gz", "SHA256SUMS"

_INSERT = re.compile(rb"INSERT INTO `((?:[^`]|``)+)` ")
_TABLE = re.compile(rb"CREATE TABLE `((?:[^`]|``)+)` \(")
_GTIDS = re.compile(rb"GTID_PURGED=(?:/\*.*?\*/)? *'([^']*)", re.DOTALL)
_END = b"-- Dump completed"


class BackupError(Exception):
    """A backup could not be made, or cannot be trusted."""


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``.

    Args:
        form: version of this format.
        made: ISO 8601 in UTC.
        version: of MySQL.
        gtids: the position of the dump, as a GTID set.
        rows: per table.
        size: of the compressed dump, in bytes.
        sha256: of the compressed dump, in hex.
    """

    form: int
    schema: str
    made: str
    machine: str
    version: str
    gtids: str
    rows: Mapping[str, int]
    size: int
    sha256: str


class DumpScanner:
    """Reads a dump line by line for rows per table, GTID position and completeness."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.gtids = ""
        self.complete = False
        self._gtid_statement = b""

    def scan(self, line: bytes) -> None:
        """Examine one line of the dump."""
        if match := _INSERT.match(line):
            table = match.group(1).decode()
            self.rows[table] = self.rows.get(table, 0) + 1
        elif match := _TABLE.match(line):
            self.rows.setdefault(match.group(1).decode(), 0)
        elif self._gtid_statement or b"GTID_PURGED=" in line:
            self._gtid_statement += line
            if b";" in line:
                if match := _GTIDS.search(self._gtid_statement):
                    self.gtids = match.group(1).decode().replace("\n", "").lstrip("+")
                self._gtid_statement = b""
        elif line.startswith(_END):
            self.complete = True


# --- writing -------------------------------------------------------------------------------------


def pack(path: str, manifest: Manifest, dump: str) -> None:
    """Write a backup, mode 0600, out of a compressed dump."""
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True).encode() + b"\n"
    sums = _checksums(text, manifest.sha256).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, MANIFEST, io.BytesIO(text), len(text))
            with open(dump, "rb") as file:
                _add(archive, DUMP, file, manifest.size)
            _add(archive, SUMS, io.BytesIO(sums), len(sums))
        raw.flush()
        os.fsync(raw.fileno())


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    archive.addfile(entry, file)


def _checksums(manifest: bytes, dump_sha256: str) -> str:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n{dump_sha256}  {DUMP}\n"


# --- reading -------------------------------------------------------------------------------------


def verify(path: str) -> Manifest:
    """Read a whole backup and compare every digest and count.

    Raises:
        BackupError: when it is truncated, altered, or not a backup.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            if tuple(archive.getnames()) != (MANIFEST, DUMP, SUMS):
                raise BackupError(f"{path} is not a backup, or is incomplete")
            manifest = _read_manifest(path, archive)
            digest, size = _digest_dump(archive)
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{path} is not a backup, or is incomplete ({error})") from None
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}") from None
    if (digest, size) != (manifest.sha256, manifest.size):
        raise BackupError(f"{path} was altered: the checksum of the dump does not match")
    scanner = DumpScanner()
    for line in lines(path):
        scanner.scan(line)
    if not scanner.complete or scanner.rows != manifest.rows:
        raise BackupError(f"{path}: the rows of the dump do not match the manifest")
    return manifest


def read_manifest(path: str) -> Manifest:
    """Read only the manifest of a backup.

    Raises:
        BackupError: when it is not readable.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            return Manifest(**json.loads(_member(archive, MANIFEST)))
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from None


def _read_manifest(path: str, archive: tarfile.TarFile) -> Manifest:
    text, sums = _member(archive, MANIFEST), _member(archive, SUMS).decode(errors="replace")
    try:
        fields = json.loads(text)
        form, digest = fields["form"], fields["sha256"]
    except (ValueError, KeyError, TypeError):
        raise BackupError(f"{path} was altered: its manifest cannot be read") from None
    if sums != _checksums(text, digest):
        raise BackupError(f"{path} was altered: its checksums do not match")
    if form != FORM:
        raise BackupError(f"{path} has format {form}; this version reads format {FORM}")
    return Manifest(**fields)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise BackupError(f"{name} is not a file")
    return file.read(1 << 24)


def _digest_dump(archive: tarfile.TarFile) -> tuple[str, int]:
    file = archive.extractfile(DUMP)
    if file is None:
        raise BackupError(f"{DUMP} is not a file")
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def lines(path: str) -> Iterator[bytes]:
    """The lines of the dump.

    Raises:
        BackupError: when it cannot be decompressed.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            file = archive.extractfile(DUMP)
            if file is None:
                raise BackupError(f"{path}: {DUMP} is not a file")
            with gzip.GzipFile(fileobj=file) as dump:
                yield from dump
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(f"{path} cannot be decompressed ({error})") from None
