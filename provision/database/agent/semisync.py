"""Semi-synchronous replication on a primary: whether commits may continue without a replica."""

from __future__ import annotations

from provision.database.agent.server_status import ServerStatus
from provision.database.agent.session import MysqlSession

FALLBACK_MS = 1500
"""rpl_semi_sync_source_timeout as configured: after it, commits are asynchronous."""

NO_FALLBACK_MS = 4294967295
"""The longest timeout that MySQL accepts, 49 days."""


def is_strict(status: ServerStatus) -> bool:
    """Whether every commit waits for a replica, without a fallback to asynchronous commits."""
    return (
        status.semisync_enabled
        and status.semisync_wait_no_replica
        and status.semisync_timeout_ms == NO_FALLBACK_MS
    )


def require_replica(session: MysqlSession) -> None:
    """Make every commit wait for a replica without limit, even when none is connected."""
    session.query("SET GLOBAL rpl_semi_sync_source_timeout = %s", [NO_FALLBACK_MS])
    session.query("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    session.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON")
    status = session.row("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'")
    if status.get("Value") == "OFF":
        # Toggling ends a fallback. OFF would release waiting commits, but in a fallback none wait.
        session.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF")
        session.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON")


def allow_fallback(session: MysqlSession) -> None:
    """Let commits continue without a replica, including those that wait for one now."""
    session.query("SET GLOBAL rpl_semi_sync_source_timeout = %s", [FALLBACK_MS])
    session.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF")
    if session.value("SELECT @@global.rpl_semi_sync_source_enabled") == "1":
        # A replica that died without closing its connection still counts as connected; only this
        # releases commits that wait for it.
        session.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
        session.query("SET GLOBAL rpl_semi_sync_source_enabled = ON")
