"""What `db.status` prints, and `db.*` with ``--json``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from provision.commands import tables
from provision.commands.results import database as results
from provision.database.failover.control import FailoverStatus
from provision.database.servers import DatabaseServer
from provision.operations.outage import Outage

LAYOUT = tables.layout(
    "db.status",
    tables.Column("DATABASE"),
    tables.Column("ROLE"),
    tables.Column("WRITABLE"),
    tables.Column("EPOCH", 7, right=True),
    tables.Column("COMMITS", 2),
    tables.Column("RECEIVING", 4),
    tables.Column("APPLYING", 5),
    tables.Column("LAG", 1, right=True),
    tables.Column("MISSING", 6, right=True),
    tables.Column("ERRANT", 3, right=True),
    tables.Column("BINARY LOG", 8),
)


def server_values(server: DatabaseServer) -> results.DatabaseStatus:
    """One database server, with its backups and the comparison with the primary."""
    status, replica = server.status, server.status.replica
    known = server.missing is not None
    return results.DatabaseStatus(
        machine=server.machine,
        role="primary" if server.role == "primary" else "replica",
        up=status.up,
        error=status.error or status.replication_error,
        version=status.version,
        uuid=status.uuid,
        uptime_seconds=status.uptime,
        writable=status.writable,
        epoch=status.epoch,
        semi_sync=status.semisync_active,
        semi_sync_enabled=status.semisync_enabled,
        semi_sync_replicas=status.semisync_replicas,
        source=status.source,
        receiving=replica is not None and replica.io_running == "Yes",
        applying=replica is not None and replica.sql_running == "Yes",
        lag_seconds=status.lag,
        received_gtids=status.received.text,
        executed_gtids=status.executed.text,
        purged_gtids=status.purged.text,
        errant_gtids=server.errant.text,
        errant=server.errant.count if known else None,
        missing=server.missing,
        binary_log=status.binlog,
        differences=[str(d) for d in server.comparison.differences] if server.comparison else [],
        problems=[results.Problem(text=p.text, next=p.fix) for p in server.problems],
        backups=[
            results.BackupValues(
                path=file.path, created=file.made, size_bytes=file.size, gtids=file.gtids
            )
            for file in server.schedule.backups
        ],
        next_backup=server.schedule.next,
    )


def automatic_values(automatic: FailoverStatus) -> results.Autopromote:
    """The status of automatic failover as JSON values."""
    return results.Autopromote(
        on=automatic.on,
        witness=automatic.witness,
        services=dict(automatic.active or {}),
        primary=automatic.primary,
        promotable=automatic.promotable,
        in_progress=automatic.order,
    )


def outage_values(lasted: Outage | None) -> results.OutageValues | None:
    """A time without writes as JSON values; None when there was none."""
    if lasted is None:
        return None
    return results.OutageValues(
        seconds=round(lasted.seconds, 2),
        since=lasted.since.isoformat(timespec="milliseconds"),
        measured=lasted.measured,
        source=lasted.source,
        failed=lasted.failed,
    )


def _row(server: DatabaseServer) -> list[str]:
    status, replica = server.status, server.status.replica
    if not status.up:
        return [server.machine, server.role, "[red]down[/]", *[""] * (len(LAYOUT.columns) - 3)]
    writable = "yes" if status.writable else "no"
    if status.writable != (server.role == "primary"):
        writable = f"[red]{writable}[/]"
    commits = server.semi_sync
    if server.role == "primary" and not status.semisync_active:
        commits = f"[red]{commits}[/]"
    return [
        server.machine,
        server.role,
        writable,
        str(status.epoch),
        commits,
        _thread(replica.io_running) if replica else "",
        _thread(replica.sql_running) if replica else "",
        "" if status.lag is None else f"{status.lag} s",
        "" if server.missing is None else str(server.missing),
        "" if server.missing is None else str(server.errant.count),
        status.binlog,
    ]


def _thread(running: str) -> str:
    return running if running in ("Yes", "") else f"[red]{running}[/]"


def show(console: Any, databases: Iterable[DatabaseServer]) -> None:
    """Print one row per database."""
    tables.show(console, LAYOUT, [_row(server) for server in databases])
