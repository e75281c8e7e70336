"""The witness as a pure state machine: it grants leases and orders the failover (see rules.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from provision.database.failover.agent.rules import (
    FAILED_PROBES,
    LEASE,
    MARGIN,
    REPLICA_TIMEOUT,
    REPORT_LIFETIME,
    Decision,
    GuardReport,
)


class Witness:
    """The third vote.

    Args:
        decision: from its disk.
        clock: now; an earlier process may have granted a lease until then.
    """

    def __init__(self, decision: Decision, clock: float) -> None:
        self.decision = decision
        self.granted = clock
        self.replica: tuple[GuardReport, float] | None = None

    def receive(self, report: GuardReport, clock: float) -> tuple[Decision, bool]:
        """Process a report.

        Returns:
            The current decision, which must be on disk before it is sent, and whether the sender is
            granted a lease.
        """
        if report.primary == report.machine and report.epoch > self.decision.epoch:
            # Promoted by our order or by an operator; nothing is known of its replica.
            self.decision = Decision(
                self.decision.serial + 1, report.epoch, report.machine, report.instance
            )
            self.replica = None
        decision = self.decision
        if report.epoch != decision.epoch or report.primary != decision.primary:
            return decision, False
        if report.machine == decision.primary:
            return self._receive_from_primary(report, clock)
        self.replica = (report, clock)
        if decision.order:
            if report.refused >= decision.serial:
                self._decide(order="")
        elif decision.promotable and report.identity != decision.promotable:
            self._decide(promotable="")
        return self.decision, False

    def _receive_from_primary(self, report: GuardReport, clock: float) -> tuple[Decision, bool]:
        decision = self.decision
        if decision.order or not report.up:
            return decision, False
        self.granted = clock
        permits_alone = not decision.promotable
        if report.instance != decision.instance:
            self._decide(instance=report.instance)
        elif report.replica_missing > REPLICA_TIMEOUT and (
            not permits_alone or report.revoked >= decision.serial
        ):
            self._decide(promotable="")
        elif permits_alone and report.synced and report.revoked == decision.serial:
            self._decide(promotable=report.synced)
        return self.decision, True

    def objection(self, failed_probes: int, clock: float) -> str:
        """Why the replica must not be promoted now; empty when it must be.

        Args:
            failed_probes: probes of the primary's database that failed in a row.
        """
        decision = self.decision
        if not decision.primary:
            return "no primary is known yet"
        if decision.order:
            return "the replica has the order, and has not reported its result"
        if failed_probes < FAILED_PROBES:
            return "the primary's database responds"
        if clock - self.granted <= LEASE + MARGIN:
            return "the primary may still hold a lease from the witness"
        if self.replica is None or clock - self.replica[1] > REPORT_LIFETIME:
            return "no replica reports, so a partition cannot be ruled out"
        report, received = self.replica
        if report.receiving or report.primary_silent + (clock - received) <= LEASE + MARGIN:
            return "the replica reaches the primary, so only the witness is partitioned from it"
        if not decision.promotable:
            return "the replica is not promotable: it may lack acknowledged writes"
        if report.identity != decision.promotable:
            return "the replica's database is not the one that was promotable"
        return ""

    def consider_failover(self, failed_probes: int, clock: float) -> str:
        """Order the failover unless there is an objection, which is returned."""
        objection = self.objection(failed_probes, clock)
        if not objection:
            self._decide(order=self.decision.promotable)
        return objection

    def _decide(self, **changes: Any) -> None:
        self.decision = replace(self.decision, serial=self.decision.serial + 1, **changes)
