"""Effective settings of a server: its global variables, and what SET PERSIST left.

SHOW GLOBAL VARIABLES works with the performance schema off. Persisted variables are read from
mysqld-auto.cnf (the manual, "Persisted System Variables"), which overrides every option file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provision.database.agent.probes import SECONDS
from provision.database.agent.session import (
    SERVER_LOST,
    MysqlError,
    MysqlSession,
    connect_local,
    quote_name,
)
from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector
from provision.engine.agent.services import activate

SERVICE = "mysql.service"
PERSISTED = "/var/lib/mysql/mysqld-auto.cnf"
FILTERS = ("Binlog_Do_DB", "Binlog_Ignore_DB")
"""Columns of SHOW BINARY LOG STATUS; they are in no variable."""

START_SECONDS = 60.0


@dataclass(frozen=True)
class SettingsFacts:
    """Global variables of a server.

    Args:
        error: why there are none; MySQL's number and text.
        values: by lower-case name, also ``binlog_do_db`` and ``binlog_ignore_db``.
        persisted: names in mysqld-auto.cnf, with their values.
    """

    error: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    persisted: Mapping[str, str] = field(default_factory=dict)


def settings_probe() -> Probe[SettingsFacts]:
    """The machine's effective and persisted settings."""
    return Probe("mysql.settings", "MySQL settings", {}, SettingsFacts)


@collector("mysql.settings")
def collect_settings(args: Args) -> SettingsFacts:
    """See `settings_probe`.

    Raises:
        MysqlError: when the server accepts the connection and does not respond.
    """
    try:
        with connect_local(SECONDS) as session:
            values = read_values(session)
    except MysqlError as error:
        if error.code == SERVER_LOST:
            raise  # it runs, and its settings are unknown
        return SettingsFacts(str(error))
    try:
        persisted = parse_persisted(read_text(PERSISTED))
    except (OSError, AgentError):
        persisted = {}
    return SettingsFacts("", values, persisted)


def read_values(session: MysqlSession) -> dict[str, str]:
    """Every global variable, and the filters of the binary log."""
    rows = session.query("SHOW GLOBAL VARIABLES")
    values = {str(row["Variable_name"]).lower(): row["Value"] or "" for row in rows}
    status = session.row("SHOW BINARY LOG STATUS")
    return {**values, **{name.lower(): status.get(name) or "" for name in FILTERS}}


def parse_persisted(text: str) -> dict[str, str]:
    """The variables in mysqld-auto.cnf; a file that cannot be parsed is one entry."""
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return {"mysqld-auto.cnf": "not readable"}
    persisted: dict[str, str] = {}

    def walk(node: Any) -> None:
        if not isinstance(node, dict):
            return
        for name, value in node.items():
            if isinstance(value, dict) and "Value" in value:
                persisted[name.lower()] = str(value["Value"])
            else:
                walk(value)

    walk(data)
    return persisted


@action("mysql_settings")
def apply_settings(args: Args, journal: Journal, log: Log) -> None:
    """Set variables as configured; restart mysqld only for those that are not dynamic.

    Args:
        args: ``values`` by name.

    Raises:
        AgentError: when a value is still another one after the restart.
    """
    wanted: Mapping[str, str] = args["values"]
    with connect_local(30.0, wait=START_SECONDS) as session:
        _reset_persisted(session, log)
        differing = _differing(session, wanted)
        for name in differing:
            log(f"SET GLOBAL {name}")
            _set_global(session, name, wanted[name])
        if any(name == "server_id" or name.startswith("replica_") for name in differing):
            _restart_threads(session)
        remaining = _differing(session, wanted)
    if not remaining:
        return
    log(f"{', '.join(remaining)} cannot be changed at run time")
    activate(SERVICE, "restart", log)
    with connect_local(30.0, wait=START_SECONDS) as session:
        values = read_values(session)
        remaining = [name for name in remaining if values.get(name, "") != wanted[name]]
    if remaining:
        text = ", ".join(f"{name} is {values.get(name, 'unknown')!r}" for name in remaining)
        raise AgentError(
            f"after a restart {text}: an option file or the command line overrides zz-lab.cnf",
        )


def _differing(session: MysqlSession, wanted: Mapping[str, str]) -> list[str]:
    values = read_values(session)
    return [name for name, value in wanted.items() if values.get(name, "") != value]


def _reset_persisted(session: MysqlSession, log: Log) -> None:
    try:
        persisted = parse_persisted(read_text(PERSISTED))
    except (OSError, AgentError):
        return
    if persisted:
        log(f"RESET PERSIST ({', '.join(f'{n} was {v}' for n, v in persisted.items())})")
        session.query("RESET PERSIST")


def _set_global(session: MysqlSession, name: str, value: str) -> None:
    """Set a variable; one that is not dynamic, or only in steps, keeps its value."""
    try:
        if value.isdigit():
            session.query(f"SET GLOBAL {quote_name(name)} = {value}")
        else:
            session.query(f"SET GLOBAL {quote_name(name)} = %s", [value])
    except MysqlError:
        return


def _restart_threads(session: MysqlSession) -> None:
    row = session.row("SHOW REPLICA STATUS")
    if row and row.get("Replica_IO_Running") != "No":
        session.query("STOP REPLICA")
        session.query("START REPLICA")
