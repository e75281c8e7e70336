"""On the primary: whether commits wait for the replica, and whether the replica has everything.

See rules.py, "No acknowledged write is lost".
"""

from __future__ import annotations

from dataclasses import dataclass

from provision.database.agent import semisync
from provision.database.agent.gtid import GtidSet
from provision.database.agent.server_status import ServerStatus
from provision.database.agent.session import MysqlSession
from provision.database.failover.agent.daemon import WARNING, ChangeLog
from provision.database.failover.agent.rules import GuardReport

CATCH_UP_SECONDS = 3.0
"""How far a replica may be behind when commits begin to wait for it."""

SETTLE_SECONDS = semisync.FALLBACK_MS / 1000 + 0.5
"""After it, no commit is left that began to wait while the timeout was short."""


@dataclass(frozen=True)
class StrictPeriod:
    """A time in which every commit waits for the replica.

    Args:
        identity: of the primary's mysqld.
        fallbacks: how often semi-sync had fallen back until then; another number ends the period.
    """

    since: float
    identity: str
    fallbacks: int


class CommitPolicy:
    """Switches between strict commits and commits alone, and finds out when a replica is synced."""

    def __init__(self, log: ChangeLog, clock: float) -> None:
        self.synced = ""
        self.replica_seen = clock
        self._log = log
        self._strict: StrictPeriod | None = None
        self._baseline = GtidSet()
        self._target: tuple[float, GtidSet] | None = None

    def reset(self) -> None:
        """Nothing is known: the server does not respond, is a replica, or commits alone."""
        self._strict, self.synced = None, ""

    def update(
        self,
        session: MysqlSession,
        identity: str,
        status: ServerStatus,
        peer: GuardReport | None,
        may_commit_alone: bool,
        clock: float,
    ) -> bool:
        """Apply the policy; True when the permission to commit alone is no longer used.

        Args:
            peer: current report of the replica's guard; None without one.
        """
        if may_commit_alone and not self._caught_up(status, peer, clock):
            self.reset()
            if semisync.is_strict(status):
                self._log("commits", "the replica is not promotable: committing alone", WARNING)
                semisync.allow_fallback(session)
            return False
        if not (semisync.is_strict(status) and status.semisync_active):
            self.reset()
            semisync.require_replica(session)
            return True
        self._target = None
        period = self._strict
        key = (identity, status.semisync_fallbacks)
        if period is None or (period.identity, period.fallbacks) != key:
            self._strict, self.synced = StrictPeriod(clock, *key), ""
            self._baseline = GtidSet()
            return False
        if clock - period.since >= SETTLE_SECONDS:
            self._check_synced(status, peer)
        return True

    def _check_synced(self, status: ServerStatus, peer: GuardReport | None) -> None:
        """Set ``synced`` when the replica has all that was committed before commits were strict."""
        self._baseline = self._baseline or status.executed
        self.synced = ""
        connected = peer is not None and peer.identity and status.semisync_replicas
        if peer and connected and not self._baseline - GtidSet(peer.gtids):
            self.synced = peer.identity
            self._log("commits", "every commit waits for the replica")

    def _caught_up(self, status: ServerStatus, peer: GuardReport | None, clock: float) -> bool:
        """Whether the replica replicates, and has what was committed here a moment ago.

        MySQL's Rpl_semi_sync_source_status cannot tell: it changes only with the next commit.
        """
        if peer is None or clock - self.replica_seen > 1.0:
            self._target = None
            return False
        if self._target is None or clock - self._target[0] > CATCH_UP_SECONDS:
            self._target = (clock, status.executed)
        return not self._target[1] - GtidSet(peer.gtids)
