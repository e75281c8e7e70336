"""lab-autopromote.service on a database machine: the guard.

On the primary it holds the lease, fences, and decides how commits are acknowledged. On the replica
it grants leases and executes an order. While automatic failover is on, only the guard makes a
server writable (lab-mysql-role.service leaves that to it).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from provision.database.agent import role_store, semisync, write_access
from provision.database.agent.primary import become_primary
from provision.database.agent.relay_log import apply_relay_log
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.role_store import load_record, role_lock
from provision.database.agent.session import (
    MysqlError,
    MysqlSession,
    connect_local,
)
from provision.database.failover.agent import local_server, receiver, rules, wire
from provision.database.failover.agent.commit_policy import CommitPolicy
from provision.database.failover.agent.daemon import CRITICAL, ERROR, WARNING, ChangeLog, boottime
from provision.database.failover.agent.fence import LeaseWatch
from provision.database.failover.agent.guard_rules import Guard
from provision.database.failover.agent.local_server import LocalServer
from provision.database.failover.agent.rejoin_trigger import RejoinTrigger
from provision.database.failover.agent.rules import Decision, GuardReport, from_json, to_json
from provision.engine.agent.process import AgentError

ARMED = "/run/foobar-lab/autopromote-armed"
TICK_INTERVAL = 0.2

APPLY_SECONDS = 60.0
"""How long a replica may take to apply its relay log before it refuses an order."""


class GuardDaemon:
    """A guard: two threads that send reports, one that answers them, and the main loop."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.mutex = threading.Lock()
        self.guard = Guard(
            config["machine"], os.urandom(8).hex(), boottime(), os.path.exists(ARMED)
        )
        self.record = load_record() or RoleRecord(config["machine"], "", 0)
        self.log = ChangeLog()
        self.commits = CommitPolicy(self.log, boottime())
        self.server: LocalServer | None = None
        self.peer: tuple[GuardReport, float] | None = None
        self.session: MysqlSession | None = None
        self.retry_after = 0.0
        self.rejoining = RejoinTrigger(self.log)
        self.tick_now, self.report_now = threading.Event(), threading.Event()

    # --- reports -----------------------------------------------------------------------------

    def report(self) -> GuardReport:
        """The current state, for the witness and the other guard."""
        server, guard, clock = self.server, self.guard, boottime()
        return GuardReport(
            machine=guard.machine,
            instance=guard.instance,
            epoch=self.record.epoch,
            primary=self.record.primary,
            up=server is not None,
            identity=server.identity if server else "",
            gtids=server.status.all_gtids.text if server else "",
            replica_missing=clock - self.commits.replica_seen,
            revoked=guard.revoked,
            synced=self.commits.synced,
            primary_silent=clock - max(guard.primary_seen, guard.granted),
            receiving=server is not None and server.receiving,
            refused=guard.refused,
        )

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Respond to a report of the other guard."""
        report = from_json(GuardReport, request)
        with self.mutex:
            record = self.record
            granted = self.guard.grant_lease(report, record.epoch, record.primary, boottime())
            self.peer = (report, boottime())
            return {"report": to_json(self.report()), "granted": granted}

    def report_to_witness(self) -> None:
        """Send one report to the witness and process its decision."""
        with self.mutex:
            sent, report = boottime(), self.report()
        response = wire.send_request(self.config["witness"], self.config["secret"], to_json(report))
        with self.mutex:
            if not self.guard.armed:
                with open(ARMED, "w"):
                    pass
            decision = from_json(Decision, response["decision"])
            before = (self.guard.decision.serial, self.guard.has_lease(boottime()))
            self.guard.receive_decision(decision, bool(response["granted"]), sent)
            if before != (decision.serial, self.guard.has_lease(boottime())):
                self.tick_now.set()

    def report_to_peer(self) -> None:
        """Send one report to the other guard; without a response, probe its database instead."""
        (address,) = self.record.peers.values()
        with self.mutex:
            sent, report = boottime(), self.report()
        try:
            response = wire.send_request(address, self.config["secret"], to_json(report))
        except wire.WireError:
            if wire.mysql_responds(address):
                with self.mutex:
                    self.guard.primary_seen = boottime()
            raise
        with self.mutex:
            peer = from_json(GuardReport, response["report"])
            self.peer = (peer, boottime())
            if peer.up:
                self.guard.primary_seen = boottime()
            if response["granted"]:
                self.guard.extend_lease(sent)

    def start_reporting(self) -> None:
        """Send and answer reports in threads from now on."""

        def repeat(send: Callable[[], None], wake: threading.Event | None) -> None:
            while True:
                with contextlib.suppress(wire.WireError, KeyError, ValueError, TypeError, OSError):
                    send()
                if wake is None:
                    time.sleep(rules.REPORT_INTERVAL)
                    continue
                wake.wait(rules.URGENT_INTERVAL if self.urgent() else rules.REPORT_INTERVAL)
                wake.clear()

        wire.serve(self.config["address"], self.config["secret"], self.handle)
        for send, wake in ((self.report_to_witness, self.report_now), (self.report_to_peer, None)):
            threading.Thread(target=repeat, args=(send, wake), daemon=True).start()
        LeaseWatch(self.must_fence, self.log).start()

    def urgent(self) -> bool:
        """Whether the primary is silent, so that the witness may order a failover any moment."""
        with self.mutex:
            silent = boottime() - max(self.guard.primary_seen, self.guard.granted)
            return not self.record.is_primary and silent > rules.REPORT_LIFETIME

    # --- the main loop -----------------------------------------------------------------------

    def inspect(self) -> LocalServer | None:
        """Read the record and the server's status; None when mysqld does not respond."""
        record = load_record() or RoleRecord(self.guard.machine, "", 0)
        server = None
        try:
            self.session = self.session or connect_local(1.0)
            server = local_server.read_local_server(self.session)
        except MysqlError:
            self.disconnect()
        with self.mutex:
            self.record, self.server = record, server
        return server

    def disconnect(self) -> None:
        """Close the session."""
        if self.session is not None:
            self.session.close()
        self.session = None

    def tick(self) -> None:
        """Inspect the server and act on it."""
        server, record = self.inspect(), self.record
        leased = self.has_lease()
        self.rejoin(server, record)
        if server is None:
            self.commits.reset()
        elif record.is_primary:
            if leased:
                self.act_as_primary(server, record)
        else:
            self.commits.reset()
            self.commits.replica_seen = boottime()
            self.stop_or_start_receiver(server)
            self.execute_failover(server, record)

    # --- on the primary ----------------------------------------------------------------------

    def has_lease(self) -> bool:
        """Whether the lease is valid now."""
        with self.mutex:
            return self.guard.has_lease(boottime())

    def must_fence(self) -> bool:
        """Whether this machine is the recorded primary and has no lease."""
        with self.mutex:
            armed, leased = self.guard.armed, self.guard.has_lease(boottime())
            return self.record.is_primary and armed and not leased

    def act_as_primary(self, server: LocalServer, record: RoleRecord) -> None:
        """With a lease: be writable, and let commits wait for the replica or not."""
        if not server.status.writable:
            self.make_writable(record)
            return
        self.log.clear("lease")
        clock, peer, session = boottime(), self.peer, self.session
        current = peer is not None and clock - peer[1] < rules.REPORT_LIFETIME
        if peer and current and server.status.semisync_replicas and peer[0].receiving:
            self.commits.replica_seen = peer[1]
        with self.mutex:
            armed, alone = self.guard.armed, self.guard.may_commit_alone(record.epoch)
        if not armed or session is None:
            return
        with contextlib.suppress(MysqlError):
            report = peer[0] if peer and current else None
            revoke = self.commits.update(
                session, server.identity, server.status, report, alone, clock
            )
            if revoke:
                with self.mutex:
                    self.guard.revoke_permission()

    def make_writable(self, record: RoleRecord) -> None:
        """Make the recorded primary writable, if its peer does not object."""
        if boottime() < self.retry_after:
            return
        silent = self.peer is None or boottime() - self.peer[1] > rules.REPORT_LIFETIME
        dead = tuple(record.peers) if silent else ()
        try:
            with role_lock(), connect_local(30.0) as session:
                if load_record() != record:
                    return
                become_primary(session, record, APPLY_SECONDS, dead, self.has_lease)
            self.log("role", f"writable, primary in epoch {record.epoch}")
        except AgentError as error:
            self.log("role", f"not made writable: {error}", ERROR)
            self.retry_after = boottime() + 1.0

    # --- after a failover --------------------------------------------------------------------

    def rejoin(self, server: LocalServer | None, record: RoleRecord) -> None:
        """Rejoin when the other machine has become the primary."""
        clock, peer, needed = boottime(), self.peer, False
        if server and peer and clock - peer[1] < rules.REPORT_LIFETIME:
            writable, following = server.status.writable, server.status.replica is not None
            with self.mutex:
                needed = self.guard.must_rejoin(
                    peer[0], record.epoch, record.primary, writable=writable, following=following
                )
        self.rejoining.update(needed, peer[0] if peer else None, clock)

    # --- on the replica ----------------------------------------------------------------------

    def stop_or_start_receiver(self, server: LocalServer) -> None:
        """Stop the receiver thread while the primary is silent."""
        with self.mutex:
            silent = boottime() - max(self.guard.primary_seen, self.guard.granted)
        with contextlib.suppress(MysqlError, OSError):
            receiver.update(self.session, server.receiving, silent)

    def execute_failover(self, server: LocalServer, record: RoleRecord) -> None:
        """Answer the witness's order, if there is one: take over, or refuse."""
        with self.mutex:
            serial = self.guard.pending_order(record.epoch, record.primary)
            if not serial:
                return
            objection = self.guard.accept_order(
                serial, server.identity, server.receiving, boottime()
            )
        if objection:
            self.log("order", f"order {serial} is refused: {objection}", WARNING)
            return
        self.log("order", f"order {serial}: {record.primary} is dead, taking over", CRITICAL)
        try:
            self.take_over(server.identity, record)
        except AgentError as error:
            self.log("order", f"order {serial} is refused: {error}", ERROR)
            with self.mutex:
                self.guard.refuse_order(serial)
            with contextlib.suppress(MysqlError), connect_local() as session:
                session.query("START REPLICA")

    def take_over(self, identity: str, record: RoleRecord) -> None:
        """Acknowledge nothing more, apply the relay log, and record this machine as primary.

        The main loop makes it writable when it has a lease.

        Raises:
            AgentError: when the relay log cannot be applied, or mysqld does not respond.
        """
        with role_lock(), connect_local(30.0) as session:
            session.query("STOP REPLICA IO_THREAD")
            apply_relay_log(session, APPLY_SECONDS)
            if local_server.server_identity() != identity or load_record() != record:
                raise AgentError("the database or its role changed meanwhile")
            promoted = replace(record, primary=record.machine, epoch=record.epoch + 1)
            role_store.save_record(promoted)
            role_store.sync_folder(os.path.dirname(role_store.RECORD))
        with self.mutex:
            self.record = promoted
            self.guard.complete_order()
        receiver.forget()
        self.report_now.set()  # a lease of the witness is all that is missing now


def restore_configured_commits() -> int:
    """After automatic failover was switched off: commits wait as the configuration says."""
    if not write_access.failover_enabled():
        with contextlib.suppress(MysqlError), connect_local(5.0) as session:
            semisync.allow_fallback(session)
    return 0


def main() -> int:
    """Guard this machine's database until stopped."""
    if "--stopped" in sys.argv:
        return restore_configured_commits()
    daemon = GuardDaemon(role_store.read_json(write_access.FAILOVER_CONFIG))
    daemon.inspect()
    daemon.start_reporting()
    time.sleep(min(1.0, rules.MARGIN / 2))  # the lease of an earlier process may still be valid
    while True:
        daemon.tick()
        daemon.tick_now.wait(TICK_INTERVAL)
        daemon.tick_now.clear()


if __name__ == "__main__":
    sys.exit(main())
