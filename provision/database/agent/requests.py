"""The operations of a database machine and their typed arguments, shared with the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, get_args

from provision.database.agent.gtid import GtidSet
from provision.database.agent.results import (
    BackupSchedule,
    CatchUpResult,
    ErrantTransactions,
    LoggedTransactions,
    RestoreRecord,
    ServerInspection,
)
from provision.database.agent.role_record import RoleRecord

R = TypeVar("R")


class DatabaseRequest(Generic[R]):
    """The arguments of one operation; R is the type of its result.

    Args:
        operation: the name that ``@operation`` registers on the machine.
    """

    operation: ClassVar[str]
    result: ClassVar[type[Any]]

    def __init_subclass__(cls, operation: str) -> None:
        cls.operation = operation
        (cls.result,) = get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Done:
    """The result of an operation that only succeeds or fails."""


# --- promotion -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inspect(DatabaseRequest[ServerInspection], operation="mysql.inspect"):
    """The status of a machine's server and, queried from there, of peers (name to address)."""

    machine: str
    peers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fence(DatabaseRequest[GtidSet], operation="mysql.fence"):
    """Record another primary, then refuse writes; the result is everything committed here."""

    record: RoleRecord


@dataclass(frozen=True)
class FenceDeadPrimary(DatabaseRequest[Done], operation="mysql.fence_dead_primary"):
    """Record another primary, then stop a mysqld that does not respond."""

    record: RoleRecord


@dataclass(frozen=True)
class CatchUp(DatabaseRequest[CatchUpResult], operation="mysql.catch_up"):
    """Wait up to ``seconds`` until transactions are applied."""

    gtids: GtidSet
    seconds: float


@dataclass(frozen=True)
class ApplyRelayLog(DatabaseRequest[Done], operation="mysql.apply_relay_log"):
    """Stop receiving and apply the relay log within ``seconds``, or fail and receive again."""

    seconds: float


@dataclass(frozen=True)
class BecomePrimary(DatabaseRequest[Done], operation="mysql.become_primary"):
    """Make the server writable.

    Args:
        seconds: for applying the relay log.
        dead: peers that are known not to run; they are not queried.
    """

    record: RoleRecord
    seconds: float
    dead: tuple[str, ...] = ()


# --- replicas ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReplicationAccount:
    """The account that replicas connect to their source with."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class AssumeRole(DatabaseRequest[Done], operation="mysql.assume_role"):
    """Become what the record says: primary, or a replica of the primary (clone if necessary).

    Also the arguments of the action ``mysql_role``, which leaves the recorded file to its unit.

    Args:
        seconds: for applying the relay log when the server becomes primary.
    """

    record: RoleRecord
    account: ReplicationAccount
    seconds: float = 60.0


@dataclass(frozen=True)
class Rebuild(DatabaseRequest[Done], operation="mysql.rebuild"):
    """Replace all data of the server by a clone of the primary's, then replicate from it."""

    record: RoleRecord
    account: ReplicationAccount


@dataclass(frozen=True)
class FindErrant(DatabaseRequest[ErrantTransactions], operation="mysql.find_errant"):
    """Find errant transactions; the server is started and kept read-only."""

    record: RoleRecord


# --- backup and restore --------------------------------------------------------------------------


@dataclass(frozen=True)
class ListBackups(DatabaseRequest[BackupSchedule], operation="mysql.list_backups"):
    """The scheduled backups on a machine."""


@dataclass(frozen=True)
class MakeBackup(DatabaseRequest[Done], operation="mysql.make_backup"):
    """Back the server up into a file on its machine."""

    path: str


@dataclass(frozen=True)
class FindLogged(DatabaseRequest[LoggedTransactions], operation="mysql.find_logged"):
    """The transactions in the binary logs up to a point in time (microseconds since 1970).

    Args:
        after: transactions to leave out.
    """

    after: GtidSet
    until: int


@dataclass(frozen=True)
class BeginRestore(DatabaseRequest[Done], operation="mysql.begin_restore"):
    """Create an empty schema to load a backup into; drop what earlier attempts left.

    Args:
        prefix: common to the names of all such schemas.
    """

    schema: str
    prefix: str


@dataclass(frozen=True)
class RowCounts:
    """Results of `CountRows`, by table."""

    rows: Mapping[str, int]


@dataclass(frozen=True)
class CountRows(DatabaseRequest[RowCounts], operation="mysql.count_rows"):
    """The number of rows in each table of a schema."""

    schema: str


@dataclass(frozen=True)
class SwapTables(DatabaseRequest[GtidSet], operation="mysql.swap_tables"):
    """Replace the tables of the live schema by those of the loaded one, atomically.

    The result is what a replica must have applied to have the restored data too.

    Args:
        prefix: as in `BeginRestore`.
        note: kept in ``lab.restores``.
    """

    live: str
    loaded: str
    prefix: str
    note: str


@dataclass(frozen=True)
class RestoreHistory:
    """Results of `ListRestores`, oldest first."""

    restores: tuple[RestoreRecord, ...]


@dataclass(frozen=True)
class ListRestores(DatabaseRequest[RestoreHistory], operation="mysql.list_restores"):
    """The restores that a GTID set does not contain."""

    after: GtidSet
