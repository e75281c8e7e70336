"""A replica compared with its primary, queried from the replica's machine in one probe.

Both servers are asked in an order that makes the answer exact while writes continue: the replica's
GTID set is read before the primary's (so what it has more is errant), and transactions that the
primary has are then waited for (so what is missing was committed before the wait).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass, field, replace

from provision.database.agent.gtid import GtidSet
from provision.database.agent.session import (
    CA,
    MysqlError,
    MysqlSession,
    connect_local,
    connect_remote,
)
from provision.database.agent.table_checksums import (
    TableDifference,
    compare_table,
    read_tables,
)
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector

SCHEMAS = ("foobar", "lab", "app")
"""What is compared: the guest book's data, the lab's own, and those of the user's application."""

COMMIT_SECONDS = 0.5
"""For the primary to commit what its replica has acknowledged (AFTER_SYNC)."""

WAIT_SECONDS = 1.0
"""How long missing transactions are waited for; a healthy replica has them within milliseconds."""

COMPARE_SECONDS = 3.0
"""How long all tables may take together."""

PEER_SECONDS = 5.0
"""How long the primary may take to connect, and for each response."""

COMMITTED = re.compile(rb"original_commit_timestamp=(\d+)")
LOG_SECONDS = 2.0
"""How long the primary's binary log may take to show its first missing transaction."""


@dataclass(frozen=True)
class Comparison:
    """What a replica has and lacks.

    Args:
        error: why the primary could not be queried; MySQL's number and text.
        errant: transactions that the primary lacks.
        missing: transactions that the replica lacks, after waiting `WAIT_SECONDS` for them.
        oldest: seconds since the oldest missing transaction was committed; None when unknown.
        tables: number of tables whose rows were compared.
        not_compared: tables that were not, each with the reason.
    """

    error: str = ""
    primary_uuid: str = ""
    primary_server_id: str = ""
    server_id: str = ""
    uuid: str = ""
    errant: GtidSet = field(default_factory=GtidSet)
    missing: GtidSet = field(default_factory=GtidSet)
    oldest: float | None = None
    tables: int = 0
    differences: tuple[TableDifference, ...] = ()
    not_compared: tuple[str, ...] = ()


def comparison_probe(
    address: str, user: str, password: str, factor: float = 1.0
) -> Probe[Comparison]:
    """The machine's replica compared with the primary.

    Args:
        address: of the primary.
        user: the account that replicates; it may read everything that is compared.
        factor: by which all time limits are multiplied.
    """
    args = {"address": address, "user": user, "password": password, "factor": factor}
    return Probe("mysql.comparison", "replica and primary", args, Comparison)


@collector("mysql.comparison")
def collect_comparison(args: Args) -> Comparison:
    """See `comparison_probe`."""
    try:
        with connect_local() as replica:
            try:
                primary = connect_remote(
                    args["address"],
                    args["user"],
                    args["password"],
                    PEER_SECONDS * args["factor"],
                )
            except MysqlError as error:
                return Comparison(f"cannot log in to the primary as {args['user']}: {error}")
            with primary:
                for session in (primary, replica):
                    session.query("SET SESSION lock_wait_timeout = 1")
                return compare(primary, replica, args)
    except MysqlError as error:
        return Comparison(str(error))


def compare(primary: MysqlSession, replica: MysqlSession, args: Args) -> Comparison:
    """Compare GTID sets, then tables if the replica has every transaction."""
    own = replica.row("SELECT @@server_id AS id, @@server_uuid AS uuid, @@gtid_executed AS done")
    other = primary.row("SELECT @@server_id AS id, @@server_uuid AS uuid, @@gtid_executed AS done")
    executed, of_primary = GtidSet(own["done"] or ""), GtidSet(other["done"] or "")
    errant = executed - of_primary
    if errant:
        # With semi-sync a replica may commit before the primary, which waits for it (AFTER_SYNC).
        _executed(primary, errant, COMMIT_SECONDS * args["factor"])
        errant -= GtidSet(primary.value("SELECT @@global.gtid_executed"))
    missing = GtidSet()
    if not _wait_for(replica, of_primary, WAIT_SECONDS * args["factor"]):
        missing = of_primary - GtidSet(replica.value("SELECT @@global.gtid_executed"))
    oldest = _age_of_oldest(executed, args) if missing else None
    comparison = Comparison(
        primary_uuid=other["uuid"] or "",
        primary_server_id=str(other["id"]),
        uuid=own["uuid"] or "",
        server_id=str(own["id"]),
        errant=errant,
        missing=missing,
        oldest=oldest,
    )
    if missing or errant:
        return comparison
    tables, differences, not_compared = _compare_tables(primary, replica, args["factor"])
    return replace(comparison, tables=tables, differences=differences, not_compared=not_compared)


def _wait_for(replica: MysqlSession, gtids: GtidSet, seconds: float) -> bool:
    """Wait until transactions are applied; at once False when the applier does not run."""
    if not (gtids - GtidSet(replica.value("SELECT @@global.gtid_executed"))):
        return True
    threads = replica.row("SHOW REPLICA STATUS")
    if threads.get("Replica_SQL_Running") != "Yes":
        return False
    return _executed(replica, gtids, seconds)


def _executed(session: MysqlSession, gtids: GtidSet, seconds: float) -> bool:
    """Wait until a server has executed transactions; False when the time is over."""
    waited = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)"
    return session.value(waited, [gtids.text, seconds]) == "0"


def _compare_tables(
    primary: MysqlSession, replica: MysqlSession, factor: float
) -> tuple[int, tuple[TableDifference, ...], tuple[str, ...]]:
    """Compare all tables until `COMPARE_SECONDS` are over."""
    deadline = time.monotonic() + COMPARE_SECONDS * factor
    ours, theirs = read_tables(replica, SCHEMAS), read_tables(primary, SCHEMAS)
    compared, differences, left_out = 0, [], []

    def catch_up() -> bool:
        done = GtidSet(primary.value("SELECT @@global.gtid_executed"))
        return _wait_for(replica, done, WAIT_SECONDS * factor)

    def commit() -> bool:
        done = GtidSet(replica.value("SELECT @@global.gtid_executed"))
        return _executed(primary, done, COMMIT_SECONDS * factor)

    if ours.keys() != theirs.keys():
        # A table may have been created or dropped between the two queries.
        catch_up()
        ours, theirs = read_tables(replica, SCHEMAS), read_tables(primary, SCHEMAS)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            where = "only on the replica" if name in ours else "not on the replica"
            differences.append(TableDifference(name, other=where))
        elif ours[name].columns != theirs[name].columns:
            differences.append(TableDifference(name, other="other columns"))
        elif time.monotonic() > deadline:
            left_out.append(f"{name}: no time left")
        else:
            result = compare_table(primary, replica, theirs[name], catch_up, commit)
            if isinstance(result, str):
                left_out.append(result)
            else:
                compared += 1
                if result is not None:
                    differences.append(result)
    return compared, tuple(differences), tuple(left_out)


def _age_of_oldest(executed: GtidSet, args: Args) -> float | None:
    """Seconds since the oldest transaction that this server lacks was committed.

    The primary's binary log is read from there on (mysqlbinlog, "--exclude-gtids"); None when it
    does not hold it, or does not respond in time.
    """
    argv = [
        "mysqlbinlog",
        "--read-from-remote-source=BINLOG-DUMP-GTIDS",
        f"--host={args['address']}",
        f"--user={args['user']}",
        "--ssl-mode=VERIFY_CA",
        f"--ssl-ca={CA}",
        f"--exclude-gtids={executed.text}",
        "--to-last-log",
        "",  # the first log; the GTID set decides where it starts
    ]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MYSQL_PWD": args["password"]},
    )
    deadline = time.monotonic() + LOG_SECONDS * args["factor"]
    try:
        return _first_commit(process, deadline)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def _first_commit(process: subprocess.Popen[bytes], deadline: float) -> float | None:
    import selectors

    assert process.stdout is not None
    text = b""
    with selectors.DefaultSelector() as selector, process.stdout as stdout:
        selector.register(stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and selector.select(left):
            chunk = os.read(stdout.fileno(), 65536)
            text = text[-100:] + chunk
            if match := COMMITTED.search(text):
                return max(0.0, time.time() - int(match[1]) / 1_000_000)
            if not chunk:
                return None
    return None
