"""Databases: backup and restore, under writes and to a point in time."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.live import databases
from tests.live.conftest import RunningLab, wait_until
from tests.live.databases import WEBS, Writers, notes, status, texts, write

pytestmark = pytest.mark.live
pair = databases.pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def take(lab: RunningLab, folder: Path) -> tuple[Path, dict[str, Any]]:
    result = lab.json("db.backup", "--folder", str(folder))
    return Path(result["path"]), result


def test_backup_and_restore(pair: RunningLab, folder: Path) -> None:
    write(pair, "in the backup, ünïcode: 雪 'quoted' \\ and\nmore")
    wait_until(lambda: texts(pair, "web-01") == texts(pair, "web-02"), "the replica has it")
    before = texts(pair, "web-01")
    path, made = take(pair, folder)
    assert made["machine"] == "web-02", "a replica makes the backup"
    assert made["rows"]["notes"] == len(before)
    assert path.stat().st_mode & 0o777 == 0o600
    write(pair, "after the backup")
    pair.sql("web-01", "DELETE FROM foobar.notes LIMIT 1")

    output = pair.invoke("db.restore", str(path)).stdout
    assert "web-02 has applied it" in output
    assert texts(pair, "web-01") == texts(pair, "web-02") == before
    write(pair, "after the restore")
    schemas = pair.sql("web-01", "SHOW DATABASES").splitlines()
    assert not [name for name in schemas if name.startswith("lab_re")]
    pair.invoke("lab.check")


def test_a_backup_under_writes_is_consistent(pair: RunningLab, folder: Path) -> None:
    with Writers(pair) as writers:
        path, made = take(pair, folder)
        writers.wait_for_writes()
    pair.invoke("db.restore", str(path))
    kept = set(notes(pair, "web-01"))
    order = [note for _, note in writers.acknowledged]
    inside = [note in kept for note in order]
    assert len(kept) == made["rows"]["notes"]
    # One snapshot: apart from concurrent writes, nothing committed after a gap is in the backup.
    first_gap = inside.index(False)
    assert not any(inside[first_gap + 10 :])


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_backup_is_refused(pair: RunningLab, folder: Path, damage: str) -> None:
    path, _ = take(pair, folder)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        place = content.index(b"\x1f\x8b") + 200
        content[place] ^= 1
    path.write_bytes(content)
    before = pair.sql("web-01", "SELECT @@gtid_executed")
    result = pair.invoke("db.restore", str(path), check=False)
    assert result.returncode == 1
    assert "nothing was changed" in result.stderr
    assert pair.sql("web-01", "SELECT @@gtid_executed") == before


def test_point_in_time(pair: RunningLab, folder: Path) -> None:
    path, _ = take(pair, folder)
    wanted = write(pair, "wanted")
    time.sleep(0.1)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.1)
    pair.sql("web-01", "DELETE FROM foobar.notes")
    output = pair.invoke("db.restore", str(path), "--to", moment).stdout
    assert "later transactions" in output
    assert wanted in notes(pair, "web-01")
    assert notes(pair, "web-01") == notes(pair, "web-02")

    later = datetime.now(UTC).isoformat()
    refused = pair.invoke("db.restore", str(path), "--to", later, check=False)
    assert refused.returncode == 1
    assert "a restore replaced the data" in refused.stderr


def test_point_in_time_after_a_promotion(pair: RunningLab, folder: Path) -> None:
    path, _ = take(pair, folder)
    one = write(pair, "on the old primary")
    pair.invoke("db.promote", "web-02")
    two = write(pair, "on the new primary")
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.1)
    pair.sql("web-02", "DELETE FROM foobar.notes")
    pair.invoke("db.restore", str(path), "--to", moment)
    assert {one, two} <= set(notes(pair, "web-02"))


def test_restore_into_a_fresh_lab(pair: RunningLab, folder: Path, other_lab: Any) -> None:
    write(pair, "restored in another lab")
    wait_until(lambda: texts(pair, "web-01") == texts(pair, "web-02"), "the replica has it")
    path, _ = take(pair, folder)
    other = other_lab("restore")
    other.up()
    other.invoke("db.restore", str(path))
    assert texts(other, "web-01") == texts(other, "web-02") == texts(pair, "web-01")


def test_the_scheduled_backup(pair: RunningLab) -> None:
    for name in WEBS:
        pair.out(name, "systemctl", "start", "lab-mysql-backup.service")
    servers = status(pair)
    assert servers["web-01"]["backups"] == [], "the primary makes no scheduled backup"
    assert len(servers["web-02"]["backups"]) == 1
    assert servers["web-02"]["backups"][0]["gtids"]
    for _ in range(9):
        moment = uuid.uuid4().hex
        old = f"/var/backups/lab-mysql/foobar-2020-{moment}.tar"
        pair.out("web-02", "touch", old)
    pair.out("web-02", "systemctl", "start", "lab-mysql-backup.service")
    assert len(status(pair)["web-02"]["backups"]) == 7
    pair.out("web-02", "bash", "-c", "rm -f /var/backups/lab-mysql/*.tar")


def test_a_full_disk_fails_only_the_backup(pair: RunningLab, folder: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", "/var/backups/lab-mysql"]
    pair.out("web-02", *mount)
    try:
        result = pair.invoke("db.backup", "--folder", str(folder), check=False)
        assert result.returncode == 1
        assert "No space left" in result.stderr
        assert not list(folder.glob("*")) if folder.exists() else True
    finally:
        pair.out("web-02", "umount", "/var/backups/lab-mysql")
    write(pair, "writes continue")
