"""A guard as a pure state machine: leases, permissions, answers to orders (see rules.py)."""

from __future__ import annotations

from provision.database.failover.agent.rules import LEASE, MARGIN, Decision, GuardReport


class Guard:
    """The vote of a database machine.

    Args:
        instance: names this process.
        clock: now; an earlier process may have granted a lease until then.
        armed: whether the witness has responded on this machine since it booted. Before that, no
            failover can have happened, and a lab that is being set up is not fenced.
    """

    def __init__(self, machine: str, instance: str, clock: float, armed: bool) -> None:
        self.machine, self.instance, self.armed = machine, instance, armed
        self.decision = Decision()
        self.lease_end = float("-inf")
        self.primary_seen = clock
        self.granted = clock
        self.revoked = 0
        self.refused = 0
        self.accepted = 0

    # --- on the primary ----------------------------------------------------------------------

    def receive_decision(self, decision: Decision, granted: bool, sent: float) -> None:
        """Process the witness's response to a report that was sent at ``sent``."""
        self.decision = decision
        self.armed = True
        if granted:
            self.extend_lease(sent)

    def extend_lease(self, sent: float) -> None:
        """Count a grant from when it was requested."""
        self.lease_end = max(self.lease_end, sent + LEASE)

    def has_lease(self, clock: float) -> bool:
        """Whether the lease is valid."""
        return clock < self.lease_end

    def may_commit_alone(self, epoch: int) -> bool:
        """Whether the primary may commit without its replica.

        Args:
            epoch: in the machine's record.
        """
        decision = self.decision
        for_this_process = (
            decision.primary == self.machine
            and decision.epoch == epoch
            and decision.instance == self.instance
        )
        return for_this_process and decision.serial > self.revoked and not decision.promotable

    def revoke_permission(self) -> None:
        """Give up the permission to commit alone; call it when commits are strict again."""
        self.revoked = max(self.revoked, self.decision.serial)

    # --- after a failover ---------------------------------------------------------------------

    def must_rejoin(
        self, peer: GuardReport, epoch: int, primary: str, *, writable: bool, following: bool
    ) -> bool:
        """Whether this server must become a replica of the other machine's: two of three agree.

        The witness has decided that the other machine is the primary, and its guard reports the
        same. The record is older, or it says so already and the server has no source.

        Args:
            peer: current report of the other guard.
            epoch: in this machine's record.
            primary: in this machine's record.
            writable: whether this server accepts writes; then it must be fenced first.
            following: whether it has a source.
        """
        decision = self.decision
        promoted = peer.up and peer.machine == peer.primary == decision.primary
        if not promoted or peer.epoch != decision.epoch or peer.machine == self.machine:
            return False
        if writable or decision.order or self.accepted:
            return False
        detached = peer.epoch == epoch and primary == peer.machine and not following
        return peer.epoch > epoch or detached

    # --- on the replica ----------------------------------------------------------------------

    def grant_lease(self, report: GuardReport, epoch: int, primary: str, clock: float) -> bool:
        """Whether the other guard gets a lease: only for the primary of this machine's record.

        Args:
            report: of the other guard.
            epoch: in this machine's record.
            primary: in this machine's record.
        """
        is_primary = report.machine == report.primary == primary and report.epoch == epoch
        if not is_primary or not report.up or primary == self.machine or self.accepted:
            return False
        self.granted = self.primary_seen = clock
        return True

    def pending_order(self, epoch: int, primary: str) -> int:
        """The serial of an order that needs an answer; 0 when there is none.

        Args:
            epoch: in this machine's record.
            primary: in this machine's record.
        """
        decision = self.decision
        applies = decision.order and decision.epoch == epoch and decision.primary == primary
        answered = decision.serial <= max(self.refused, self.accepted)
        return 0 if not applies or primary == self.machine or answered else decision.serial

    def accept_order(self, serial: int, identity: str, receiving: bool, clock: float) -> str:
        """Accept an order and grant nothing from now on, or refuse it and return why."""
        objection = ""
        if identity != self.decision.order:
            objection = "the order is for another state of this database"
        elif receiving:
            objection = "the receiver thread is connected to the primary"
        elif clock - max(self.granted, self.primary_seen) <= LEASE + MARGIN:
            objection = "the primary was seen a moment ago"
        if objection:
            self.refuse_order(serial)
        else:
            self.accepted = serial
        return objection

    def refuse_order(self, serial: int) -> None:
        """Never execute this order; grants are possible again."""
        self.refused = max(self.refused, serial)
        self.accepted = 0

    def complete_order(self) -> None:
        """The order was executed: this machine is recorded as primary."""
        self.accepted = 0
