"""The database servers of a lab and their status: db.status."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from provision.core.errors import HostError
from provision.database.agent.gtid import GtidSet
from provision.database.agent.probes import server_probe
from provision.database.agent.requests import ListBackups
from provision.database.agent.results import BackupSchedule
from provision.database.agent.server_status import ServerStatus
from provision.database.operations import execute
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

NO_BACKUPS = BackupSchedule((), "")


@dataclass(frozen=True)
class DatabaseServer:
    """One database machine with the status of its server and its backups.

    Args:
        role: ``primary`` or ``replica``, as recorded.
        schedule: the scheduled backups on the machine.
        errant: transactions that the primary lacks.
        missing: number of the primary's transactions that the server lacks; None when unknown.
    """

    machine: str
    role: str
    status: ServerStatus
    schedule: BackupSchedule = NO_BACKUPS
    errant: GtidSet = field(default_factory=GtidSet)
    missing: int | None = None

    @property
    def semi_sync(self) -> str:
        """Whether commits on the primary wait for a replica; empty for a replica."""
        if self.role != "primary" or not self.status.up:
            return ""
        if self.status.semisync_active:
            return "semi-sync"
        if self.status.semisync_enabled:
            return "async (fallback: no replica acknowledges)"
        return "async"

    def as_json(self) -> dict[str, Any]:
        """The values that ``db.status --json`` prints."""
        status, replica = self.status, self.status.replica
        return {
            "machine": self.machine,
            "role": self.role,
            "status": {
                "up": status.up,
                "writable": status.writable,
                "epoch": status.epoch,
                "semisync_on": status.semisync_enabled,
                "semisync_active": status.semisync_active,
                "semisync_replicas": status.semisync_replicas,
                "source": status.source,
                "io_running": replica.io_running if replica else "",
                "sql_running": replica.sql_running if replica else "",
                "lag": status.lag,
                "received": status.received.text,
                "executed": status.executed.text,
                "purged": status.purged.text,
                "binlog": status.binlog,
                "error": status.error or status.replication_error,
                "version": status.version,
                "uuid": status.uuid,
                "uptime": status.uptime,
            },
            "backups": [asdict(file) for file in self.schedule.backups],
            "next_backup": self.schedule.next,
            "errant": self.errant.text,
            "missing": self.missing,
            "error": status.error,
            "semi_sync": self.semi_sync,
        }


def status(context: Context, fleet: Fleet) -> tuple[DatabaseServer, ...]:
    """All database servers of the lab, in the order of the topology."""
    probe = server_probe()

    def query(host: Host) -> tuple[ServerStatus, BackupSchedule]:
        try:
            return host.gather([probe])[probe], execute(host, ListBackups())
        except HostError as error:
            return ServerStatus(error=error.what), NO_BACKUPS

    machines = context.lab.with_role("mysql")
    results = fleet.each(query, [m.name for m in machines if m.name in fleet.hosts])
    primary = context.state.primary
    executed = results[primary][0].executed if primary in results else GtidSet()
    databases = []
    for name in (machine.name for machine in machines):
        server, schedule = results.get(name, (ServerStatus(error="it is not running"), NO_BACKUPS))
        errant, missing = GtidSet(), None
        if name != primary and server.up and executed:
            errant = server.executed - executed
            missing = (executed - server.executed).count
        role = "primary" if name == primary else "replica"
        databases.append(DatabaseServer(name, role, server, schedule, errant, missing))
    return tuple(databases)
