"""Operations of a restore: a loaded schema replaces the live one in one step.

A backup is loaded into a separate schema. Only when it is complete do its tables and the live
tables change places, in one atomic statement (the manual, "RENAME TABLE"). So a restore that fails
at any point leaves the live data unchanged.
"""

from __future__ import annotations

from provision.database.agent import requests
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import Done, RestoreHistory, RowCounts
from provision.database.agent.results import RestoreRecord
from provision.database.agent.session import MysqlSession, connect_local, quote_name
from provision.engine.agent.codec import decode
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.registry import Args, operation

REPLACED = "lab_replaced"
"""The schema that holds the replaced tables for a moment."""


@operation("mysql.begin_restore")
def begin_restore(args: Args, log: Log) -> Done:
    """See `BeginRestore`."""
    request = decode(requests.BeginRestore, args)
    with connect_local(60.0) as session:
        if session.value("SELECT @@global.read_only") != "0":
            raise AgentError("this database is read-only")
        _drop_temporary(session, request.prefix)
        session.query(f"CREATE DATABASE {quote_name(request.schema)} CHARACTER SET utf8mb4")
    return Done()


def _drop_temporary(session: MysqlSession, prefix: str) -> None:
    for row in session.query("SELECT schema_name AS name FROM information_schema.schemata"):
        name = row["name"] or ""
        if name == REPLACED or name.startswith(prefix):
            session.query(f"DROP DATABASE {quote_name(name)}")


def _tables(session: MysqlSession, schema: str) -> list[str]:
    """The names of a schema's tables.

    Raises:
        AgentError: when it has views, which RENAME TABLE does not move.
    """
    rows = session.query(
        "SELECT table_name AS name, table_type AS type FROM information_schema.tables"
        " WHERE table_schema = %s ORDER BY 1",
        [schema],
    )
    views = [row["name"] or "" for row in rows if row["type"] != "BASE TABLE"]
    if views:
        raise AgentError(f"schema {schema} has views, which cannot be moved: {', '.join(views)}")
    return [row["name"] or "" for row in rows]


@operation("mysql.count_rows")
def count_rows(args: Args, log: Log) -> RowCounts:
    """See `CountRows`."""
    schema = decode(requests.CountRows, args).schema
    with connect_local(600.0) as session:
        return RowCounts(
            {table: _count(session, schema, table) for table in _tables(session, schema)}
        )


def _count(session: MysqlSession, schema: str, table: str) -> int:
    return int(session.value(f"SELECT COUNT(*) FROM {quote_name(schema)}.{quote_name(table)}"))


@operation("mysql.swap_tables")
def swap_tables(args: Args, log: Log) -> GtidSet:
    """See `SwapTables`."""
    request = decode(requests.SwapTables, args)
    live, loaded = request.live, request.loaded
    log("exchanging the tables")
    with connect_local(600.0) as session:
        session.query(
            "CREATE TABLE IF NOT EXISTS lab.restores (moment TIMESTAMP(6) NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP(6), gtids TEXT NOT NULL, note VARCHAR(200) NOT NULL)"
        )
        session.query(f"DROP DATABASE IF EXISTS {quote_name(REPLACED)}")
        session.query(f"CREATE DATABASE {quote_name(REPLACED)}")
        session.query(
            rename_statement(live, loaded, _tables(session, live), _tables(session, loaded))
        )
        session.query(
            "INSERT INTO lab.restores (gtids, note) VALUES (@@global.gtid_executed, %s)",
            [request.note[:200]],
        )
        _drop_temporary(session, request.prefix)
        return GtidSet(session.value("SELECT @@global.gtid_executed"))


def rename_statement(
    live: str, loaded: str, live_tables: list[str], loaded_tables: list[str]
) -> str:
    """One statement that moves the live tables away and the loaded tables into their place."""
    moves = [(live, table, REPLACED) for table in live_tables]
    moves += [(loaded, table, live) for table in loaded_tables]
    return "RENAME TABLE " + ", ".join(
        f"{quote_name(source)}.{quote_name(table)} TO {quote_name(target)}.{quote_name(table)}"
        for source, table, target in moves
    )


@operation("mysql.list_restores")
def list_restores(args: Args, log: Log) -> RestoreHistory:
    """See `ListRestores`."""
    after = decode(requests.ListRestores, args).after
    with connect_local(30.0) as session:
        if not session.query("SHOW TABLES FROM lab LIKE 'restores'"):
            return RestoreHistory(())
        rows = session.query(
            "SELECT ROUND(UNIX_TIMESTAMP(moment) * 1000000) AS moment, note FROM lab.restores"
            " WHERE NOT GTID_SUBSET(gtids, %s) ORDER BY 1",
            [after.text],
        )
    return RestoreHistory(
        tuple(RestoreRecord(int(row["moment"] or 0), row["note"] or "") for row in rows)
    )
