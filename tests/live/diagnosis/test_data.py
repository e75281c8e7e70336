"""Faults of replication, data, settings and accounts: detected on the right server, repaired."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pytest

from tests.live.conftest import RunningLab
from tests.live.diagnosis.conftest import assert_healthy, assert_repaired_by, diagnose

PRIMARY, REPLICA = "web-01", "web-02"
NOTE = (
    "INSERT INTO foobar.notes (id, author, text, host, created)"
    " VALUES ('{id}', 'Ada', '{text}', 'web-01', UTC_TIMESTAMP(3));"
)
UNLOGGED = "SET SESSION sql_log_bin = 0; SET GLOBAL super_read_only = OFF;"
READ_ONLY = "SET GLOBAL super_read_only = ON;"


@dataclass(frozen=True)
class SqlFault:
    """SQL that root runs on one server; ``{primary}`` and ``{network}`` are replaced.

    Args:
        check: that fails.
        got: part of what it reports.
    """

    name: str
    machine: str
    sql: str
    check: str
    got: str


def _id(fault: SqlFault) -> str:
    return fault.name


def apply(lab: RunningLab, fault: SqlFault) -> None:
    values = lab.session().context
    sql = fault.sql.replace("{primary}", str(values.primary.address))
    lab.sql(fault.machine, sql.replace("{network}", str(values.lab.network)))


REPLICATION = (
    SqlFault(
        "sql-thread", REPLICA, "STOP REPLICA SQL_THREAD;", "replication", "SQL thread stopped"
    ),
    SqlFault("io-thread", REPLICA, "STOP REPLICA IO_THREAD;", "replication", "IO thread stopped"),
    SqlFault(
        "delay",
        REPLICA,
        "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 60;"
        " START REPLICA SQL_THREAD;",
        "replication",
        "SOURCE_DELAY 60 s",
    ),
    SqlFault(
        "filter",
        REPLICA,
        "STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE ="
        " ('other.%'); START REPLICA SQL_THREAD;",
        "replication",
        "filter Replicate_Wild_Ignore_Table",
    ),
    SqlFault(
        "super-read-only",
        REPLICA,
        "SET GLOBAL super_read_only = OFF;",
        "replication",
        "super_read_only is OFF",
    ),
    SqlFault(
        "source-host",
        REPLICA,
        "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.2'; START REPLICA;",
        "replication",
        "replicates from 127.0.0.2",
    ),
    SqlFault(
        "source-password",
        REPLICA,
        "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = 'other'; START REPLICA;",
        "database-settings",
        "the replication password was changed",
    ),
    SqlFault(
        "position",
        REPLICA,
        "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 0; START REPLICA;",
        "replication",
        "by file and position",
    ),
)


SETTINGS = (
    SqlFault(
        "persisted-durability",
        PRIMARY,
        "SET PERSIST sync_binlog = 0;",
        "database-settings",
        "sync_binlog is 0, not 1",
    ),
    SqlFault(
        "durability-of-the-replica",
        REPLICA,
        "SET GLOBAL innodb_flush_log_at_trx_commit = 2;",
        "database-settings",
        "innodb_flush_log_at_trx_commit is 2, not 1",
    ),
    SqlFault(
        "persisted-for-the-next-start",
        REPLICA,
        "SET PERSIST_ONLY replica_skip_errors = 'all';",
        "database-settings",
        "persisted: replica_skip_errors",
    ),
    SqlFault(
        "clear-text",
        PRIMARY,
        "SET GLOBAL require_secure_transport = OFF;",
        "database-settings",
        "require_secure_transport is OFF, not ON",
    ),
    SqlFault(
        "semi-sync",
        REPLICA,
        "SET GLOBAL rpl_semi_sync_replica_enabled = OFF; STOP REPLICA IO_THREAD;"
        " START REPLICA IO_THREAD;",
        "database-settings",
        "rpl_semi_sync_replica_enabled is OFF, not ON",
    ),
    SqlFault(
        "app-password",
        PRIMARY,
        "ALTER USER foobar_app@'{network}' IDENTIFIED BY 'guessed';",
        "database-settings",
        "account foobar_app@",
    ),
    SqlFault(
        "without-tls",
        PRIMARY,
        "ALTER USER lab_check@'{network}' REQUIRE NONE;",
        "database-settings",
        "without TLS",
    ),
    SqlFault(
        "grant",
        PRIMARY,
        "REVOKE INSERT ON foobar.* FROM foobar_app@'{network}';",
        "database-settings",
        "account foobar_app@",
    ),
    SqlFault(
        "unknown-account",
        PRIMARY,
        "CREATE USER intruder@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO intruder@'%';",
        "database-settings",
        "unknown account: intruder@%",
    ),
    SqlFault(
        "account-of-the-replica",
        REPLICA,
        UNLOGGED + "ALTER USER repl@'{network}' ACCOUNT LOCK;" + READ_ONLY,
        "database-settings",
        "locked",
    ),
)


@pytest.mark.parametrize("fault", [*REPLICATION, *SETTINGS], ids=_id)
def test_lab_up_repairs(repaired: RunningLab, fault: SqlFault) -> None:
    apply(repaired, fault)
    check = f"{fault.check}/{fault.machine}"
    diagnosis = diagnose(repaired)
    diagnosis.assert_one_cause(fault.machine, "mysql")
    assert check in diagnosis.failed, diagnosis.text()
    assert fault.got in diagnosis.results[check]["got"], diagnosis.text()
    assert_repaired_by(repaired, "lab.up")


DATA = (
    SqlFault(
        "deleted",
        REPLICA,
        UNLOGGED + "DELETE FROM foobar.notes WHERE id = 'truth-1';" + READ_ONLY,
        "data",
        "foobar.notes: 1 row missing",
    ),
    SqlFault(
        "extra",
        REPLICA,
        UNLOGGED + NOTE.format(id="truth-extra", text="only here") + READ_ONLY,
        "data",
        "foobar.notes: 1 row extra",
    ),
    SqlFault(
        "changed",
        REPLICA,
        UNLOGGED + "UPDATE foobar.notes SET text = 'other' WHERE id = 'truth-1';" + READ_ONLY,
        "data",
        "foobar.notes: 1 row changed",
    ),
    SqlFault(
        "column",
        REPLICA,
        UNLOGGED + "ALTER TABLE foobar.notes ADD COLUMN more INT NULL;" + READ_ONLY,
        "data",
        "foobar.notes: other columns",
    ),
    SqlFault(
        "errant",
        REPLICA,
        "SET GLOBAL super_read_only = OFF;" + NOTE.format(id="truth-errant", text="x") + READ_ONLY,
        "replication",
        "1 errant transaction",
    ),
    SqlFault(
        "cannot-apply",
        REPLICA,
        UNLOGGED + "DROP TABLE foobar.markers;" + READ_ONLY,
        "replication",
        "SQL thread stopped",
    ),
)


@pytest.mark.parametrize("fault", DATA, ids=_id)
def test_the_suggested_command_repairs(repaired: RunningLab, fault: SqlFault) -> None:
    lab = repaired
    lab.sql(PRIMARY, "DELETE FROM foobar.notes;" + NOTE.format(id="truth-1", text="same"))
    assert_healthy(lab)
    apply(lab, fault)
    diagnosis = diagnose(lab)
    entry = diagnosis.assert_one_cause(REPLICA, "mysql", f"{fault.check}/{REPLICA}")
    assert fault.got in entry["got"], diagnosis.text()
    words = [word for word in shlex.split(entry["next"])[1:] if word not in ("--lab", lab.name)]
    assert words[:2] == ["db.rejoin", REPLICA]
    assert_repaired_by(lab, *words)


def test_a_copied_server_uuid(repaired: RunningLab) -> None:
    uuid = repaired.sql(PRIMARY, "SELECT @@server_uuid")
    copy = f"printf '[auto]\\nserver-uuid={uuid}\\n' > /var/lib/mysql/auto.cnf"
    repaired.out(REPLICA, "sh", "-c", f"{copy} && systemctl restart mysql")
    diagnosis = diagnose(repaired)
    diagnosis.assert_one_cause(REPLICA, "mysql")
    assert "same server_uuid" in diagnosis.results[f"replication/{REPLICA}"]["got"], (
        diagnosis.text()
    )
    assert_repaired_by(repaired, "lab.up")
    assert repaired.sql(REPLICA, "SELECT @@server_uuid") != uuid


def test_a_copied_server_id(repaired: RunningLab) -> None:
    number = repaired.sql(PRIMARY, "SELECT @@server_id")
    repaired.sql(REPLICA, f"STOP REPLICA; SET GLOBAL server_id = {number}; START REPLICA;")
    diagnosis = diagnose(repaired)
    diagnosis.assert_one_cause(REPLICA, "mysql")
    assert "server_id" in diagnosis.results[f"database-settings/{REPLICA}"]["got"], diagnosis.text()
    assert_repaired_by(repaired, "lab.up")


def test_status_counts_transactions(repaired: RunningLab) -> None:
    repaired.sql(REPLICA, "STOP REPLICA SQL_THREAD;")
    repaired.sql(PRIMARY, NOTE.format(id="truth-counted", text="missing on the replica"))
    repaired.sql(REPLICA, "SET GLOBAL super_read_only = OFF; FLUSH STATUS;" + READ_ONLY)
    status = " ".join(repaired.invoke("lab.status").stdout.split())
    assert "1 missing" in status
    assert "0 missing" not in status
