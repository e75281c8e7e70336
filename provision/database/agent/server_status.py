"""The status of one MySQL server: what its variables and SHOW REPLICA STATUS say, decoded once.

Agents, the guards and the controller share `ServerStatus`; `parse_server_status` is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from provision.database.agent.gtid import GtidSet

Row = Mapping[str, "str | None"]
"""One row of a result: every value is text or None."""

VARIABLES = (
    "server_uuid",
    "version",
    "read_only",
    "super_read_only",
    "gtid_executed",
    "gtid_purged",
    "max_connections",
)
"""Selected one by one: SHOW VARIABLES cuts values after 1024 characters."""

STATUS = (
    "Uptime",
    "Threads_connected",
    "Rpl_semi_sync_source_status",
    "Rpl_semi_sync_source_clients",
    "Rpl_semi_sync_source_no_times",
)

FILTERS = (
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
    "Replicate_Ignore_Server_Ids",
    "Replicate_Rewrite_DB",
)
"""Columns of SHOW REPLICA STATUS that name a replication filter."""


@dataclass(frozen=True)
class ReplicaStatus:
    """SHOW REPLICA STATUS of a server that has a replication source.

    Args:
        io_running: receiver thread: ``Yes``, ``No`` or ``Connecting``.
        sql_running: applier thread: ``Yes`` or ``No``.
        lag: seconds; None when unknown.
        delay: the configured SOURCE_DELAY, in seconds.
        received: transactions in the relay log, applied or not.
        password_digest: SHA-256 of the stored replication password, in hex.
        filters: such as ``Replicate_Do_DB foobar``; empty without filters.
    """

    source: str
    auto_position: bool = False
    tls: bool = False
    tls_verified: bool = False
    io_running: str = ""
    io_errno: int = 0
    io_error: str = ""
    sql_running: str = ""
    sql_errno: int = 0
    sql_error: str = ""
    lag: int | None = None
    delay: int = 0
    received: GtidSet = field(default_factory=GtidSet)
    password_digest: str = ""
    filters: str = ""

    @property
    def running(self) -> bool:
        """Whether both threads run."""
        return self.io_running == self.sql_running == "Yes"

    @property
    def error(self) -> str:
        """The errors that stopped the threads; empty without any."""
        return "; ".join(error for error in (self.io_error, self.sql_error) if error)


@dataclass(frozen=True)
class ServerStatus:
    """The status of one server. Without a response ``up`` is False and ``error`` says why.

    Args:
        epoch: the last promotion that the server has seen; 0 without one.
        primary: the machine that was promoted in that epoch.
        purged: transactions that the binary logs no longer hold.
        binlog: current file and position.
        uptime: seconds.
        semisync_active: commits wait for a replica now; False after a fallback.
        semisync_replicas: number of replicas that acknowledge.
        semisync_fallbacks: how often commits fell back to asynchronous since mysqld started.
        super_read_only: also administrators cannot write.
        replica: None when the server has no replication source.
        connections: open now, this one among them.
    """

    up: bool = False
    error: str = ""
    writable: bool = False
    super_read_only: bool = False
    epoch: int = 0
    primary: str = ""
    uuid: str = ""
    version: str = ""
    uptime: int = 0
    executed: GtidSet = field(default_factory=GtidSet)
    purged: GtidSet = field(default_factory=GtidSet)
    binlog: str = ""
    semisync_enabled: bool = False
    semisync_active: bool = False
    semisync_replicas: int = 0
    semisync_fallbacks: int = 0
    semisync_timeout_ms: int = 0
    semisync_wait_no_replica: bool = False
    semisync_replica_enabled: bool = False
    replica: ReplicaStatus | None = None
    connections: int = 0
    max_connections: int = 0

    @property
    def source(self) -> str:
        """The address that the server replicates from; empty without a source."""
        return self.replica.source if self.replica else ""

    @property
    def replicating(self) -> bool:
        """Whether the server has a source and both replication threads run."""
        return self.replica is not None and self.replica.running

    @property
    def lag(self) -> int | None:
        """Seconds behind the source; None when unknown or without a source."""
        return self.replica.lag if self.replica else None

    @property
    def received(self) -> GtidSet:
        """Transactions in the relay logs, applied or not."""
        return self.replica.received if self.replica else GtidSet()

    @property
    def all_gtids(self) -> GtidSet:
        """Executed and received transactions."""
        return self.executed | self.received

    @property
    def replication_error(self) -> str:
        """The errors that stopped replication; empty without any."""
        return self.replica.error if self.replica else ""


def parse_replica_status(row: Row) -> ReplicaStatus | None:
    """Decode SHOW REPLICA STATUS; None for no row."""
    if not row:
        return None
    lag = row.get("Seconds_Behind_Source")
    return ReplicaStatus(
        source=row.get("Source_Host") or "",
        auto_position=row.get("Auto_Position") == "1",
        tls=row.get("Source_SSL_Allowed") == "Yes",
        tls_verified=row.get("Source_SSL_Verify_Server_Cert") == "Yes",
        io_running=row.get("Replica_IO_Running") or "",
        io_errno=int(row.get("Last_IO_Errno") or 0),
        io_error=row.get("Last_IO_Error") or "",
        sql_running=row.get("Replica_SQL_Running") or "",
        sql_errno=int(row.get("Last_SQL_Errno") or 0),
        sql_error=row.get("Last_SQL_Error") or "",
        lag=int(lag) if lag is not None else None,
        delay=int(row.get("SQL_Delay") or 0),
        received=GtidSet(row.get("Retrieved_Gtid_Set") or ""),
        filters=", ".join(f"{name} {row[name]}" for name in FILTERS if row.get(name)),
    )


def parse_server_status(
    variables: Row,
    status: Row,
    replica: Row,
    epoch: Row,
    binlog: Row | None = None,
) -> ServerStatus:
    """Decode what ``status_query`` selects.

    Args:
        variables: `VARIABLES` and ``rpl_semi_sync%``; booleans as 0/1 or OFF/ON.
        epoch: last row of ``lab.epoch``; empty without one.
    """

    def on(name: str) -> bool:
        return variables.get(name) in ("1", "ON")

    return ServerStatus(
        up=True,
        writable=not on("read_only") and not on("super_read_only"),
        super_read_only=on("super_read_only"),
        epoch=int(epoch.get("epoch") or 0),
        primary=epoch.get("machine") or "",
        uuid=variables.get("server_uuid") or "",
        version=variables.get("version") or "",
        uptime=int(status.get("Uptime") or 0),
        executed=GtidSet(variables.get("gtid_executed") or ""),
        purged=GtidSet(variables.get("gtid_purged") or ""),
        binlog=f"{binlog['File']}:{binlog['Position']}" if binlog else "",
        semisync_enabled=on("rpl_semi_sync_source_enabled"),
        semisync_active=on("rpl_semi_sync_source_enabled")
        and status.get("Rpl_semi_sync_source_status") == "ON",
        semisync_replicas=int(status.get("Rpl_semi_sync_source_clients") or 0),
        semisync_fallbacks=int(status.get("Rpl_semi_sync_source_no_times") or 0),
        semisync_timeout_ms=int(variables.get("rpl_semi_sync_source_timeout") or 0),
        semisync_wait_no_replica=on("rpl_semi_sync_source_wait_no_replica"),
        semisync_replica_enabled=on("rpl_semi_sync_replica_enabled"),
        replica=parse_replica_status(replica),
        connections=int(status.get("Threads_connected") or 0),
        max_connections=int(variables.get("max_connections") or 0),
    )
