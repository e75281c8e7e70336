"""Databases: rejoin of a replica; accounts, and logins."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from tests.live import databases
from tests.live.conftest import RunningLab
from tests.live.databases import WEBS, notes, status, write

pytestmark = pytest.mark.live
pair = databases.pair


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
