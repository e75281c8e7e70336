"""Checks of replication: threads, source, lag, and semi-synchronous commits."""

from __future__ import annotations

from collections.abc import Iterator

from provision.checks.base import UNKNOWN, Check, Verdict, equals, passed_if
from provision.checks.database import server_status
from provision.checks.observation import Observation
from provision.core.thresholds import REPLICATION_LAG_SECONDS
from provision.database.agent.server_status import ServerStatus
from provision.engine.context import Context

SEMISYNC = "semi-synchronous: a commit waits for a replica"


def checks(context: Context) -> Iterator[Check]:
    """Checks of the primary, if it has replicas, and of every replica."""
    primary = context.state.primary
    databases = [machine.name for machine in context.lab.with_role("mysql")]
    for name in databases:
        if name != primary:
            yield _replica(context, name)
        elif len(databases) > 1:
            yield _semisync(name)


def _semisync(name: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        status = server_status(observation, name)
        if not status.up:
            return Verdict(False, SEMISYNC, UNKNOWN)
        return equals(SEMISYNC, SEMISYNC if status.semisync_active else "asynchronous (fallback)")

    return Check(f"semisync/{name}", name, "mysql", "invoke db.status", judge)


def _replica(context: Context, name: str) -> Check:
    primary = context.state.primary
    sources = (primary, str(context.primary.address))
    limit = REPLICATION_LAG_SECONDS
    expected = f"both threads run, source {primary}, lag at most {limit} s"

    def judge(observation: Observation) -> Verdict:
        status = server_status(observation, name)
        in_time = status.lag is not None and status.lag <= limit
        ok = status.replicating and status.source in sources and in_time
        return passed_if(ok, expected, describe_replication(status))

    return Check(f"replication/{name}", name, "mysql", "invoke db.status", judge)


def describe_replication(status: ServerStatus) -> str:
    """Threads, source, lag and errors of a replica, in words."""
    replica = status.replica
    if not status.up:
        return "refuses connections"
    if replica is None:
        return "no replication source"
    lag = "lag unknown" if replica.lag is None else f"lag {replica.lag} s"
    text = (
        f"IO thread {replica.io_running or 'absent'}, SQL thread {replica.sql_running or 'absent'}"
        f", source {replica.source or 'none'}, {lag}"
    )
    return f"{text}: {replica.error}" if replica.error else text
