"""Query the status of MySQL servers: the local one, and peers over TLS."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from provision.database.agent import server_status
from provision.database.agent.role_store import read_json
from provision.database.agent.server_status import ReplicaStatus, Row, ServerStatus
from provision.database.agent.session import (
    NO_LAB_TABLE,
    MysqlError,
    MysqlSession,
    connect_local,
    connect_remote,
)

CHECK_ACCOUNT = "/etc/foobar-lab/mysql-check.json"
"""``user`` and ``password`` of the account that queries peers; 0600."""

PEER_SECONDS = 1.0
"""How long a peer may take to respond; in one network it takes some 10 ms."""


def read_server_status(session: MysqlSession, *, binlog: bool = False) -> ServerStatus:
    """The status of the server behind a session.

    Args:
        binlog: also the binary log's position; a server that is flushing its log responds late.

    Raises:
        MysqlError: when it does not respond.
    """
    columns = ", ".join(f"@@global.{name} AS {name}" for name in server_status.VARIABLES)
    names = ", ".join(f"'{name}'" for name in server_status.STATUS)
    return server_status.parse_server_status(
        variables={
            **session.row(f"SELECT {columns}"),
            **_pairs(session, "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync%'"),
        },
        status=_pairs(session, f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})"),
        replica=session.row("SHOW REPLICA STATUS"),
        epoch=read_epoch(session),
        binlog=session.row("SHOW BINARY LOG STATUS") if binlog else None,
    )


def _pairs(session: MysqlSession, sql: str) -> Row:
    return {row["Variable_name"] or "": row["Value"] for row in session.query(sql)}


def read_epoch(session: MysqlSession) -> Row:
    """``epoch`` and ``machine`` of the last promotion; empty before the first one."""
    try:
        return session.row("SELECT epoch, machine FROM lab.epoch ORDER BY epoch DESC LIMIT 1")
    except MysqlError as error:
        if error.code in NO_LAB_TABLE:
            return {}
        raise


def read_replica_status(session: MysqlSession) -> ReplicaStatus | None:
    """SHOW REPLICA STATUS, decoded; None without a replication source."""
    return server_status.parse_replica_status(session.row("SHOW REPLICA STATUS"))


def query_local() -> ServerStatus:
    """The status of the local server; an error is part of it."""
    try:
        with connect_local(timeout=5.0) as session:
            return read_server_status(session)
    except MysqlError as error:
        return ServerStatus(error=str(error))


def query_peers(
    addresses: Mapping[str, str], seconds: float = PEER_SECONDS
) -> dict[str, ServerStatus]:
    """The status of other servers, queried over TLS in parallel; errors are part of it.

    Args:
        addresses: by machine.
        seconds: how long each may take to connect, and for each response.
    """
    if not addresses:
        return {}
    account = read_json(CHECK_ACCOUNT)

    def query(address: str) -> ServerStatus:
        try:
            with connect_remote(address, account["user"], account["password"], seconds) as session:
                return read_server_status(session)
        except MysqlError as error:
            return ServerStatus(error=str(error))

    with ThreadPoolExecutor(len(addresses)) as pool:
        return dict(zip(addresses, pool.map(query, addresses.values()), strict=True))
