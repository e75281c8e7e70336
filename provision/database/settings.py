"""MySQL's effective settings: what lab.cnf says is what the running server must have.

An option file that sorts later, SET GLOBAL and SET PERSIST override the lab's file; the resource
`EffectiveSettings` compares the server's variables instead of files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from provision.database.agent.settings import SettingsFacts, settings_probe
from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Difference, Resource, State

NOT_VARIABLES = frozenset({"plugin_load_add", "skip_log_error", "mysqlx", "log_bin"})
"""Options of lab.cnf without a variable of the same name and value."""

OF_THE_ROLE = frozenset({"read_only", "super_read_only", "rpl_semi_sync_source_enabled"})
"""Set by a server's role (see `Replication`); the file has the value for the start."""

OF_THE_GUARD = frozenset({"rpl_semi_sync_source_timeout", "rpl_semi_sync_source_wait_no_replica"})
"""Set by the guard while automatic failover is on."""

SPELLED = {"default_time_zone": "time_zone"}
"""Variables with another name than their option."""

DEFAULTS: Mapping[str, str] = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_do_db": "",
    "binlog_ignore_db": "",
    "binlog_error_action": "ABORT_SERVER",
    "replica_skip_errors": "OFF",
    "replica_exec_mode": "STRICT",
    "replica_preserve_commit_order": "ON",
    "replica_sql_verify_checksum": "ON",
    "innodb_doublewrite": "ON",
    "innodb_force_recovery": "0",
    "innodb_read_only": "OFF",
    "offline_mode": "OFF",
    "skip_networking": "OFF",
    "init_connect": "",
    "init_replica": "",
    "mandatory_roles": "",
    "max_user_connections": "0",
    "foreign_key_checks": "ON",
    "unique_checks": "ON",
    "autocommit": "ON",
    "general_log": "OFF",
    "transaction_isolation": "REPEATABLE-READ",
    "default_storage_engine": "InnoDB",
}
"""Defaults that replication, durability or security depend on, and that lab.cnf does not repeat."""

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_configuration(text: str) -> dict[str, str]:
    """The variables that an option file sets, with values as SHOW VARIABLES prints them."""
    values = {}
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*(?:\s#.*)?$", line)
        if not match:
            continue
        name = match[1].lower().replace("-", "_").removeprefix("loose_")
        if name not in NOT_VARIABLES:
            values[SPELLED.get(name, name)] = _as_shown(match[2])
    return values


def _as_shown(value: str) -> str:
    value = value.strip("'\"")
    if size := re.fullmatch(r"(\d+)([KMG])", value):
        return str(int(size[1]) * UNITS[size[2]])
    return value


def expected_settings(configuration: str, *, automatic_failover: bool = False) -> dict[str, str]:
    """What the server's variables must be, according to its configuration and `DEFAULTS`."""
    ignored = OF_THE_ROLE | (OF_THE_GUARD if automatic_failover else frozenset())
    values = {**DEFAULTS, **parse_configuration(configuration)}
    return {name: value for name, value in values.items() if name not in ignored}


@dataclass(frozen=True)
class EffectiveSettings(Resource[SettingsFacts]):
    """The variables of the running server, and none persisted.

    Args:
        values: pairs of a variable's name and value.
    """

    values: tuple[tuple[str, str], ...]

    @property
    def runtime(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return "effective settings"

    def probe(self) -> Probe[SettingsFacts]:
        return settings_probe()

    def expected(self) -> State:
        return {**dict(self.values), "persisted": "nothing"}

    def actual(self, result: SettingsFacts) -> State:
        values = {name: result.values.get(name, "") for name, _ in self.values}
        persisted = ", ".join(f"{n} = {v}" for n, v in sorted(result.persisted.items()))
        return {**values, "persisted": persisted or "nothing"}

    def differences(self, result: SettingsFacts) -> tuple[Difference, ...]:
        if result.error:
            return (Difference("server", f"not readable: {result.error}", "as configured"),)
        return super().differences(result)

    def actions(self, result: SettingsFacts) -> list[Action]:
        return [Action("mysql_settings", {"values": dict(self.values)})]
