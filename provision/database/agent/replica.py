"""A server becomes a replica of the recorded primary.

A server with transactions that the primary lacks is never attached and never overwritten here,
except when it was never part of the lab.
"""

from __future__ import annotations

import time

from provision.database.agent.relay_log import start_new_generation
from provision.database.agent.requests import ReplicationAccount
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ReplicaStatus, ServerStatus
from provision.database.agent.session import CA, MysqlSession
from provision.database.agent.status_query import (
    query_peers,
    read_replica_status,
    read_server_status,
)
from provision.database.agent.write_access import make_read_only
from provision.engine.agent.process import AgentError, Log

THREADS_SECONDS = 15.0
"""How long the replication threads may take to run."""

BACKLOG_SECONDS = 3.0
"""How long the applier is watched for an error while it has a backlog."""

CANNOT_CATCH_UP = (1236, 13114, 13117)
"""Errors of the receiver thread: the source no longer holds what the replica needs."""

CHANGE_SOURCE = (
    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = 3306,"
    " SOURCE_USER = %s, SOURCE_PASSWORD = %s, SOURCE_AUTO_POSITION = 1, SOURCE_DELAY = 0,"
    " SOURCE_SSL = 1, SOURCE_SSL_CA = %s, SOURCE_SSL_VERIFY_SERVER_CERT = 1,"
    " IGNORE_SERVER_IDS = (),"
    # Retry a dead source every second without limit (the default gives up after ten attempts).
    " SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 1"
)

NO_FILTERS = ", ".join(
    f"REPLICATE_{name} = ()"
    for name in (
        "DO_DB",
        "IGNORE_DB",
        "DO_TABLE",
        "IGNORE_TABLE",
        "WILD_DO_TABLE",
        "WILD_IGNORE_TABLE",
        "REWRITE_DB",
    )
)


class CannotCatchUpError(Exception):
    """The source no longer has what the replica needs; only a clone helps."""


def query_primary(record: RoleRecord) -> ServerStatus:
    """The status of the recorded primary, over the network.

    Raises:
        AgentError: when it does not respond.
    """
    primary = query_peers({record.primary: record.primary_address}, 5.0)[record.primary]
    if not primary.up:
        raise AgentError(f"the primary {record.primary} does not respond", primary.error)
    return primary


def try_replicate(
    session: MysqlSession, record: RoleRecord, account: ReplicationAccount, log: Log
) -> bool:
    """Replicate from the recorded primary; False when the server must be cloned first.

    Raises:
        AgentError: when this server has errant transactions, or the primary does not respond.
    """
    make_read_only(session)
    try:
        primary = query_primary(record)
    except AgentError:
        if _has_source(session, record):
            session.query("START REPLICA")
        raise
    own = read_server_status(session)
    if own.executed and _is_new(session, own):
        # What it has comes from its installation.
        _reset_gtids(session)
        own = read_server_status(session)
    errant = own.executed - primary.executed
    if errant:
        raise AgentError(
            f"{record.machine} has transactions that the primary {record.primary} lacks: {errant}; "
            f"nothing was changed. invoke db.rejoin {record.machine} saves them to a file and "
            "rebuilds the server"
        )
    if primary.purged - own.executed:
        log(f"{record.primary} has purged binary logs that this server needs: cloning")
        return False
    if not own.executed and record.epoch > 1:
        # A server skips transactions with its own server_id (the manual, replicate_same_server_id).
        # A recreated machine has the server_id of its predecessor, so it would skip everything that
        # was written while that one was primary.
        log("there were earlier primaries, maybe on this machine: cloning")
        return False
    try:
        attach(session, record, account, log)
    except CannotCatchUpError as error:
        log(f"cannot catch up ({error}): cloning")
        return False
    return True


def _is_new(session: MysqlSession, own: ServerStatus) -> bool:
    """Whether a server was never part of the lab: it has no epoch and no schema."""
    return own.epoch == 0 and not session.query(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name NOT IN"
        " ('mysql', 'sys', 'performance_schema', 'information_schema')"
    )


def _reset_gtids(session: MysqlSession) -> None:
    start_new_generation()
    if session.query("SHOW REPLICA STATUS"):
        session.query("STOP REPLICA")
        session.query("RESET REPLICA ALL")
    session.query("RESET BINARY LOGS AND GTIDS")


def _has_source(session: MysqlSession, record: RoleRecord) -> bool:
    replica = read_replica_status(session)
    return replica is not None and replica.source == record.primary_address


def attach(
    session: MysqlSession, record: RoleRecord, account: ReplicationAccount, log: Log
) -> None:
    """Replicate from the recorded primary; returns when both threads run.

    Raises:
        CannotCatchUpError: when only a clone helps.
        AgentError: when the threads do not run.
    """
    log(f"replicating from {record.primary}")
    start_new_generation()
    if session.query("SHOW REPLICA STATUS"):
        session.query("STOP REPLICA")
        if not _has_source(session, record):
            session.query("RESET REPLICA ALL")
    session.query(CHANGE_SOURCE, [record.primary_address, account.user, account.password, CA])
    session.query(f"CHANGE REPLICATION FILTER {NO_FILTERS}")
    session.query("SET GLOBAL rpl_semi_sync_replica_enabled = ON")
    session.query("START REPLICA")
    _wait_for_threads(session, record)


def _wait_for_threads(session: MysqlSession, record: RoleRecord) -> None:
    deadline = time.monotonic() + THREADS_SECONDS
    running_since: float | None = None
    while True:
        replica = read_replica_status(session) or ReplicaStatus("")
        if replica.running:
            # An error in the next transaction would stop the applier at once, so watch it work.
            if not _backlog(session, replica):
                return
            running_since = running_since or time.monotonic()
            if time.monotonic() > running_since + BACKLOG_SECONDS:
                return
        if replica.io_errno in CANNOT_CATCH_UP:
            raise CannotCatchUpError(replica.io_error)
        failed = replica.sql_running == "No" and replica.sql_errno
        if failed or time.monotonic() > deadline:
            raise AgentError(
                f"replication on {record.machine} does not run (receiver: {replica.io_running}, "
                f"applier: {replica.sql_running}); if it cannot be fixed, "
                f"invoke db.rejoin {record.machine} --rebuild clones the primary",
                replica.error,
            )
        time.sleep(0.02)


def _backlog(session: MysqlSession, replica: ReplicaStatus) -> str:
    """Transactions that were received but not applied."""
    return session.value(
        "SELECT GTID_SUBTRACT(%s, @@global.gtid_executed)", [replica.received.text]
    )
