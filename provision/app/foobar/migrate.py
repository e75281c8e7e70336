"""Apply the pending migrations of this release to the primary: `python3 -m foobar.migrate`.

Prints one line of JSON: {"database", "applied", "pending", "unknown"}, with names
and numbers. Exits with 0, or with 1 and a message on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection

from foobar.migrations import Migration, MigrationError, MigrationPlan, load, plan
from foobar.session import StrictConnection

LOCK = "foobar.migrate"
STATEMENT_SECONDS = 600

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  number INT UNSIGNED NOT NULL,
  name VARCHAR(255) NOT NULL,
  checksum CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  applied DATETIME(3) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (number)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci
"""


def connect(environ: Mapping[str, str], socket: str | None, database: str) -> Connection[Any]:
    """Connect to the primary as an account that may create tables.

    Args:
        environ: FOOBAR_MIGRATE_USER (root) and FOOBAR_MIGRATE_PASSWORD (empty); without a
            socket also FOOBAR_MIGRATE_HOST and FOOBAR_MIGRATE_CA, a CA file: TLS is used then.
        socket: path of MySQL's Unix socket, where auth_socket needs no password.

    Raises:
        MigrationError: a variable is missing, or MySQL refuses the connection.
    """
    user = environ.get("FOOBAR_MIGRATE_USER", "root")
    password = environ.get("FOOBAR_MIGRATE_PASSWORD", "")
    options: dict[str, Any] = {
        "user": user,
        "password": password,
        "database": database,
        "charset": "utf8mb4",
        "autocommit": True,
        "connect_timeout": 10,
        "read_timeout": STATEMENT_SECONDS,
    }
    host = environ.get("FOOBAR_MIGRATE_HOST")
    authority = environ.get("FOOBAR_MIGRATE_CA")
    if not socket and not (host and authority):
        raise MigrationError(
            "missing the primary: --socket PATH, or FOOBAR_MIGRATE_HOST and FOOBAR_MIGRATE_CA"
        )
    try:
        if socket:
            return Connection(unix_socket=socket, ssl_disabled=True, **options)
        return StrictConnection(
            host=host, ssl=ssl.create_default_context(cafile=authority), **options
        )
    except (pymysql.MySQLError, OSError) as error:
        where = socket or host
        raise MigrationError(
            f"cannot connect to {database} at {where} as {user}: {error}"
        ) from error


def migrate(
    connection: Connection[Any], migrations: Sequence[Migration], *, wait: int, check: bool
) -> tuple[MigrationPlan, list[str]]:
    """Apply pending migrations in order; return the plan and the names of the applied files.

    Args:
        wait: seconds to wait for another run.
        check: compare only, change nothing.

    Raises:
        MigrationError: the server is read-only, another run is active, or a file failed.
    """
    with connection.cursor() as cursor:
        if check:
            return plan(migrations, _applied(cursor)), []
        cursor.execute("SELECT @@global.super_read_only OR @@global.read_only")
        if _first(cursor) != 0:
            raise MigrationError("this server is read-only: run the migration on the primary")
        cursor.execute("SELECT GET_LOCK(%s, %s)", (LOCK, wait))
        if _first(cursor) != 1:
            raise MigrationError(f"another migration is still running after {wait} s")
        try:
            cursor.execute(_TABLE)
            todo = plan(migrations, _applied(cursor))
            return todo, [_apply(cursor, migration) for migration in todo.pending]
        finally:
            if connection.open:
                cursor.execute("SELECT RELEASE_LOCK(%s)", (LOCK,))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m foobar.migrate", description=__doc__)
    parser.add_argument("--socket", help="MySQL's Unix socket, to connect as the account's owner")
    parser.add_argument("--database", default="foobar", help="the schema (%(default)s)")
    parser.add_argument("--wait", type=int, default=30, help="seconds to wait for another run")
    parser.add_argument("--check", action="store_true", help="only print what is pending")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "migrations",
        help="folder of the migrations (default: of this release)",
    )
    options = parser.parse_args(arguments)
    try:
        migrations = load(options.directory)
        connection = connect(os.environ, options.socket, options.database)
        with connection:
            todo, applied = migrate(connection, migrations, wait=options.wait, check=options.check)
    except MigrationError as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    except pymysql.MySQLError as error:
        print(f"migrate: MySQL error: {error}", file=sys.stderr)
        return 1
    pending = [m.name for m in todo.pending if m.name not in applied]
    result = {
        "database": options.database,
        "applied": applied,
        "pending": pending,
        "unknown": list(todo.unknown),
    }
    print(json.dumps(result))
    return 0


def _apply(cursor: Any, migration: Migration) -> str:
    for position, statement in enumerate(migration.statements, 1):
        try:
            cursor.execute(statement)
        except pymysql.MySQLError as error:
            raise MigrationError(
                f"{migration.name}, statement {position} of {len(migration.statements)}, failed:"
                f" {error}; earlier statements were applied, later ones were not"
            ) from error
    cursor.execute(
        "INSERT INTO schema_migrations (number, name, checksum, applied)"
        " VALUES (%s, %s, %s, UTC_TIMESTAMP(3))",
        (migration.number, migration.name, migration.checksum),
    )
    return migration.name


def _applied(cursor: Any) -> dict[int, str]:
    cursor.execute("SHOW TABLES LIKE 'schema\\_migrations'")
    if not cursor.fetchall():
        return {}
    cursor.execute("SELECT number, checksum FROM schema_migrations")
    return dict(cursor.fetchall())


def _first(cursor: Any) -> object:
    row = cursor.fetchone()
    return row[0] if row else None


if __name__ == "__main__":
    sys.exit(main())
