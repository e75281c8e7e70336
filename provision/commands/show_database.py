"""What `db.*` prints with ``--json``."""

from __future__ import annotations

from provision.commands.results import database as results
from provision.database.failover.control import FailoverStatus
from provision.database.servers import DatabaseServer
from provision.operations.outage import Outage


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
