"""Compare the rows of tables on two servers, with bounded cost and while they are written to.

First one checksum per table. Only tables that differ are read row by row; a row counts as different
when the primary has it before and after the replica was read, and the replica has another one. So
rows that are being written are no differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from provision.database.agent.session import MysqlError, MysqlSession, quote_name

MAX_ROWS = 100_000
"""Estimated rows up to which a table is compared."""

TABLE_MS = 1000
"""Milliseconds that a server may take for one query (MAX_EXECUTION_TIME)."""

TOO_LONG = 3024
"""ER_QUERY_TIMEOUT."""

LOCKED = 1205
"""ER_LOCK_WAIT_TIMEOUT."""

TABLES = (
    "SELECT t.table_schema AS table_schema, t.table_name AS table_name,"
    " t.table_rows AS table_rows FROM information_schema.tables t"
    " WHERE t.table_type = 'BASE TABLE' AND t.table_schema IN ({schemas})"
)
COLUMNS = (
    "SELECT table_schema AS table_schema, table_name AS table_name, column_name AS column_name,"
    " column_type AS column_type, column_key AS column_key FROM information_schema.columns"
    " WHERE table_schema IN ({schemas}) ORDER BY table_schema, table_name, ordinal_position"
)


@dataclass(frozen=True)
class Table:
    """A table's name, columns and estimated size.

    Args:
        columns: names and types, in their order.
        key: the primary key's columns; all columns without one.
    """

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    rows: int

    @property
    def text(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class TableDifference:
    """How a table on the replica differs.

    Args:
        missing: rows that only the primary has.
        extra: rows that only the replica has.
        changed: rows with another content.
        other: a difference that is not in rows, such as ``other columns``.
    """

    table: str
    missing: int = 0
    extra: int = 0
    changed: int = 0
    other: str = ""

    def __str__(self) -> str:
        counts = {"missing": self.missing, "extra": self.extra, "changed": self.changed}
        rows = ", ".join(f"{n} {'row' if n == 1 else 'rows'} {w}" for w, n in counts.items() if n)
        return f"{self.table}: {self.other or rows}"


Rows = Mapping[str, str]
"""Checksum of each row, by a digest of its primary key."""


def read_tables(session: MysqlSession, schemas: Sequence[str]) -> dict[str, Table]:
    """The tables of schemas, by ``schema.table``; views and temporary tables excluded."""
    session.query("SET SESSION information_schema_stats_expiry = 0")
    names = ", ".join(["%s"] * len(schemas))
    columns: dict[str, list[tuple[str, str]]] = {}
    keys: dict[str, list[str]] = {}
    for row in session.query(COLUMNS.format(schemas=names), schemas):
        table = f"{row['table_schema']}.{row['table_name']}"
        columns.setdefault(table, []).append((str(row["column_name"]), str(row["column_type"])))
        if row["column_key"] == "PRI":
            keys.setdefault(table, []).append(str(row["column_name"]))
    tables = {}
    for row in session.query(TABLES.format(schemas=names), schemas):
        text = f"{row['table_schema']}.{row['table_name']}"
        own = tuple(columns.get(text, ()))
        key = tuple(keys.get(text, ())) or tuple(name for name, _ in own)
        rows = int(row["table_rows"] or 0)
        tables[text] = Table(str(row["table_schema"]), str(row["table_name"]), own, key, rows)
    return tables


def _digest(columns: Iterable[str]) -> str:
    """A CRC of columns; NULL differs from an empty value."""
    columns = list(columns)
    values = ", ".join(f"IFNULL(CAST({quote_name(c)} AS BINARY), 0x00)" for c in columns)
    nulls = ", ".join(f"ISNULL({quote_name(c)})" for c in columns)
    return f"CONCAT_WS('#', {values}, CONCAT({nulls}))"


def checksum(session: MysqlSession, table: Table) -> str:
    """Number of rows and order-independent checksums of all values.

    Raises:
        MysqlError: `TOO_LONG` after `TABLE_MS`.
    """
    crc = f"CRC32({_digest(name for name, _ in table.columns)})"
    source = f"{quote_name(table.schema)}.{quote_name(table.name)}"
    row = session.row(
        f"SELECT /*+ MAX_EXECUTION_TIME({TABLE_MS}) */ COUNT(*) AS n, BIT_XOR({crc}) AS x,"
        f" SUM({crc}) AS s FROM {source}"
    )
    return f"{row['n']} {row['x']} {row['s']}"


def read_rows(session: MysqlSession, table: Table) -> Rows:
    """Checksums of single rows.

    Raises:
        MysqlError: `TOO_LONG` after `TABLE_MS`.
    """
    source = f"{quote_name(table.schema)}.{quote_name(table.name)}"
    rows = session.query(
        f"SELECT /*+ MAX_EXECUTION_TIME({TABLE_MS}) */ SHA2({_digest(table.key)}, 256) AS k,"
        f" CRC32({_digest(name for name, _ in table.columns)}) AS c FROM {source}"
    )
    checksums: dict[str, str] = {}
    for row in rows:  # equal rows of a table without a primary key have the same key
        key, crc = str(row["k"]), str(row["c"])
        checksums[key] = f"{checksums[key]} {crc}" if key in checksums else crc
    return checksums


def compare_rows(table: str, before: Rows, replica: Rows, after: Rows) -> TableDifference | None:
    """Differences in rows that did not change on the primary while the replica was read.

    Args:
        before: the primary's rows, read before those of the replica.
        after: the primary's rows, read after those of the replica.
    """
    stable = {key: value for key, value in before.items() if after.get(key) == value}
    missing = sum(key not in replica for key in stable)
    changed = sum(replica.get(key, value) != value for key, value in stable.items())
    extra = sum(key not in before and key not in after for key in replica)
    if not missing and not changed and not extra:
        return None
    return TableDifference(table, missing, extra, changed)


def compare_table(
    primary: MysqlSession,
    replica: MysqlSession,
    table: Table,
    catch_up: Callable[[], bool],
    commit: Callable[[], object],
) -> TableDifference | str | None:
    """Compare one table; a text says why it cannot be compared.

    A difference counts only when it is seen twice: a row may be inserted and deleted between two
    reads of the primary.

    Args:
        catch_up: waits until the replica has every transaction that the primary has by then; False
            when it does not get them in time.
        commit: waits until the primary has committed what the replica has by then (with semi-sync,
            a replica may commit first).
    """
    if table.rows > MAX_ROWS:
        return f"{table.text}: too large ({table.rows} rows)"
    try:
        expected = checksum(primary, table)
        if checksum(replica, table) == expected:
            return None
        difference = None
        for _ in range(2):
            # The replica may be behind, or the table is being written to.
            before = read_rows(primary, table)
            if not catch_up():
                return f"{table.text}: the replica did not catch up in time"
            rows = read_rows(replica, table)
            commit()
            difference = compare_rows(table.text, before, rows, read_rows(primary, table))
            if difference is None:
                break
        return difference
    except MysqlError as error:
        if error.code == 0 or 2000 <= error.code < 3000:  # of the client: a lost session
            return f"{table.text}: {error}"
        if error.code == TOO_LONG:
            return f"{table.text}: too large (longer than {TABLE_MS} ms)"
        if error.code == LOCKED:
            return f"{table.text}: locked"
        return TableDifference(table.text, other=str(error))
