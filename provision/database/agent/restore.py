"""On the machine: a restored schema takes the place of the live one, in one step.

A backup is loaded into a schema of its own beside the live one; only when it is complete do its
tables change places with the live tables, in one atomic statement (the manual, "RENAME TABLE").
So a restore that fails at any point leaves the live data as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from provision.database.agent import role as mysql_role
from provision.database.agent.client import Client, name, quote
from provision.engine.agent.core import Failed, Say

OLD = "lab_replaced"
"""Where the replaced tables are for a moment."""


def begin(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Make an empty schema to load into: ``schema``; leftovers of earlier attempts are removed.

    Args:
        args: ``schema``; ``prefix``, of the names of all such schemas.
        say: reports progress.
    """
    with mysql_role.connect(0.0, 60.0) as client:
        if client.value("SELECT @@global.read_only") != "0":
            raise Failed("this database takes no writes")
        _tidy(client, args["prefix"])
        client.query(f"CREATE DATABASE {name(args['schema'])} CHARACTER SET utf8mb4")
    return {}


def _tidy(client: Client, prefix: str) -> None:
    for row in client.query("SELECT schema_name AS name FROM information_schema.schemata"):
        found = row["name"] or ""
        if found == OLD or found.startswith(prefix):
            client.query(f"DROP DATABASE {name(found)}")


def tables(client: Client, schema: str) -> list[str]:
    """The names of a schema's tables.

    Raises:
        Failed: when it has views, which RENAME TABLE does not move.
    """
    found = client.query(
        "SELECT table_name AS name, table_type AS type FROM information_schema.tables"
        f" WHERE table_schema = {quote(schema)} ORDER BY 1"
    )
    views = [row["name"] or "" for row in found if row["type"] != "BASE TABLE"]
    if views:
        raise Failed(f"schema {schema} has views, which cannot change places: {', '.join(views)}")
    return [row["name"] or "" for row in found]


def rows(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """How many rows each table of ``schema`` has."""
    schema = args["schema"]
    with mysql_role.connect(0.0, 600.0) as client:
        return {
            "rows": {
                table: int(client.value(f"SELECT COUNT(*) FROM {name(schema)}.{name(table)}"))
                for table in tables(client, schema)
            }
        }


def swap(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Let the tables of ``loaded`` take the place of those of ``live``, and remember that.

    Args:
        args: ``live``, ``loaded``, ``prefix``, and ``note`` for ``lab.restores``.
        say: reports progress.

    Returns:
        ``gtids``: what replicas must have to have it too.
    """
    live, loaded = args["live"], args["loaded"]
    say("exchanging the tables")
    with mysql_role.connect(0.0, 600.0) as client:
        client.query(
            "CREATE TABLE IF NOT EXISTS lab.restores (moment TIMESTAMP(6) NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP(6), gtids TEXT NOT NULL, note VARCHAR(200) NOT NULL)"
        )
        client.query(f"DROP DATABASE IF EXISTS {name(OLD)}")
        client.query(f"CREATE DATABASE {name(OLD)}")
        moves = exchange(live, loaded, tables(client, live), tables(client, loaded))
        client.query(moves)
        note = quote(args["note"][:200])
        client.query(
            f"INSERT INTO lab.restores (gtids, note) VALUES (@@global.gtid_executed, {note})"
        )
        _tidy(client, args["prefix"])
        return {"gtids": client.value("SELECT @@global.gtid_executed").replace("\n", "")}


def exchange(live: str, loaded: str, there: list[str], new: list[str]) -> str:
    """The one statement that exchanges all tables. A pure function."""
    moves = [f"{name(live)}.{name(t)} TO {name(OLD)}.{name(t)}" for t in there]
    moves += [f"{name(loaded)}.{name(t)} TO {name(live)}.{name(t)}" for t in new]
    return "RENAME TABLE " + ", ".join(moves)


def restores(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """The restores of this lab that ``after`` (a GTID set) does not cover, oldest first."""
    with mysql_role.connect(0.0, 30.0) as client:
        if not client.query("SHOW TABLES FROM lab LIKE 'restores'"):
            return {"restores": []}
        found = client.query(
            "SELECT ROUND(UNIX_TIMESTAMP(moment) * 1000000) AS moment, note FROM lab.restores"
            f" WHERE NOT GTID_SUBSET(gtids, {quote(args['after'])}) ORDER BY 1"
        )
        return {"restores": [{"moment": int(r["moment"] or 0), "note": r["note"]} for r in found]}


OPERATIONS: dict[str, Callable[[dict[str, Any], Say], Any]] = {
    "restore_begin": begin,
    "restore_rows": rows,
    "restore_swap": swap,
    "restores": restores,
}
