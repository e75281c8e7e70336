"""Backups: the scan of a dump, and that no damaged file is ever accepted."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from provision.core.errors import UsageError
from provision.database.agent.backup import UNLOGGED, file_digest, list_backups
from provision.database.agent.backup_file import (
    FORM,
    BackupError,
    DumpScanner,
    Manifest,
    lines,
    pack,
    verify,
)
from provision.database.agent.restore import rename_statement
from provision.database.recovery import parse_time

DUMP = (Path(__file__).parent / "recorded" / "dump.sql").read_bytes()


def scan(dump: bytes) -> DumpScanner:
    scanner = DumpScanner()
    for line in dump.splitlines(keepends=True):
        scanner.scan(line)
    return scanner


def test_a_recorded_dump() -> None:
    scanner = scan(DUMP)
    assert scanner.complete
    assert scanner.rows == {"markers": 3, "notes": 3, "schema_migrations": 2}
    assert scanner.gtids == (
        "fc985a82-e5b7-11f1-b888-02ec0e70f726:1-612,fc999679-e5b7-11f1-91fd-028a7fa85161:1-1275"
    )


def test_a_truncated_dump_is_incomplete() -> None:
    assert not scan(DUMP[: len(DUMP) // 2]).complete


def test_lines_that_disable_the_binary_log_are_left_out() -> None:
    kept = [line for line in DUMP.splitlines() if not line.startswith(UNLOGGED)]
    assert b"SQL_LOG_BIN" in DUMP
    assert not any(b"SQL_LOG_BIN" in line for line in kept)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup with the recorded dump in it."""
    dump = tmp_path / "dump"
    dump.write_bytes(gzip.compress(DUMP))
    scanner = scan(DUMP)
    manifest = Manifest(
        form=FORM,
        schema="foobar",
        made="2026-11-21T14:39:40Z",
        machine="web-02",
        version="9.7.4-2",
        gtids=scanner.gtids,
        rows=scanner.rows,
        size=dump.stat().st_size,
        sha256=file_digest(str(dump)),
    )
    path = tmp_path / "a.tar"
    pack(str(path), manifest, str(dump))
    dump.unlink()
    return path


def test_a_complete_backup(backup: Path) -> None:
    manifest = verify(str(backup))
    assert manifest.rows == {"markers": 3, "notes": 3, "schema_migrations": 2}
    assert backup.stat().st_mode & 0o777 == 0o600
    assert b"".join(lines(str(backup))) == DUMP


def test_backups_are_listed_newest_first(backup: Path) -> None:
    (backup.parent / "b.tar").write_bytes(b"no tar")
    backups = list_backups(str(backup.parent))
    assert [Path(file.path).name for file in backups] == ["b.tar", "a.tar"]
    assert [file.made for file in backups] == ["not readable", "2026-11-21T14:39:40Z"]


@pytest.mark.parametrize("kept", [0, 100, 600, 1500, 2500])
def test_a_truncated_backup_is_refused(backup: Path, kept: int) -> None:
    backup.write_bytes(backup.read_bytes()[:kept])
    with pytest.raises(BackupError):
        verify(str(backup))


def test_every_altered_byte_of_the_content_is_detected(backup: Path) -> None:
    original = backup.read_bytes()
    with tarfile.open(backup) as archive:
        places = [
            member.offset_data + offset
            for member in archive.getmembers()
            for offset in range(0, member.size, 7)
        ]
    for place in places:
        altered = bytearray(original)
        altered[place] ^= 1
        backup.write_bytes(altered)
        with pytest.raises(BackupError):
            verify(str(backup))


def repack(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        content = {name: file.read() for name, file in files.items() if file}
    change(content)
    with tarfile.open(path, "w") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def test_a_manifest_with_other_rows_is_refused(backup: Path) -> None:
    def change(content: dict[str, bytes]) -> None:
        manifest: dict[str, Any] = json.loads(content["manifest.json"])
        manifest["rows"]["notes"] = 4
        content["manifest.json"] = json.dumps(manifest).encode()

    repack(backup, change)
    with pytest.raises(BackupError, match="checksums do not match"):
        verify(str(backup))


def test_an_additional_file_is_refused(backup: Path) -> None:
    repack(backup, lambda content: content.update({"more": b""}))
    with pytest.raises(BackupError, match="not a backup"):
        verify(str(backup))


def test_a_missing_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="No such file"):
        verify(str(tmp_path / "none.tar"))


# --- times and the exchange of tables ------------------------------------------------------------


def test_parse_time() -> None:
    assert parse_time("1970-01-01T00:00:01.5Z") == 1_500_000
    assert parse_time("2026-11-21 15:30:05+01:00") == 1795271405_000_000
    local = datetime(2026, 11, 21, 14, 30).astimezone()
    assert parse_time("2026-11-21 14:30") == round(local.timestamp() * 1e6)
    today = datetime.now().astimezone().replace(hour=9, minute=5, second=7, microsecond=0)
    assert parse_time("9:05:07") == round(today.timestamp() * 1e6)


@pytest.mark.parametrize("text", ["", "now", "yesterday", "25:00", "2026-13-01", "-1"])
def test_invalid_times_are_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="--to is"):
        parse_time(text)


def test_tables_are_exchanged_in_one_statement() -> None:
    assert rename_statement("foobar", "new", ["a", "b"], ["a", "c`d"]) == (
        "RENAME TABLE `foobar`.`a` TO `lab_replaced`.`a`, `foobar`.`b` TO `lab_replaced`.`b`, "
        "`new`.`a` TO `foobar`.`a`, `new`.`c``d` TO `foobar`.`c``d`"
    )
