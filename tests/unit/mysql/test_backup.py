"""A backup: what is learnt from a dump, and that nothing damaged is ever believed."""

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
from provision.database.agent import backup as mysql_backup
from provision.database.agent.backup import BackupError, Reader, verify
from provision.database.agent.restore import exchange
from provision.database.backup import understand_time

DUMP = (Path(__file__).parent / "recorded" / "dump.sql").read_bytes()


def read(dump: bytes) -> Reader:
    reader = Reader()
    for line in dump.splitlines(keepends=True):
        reader.line(line)
    return reader


def test_a_recorded_dump() -> None:
    reader = read(DUMP)
    assert reader.complete
    assert reader.rows == {"markers": 3, "notes": 3, "schema_migrations": 2}
    assert reader.gtids == (
        "fc985a82-e5b7-11f1-b888-02ec0e70f726:1-612,fc999679-e5b7-11f1-91fd-028a7fa85161:1-1275"
    )


def test_a_dump_that_broke_off() -> None:
    assert not read(DUMP[: len(DUMP) // 2]).complete


def test_what_keeps_a_restore_from_replicas_is_left_out() -> None:
    kept = [line for line in DUMP.splitlines() if not line.startswith(mysql_backup.UNLOGGED)]
    assert b"SQL_LOG_BIN" in DUMP
    assert not any(b"SQL_LOG_BIN" in line for line in kept)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup with the recorded dump in it."""
    dump = tmp_path / "dump"
    dump.write_bytes(gzip.compress(DUMP))
    reader = read(DUMP)
    manifest = {
        "form": mysql_backup.FORM,
        "schema": "foobar",
        "made": "2026-11-21T14:39:40Z",
        "machine": "web-02",
        "version": "9.7.4-2",
        "gtids": reader.gtids,
        "rows": reader.rows,
        "size": dump.stat().st_size,
        "sha256": mysql_backup._digest_of(str(dump)),
    }
    path = tmp_path / "a.tar"
    mysql_backup._pack(str(path), manifest, str(dump))
    dump.unlink()
    return path


def test_a_whole_backup(backup: Path) -> None:
    manifest = verify(str(backup))
    assert manifest["rows"] == {"markers": 3, "notes": 3, "schema_migrations": 2}
    assert backup.stat().st_mode & 0o777 == 0o600
    assert b"".join(mysql_backup.lines(str(backup))) == DUMP


def test_backups_are_listed_newest_first(backup: Path) -> None:
    (backup.parent / "b.tar").write_bytes(b"no tar")
    found = mysql_backup.listed(str(backup.parent))
    assert [Path(each["path"]).name for each in found] == ["b.tar", "a.tar"]
    assert [each["made"] for each in found] == ["not readable", "2026-11-21T14:39:40Z"]


@pytest.mark.parametrize("kept", [0, 100, 600, 1500, 2500])
def test_a_truncated_backup_is_refused(backup: Path, kept: int) -> None:
    backup.write_bytes(backup.read_bytes()[:kept])
    with pytest.raises(BackupError):
        verify(str(backup))


def test_every_altered_byte_of_the_content_is_noticed(backup: Path) -> None:
    whole = backup.read_bytes()
    with tarfile.open(backup) as archive:
        places = [
            member.offset_data + offset
            for member in archive.getmembers()
            for offset in range(0, member.size, 7)
        ]
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= 1
        backup.write_bytes(altered)
        with pytest.raises(BackupError):
            verify(str(backup))


def repack(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with tarfile.open(path) as archive:
        found = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        content = {name: file.read() for name, file in found.items() if file}
    change(content)
    with tarfile.open(path, "w") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def test_a_manifest_that_promises_other_rows(backup: Path) -> None:
    def change(content: dict[str, bytes]) -> None:
        manifest: dict[str, Any] = json.loads(content["manifest.json"])
        manifest["rows"]["notes"] = 4
        content["manifest.json"] = json.dumps(manifest).encode()

    repack(backup, change)
    with pytest.raises(BackupError, match="checksums do not fit"):
        verify(str(backup))


def test_a_file_that_is_missing_or_too_many(backup: Path) -> None:
    repack(backup, lambda content: content.update({"more": b""}))
    with pytest.raises(BackupError, match="not a backup"):
        verify(str(backup))


def test_a_backup_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="No such file"):
        verify(str(tmp_path / "none.tar"))


# --- moments and the exchange --------------------------------------------------------------------


def test_moments() -> None:
    assert understand_time("1970-01-01T00:00:01.5Z") == 1_500_000
    assert understand_time("2026-11-21 15:30:05+01:00") == 1795271405_000_000
    local = datetime(2026, 11, 21, 14, 30).astimezone()
    assert understand_time("2026-11-21 14:30") == round(local.timestamp() * 1e6)
    today = datetime.now().astimezone().replace(hour=9, minute=5, second=7, microsecond=0)
    assert understand_time("9:05:07") == round(today.timestamp() * 1e6)


@pytest.mark.parametrize("text", ["", "now", "yesterday", "25:00", "2026-13-01", "-1"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match="--to is"):
        understand_time(text)


def test_tables_change_places_in_one_statement() -> None:
    assert exchange("foobar", "new", ["a", "b"], ["a", "c`d"]) == (
        "RENAME TABLE `foobar`.`a` TO `lab_replaced`.`a`, `foobar`.`b` TO `lab_replaced`.`b`, "
        "`new`.`a` TO `foobar`.`a`, `new`.`c``d` TO `foobar`.`c``d`"
    )
