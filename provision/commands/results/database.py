"""Values of `db.*`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from provision.commands.results.units import Bytes, Count, Gtids, Next, Seconds, Time

Rows = Annotated[dict[str, int], "rows by table"]


class BackupValues(TypedDict):
    """A scheduled backup on the machine that made it."""

    path: str
    created: Time
    size_bytes: Bytes
    gtids: Gtids


class Problem(TypedDict):
    """What is wrong with a replica."""

    text: str
    next: Next


class DatabaseStatus(TypedDict):
    """One MySQL server."""

    machine: str
    role: Literal["primary", "replica"]
    up: bool
    error: str
    version: str
    uuid: str
    uptime_seconds: Annotated[int, "seconds since mysqld started"]
    writable: bool
    epoch: Annotated[int, "the last promotion that the server has seen"]
    semi_sync: Annotated[bool, "primary: commits wait for a replica now"]
    semi_sync_enabled: Annotated[bool, "primary: commits are configured to wait for a replica"]
    semi_sync_replicas: Annotated[int, "replicas that acknowledge"]
    source: Annotated[str, "replica: the address that it replicates from; empty for none"]
    receiving: bool
    applying: bool
    lag_seconds: Annotated[int | None, "seconds; null for the primary and when unknown"]
    received_gtids: Gtids
    executed_gtids: Gtids
    purged_gtids: Gtids
    errant_gtids: Gtids
    errant: Annotated[int | None, "transactions that the primary lacks; null when unknown"]
    missing: Annotated[int | None, "transactions of the primary that it lacks; null when unknown"]
    binary_log: Annotated[str, "current file and position"]
    differences: Annotated[list[str], "tables that differ from the primary's at the same GTIDs"]
    problems: list[Problem]
    backups: list[BackupValues]
    next_backup: Annotated[str, "as systemd prints it"]


class Databases(TypedDict):
    """All database servers of a lab."""

    primary: str
    databases: list[DatabaseStatus]


class Autopromote(TypedDict):
    """Automatic failover."""

    on: bool
    witness: Annotated[str, "the witness's machine; empty when the lab cannot have it"]
    services: Annotated[dict[str, str], "systemd's state of its service by machine"]
    primary: Annotated[str, "as the witness knows it"]
    promotable: Annotated[str, "the machine that is eligible for promotion; empty for none"]
    in_progress: Annotated[bool, "a replica was ordered to take over and has not reported yet"]


class OutageValues(TypedDict):
    """A time without writes, until the new primary was writable."""

    seconds: Seconds
    since: Time
    measured: Annotated[
        Literal["fence", "failed-write", "last-commit"],
        "what its begin is: the old primary became read-only; the first write that failed at a "
        "balancer; the last transaction, because no write failed",
    ]
    source: Annotated[str, "the same in words, with the machines"]
    failed: Annotated[int, "writes that failed at the balancers"]


class Promoted(TypedDict):
    """A promotion; ``old`` and ``new`` are the same when it was complete already."""

    old: str
    new: str
    epoch: int
    outage: Annotated[OutageValues | None, "null when there was none"]
    repointed: Annotated[list[str], "machines that replicate from the new primary now"]
    not_repointed: Annotated[dict[str, str], "machines that do not, and why"]


class Rejoined(TypedDict):
    """A server that is a replica again."""

    machine: str
    primary: str
    how: Literal["attached", "cloned"]
    errant: Annotated[int, "transactions that only this server had"]
    errant_gtids: Gtids
    saved: Annotated[int, "transactions that the saved file holds"]
    file: Annotated[str, "the saved file; empty for none"]
    differences: Annotated[list[str], "tables that differ from the primary's"]


class BackupMade(TypedDict):
    """A backup that was made and verified."""

    machine: str
    path: str
    size_bytes: Bytes
    rows: Rows
    gtids: Gtids


class DataRestored(TypedDict):
    """A backup that was restored."""

    primary: str
    rows: Rows
    replayed: Count
    last_commit: NotRequired[Time]
    replicated: Annotated[list[str], "replicas that have applied it"]
    pending: Annotated[list[str], "replicas that have not applied it yet"]
