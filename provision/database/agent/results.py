"""Results of the database operations, shared by the machines and the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provision.database.agent.gtid import GtidSet
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ServerStatus


@dataclass(frozen=True)
class ServerInspection:
    """A server and, as seen from its machine, other servers.

    Args:
        peers: by machine name, over the network.
        record: None when the machine has none.
    """

    machine: str
    status: ServerStatus
    peers: Mapping[str, ServerStatus]
    record: RoleRecord | None


@dataclass(frozen=True)
class CatchUpResult:
    """Whether transactions were applied in time.

    Args:
        missing: transactions that were not; empty when all were.
        error: what stopped the applier thread.
    """

    missing: GtidSet
    error: str = ""


@dataclass(frozen=True)
class ErrantTransactions:
    """Transactions that a server has and the primary lacks.

    Args:
        logs: paths of the server's binary logs, oldest first.
    """

    gtids: GtidSet
    logs: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoggedTransactions:
    """Transactions in a server's binary logs between a backup and a point in time.

    Args:
        gtids: one GTID per transaction.
        last_commit: of the last of them, in microseconds since 1970; 0 without any.
        purged: transactions after the backup that the binary logs no longer hold.
        logs: paths of the binary logs, oldest first.
    """

    gtids: tuple[str, ...]
    last_commit: int
    purged: GtidSet
    logs: tuple[str, ...]


@dataclass(frozen=True)
class RestoreRecord:
    """A row of ``lab.restores``.

    Args:
        moment: microseconds since 1970.
    """

    moment: int
    note: str


@dataclass(frozen=True)
class BackupFile:
    """A backup on the machine that made it.

    Args:
        made: ISO 8601 in UTC, or ``not readable``.
        size: in bytes.
    """

    path: str
    made: str
    size: int
    gtids: str


@dataclass(frozen=True)
class BackupSchedule:
    """The scheduled backups on a machine.

    Args:
        backups: newest first.
        next: when the timer elapses next, as systemd prints it.
    """

    backups: tuple[BackupFile, ...]
    next: str
