"""Pure judges and parsers of replication, data and settings."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.checks.replication import judge_data
from provision.database.agent import accounts, probes, table_checksums
from provision.database.agent.comparison import Comparison
from provision.database.agent.gtid import GtidSet
from provision.database.agent.probes import AccountList
from provision.database.agent.server_status import ReplicaStatus, ServerStatus, parse_replica_status
from provision.database.agent.settings import SettingsFacts, parse_persisted
from provision.database.agent.table_checksums import TableDifference, compare_rows
from provision.database.replication_health import replica_problems
from provision.database.resources import OtherAccounts
from provision.database.role import compare_with_primary, configuration, settings
from provision.database.settings import (
    DEFAULTS,
    EffectiveSettings,
    expected_settings,
    parse_configuration,
)
from provision.engine.agent.files import Journal
from tests.unit.database_samples import LOCAL
from tests.unit.samples import context

SOURCE = "10.0.0.1"
REPLICA = ReplicaStatus(SOURCE, True, True, True, "Yes", sql_running="Yes", lag=0)
STATUS = ServerStatus(up=True, super_read_only=True, replica=REPLICA)
SAME = Comparison(primary_uuid="a", uuid="b", primary_server_id="1", server_id="2", tables=4)
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def problems(comparison: Comparison | None = SAME, **fields: Any) -> list[tuple[str, str]]:
    changes, server = dict(fields), ("writable", "super_read_only")
    own = {name: changes.pop(name) for name in server if name in changes}
    status = replace(STATUS, replica=replace(REPLICA, **changes), **own)
    problems = replica_problems("web-02", SOURCE, status, comparison)
    return [(problem.text, problem.fix) for problem in problems]


def test_a_healthy_replica_has_no_problem() -> None:
    assert problems() == []
    assert problems(None) == []


@pytest.mark.parametrize(
    ("changes", "text", "fix"),
    [
        ({"io_running": "No"}, "IO thread stopped", "lab.up"),
        ({"io_running": "Connecting"}, "IO thread connecting", "lab.up"),
        ({"sql_running": "No"}, "SQL thread stopped", "lab.up"),
        (
            {"sql_running": "No", "sql_errno": 1032},
            "SQL thread stopped",
            "db.rejoin web-02 --rebuild",
        ),
        ({"source": "10.0.0.9"}, "replicates from 10.0.0.9", "lab.up"),
        ({"auto_position": False}, "by file and position", "lab.up"),
        ({"tls_verified": False}, "without verified TLS", "lab.up"),
        ({"filters": "Replicate_Do_DB x"}, "filter Replicate_Do_DB x", "lab.up"),
        ({"delay": 60}, "SOURCE_DELAY 60 s", "lab.up"),
        ({"super_read_only": False}, "super_read_only is OFF", "lab.up"),
        ({"writable": True}, "read_only is OFF", "lab.up"),
    ],
)
def test_each_fault_is_reported_with_its_fix(changes: dict[str, Any], text: str, fix: str) -> None:
    (problem,) = problems(**changes)
    assert text in problem[0]
    assert problem[1] == f"invoke {fix}"


@pytest.mark.parametrize(
    ("comparison", "text", "fix"),
    [
        (replace(SAME, errant=GtidSet(f"{UUID}:5")), "1 errant transaction: ", "db.rejoin web-02"),
        (replace(SAME, uuid="a"), "same server_uuid", "lab.up"),
        (replace(SAME, server_id="1"), "same server_id", "lab.up"),
        (replace(SAME, error="MySQL error 1045: denied"), "cannot query the primary", "lab.up"),
        (
            replace(SAME, missing=GtidSet(f"{UUID}:5-6"), oldest=60.0),
            "2 transactions missing, the oldest 60 s old",
            "db.rejoin web-02 --rebuild",
        ),
        (replace(SAME, missing=GtidSet(f"{UUID}:5-6")), "unknown age", "db.rejoin web-02"),
    ],
)
def test_running_threads_are_not_enough(comparison: Comparison, text: str, fix: str) -> None:
    (problem,) = problems(comparison)
    assert text in problem[0]
    assert problem[1].startswith(f"invoke {fix}")


def test_transactions_may_be_missing_within_the_lag_limit() -> None:
    assert problems(replace(SAME, missing=GtidSet(f"{UUID}:5-6"), oldest=1.5)) == []


def test_mysql_itself_is_quoted() -> None:
    replica = replace(REPLICA, io_running="No", io_errno=1593, io_error="equal server UUIDs")
    (problem,) = replica_problems("web-02", SOURCE, replace(STATUS, replica=replica), SAME)
    assert problem.detail == "MySQL error 1593: equal server UUIDs"
    down = ServerStatus(error="MySQL error 1045: denied")
    assert replica_problems("web-02", SOURCE, down, None)[0].detail == "MySQL error 1045: denied"


def test_filters_are_read_from_the_status() -> None:
    parsed = parse_replica_status({"Source_Host": "x", "Replicate_Do_DB": "foobar"})
    assert parsed is not None
    assert parsed.filters == "Replicate_Do_DB foobar"


# --- rows ----------------------------------------------------------------------------------------


def test_rows_are_compared_where_the_primary_did_not_change() -> None:
    before = {"1": "a", "2": "b", "3": "c", "4": "d"}
    # 4 was changed, 5 inserted and 3 deleted on the primary meanwhile.
    after = {"1": "a", "2": "b", "4": "D", "5": "e"}
    assert compare_rows("t", before, {"1": "a", "2": "b", "4": "d"}, after) is None
    assert compare_rows("t", before, {"1": "a", "2": "b", "3": "c", "5": "e"}, after) is None
    different = compare_rows("t", before, {"2": "x", "9": "y"}, after)
    assert different == TableDifference("t", missing=1, extra=1, changed=1)
    assert str(different) == "t: 1 row missing, 1 row extra, 1 row changed"


class Server:
    """A server whose rows are those of each read in turn; the last ones stay."""

    def __init__(self, *reads: str) -> None:
        self.reads = [dict.fromkeys(rows, "x") for rows in reads]

    def rows(self) -> dict[str, str]:
        return self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]


@pytest.mark.parametrize(
    ("primary", "replica", "difference"),
    [
        (("a", "a"), ("a",), ""),
        (("a", "a", "ab"), ("ab",), ""),  # inserted, and deleted before the second read
        (("a", "a"), ("ab",), "1 row extra"),
        (("ab", "ab"), ("a",), "1 row missing"),
        (("ab", "a", "a"), ("a",), ""),
    ],
)
def test_a_difference_is_seen_twice(
    monkeypatch: pytest.MonkeyPatch,
    primary: tuple[str, ...],
    replica: tuple[str, ...],
    difference: str,
) -> None:
    monkeypatch.setattr(table_checksums, "checksum", lambda server, _: id(server))
    monkeypatch.setattr(table_checksums, "read_rows", lambda server, _: server.rows())
    table = table_checksums.Table("foobar", "markers", (), (), 2)
    source: Any = Server(*primary)
    copy: Any = Server(*replica)
    result = table_checksums.compare_table(source, copy, table, lambda: True, lambda: True)
    assert str(result or "").removeprefix("foobar.markers: ") == difference


def test_the_primary_commits_what_its_replica_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """With semi-sync, a row is on the replica while the commit on the primary still waits."""
    source: Any = Server("a")
    copy: Any = Server("ab")
    monkeypatch.setattr(table_checksums, "checksum", lambda server, _: id(server))
    monkeypatch.setattr(table_checksums, "read_rows", lambda server, _: server.rows())

    def commit() -> None:
        source.reads = [{"a": "x", "b": "x"}]

    table = table_checksums.Table("foobar", "markers", (), (), 2)
    assert table_checksums.compare_table(source, copy, table, lambda: True, commit) is None


def test_a_table_that_is_too_large_is_named() -> None:
    verdict = judge_data(replace(SAME, not_compared=("foobar.notes: too large (999999 rows)",)))
    assert verdict.ok
    assert "too large (999999 rows)" in verdict.got
    assert not judge_data(replace(SAME, differences=(TableDifference("t", missing=2),))).ok


# --- settings ------------------------------------------------------------------------------------


def test_an_option_file_is_read_as_mysql_shows_it() -> None:
    text = """[mysqld]
max_binlog_size = 64M
loose_rpl_semi_sync_source_timeout = 1500  # ms
default-time-zone = '+00:00'
log_bin = binlog
skip_log_error
tls_version = TLSv1.2,TLSv1.3
"""
    assert parse_configuration(text) == {
        "max_binlog_size": "67108864",
        "rpl_semi_sync_source_timeout": "1500",
        "time_zone": "+00:00",
        "tls_version": "TLSv1.2,TLSv1.3",
    }


def test_every_setting_of_the_template_is_compared() -> None:
    here = context()
    machine = here.lab.machine("web-02")
    values = dict(settings(here, machine).values)
    assert values["sync_binlog"] == "1"
    assert values["bind_address"] == f"127.0.0.1,{machine.address}"
    assert "super_read_only" not in values  # the role sets it
    assert DEFAULTS.items() <= values.items()
    text = configuration(here, machine)
    with_failover = expected_settings(text, automatic_failover=True)
    assert values.keys() - with_failover.keys() == {
        "rpl_semi_sync_source_timeout",
        "rpl_semi_sync_source_wait_no_replica",
    }


def test_persisted_variables_are_read_from_nested_sections() -> None:
    text = """{"Version": 2, "mysql_dynamic_variables": {"sync_binlog": {"Value": "0",
    "Metadata": {"Host": "", "User": "root", "Timestamp": 1}}},
    "mysql_static_variables": {"replica_skip_errors": {"Value": "all", "Metadata": {}}}}"""
    assert parse_persisted(text) == {"sync_binlog": "0", "replica_skip_errors": "all"}
    assert parse_persisted("") == {}
    assert parse_persisted("{") == {"mysqld-auto.cnf": "not readable"}


def test_differences_of_settings() -> None:
    resource = EffectiveSettings((("sync_binlog", "1"),))
    assert resource.differences(SettingsFacts("", {"sync_binlog": "1"})) == ()
    (item,) = resource.differences(SettingsFacts("", {"sync_binlog": "0"}))
    assert (item.key, item.before, item.after) == ("sync_binlog", "0", "1")
    facts = SettingsFacts("", {"sync_binlog": "1"}, {"sync_binlog": "0"})
    (item,) = resource.differences(facts)
    assert (item.key, item.before) == ("persisted", "sync_binlog = 0")
    (item,) = resource.differences(SettingsFacts("MySQL error 1040: Too many connections"))
    assert "1040" in item.before


def test_accounts_that_appear_later_differ() -> None:
    resource = OtherAccounts(("repl@10.0.0.0/24",))
    plugin = "caching_sha2_password"
    known = {**LOCAL, "repl@10.0.0.0/24": plugin}
    assert resource.differences(AccountList("", known, ())) == ()
    later = {**known, "x@%": plugin}
    (item,) = resource.differences(AccountList("", later, ()))
    assert (item.key, item.before) == ("unknown", "x@%")
    assert resource.differences(AccountList("", later, ("x@%",))) == ()
    (item,) = resource.differences(AccountList("", later, None))
    assert (item.key, item.after) == ("existing", "recorded")
    (item,) = resource.differences(AccountList("", {**known, "root@localhost": plugin}, ()))
    assert item.key == "root@localhost"
    # On provider ssh.
    kept = OtherAccounts(("repl@10.0.0.0/24",), drop=False)
    assert kept.differences(AccountList("", later, None)) == ()


class FakeSession:
    """A server with accounts; records the accounts that are dropped."""

    def __init__(self, *names: str) -> None:
        self.accounts = {**LOCAL, **dict.fromkeys(names, "caching_sha2_password")}
        self.dropped: list[str] = []

    def row(self, sql: str, values: list[str]) -> dict[str, str]:
        return {"CREATE USER": f"CREATE USER {values[0]}"}

    def query(self, sql: str, values: list[str]) -> list[dict[str, str]]:
        if sql.startswith("DROP USER"):
            self.dropped.append("@".join(values))
        return []


def test_only_accounts_that_appear_after_the_first_run_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, definitions = str(tmp_path / "accounts.json"), str(tmp_path / "dropped.sql")
    for module in (accounts, probes):
        monkeypatch.setattr(module, "RECORDED", record)
    monkeypatch.setattr(accounts, "DROPPED", definitions)
    monkeypatch.setattr(accounts, "list_accounts", lambda session: session.accounts)
    monkeypatch.setattr(os, "fchown", lambda *_: None, raising=False)

    def run(*names: str, drop: bool = True) -> tuple[list[str], list[str]]:
        session, journal = FakeSession(*names), Journal()
        monkeypatch.setattr(accounts, "connect_writable", lambda: nullcontext(session))
        args = {"known": list(LOCAL), "local": list(LOCAL), "replicated": False, "drop": drop}
        accounts.drop_other_accounts(args, journal, lambda _: None)
        return session.dropped, journal.copies.paths

    assert run("old@%", drop=False) == ([], [])
    assert probes.read_recorded_accounts() is None
    assert run("old@%") == ([], [])
    assert probes.read_recorded_accounts() == ("old@%",)
    assert run("old@%", "new@%", "newer@%") == (["new@%", "newer@%"], [definitions])
    assert "CREATE USER new;" in Path(definitions).read_text(encoding="utf-8")
    assert run("old@%", "new@%", drop=False) == ([], [])


def test_time_limits_of_the_comparison_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PATIENCE", "3")
    assert compare_with_primary(context()).args["factor"] == 3.0
