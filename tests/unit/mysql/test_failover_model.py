"""The rules of automatic failover in a model of three machines with random faults."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from provision.database.failover.agent.fence import CONFIRM_INTERVAL
from provision.database.failover.agent.guard_rules import Guard
from provision.database.failover.agent.rules import (
    FAILED_PROBES,
    FENCE_INTERVAL,
    FENCE_TIMEOUT,
    LEASE,
    MARGIN,
    PROBE_INTERVAL,
    REPORT_INTERVAL,
    REPORT_LIFETIME,
    Decision,
    GuardReport,
)
from provision.database.failover.agent.witness_rules import Witness

STEP = 0.05


@dataclass
class Exchange:
    """A report under way: delivered at one time, its response at another."""

    sent: float
    report: GuardReport
    arrives: float
    returns: float
    response: Any = None
    handled: bool = False


@dataclass
class Server:
    """A database machine: its mysqld, its record, its guard."""

    name: str
    guard: Guard
    record: tuple[int, str] = (1, "web-01")
    log: set[int] = field(default_factory=set)
    relay: set[int] = field(default_factory=set)
    pending: dict[int, float] = field(default_factory=dict)
    up: bool = True
    down_until: float = 0.0
    writable: bool = False
    strict: bool = True
    receiving: bool = True
    generation: int = 0
    synced: str = ""
    strict_since: float = -1.0
    baseline: set[int] | None = None
    replica_seen: float = 0.0
    suspended_until: float = 0.0
    resumed: float = -9.0
    tick: float = 0.0
    applying_until: float = 0.0
    fence_by: float = 0.0
    fence_tick: float = 0.0
    peer: tuple[GuardReport, float, set[int]] | None = None
    exchanges: dict[str, Exchange | None] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return f"{self.name}/{self.generation}" if self.up else ""

    @property
    def is_primary(self) -> bool:
        return self.record[1] == self.name


class Model:
    """Three machines that are partitioned, suspended and crashed, and a client that writes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = 0.0
        self.witness = Witness(Decision(serial=1), 0.0)
        self.witness_suspended_until = 0.0
        self.failed_probes = 0
        self.next_probe = 0.0
        self.servers = {n: Server(n, Guard(n, f"{n}-0", 0.0, False)) for n in ("web-01", "web-02")}
        self.servers["web-01"].writable = True
        self.partitions: set[frozenset[str]] = set()
        self.acknowledged: set[int] = set()
        self.next = 0
        self.instances = 0
        self.promotions = 0
        self.rejoins = 0

    def other(self, server: Server) -> Server:
        return next(s for s in self.servers.values() if s is not server)

    def linked(self, a: str, b: str) -> bool:
        return frozenset((a, b)) not in self.partitions

    def is_running(self, server: Server) -> bool:
        return self.clock >= server.suspended_until

    # --- faults -----------------------------------------------------------------------------

    def inject_fault(self) -> None:
        roll = 2.0 * self.random.random()
        server = self.random.choice(list(self.servers.values()))
        names = ["witness", *self.servers]
        if roll < 0.0015:
            self.partitions.add(frozenset(self.random.sample(names, 2)))
        elif roll < 0.0050:
            isolated = self.random.choice(names)
            self.partitions |= {frozenset((isolated, name)) for name in names if name != isolated}
        elif roll < 0.0090:
            self.partitions = set()
        elif roll < 0.0115:
            server.suspended_until = self.clock + self.random.uniform(0.2, 12)
            server.resumed = server.suspended_until
        elif roll < 0.0125:
            self.crash(server, self.random.uniform(0.5, 8))
        elif roll < 0.0135:
            self.instances += 1
            name = f"{server.name}-{self.instances}"
            guard = Guard(server.name, name, self.clock, server.guard.armed)
            server.guard, server.exchanges, server.synced = guard, {}, ""
            server.strict_since, server.applying_until, server.tick = -1.0, 0.0, self.clock + 1.0
        elif roll < 0.0145:
            self.witness = Witness(self.witness.decision, self.clock)
        elif roll < 0.0150:
            self.witness_suspended_until = self.clock + self.random.uniform(0.2, 10)

    def crash(self, server: Server, seconds: float) -> None:
        """Mysqld crashes: waiting transactions are committed on restart, the relay log is lost."""
        server.up, server.writable, server.receiving = False, False, False
        server.down_until = self.clock + seconds
        server.log |= set(server.pending)
        server.pending, server.relay = {}, set()
        server.generation += 1
        server.fence_by = 0.0

    def rejoin(self, old: Server) -> None:
        """What GuardDaemon.rejoin and lab-rejoin.service do: save what is errant, then clone."""
        if old.peer is None or self.clock - old.peer[1] > REPORT_LIFETIME:
            return
        report, primary = old.peer[0], self.other(old)
        needed = old.guard.must_rejoin(
            report, *old.record, writable=old.writable, following=old.record == primary.record
        )
        reachable = self.linked(primary.name, old.name) and self.is_running(primary)
        if needed and reachable and old.up and primary.up and not old.fence_by:
            errant = (old.log | set(old.pending)) - primary.log - set(primary.pending)
            assert not errant & self.acknowledged, "an acknowledged write was errant"
            old.record = (report.epoch, report.primary)
            old.log, old.relay, old.pending = set(primary.log), set(), {}
            old.generation += 1
            old.receiving = True
            self.rejoins += 1

    # --- mysqld -----------------------------------------------------------------------------

    def replicate(self) -> None:
        for server in self.servers.values():
            if not server.up and self.clock >= server.down_until:
                server.up, server.strict, server.receiving = True, True, not server.is_primary
                server.strict_since = -1.0
            source = self.other(server)
            follows = (
                server.up and server.receiving and self.is_running(server) and not server.is_primary
            )
            reach = source.up and self.is_running(source) and self.linked(server.name, source.name)
            same = server.record == source.record and source.is_primary
            if follows and reach and same:
                server.relay |= (source.log | set(source.pending)) - server.log
                for txn in list(source.pending):
                    self.commit(source, txn)
            if server.up and self.is_running(server) and self.random.random() < 0.5:
                server.log |= server.relay
                server.relay = set()

    def commit(self, server: Server, txn: int) -> None:
        del server.pending[txn]
        server.log.add(txn)
        self.acknowledged.add(txn)

    def write(self) -> None:
        for server in self.servers.values():
            if not (server.up and self.is_running(server)):
                continue
            if server.writable and not server.fence_by and self.random.random() < 0.3:
                self.next += 1
                limit = float("inf") if server.strict else self.clock + 1.5
                server.pending[self.next] = limit
            for txn, limit in list(server.pending.items()):
                if self.clock >= limit:
                    self.commit(server, txn)

    # --- reports ----------------------------------------------------------------------------

    def report(self, server: Server) -> GuardReport:
        guard = server.guard
        return GuardReport(
            server.name,
            guard.instance,
            *server.record,
            server.up,
            server.identity,
            "",
            self.clock - server.replica_seen,
            guard.revoked,
            server.synced,
            self.clock - max(guard.primary_seen, guard.granted),
            self.receiving(server),
            guard.refused,
        )

    def receiving(self, server: Server) -> bool:
        source = self.other(server)
        same = server.record == source.record and source.is_primary and source.up
        linked = self.linked(server.name, source.name) and self.is_running(source)
        return server.up and server.receiving and not server.is_primary and same and linked

    def exchange(self, server: Server, to: str, handle: Callable[[GuardReport], Any]) -> Any:
        """Continue an exchange; its response and when it was sent, None while it is under way."""
        exchange = server.exchanges.get(to)
        if exchange is None:
            first, second = self.random.uniform(0, 0.2), self.random.uniform(0, 0.2)
            if self.random.random() < 0.02:
                first *= 15
            arrives = self.clock + first
            exchange = Exchange(self.clock, self.report(server), arrives, arrives + second)
            server.exchanges[to] = exchange if self.linked(server.name, to) else None
            return None
        target = (
            self.clock >= self.witness_suspended_until
            if to == "witness"
            else self.is_running(self.servers[to])
        )
        if not exchange.handled and self.clock >= exchange.arrives and target:
            exchange.handled, exchange.response = True, handle(exchange.report)
            exchange.returns = max(exchange.returns, self.clock)
        late = self.clock - exchange.sent > 3.0
        if exchange.handled and self.clock >= exchange.returns and self.is_running(server):
            server.exchanges[to] = None
            return (exchange.response, exchange.sent) if self.linked(server.name, to) else None
        if late and self.is_running(server):
            server.exchanges[to] = None
            if not exchange.handled and exchange.arrives <= self.clock + 1:
                handle(exchange.report)  # the sender no longer waits for the response
        return None

    def exchange_reports(self, server: Server) -> None:
        guard, other = server.guard, self.other(server)

        def receive(report: GuardReport) -> tuple[Decision, bool]:
            """What WitnessDaemon.handle does."""
            decision, granted = self.witness.receive(report, self.clock)
            if self.failed_probes >= FAILED_PROBES and report.machine != decision.primary:
                self.witness.consider_failover(self.failed_probes, self.clock)
                decision = self.witness.decision
            return decision, granted

        result = self.exchange(server, "witness", receive)
        if result:
            (decision, granted), sent = result
            guard.receive_decision(decision, granted, sent)

        def respond(report: GuardReport) -> Any:
            granted = other.guard.grant_lease(report, *other.record, self.clock)
            return self.report(other), other.log | other.relay, granted

        result = self.exchange(server, other.name, respond)
        if result:
            (report, transactions, granted), sent = result
            server.peer = (report, sent, set(transactions))
            if report.up:
                guard.primary_seen = self.clock
            if granted:
                guard.extend_lease(sent)

    # --- the daemons ------------------------------------------------------------------------

    def fence(self, server: Server) -> None:
        """What LeaseWatch does, every FENCE_INTERVAL seconds, and sometimes late."""
        if server.fence_by and self.clock >= server.fence_by:
            self.crash(server, 1.0) if server.pending else None
            server.writable, server.fence_by = False, 0.0
        if self.clock < server.fence_tick:
            return
        server.fence_tick = self.clock + self.random.choice([FENCE_INTERVAL] * 4 + [0.3])
        guard = server.guard
        leaseless = server.is_primary and guard.armed and not guard.has_lease(self.clock)
        if leaseless and server.writable and not server.fence_by:
            server.fence_by = self.clock + FENCE_TIMEOUT if server.pending else self.clock

    def tick_guard(self, server: Server) -> None:
        """What GuardDaemon.tick does, every 0.2 s, and sometimes late."""
        guard = server.guard
        if self.clock < server.tick:
            return
        server.tick = self.clock + self.random.choice([0.2, 0.2, 0.2, 0.6])
        self.rejoin(server)
        if not server.is_primary:
            server.replica_seen, server.synced = self.clock, ""
            if server.up:
                self.execute_failover(server)
            return
        if not guard.has_lease(self.clock):
            return
        if not server.up:
            server.synced, server.strict_since = "", -1.0
            return
        if server.fence_by:
            return
        if not server.writable:
            other = self.other(server)
            newer = self.linked(server.name, other.name) and other.up and self.is_running(other)
            if not (newer and other.record[0] > server.record[0]):
                server.log |= server.relay
                server.relay, server.strict, server.writable = set(), True, True
                assert self.acknowledged <= server.log | set(server.pending), "a write was lost"
                self.promotions += 1
            return
        self.apply_commit_policy(server)

    def apply_commit_policy(self, server: Server) -> None:
        guard, peer = server.guard, server.peer
        attached = self.receiving(self.other(server))
        if peer and self.clock - peer[1] < 1.5 and attached and peer[0].receiving:
            server.replica_seen = peer[1]
        following = self.clock - server.replica_seen < 1.0 and attached
        if not guard.armed:
            return
        if guard.may_commit_alone(server.record[0]) and not following:
            server.strict_since, server.synced = -1.0, ""
            if server.strict:
                server.strict = False
                server.pending = dict.fromkeys(server.pending, self.clock)
            return
        if not server.strict:
            server.strict, server.strict_since, server.synced = True, -1.0, ""
            guard.revoke_permission()
            return
        if server.strict_since < 0:
            server.strict_since, server.synced, server.baseline = self.clock, "", None
            return
        guard.revoke_permission()
        if self.clock - server.strict_since < 2.0:
            return
        server.baseline = server.baseline if server.baseline is not None else set(server.log)
        server.synced = ""
        if peer and self.clock - peer[1] < 1.5 and peer[0].identity and server.baseline <= peer[2]:
            server.synced = peer[0].identity

    def execute_failover(self, server: Server) -> None:
        guard = server.guard
        if server.applying_until:
            if self.clock >= server.applying_until:
                server.applying_until = 0.0
                if server.identity == guard.decision.order:
                    server.log |= server.relay
                    server.relay = set()
                    server.record = (server.record[0] + 1, server.name)
                    guard.complete_order()
                else:
                    guard.refuse_order(guard.accepted)
                    server.receiving = True
            return
        serial = guard.pending_order(*server.record)
        if serial and not guard.accept_order(
            serial, server.identity, self.receiving(server), self.clock
        ):
            server.receiving = False
            server.applying_until = self.clock + self.random.uniform(0, 3)

    def probe_primary(self) -> None:
        if self.clock < max(self.witness_suspended_until, self.next_probe):
            return
        self.next_probe = self.clock + self.random.uniform(PROBE_INTERVAL, 1.0)
        primary = self.servers.get(self.witness.decision.primary)
        if primary:
            responds = (
                primary.up and self.is_running(primary) and self.linked("witness", primary.name)
            )
            self.failed_probes = 0 if responds else self.failed_probes + 1
            self.witness.consider_failover(self.failed_probes, self.clock)

    def step(self) -> None:
        self.clock += STEP
        self.inject_fault()
        self.replicate()
        self.write()
        for server in self.servers.values():
            self.exchange_reports(server)
            if self.is_running(server):
                self.fence(server)
                self.tick_guard(server)
        self.probe_primary()
        writable = [
            s
            for s in self.servers.values()
            if s.writable and self.is_running(s) and self.clock - s.resumed > 1.5
        ]
        assert len(writable) < 2, "two servers are writable"


@pytest.mark.parametrize("seed", range(16))
def test_never_two_writable_servers_and_no_acknowledged_write_lost(seed: int) -> None:
    model = Model(seed)
    for _ in range(6000):
        model.step()
    assert len(model.acknowledged) > 50


def test_the_model_fails_over_and_rejoins() -> None:
    promoted = rejoined = 0
    for seed in range(6):
        model = Model(seed)
        for _ in range(6000):
            model.step()
        promoted += max(s.record[0] for s in model.servers.values()) - 1
        rejoined += model.rejoins
    assert promoted >= 2
    assert rejoined >= 2


def test_fencing_fits_into_the_margin() -> None:
    assert FENCE_INTERVAL + CONFIRM_INTERVAL + FENCE_TIMEOUT < MARGIN
    assert LEASE >= 5 * REPORT_INTERVAL, "a lost report ends no lease"


def accept_every_order(self: Guard, serial: int, *_: object) -> str:
    """Accept without any condition."""
    self.accepted = serial
    return ""


def rejoin_always(self: Guard, peer: GuardReport, *_: object, **__: object) -> bool:
    """Without the decision of the witness, and whatever the peer reports."""
    return peer.up


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("Guard.has_lease", lambda self, clock: True),
        ("Guard.may_commit_alone", lambda self, epoch: True),
        ("Guard.accept_order", accept_every_order),
        ("Guard.must_rejoin", rejoin_always),
    ],
)
def test_the_model_detects_broken_rules(
    method: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lease, without strict commits, without the replica's own conditions."""
    monkeypatch.setattr(f"provision.database.failover.agent.guard_rules.{method}", broken)

    def run() -> None:
        for seed in range(60):
            model = Model(seed)
            for _ in range(6000):
                model.step()

    with pytest.raises(AssertionError, match=r"two servers|a write was lost|errant"):
        run()
