"""Databases: promotion, failure, rejoin, reboot, backup and restore, under writes."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from provision.core.errors import HostError
from provision.core.lab import ROOT
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live
WEBS = ("web-01", "web-02")


def status(lab: RunningLab) -> dict[str, dict[str, Any]]:
    """The JSON of db.status, by machine."""
    return {server["machine"]: server for server in lab.json("db.status")["databases"]}


def writable(lab: RunningLab) -> list[str]:
    """The machines whose database is writable."""
    machines = []
    with lab.fleet() as fleet:
        for name in WEBS:
            if name in fleet.hosts:
                result = fleet.host(name).run("mysql", "-Ne", "SELECT @@read_only")
                if result.stdout.strip() == "0":
                    machines.append(name)
    return machines


def is_writable(lab: RunningLab, machine: str) -> bool:
    return lab.sql(machine, "SELECT @@read_only") == "0"


def primary(lab: RunningLab) -> str:
    return lab.session().state.primary


def replica(lab: RunningLab) -> str:
    return next(name for name in WEBS if name != primary(lab))


def write(lab: RunningLab, text: str) -> str:
    """Write a note through the load balancer; returns its id."""
    note = str(uuid.uuid4())
    with requests.Session() as http:
        http.trust_env = False
        response = http.post(
            f"{lab.url}/api/notes", json={"id": note, "author": "t", "text": text}, timeout=10
        )
    assert response.status_code in (200, 201), response.text
    return note


def notes(lab: RunningLab, machine: str) -> list[str]:
    return lab.sql(machine, "SELECT id FROM foobar.notes").splitlines()


def texts(lab: RunningLab, machine: str) -> list[str]:
    return lab.sql(machine, "SELECT text FROM foobar.notes ORDER BY seq").splitlines()


def responds(lab: RunningLab, machine: str) -> bool:
    try:
        return lab.run(machine, "true").ok
    except HostError:
        return False


class Writers:
    """Writes notes with unique ids through the load balancer in background threads."""

    def __init__(self, lab: RunningLab, threads: int = 3) -> None:
        self.url = lab.url
        self.acknowledged: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(threads)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.acknowledged) > 10, "the first writes")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with requests.Session() as http:
            http.trust_env = False
            while not self._stop.is_set():
                note = str(uuid.uuid4())
                body = {"id": note, "author": "stream", "text": note}
                try:
                    response = http.post(f"{self.url}/api/notes", json=body, timeout=10)
                except requests.RequestException:
                    continue
                if response.status_code in (200, 201):
                    self.acknowledged.append((time.monotonic(), note))
                time.sleep(0.02)

    def wait_for_writes(self, seconds: float = 30.0) -> None:
        """Wait until writes that begin from now on are acknowledged."""
        since = time.monotonic()
        wait_until(
            lambda: sum(when > since for when, _ in list(self.acknowledged)) > 5,
            "writes after the change",
            seconds,
        )

    def missing(self, lab: RunningLab, machine: str) -> set[str]:
        """Acknowledged writes that a database lacks."""
        return {note for _, note in self.acknowledged} - set(notes(lab, machine))


@pytest.fixture
def pair(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab; restored afterwards, with web-01 as primary."""
    yield lab
    lab.up()
    if primary(lab) != "web-01":
        lab.invoke("db.promote", "web-01")
    wait_until(lambda: status(lab)["web-01"]["semi_sync"], "semi-sync again")


# --- status --------------------------------------------------------------------------------------


def test_status(lab: RunningLab) -> None:
    servers = status(lab)
    assert servers["web-01"]["role"] == "primary"
    assert servers["web-01"]["writable"]
    assert servers["web-01"]["semi_sync"]
    assert servers["web-02"]["role"] == "replica"
    assert not servers["web-02"]["writable"]
    assert servers["web-02"]["receiving"]
    assert servers["web-02"]["errant_gtids"] == ""
    assert all(server["next_backup"] for server in servers.values())
    assert "semi-sync" in lab.invoke("db.status").stdout


def test_shell_passes_arguments_to_mysql(lab: RunningLab) -> None:
    query = ["--", "-Ne", "SELECT @@hostname, 'two words'"]
    assert lab.invoke("db.shell", *query).stdout == "web-01\ttwo words\n"
    assert lab.invoke("db.shell", "--machine", "web-02", *query).stdout.startswith("web-02")
    failed = lab.invoke("db.shell", "--", "-e", "SELECT nonsense", check=False)
    assert failed.returncode == 1


def test_a_fallback_to_async_is_reported(pair: RunningLab) -> None:
    pair.sql("web-02", "STOP REPLICA IO_THREAD")
    write(pair, "no replica acknowledges this")
    assert not status(pair)["web-01"]["semi_sync"]
    assert pair.invoke("lab.check", check=False).returncode == 1
    pair.sql("web-02", "START REPLICA IO_THREAD")
    wait_until(lambda: status(pair)["web-01"]["semi_sync"], "semi-sync again")


def test_writes_continue_when_the_only_replica_dies(pair: RunningLab) -> None:
    pair.invoke("lab.kill", "web-02")
    began = time.monotonic()
    write(pair, "without a replica")
    assert time.monotonic() - began < 4


# --- planned promotion ---------------------------------------------------------------------------


def test_a_planned_promotion_loses_nothing(pair: RunningLab) -> None:
    with Writers(pair) as writers:
        output = pair.invoke("db.promote", "web-02").stdout
        assert writable(pair) == ["web-02"]
        writers.wait_for_writes()
    pause = re.search(r"([\d.]+) s without writes", output)
    assert pause
    assert float(pause.group(1)) <= 1
    assert primary(pair) == "web-02"
    wait_until(lambda: not writers.missing(pair, "web-01"), "the old primary has all writes")
    assert not writers.missing(pair, "web-02")
    assert len(notes(pair, "web-02")) == len(set(notes(pair, "web-02")))
    planned = pair.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout


def test_promoting_the_primary_changes_nothing(lab: RunningLab) -> None:
    before = status(lab)["web-01"]["executed_gtids"]
    assert "web-01 is primary" in lab.invoke("db.promote", "web-01").stdout
    assert status(lab)["web-01"]["executed_gtids"] == before


@pytest.mark.parametrize("machine", ["lb-01", "web-99"])
def test_machines_without_a_database_cannot_be_promoted(lab: RunningLab, machine: str) -> None:
    result = lab.invoke("db.promote", machine, check=False)
    assert result.returncode == 2
    assert "web-01" in result.stderr


def test_a_replica_that_does_not_catch_up_is_not_promoted(pair: RunningLab) -> None:
    pair.sql("web-02", "STOP REPLICA SQL_THREAD")
    write(pair, "not applied")
    result = pair.invoke("db.promote", "web-02", "--deadline", "2", check=False)
    assert result.returncode == 1
    assert "did not catch up" in result.stderr
    assert writable(pair) == ["web-01"]
    write(pair, "writes continue")


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from provision.operations.session import open_session
from provision.database import promote as db_promote
opened = open_session({lab!r})
with opened.lock(), opened.fleet() as fleet:
    db_promote.promote(
        opened.context, fleet, "web-02",
        on_step=lambda step: os._exit(9) if step == {step!r} else None,
    )
"""


@pytest.mark.parametrize(
    ("step", "finish", "expected"),
    [
        ("fenced", "lab.up", "web-01"),
        ("fenced", "db.promote web-02", "web-02"),
        ("caught up", "lab.up", "web-01"),
        ("recorded", "lab.up", "web-02"),
        ("recorded", "db.promote web-02", "web-02"),
        ("promoted", "lab.up", "web-02"),
    ],
)
def test_the_controller_is_killed_during_a_promotion(
    pair: RunningLab, step: str, finish: str, expected: str
) -> None:
    script = KILLED.format(root=str(ROOT), lab=pair.name, step=step)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=120)
    assert result.returncode == 9
    assert len(writable(pair)) <= 1
    pair.invoke(*finish.split())
    assert writable(pair) == [expected]
    assert primary(pair) == expected
    write(pair, f"after {step}")
    pair.invoke("lab.check")


# --- forced promotion ----------------------------------------------------------------------------


def test_a_running_primary_is_not_considered_dead(lab: RunningLab) -> None:
    result = lab.invoke("db.promote", "web-02", "--old-primary-is-dead", check=False)
    assert result.returncode == 1
    assert "web-01 is not dead: its database responds" in result.stderr
    assert writable(lab) == ["web-01"]


CUT = """
route=$(ip route show default)
ip link set eth0 down
sleep 25
ip link set eth0 up
[ -z "$route" ] || ip route add $route
"""


def test_a_network_partition_is_not_considered_a_dead_primary(pair: RunningLab) -> None:
    pair.out("web-01", "systemd-run", "--unit=t-cut", "bash", "-c", f"sleep 1; {CUT}")
    time.sleep(2)
    result = pair.invoke("db.promote", "web-02", "--old-primary-is-dead", check=False)
    assert result.returncode == 1
    assert "perhaps only the network is cut" in result.stderr
    assert f"invoke lab.kill --lab {pair.name} web-01" in result.stderr
    assert not is_writable(pair, "web-02")
    wait_until(lambda: responds(pair, "web-01"), "the network is up again", 60)


def test_the_primary_machine_is_killed(pair: RunningLab) -> None:
    with Writers(pair) as writers:
        pair.invoke("lab.kill", "web-01")
        output = pair.invoke("db.promote", "web-02", "--old-primary-is-dead").stdout
        writers.wait_for_writes()
    assert "web-02 is primary instead of web-01" in output
    assert not writers.missing(pair, "web-02")

    # It comes back, finds that it was replaced, and stays read-only.
    pair.invoke("lab.start", "web-01")
    journal = ["journalctl", "-b", "-u", "lab-mysql-role", "-o", "cat", "--no-pager"]
    wait_until(
        lambda: "deny: web-02 is writable" in pair.out("web-01", *journal),
        "web-01 stays read-only",
    )
    assert writable(pair) == ["web-02"]
    pair.invoke("db.rejoin", "web-01")
    wait_until(lambda: not writers.missing(pair, "web-01"), "the old primary has all writes")
    pair.up()
    pair.invoke("lab.check")


def test_mysqld_on_the_primary_is_stopped(pair: RunningLab) -> None:
    """The machine still runs: its database must not come back as primary."""
    pair.out("web-01", "systemctl", "stop", "mysql")
    pair.invoke("db.promote", "web-02", "--old-primary-is-dead")
    pair.out("web-01", "systemctl", "start", "mysql")
    wait_until(lambda: status(pair)["web-01"]["up"], "mysqld responds")
    time.sleep(1)
    assert writable(pair) == ["web-02"]
    pair.invoke("db.rejoin", "web-01")
    assert status(pair)["web-01"]["receiving"]


def test_mysqld_on_the_primary_hangs(pair: RunningLab) -> None:
    pair.out("web-01", "kill", "-STOP", pair.out("web-01", "pidof", "mysqld").strip())
    planned = pair.invoke("db.promote", "web-02", check=False)
    assert planned.returncode == 1
    assert "--old-primary-is-dead" in planned.stderr
    pair.invoke("db.promote", "web-02", "--old-primary-is-dead")
    assert writable(pair) == ["web-02"]
    assert pair.run("web-01", "pidof", "mysqld").status == 1
    pair.invoke("db.rejoin", "web-01")
    pair.invoke("lab.check")


def test_received_transactions_that_are_not_applied_are_not_lost(pair: RunningLab) -> None:
    """A lock on the replica blocks the applier thread while the primary dies."""
    lock = "FLUSH TABLES WITH READ LOCK; SELECT SLEEP(600)"
    pair.out("web-02", "systemd-run", "--unit=t-lock", "mysql", "-e", lock)
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"
    wait_until(lambda: pair.sql("web-02", running) == "1", "the lock")
    note = write(pair, "received, not applied")
    pair.invoke("lab.kill", "web-01")
    result = pair.invoke(
        "db.promote", "web-02", "--old-primary-is-dead", "--deadline", "2", check=False
    )
    assert result.returncode == 1
    assert "received on web-02 but not applied" in result.stderr
    assert "--deadline" in result.stderr
    assert writable(pair) == []
    assert primary(pair) == "web-01"
    pair.out("web-02", "systemctl", "stop", "t-lock")
    wait_until(lambda: pair.sql("web-02", running) == "0", "the lock is released", 60)
    pair.invoke("db.promote", "web-02", "--old-primary-is-dead")
    assert note in notes(pair, "web-02")
    pair.invoke("lab.start", "web-01")
    pair.invoke("db.rejoin", "web-01")


# --- roles after a restart -----------------------------------------------------------------------


def test_a_killed_mysqld_becomes_primary_again_automatically(pair: RunningLab) -> None:
    before = pair.out("web-01", "pidof", "mysqld")
    pair.out("web-01", "kill", "-9", before.strip())
    seconds = wait_until(lambda: writable(pair) == ["web-01"], "writable again", 20)
    assert seconds < 10
    assert pair.out("web-01", "pidof", "mysqld") != before


def test_a_killed_mysqld_becomes_primary_again_without_its_replica(pair: RunningLab) -> None:
    pair.invoke("lab.kill", "web-02")
    pair.out("web-01", "kill", "-9", pair.out("web-01", "pidof", "mysqld").strip())
    wait_until(lambda: writable(pair) == ["web-01"], "writable again", 20)


@pytest.mark.parametrize("order", [WEBS, WEBS[::-1]])
def test_a_reboot_of_both_without_the_controller(pair: RunningLab, order: tuple[str, str]) -> None:
    note = write(pair, "before the reboot")
    for name in WEBS:
        pair.invoke("lab.kill", name)
    first, second = order
    pair.invoke("lab.start", first)
    wait_until(lambda: pair.run(first, "mysqladmin", "ping").ok, f"{first} responds", 30)
    time.sleep(2)
    # A primary that reaches no peer might have been replaced; it waits.
    assert writable(pair) == []
    pair.invoke("lab.start", second)
    wait_until(lambda: writable(pair) == ["web-01"], "the recorded primary is writable", 30)
    wait_until(lambda: status(pair)["web-02"]["receiving"], "web-02 replicates", 30)
    assert note in notes(pair, "web-01")


# --- rejoin --------------------------------------------------------------------------------------

ERRANT = "INSERT INTO foobar.notes (id, author, text, host, created) VALUES "


@pytest.mark.parametrize("command", [("lab.up",), ("db.rejoin", "web-02")], ids=" ".join)
def test_errant_transactions_are_kept_in_a_file(pair: RunningLab, command: tuple[str, ...]) -> None:
    note = f"errant-{len(command)}"
    pair.sql(
        "web-02",
        "SET GLOBAL super_read_only = OFF;"
        f"{ERRANT}('{note}', 'e', 'written on the replica', 'web-02', NOW());"
        "SET GLOBAL super_read_only = ON; STOP REPLICA",
    )
    assert status(pair)["web-02"]["errant"] == 1

    output = pair.invoke(*command).stdout
    match = re.search(r"1 errant transaction (?:\(\S+\) )?kept in ([^\s;]+)", output)
    assert match, output
    assert "was cloned" in output
    saved = Path(match.group(1))
    assert saved.stat().st_mode & 0o777 == 0o600
    assert note in gzip.decompress(saved.read_bytes()).decode()
    assert note not in notes(pair, "web-02")
    assert status(pair)["web-02"]["errant_gtids"] == ""


def test_the_primary_cannot_rejoin(lab: RunningLab) -> None:
    result = lab.invoke("db.rejoin", "web-01", check=False)
    assert result.returncode == 2
    assert "web-01 is the primary" in result.stderr


def test_a_replica_that_cannot_catch_up_is_cloned_by_lab_up(pair: RunningLab) -> None:
    uuid_before = pair.sql("web-02", "SELECT @@server_uuid")
    pair.sql("web-02", "STOP REPLICA")
    note = write(pair, "the replica misses this")
    pair.sql("web-01", "FLUSH BINARY LOGS")
    last = pair.sql("web-01", "SHOW BINARY LOGS").splitlines()[-1].split()[0]
    pair.sql("web-01", f"PURGE BINARY LOGS TO '{last}'")
    result = pair.up()
    assert "cloning the data of web-01" in result.stdout + result.stderr
    assert note in notes(pair, "web-02")
    assert pair.sql("web-02", "SELECT @@server_uuid") == uuid_before


def test_a_manually_changed_password_is_reported_redacted_and_fixed(pair: RunningLab) -> None:
    host = pair.sql("web-01", "SELECT host FROM mysql.user WHERE user = 'lab_check'")
    pair.sql("web-01", f"ALTER USER 'lab_check'@'{host}' IDENTIFIED BY 'changed-by-hand'")
    plan = pair.invoke("lab.plan").stdout
    assert "account lab_check" in plan
    assert "(secret) changes" in plan
    assert "1 change" in pair.up().stdout
    assert pair.invoke("lab.plan", "--detailed-exitcode", check=False).returncode == 0


def test_passwords_are_in_no_journal_and_no_binary_log(lab: RunningLab) -> None:
    passwords = json.loads((ROOT / ".lab" / lab.name / "secrets" / "passwords.json").read_text())
    for name in WEBS:
        journal = lab.out(name, "journalctl", "-b", "--no-pager")
        binlog = lab.out(name, "bash", "-c", "mysqlbinlog /var/lib/mysql/binlog.0*")
        for password in passwords.values():
            assert password not in journal
            assert password not in binlog


def test_logins_need_tls_and_an_allowed_host(lab: RunningLab) -> None:
    passwords = json.loads((ROOT / ".lab" / lab.name / "secrets" / "passwords.json").read_text())
    address = str(lab.session().lab.machine("web-01").address)
    config = f"[client]\nuser=foobar_app\npassword={passwords['mysql-app']}\nhost={address}\n"

    def login(*options: str) -> str:
        script = 'cat > /run/t-client.cnf; mysql --defaults-file=/run/t-client.cnf "$@" 2>&1'
        command = ["bash", "-c", script, "-", *options, "-Ne"]
        return lab.run("web-02", *command, "SELECT 'in'", input=config).stdout

    assert "in" in login("--ssl-mode=REQUIRED").split()
    assert "in" not in login("--ssl-mode=DISABLED", "--get-server-public-key").split()
    denied = lab.run("web-02", "mysql", "-h", address, "-u", "root", "-e", "SELECT 1")
    assert not denied.ok


# --- backups -------------------------------------------------------------------------------------


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
