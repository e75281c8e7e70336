"""The database servers of a lab and their status: db.status."""

from __future__ import annotations

from dataclasses import dataclass, field

from provision.core.errors import HostError
from provision.database.agent.comparison import Comparison
from provision.database.agent.gtid import GtidSet
from provision.database.agent.probes import server_probe
from provision.database.agent.requests import ListBackups
from provision.database.agent.results import BackupSchedule
from provision.database.agent.server_status import ServerStatus
from provision.database.operations import execute
from provision.database.replication_health import (
    ReplicaProblem,
    describe_differences,
    replica_problems,
)
from provision.database.role import compare_with_primary
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
        comparison: of a replica with the primary; None for the primary.
        problems: what is wrong with a replica, each with the command that fixes it.
    """

    machine: str
    role: str
    status: ServerStatus
    schedule: BackupSchedule = NO_BACKUPS
    errant: GtidSet = field(default_factory=GtidSet)
    missing: int | None = None
    comparison: Comparison | None = None
    problems: tuple[ReplicaProblem, ...] = ()

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


def status(context: Context, fleet: Fleet) -> tuple[DatabaseServer, ...]:
    """All database servers of the lab, in the order of the topology."""
    probe, compare = server_probe(), compare_with_primary(context)
    primary = context.state.primary

    def query(host: Host) -> _Answers:
        try:
            gathered = host.gather([probe] if host.name == primary else [probe, compare])
            return _Answers(gathered[probe], execute(host, ListBackups()), gathered.get(compare))
        except HostError as error:
            return _Answers(ServerStatus(error=error.what))

    machines = context.lab.with_role("mysql")
    results = fleet.each(query, [m.name for m in machines if m.name in fleet.hosts])
    executed = results[primary].server.executed if primary in results else GtidSet()
    address = str(context.primary.address)
    databases = []
    for name in (machine.name for machine in machines):
        answers = results.get(name, _Answers(ServerStatus(error="it is not running")))
        server, compared = answers.server, answers.comparison
        if name == primary:
            databases.append(DatabaseServer(name, "primary", server, answers.schedule))
            continue
        errant, missing = GtidSet(), None
        if server.up and executed:
            errant = server.executed - executed
            missing = (executed - server.executed).count
        problems = replica_problems(name, address, server, compared)
        if not problems and compared and compared.differences:
            fix = f"invoke db.rejoin {name} --rebuild"
            problems = (ReplicaProblem(describe_differences(compared), fix),)
        databases.append(
            DatabaseServer(
                name, "replica", server, answers.schedule, errant, missing, compared, problems
            )
        )
    return tuple(databases)


@dataclass(frozen=True)
class _Answers:
    server: ServerStatus
    schedule: BackupSchedule = NO_BACKUPS
    comparison: Comparison | None = None
