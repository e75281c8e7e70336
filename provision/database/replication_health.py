"""Whether a replica is healthy: every transaction, no others, and the recorded configuration.

Running threads and a lag of 0 s are not enough: an errant transaction, a filter, or a lost
connection that the receiver has not noticed show in GTID sets only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from provision.core.thresholds import REPLICATION_LAG_SECONDS
from provision.database.agent.comparison import Comparison
from provision.database.agent.server_status import ReplicaStatus, ServerStatus

CONVERGE = "invoke lab.up"
ROWS = 3
"""Tables that a text names."""


@dataclass(frozen=True)
class ReplicaProblem:
    """One reason why a replica is not healthy.

    Args:
        text: one short line.
        fix: the least destructive command that fixes it.
        detail: MySQL's own error.
    """

    text: str
    fix: str
    detail: str = ""


def replica_problems(
    machine: str, source: str, status: ServerStatus, comparison: Comparison | None
) -> tuple[ReplicaProblem, ...]:
    """What is wrong with a replica, the cause before its consequences. A pure function.

    Args:
        source: address of the recorded primary.
        comparison: None when the machine did not deliver it.
    """
    if not status.up:
        return (ReplicaProblem("MySQL does not accept connections", CONVERGE, status.error),)
    problems = list(_configuration(machine, source, status))
    if comparison is not None:
        problems += _transactions(machine, status, comparison)
    # Seconds_Behind_Source is not judged: it is 0 for a receiver that lost its source unnoticed.
    return tuple(problems)


def _configuration(machine: str, source: str, status: ServerStatus) -> Iterator[ReplicaProblem]:
    replica = status.replica
    if replica is None:
        yield ReplicaProblem("no replication source", CONVERGE)
        return
    if replica.source != source:
        yield ReplicaProblem(f"replicates from {replica.source or 'nothing'}", CONVERGE)
    if not replica.auto_position:
        yield ReplicaProblem("replicates by file and position, not by GTID", CONVERGE)
    if not replica.tls or not replica.tls_verified:
        yield ReplicaProblem("replicates without verified TLS", CONVERGE)
    if replica.filters:
        yield ReplicaProblem(f"replication filter {replica.filters}", CONVERGE)
    if replica.delay:
        yield ReplicaProblem(f"SOURCE_DELAY {replica.delay} s", CONVERGE)
    yield from _threads(machine, replica)
    if status.writable:
        yield ReplicaProblem("read_only is OFF", CONVERGE)
    elif not status.super_read_only:
        yield ReplicaProblem("super_read_only is OFF", CONVERGE)


def _threads(machine: str, replica: ReplicaStatus) -> Iterator[ReplicaProblem]:
    if replica.io_running != "Yes":
        error = f"MySQL error {replica.io_errno}: {replica.io_error}" if replica.io_error else ""
        yield ReplicaProblem(f"IO thread {_state(replica.io_running)}", CONVERGE, error)
    if replica.sql_running != "Yes":
        error = f"MySQL error {replica.sql_errno}: {replica.sql_error}" if replica.sql_error else ""
        # A transaction that cannot be applied meets other data than on the primary.
        fix = f"invoke db.rejoin {machine} --rebuild" if replica.sql_errno else CONVERGE
        yield ReplicaProblem(f"SQL thread {_state(replica.sql_running)}", fix, error)


def _state(running: str) -> str:
    return {"No": "stopped", "": "absent"}.get(running, running.lower())


def _transactions(
    machine: str, status: ServerStatus, comparison: Comparison
) -> Iterator[ReplicaProblem]:
    if comparison.error:
        yield ReplicaProblem("cannot query the primary", CONVERGE, comparison.error)
        return
    if comparison.uuid == comparison.primary_uuid:
        yield ReplicaProblem("the primary has the same server_uuid", CONVERGE)
    if comparison.server_id == comparison.primary_server_id:
        yield ReplicaProblem("the primary has the same server_id", CONVERGE)
    if comparison.errant:
        count = comparison.errant.count
        text = f"{count} errant transaction{'s' if count > 1 else ''}: {comparison.errant}"
        yield ReplicaProblem(text, f"invoke db.rejoin {machine}")
    oldest = comparison.oldest
    late = oldest is None or oldest > REPLICATION_LAG_SECONDS
    if comparison.missing and late:
        age = "unknown age" if oldest is None else f"the oldest {oldest:.0f} s old"
        count = comparison.missing.count
        fix = CONVERGE if not status.replicating else f"invoke db.rejoin {machine} --rebuild"
        yield ReplicaProblem(f"{count} transactions missing, {age}", fix)


def describe_replica(status: ServerStatus, comparison: Comparison | None) -> str:
    """A healthy replica in words."""
    missing = comparison.missing.count if comparison else 0
    behind = f"{missing} transactions missing" if missing else "every transaction"
    return f"both threads run, {behind}, lag {status.lag} s"


def describe_differences(comparison: Comparison) -> str:
    """Different tables in one line."""
    texts = [str(difference) for difference in comparison.differences]
    more = f" and {len(texts) - ROWS} more tables" if len(texts) > ROWS else ""
    return "; ".join(texts[:ROWS]) + more
