"""The rules of db.autopromote: every single one, and all of them in a model of three parties."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from provision.core.errors import LabError
from provision.core.state import State
from provision.database.failover.agent import wire as autopromote_wire
from provision.database.failover.agent import witness as autopromote_supervisor
from provision.database.failover.agent.rules import (
    LEASE,
    MARGIN,
    OUT,
    PROBES,
    Guard,
    Report,
    Supervisor,
    Word,
    report,
    values,
    word,
)
from provision.database.failover.control import understand

LONG = LEASE + MARGIN + 0.1
PRIMARY = Report("web-01", "one", 1, "web-01", True, "p")
REPLICA = Report("web-02", "two", 1, "web-01", True, "r", unheard=99.0)


def settled(now: float = 0.0) -> Supervisor:
    """A supervisor that knows web-01 as primary and web-02 as promotable."""
    party = Supervisor(Word(serial=10), now)
    party.hear(PRIMARY, now)
    party.hear(replace(PRIMARY, revoked=party.word.serial, claim="r"), now)
    assert party.word.promotable == "r"
    return party


# --- the supervisor ------------------------------------------------------------------------------


def test_it_learns_who_leads_and_grants() -> None:
    party = Supervisor(Word(serial=10), 0.0)
    known, granted = party.hear(PRIMARY, 1.0)
    assert (known.primary, known.epoch, known.promotable, granted) == ("web-01", 1, "", True)
    assert not party.hear(replace(PRIMARY, machine="web-02", primary="web-02"), 2.0)[1]
    assert not party.hear(replace(PRIMARY, up=False), 2.0)[1]


def test_a_dead_primary_is_replaced() -> None:
    party = settled()
    party.hear(REPLICA, LONG)
    assert party.consider(PROBES, LONG) == ""
    assert party.word.order == "r"
    assert not party.hear(PRIMARY, LONG)[1], "nothing is granted any more"
    known, granted = party.hear(
        replace(REPLICA, epoch=2, primary="web-02", instance="two"), LONG + 1
    )
    assert (known.primary, known.epoch, known.order, granted) == ("web-02", 2, "", True)
    assert not party.hear(PRIMARY, LONG + 2)[1]


@pytest.mark.parametrize(
    ("failed", "when", "said", "why"),
    [
        (PROBES - 1, LONG, REPLICA, "answers"),
        (PROBES, LEASE + MARGIN, REPLICA, "lease"),
        (PROBES, LONG, None, "no replica reports"),
        (PROBES, LONG, replace(REPLICA, unheard=LEASE), "sees the primary"),
        (PROBES, LONG, replace(REPLICA, receiving=True), "sees the primary"),
        (PROBES, LONG, replace(REPLICA, server="another"), "not promotable"),
    ],
)
def test_what_speaks_against_it(failed: int, when: float, said: Report | None, why: str) -> None:
    party = settled()
    if said:
        party.hear(said, when)
    assert why in party.consider(failed, when)
    assert not party.word.order


def test_an_old_report_does_not_count() -> None:
    party = settled()
    party.hear(REPLICA, LONG)
    assert "no replica" in party.consider(PROBES, LONG + 2)


def test_after_its_own_start_it_waits() -> None:
    party = Supervisor(settled().word, 100.0)
    party.hear(REPLICA, 101.0)
    assert "lease" in party.consider(PROBES, 101.0)


def test_an_order_is_taken_back_only_when_it_was_refused() -> None:
    party = settled()
    party.hear(REPLICA, LONG)
    party.consider(PROBES, LONG)
    party.hear(replace(REPLICA, server="another"), LONG)
    assert party.word.order, "it may have been accepted by then"
    party.hear(replace(REPLICA, refused=party.word.serial - 1), LONG)
    assert party.word.order
    party.hear(replace(REPLICA, refused=party.word.serial), LONG)
    assert not party.word.order
    assert party.hear(PRIMARY, LONG)[1]


def test_out_and_in_again() -> None:
    party = settled()
    known, _ = party.hear(replace(PRIMARY, missing=OUT + 0.1), 1.0)
    assert known.promotable == ""
    late = replace(PRIMARY, revoked=known.serial - 1, claim="r")
    assert party.hear(late, 2.0)[0].promotable == "", "a claim from before does not count"
    again, _ = party.hear(replace(PRIMARY, revoked=known.serial, missing=OUT + 0.1), 3.0)
    assert again.serial == known.serial + 1, "permission given up, and needed again"
    assert party.hear(replace(PRIMARY, revoked=known.serial, claim="r"), 4.0)[0].promotable == ""
    assert party.hear(replace(PRIMARY, revoked=again.serial, claim="r"), 5.0)[0].promotable == "r"


def test_another_state_of_the_replica_is_not_promotable() -> None:
    party = settled()
    party.hear(replace(REPLICA, server="restarted"), 1.0)
    assert party.word.promotable == ""


def test_a_planned_promotion_is_learnt() -> None:
    party = settled()
    new = replace(REPLICA, epoch=2, primary="web-02")
    party.hear(new, 1.0)
    assert (party.word.primary, party.word.promotable) == ("web-02", "")


# --- the guard -----------------------------------------------------------------------------------


def test_a_lease_counts_from_the_question() -> None:
    guard = Guard("web-01", "one", 0.0, False)
    assert not guard.leased(0.0)
    guard.told(Word(11, 1, "web-01", "one"), True, 10.0)
    assert guard.leased(10.0 + LEASE - 0.1)
    assert not guard.leased(10.0 + LEASE)
    guard.peer_granted(12.0)
    assert guard.leased(12.0 + LEASE - 0.1)
    assert guard.armed


def test_a_replica_grants_only_the_primary_that_it_knows() -> None:
    guard = Guard("web-02", "two", 0.0, True)
    assert guard.answer(PRIMARY, 1, "web-01", 5.0)
    assert guard.granted == 5.0
    assert not guard.answer(replace(PRIMARY, epoch=0), 1, "web-01", 6.0)
    assert not guard.answer(replace(PRIMARY, up=False), 1, "web-01", 6.0)
    assert not guard.answer(PRIMARY, 2, "web-02", 6.0)
    assert guard.granted == 5.0


def test_an_order_is_accepted_or_refused_for_ever() -> None:
    guard = Guard("web-02", "two", 0.0, True)
    guard.told(Word(11, 1, "web-01", "one", "r", "r"), False, 0.0)
    serial = guard.ordered(1, "web-01")
    assert serial == 11
    assert "a moment ago" in guard.accept(serial, "r", False, LEASE)
    assert guard.ordered(1, "web-01") == 0
    guard.told(Word(13, 1, "web-01", "one", "r", "r"), False, 0.0)
    assert "connected" in guard.accept(13, "r", True, LONG)
    guard.told(Word(15, 1, "web-01", "one", "r", "r"), False, 0.0)
    assert "another state" in guard.accept(15, "x", False, LONG)
    guard.told(Word(17, 1, "web-01", "one", "r", "r"), False, 0.0)
    assert guard.ordered(2, "web-01") == 0
    assert guard.accept(17, "r", False, LONG) == ""
    assert not guard.answer(PRIMARY, 1, "web-01", LONG), "it has promised"
    guard.refuse(17)
    assert guard.answer(PRIMARY, 1, "web-01", LONG)


def test_alone_only_with_a_permission_that_was_not_given_up() -> None:
    guard = Guard("web-01", "one", 0.0, True)
    assert not guard.alone(1)
    guard.told(Word(11, 1, "web-01", "one"), True, 0.0)
    assert guard.alone(1)
    assert not guard.alone(2)
    guard.revoke()
    assert not guard.alone(1)
    guard.told(Word(12, 1, "web-01", "one"), True, 0.0)
    assert guard.alone(1)
    guard.told(Word(13, 1, "web-01", "other"), True, 0.0)
    assert not guard.alone(1), "the permission of another process"


# --- files and wire ------------------------------------------------------------------------------


def test_values_come_back() -> None:
    assert word({**values(Word(3, 2, "a", "b", "c", "d")), "more": 1}) == Word(
        3, 2, "a", "b", "c", "d"
    )
    assert report(values(REPLICA)) == REPLICA


def test_the_word_is_on_the_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "word.json")
    assert autopromote_supervisor.load(path).serial > 1_000_000
    autopromote_supervisor.save(Word(3, 2, "a"), path)
    assert autopromote_supervisor.load(path) == Word(3, 2, "a")


def test_the_wire_believes_only_the_secret() -> None:
    asked: list[dict[str, Any]] = []

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"you said": question}

    with autopromote_wire.serve("127.0.0.1", "secret", answer, 0) as server:
        port = server.getsockname()[1]
        said = autopromote_wire.ask("127.0.0.1", "secret", {"a": 1}, port)
        assert said == {"you said": {"a": 1}}
        with pytest.raises(autopromote_wire.WireError):
            autopromote_wire.ask("127.0.0.1", "wrong", {"a": 1}, port)
        assert len(asked) == 1
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]

        def lie() -> None:
            connection, _ = deaf.accept()
            with connection:
                connection.sendall(b"00\n")
                connection.recv(4096)
                connection.sendall(b'0 {"granted": true}\n')

        threading.Thread(target=lie, daemon=True).start()
        with pytest.raises(autopromote_wire.WireError, match="not the lab's"):
            autopromote_wire.ask("127.0.0.1", "secret", {}, port)


# --- the controller ------------------------------------------------------------------------------


def seen(name: str, writable: bool, epoch: int, recorded: str, *, at: int = 0) -> Any:
    """What a machine says: its server's epoch, and its record, of the same epoch or another."""
    return {
        "own": {"name": name, "answered": True, "writable": writable, "epoch": epoch},
        "record": {"primary": recorded, "epoch": at or epoch},
    }


SILENT = {"own": {"answered": False}}


def test_a_promotion_is_adopted() -> None:
    state = State(primary="web-01", epoch=1)
    new, old = seen("web-02", True, 2, "web-02"), seen("web-01", False, 1, "web-01")
    assert understand({"web-02": new, "web-01": SILENT}, state).primary == "web-02"
    assert understand({"web-02": new, "web-01": old}, state).epoch == 2
    assert understand({"web-01": seen("web-01", True, 1, "web-01")}, state) == state
    accepted = seen("web-02", False, 1, "web-02", at=2)
    assert understand({"web-02": accepted}, state).primary == "web-02", "not writable yet"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen("web-02", True, 2, "web-02"), seen("web-01", True, 1, "web-01")),
        (seen("web-02", True, 2, "web-02"), seen("web-01", False, 3, "web-02", at=2)),
        (seen("web-02", True, 2, "web-02"), seen("web-01", False, 2, "web-01")),
    ],
)
def test_contradictions_are_not_adopted(one: Any, other: Any) -> None:
    with pytest.raises(LabError, match="cannot be told"):
        understand({"web-02": one, "web-01": other}, State(primary="web-01", epoch=1))


# --- the model -----------------------------------------------------------------------------------

STEP = 0.05


@dataclass
class Talk:
    """A question under way: delivered at one time, its answer at another."""

    sent: float
    said: Report
    arrives: float
    returns: float
    answer: Any = None
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
    io: bool = True
    life: int = 0
    claim: str = ""
    strict_since: float = -1.0
    baseline: set[int] | None = None
    followed: float = 0.0
    paused: float = 0.0
    woke: float = -9.0
    tick: float = 0.0
    draining: float = 0.0
    fence_by: float = 0.0
    peer: tuple[Report, float, set[int]] | None = None
    talks: dict[str, Talk | None] = field(default_factory=dict)

    @property
    def server(self) -> str:
        return f"{self.name}/{self.life}" if self.up else ""

    @property
    def leads(self) -> bool:
        return self.record[1] == self.name


class Model:
    """Three parties, links that are cut, machines that stop, wake, crash; a client that writes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.third = Supervisor(Word(serial=1), 0.0)
        self.third_paused = 0.0
        self.failed = 0
        self.probe = 0.0
        self.servers = {n: Server(n, Guard(n, f"{n}-0", 0.0, False)) for n in ("web-01", "web-02")}
        self.servers["web-01"].writable = True
        self.cut: set[frozenset[str]] = set()
        self.acknowledged: set[int] = set()
        self.next = 0
        self.instances = 0
        self.promotions = 0

    def other(self, server: Server) -> Server:
        return next(s for s in self.servers.values() if s is not server)

    def linked(self, a: str, b: str) -> bool:
        return frozenset((a, b)) not in self.cut

    def awake(self, server: Server) -> bool:
        return self.now >= server.paused

    # --- what happens -----------------------------------------------------------------------

    def trouble(self) -> None:
        roll = 2.0 * self.random.random()
        server = self.random.choice(list(self.servers.values()))
        names = ["third", *self.servers]
        if roll < 0.0015:
            self.cut.add(frozenset(self.random.sample(names, 2)))
        elif roll < 0.0050:
            gone = self.random.choice(names)
            self.cut |= {frozenset((gone, name)) for name in names if name != gone}
        elif roll < 0.0090:
            self.cut = set()
        elif roll < 0.0115:
            server.paused = self.now + self.random.uniform(0.2, 12)
            server.woke = server.paused
        elif roll < 0.0125:
            self.crash(server, self.random.uniform(0.5, 8))
        elif roll < 0.0135:
            self.instances += 1
            name = f"{server.name}-{self.instances}"
            guard = Guard(server.name, name, self.now, server.guard.armed)
            server.guard, server.talks, server.claim = guard, {}, ""
            server.strict_since, server.draining, server.tick = -1.0, 0.0, self.now + 1.0
        elif roll < 0.0145:
            self.third = Supervisor(self.third.word, self.now)
        elif roll < 0.0150:
            self.third_paused = self.now + self.random.uniform(0.2, 10)
        elif roll < 0.0180:
            self.rejoin()

    def crash(self, server: Server, seconds: float) -> None:
        """The server ends: what waited is committed later, what was only received is gone."""
        server.up, server.writable, server.io = False, False, False
        server.down_until = self.now + seconds
        server.log |= set(server.pending)
        server.pending, server.relay = {}, set()
        server.life += 1
        server.fence_by = 0.0

    def rejoin(self) -> None:
        """An operator brings back what is no replica of the primary."""
        leader = max(self.servers.values(), key=lambda s: s.record[0] if s.leads else 0)
        old = self.other(leader)
        reachable = self.linked(leader.name, old.name) and self.awake(old) and self.awake(leader)
        fenced = not old.writable and not old.fence_by
        if old.record != leader.record and reachable and old.up and leader.up and fenced:
            old.record = leader.record
            old.log, old.relay, old.pending = set(leader.log), set(), {}
            old.life += 1
            old.io = True

    # --- mysqld -----------------------------------------------------------------------------

    def replicate(self) -> None:
        for server in self.servers.values():
            if not server.up and self.now >= server.down_until:
                server.up, server.strict, server.io = True, True, not server.leads
                server.strict_since = -1.0
            source = self.other(server)
            follows = server.up and server.io and self.awake(server) and not server.leads
            reach = source.up and self.awake(source) and self.linked(server.name, source.name)
            same = server.record == source.record and source.leads
            if follows and reach and same:
                server.relay |= (source.log | set(source.pending)) - server.log
                for txn in list(source.pending):
                    self.commit(source, txn)
            if server.up and self.awake(server) and self.random.random() < 0.5:
                server.log |= server.relay
                server.relay = set()

    def commit(self, server: Server, txn: int) -> None:
        del server.pending[txn]
        server.log.add(txn)
        self.acknowledged.add(txn)

    def write(self) -> None:
        for server in self.servers.values():
            if not (server.up and self.awake(server)):
                continue
            if server.writable and not server.fence_by and self.random.random() < 0.3:
                self.next += 1
                limit = float("inf") if server.strict else self.now + 1.5
                server.pending[self.next] = limit
            for txn, limit in list(server.pending.items()):
                if self.now >= limit:
                    self.commit(server, txn)

    # --- talking ----------------------------------------------------------------------------

    def report(self, server: Server) -> Report:
        guard = server.guard
        return Report(
            server.name,
            guard.instance,
            *server.record,
            server.up,
            server.server,
            "",
            self.now - server.followed,
            guard.revoked,
            server.claim,
            self.now - max(guard.heard, guard.granted),
            self.receiving(server),
            guard.refused,
        )

    def receiving(self, server: Server) -> bool:
        source = self.other(server)
        same = server.record == source.record and source.leads and source.up
        linked = self.linked(server.name, source.name) and self.awake(source)
        return server.up and server.io and not server.leads and same and linked

    def talk(self, server: Server, to: str, handle: Callable[[Report], Any]) -> Any:
        """Go on with a conversation; its answer when it is over, else None."""
        talk = server.talks.get(to)
        if talk is None:
            first, second = self.random.uniform(0, 0.2), self.random.uniform(0, 0.2)
            if self.random.random() < 0.02:
                first *= 15
            arrives = self.now + first
            talk = Talk(self.now, self.report(server), arrives, arrives + second)
            server.talks[to] = talk if self.linked(server.name, to) else None
            return None
        target = self.now >= self.third_paused if to == "third" else self.awake(self.servers[to])
        if not talk.handled and self.now >= talk.arrives and target:
            talk.handled, talk.answer = True, handle(talk.said)
            talk.returns = max(talk.returns, self.now)
        late = self.now - talk.sent > 3.0
        if talk.handled and self.now >= talk.returns and self.awake(server):
            server.talks[to] = None
            return (talk.answer, talk.sent) if self.linked(server.name, to) else None
        if late and self.awake(server):
            server.talks[to] = None
            if not talk.handled and talk.arrives <= self.now + 1:
                handle(talk.said)  # a question that is answered when nobody listens any more
        return None

    def converse(self, server: Server) -> None:
        guard, other = server.guard, self.other(server)
        heard = self.talk(server, "third", lambda said: self.third.hear(said, self.now))
        if heard:
            (known, granted), sent = heard
            guard.told(known, granted, sent)

        def answer(said: Report) -> Any:
            granted = other.guard.answer(said, *other.record, self.now)
            return self.report(other), other.log | other.relay, granted

        heard = self.talk(server, other.name, answer)
        if heard:
            (theirs, have, granted), sent = heard
            server.peer = (theirs, sent, set(have))
            if theirs.up:
                guard.heard = self.now
            if granted:
                guard.peer_granted(sent)

    # --- deciding ---------------------------------------------------------------------------

    def decide(self, server: Server) -> None:
        """What Daemon.tick does, at most every 0.2 s, and late now and then."""
        guard = server.guard
        if server.fence_by and self.now >= server.fence_by:
            self.crash(server, 1.0) if server.pending else None
            server.writable, server.fence_by = False, 0.0
        if self.now < server.tick:
            return
        server.tick = self.now + self.random.choice([0.2, 0.2, 0.2, 0.6])
        if not server.leads:
            server.followed, server.claim = self.now, ""
            if server.up:
                self.obey(server)
            return
        if not guard.leased(self.now):
            if guard.armed and server.writable and not server.fence_by:
                server.fence_by = self.now + 0.5 if server.pending else self.now
            return
        if not server.up:
            server.claim, server.strict_since = "", -1.0
            return
        if server.fence_by:
            return
        if not server.writable:
            other = self.other(server)
            newer = self.linked(server.name, other.name) and other.up and self.awake(other)
            if not (newer and other.record[0] > server.record[0]):
                server.log |= server.relay
                server.relay, server.strict, server.writable = set(), True, True
                assert self.acknowledged <= server.log | set(server.pending), "a write was lost"
                self.promotions += 1
            return
        self.commits(server)

    def commits(self, server: Server) -> None:
        guard, peer = server.guard, server.peer
        attached = self.receiving(self.other(server))
        if peer and self.now - peer[1] < 1.5 and attached and peer[0].receiving:
            server.followed = peer[1]
        following = self.now - server.followed < 1.0 and attached
        if not guard.armed:
            return
        if guard.alone(server.record[0]) and not following:
            server.strict_since, server.claim = -1.0, ""
            if server.strict:
                server.strict = False
                server.pending = dict.fromkeys(server.pending, self.now)
            return
        if not server.strict:
            server.strict, server.strict_since, server.claim = True, -1.0, ""
            guard.revoke()
            return
        if server.strict_since < 0:
            server.strict_since, server.claim, server.baseline = self.now, "", None
            return
        guard.revoke()
        if self.now - server.strict_since < 2.0:
            return
        server.baseline = server.baseline if server.baseline is not None else set(server.log)
        server.claim = ""
        if peer and self.now - peer[1] < 1.5 and peer[0].server and server.baseline <= peer[2]:
            server.claim = peer[0].server

    def obey(self, server: Server) -> None:
        guard = server.guard
        if server.draining:
            if self.now >= server.draining:
                server.draining = 0.0
                if server.server == guard.word.order:
                    server.log |= server.relay
                    server.relay = set()
                    server.record = (server.record[0] + 1, server.name)
                    guard.accepting = 0
                else:
                    guard.refuse(guard.accepting)
                    server.io = True
            return
        serial = guard.ordered(*server.record)
        if serial and not guard.accept(serial, server.server, self.receiving(server), self.now):
            server.io = False
            server.draining = self.now + self.random.uniform(0, 3)

    def supervise(self) -> None:
        if self.now < max(self.third_paused, self.probe):
            return
        self.probe = self.now + 0.5
        leader = self.servers.get(self.third.word.primary)
        if leader:
            greets = leader.up and self.awake(leader) and self.linked("third", leader.name)
            self.failed = 0 if greets else self.failed + 1
            self.third.consider(self.failed, self.now)

    def step(self) -> None:
        self.now += STEP
        self.trouble()
        self.replicate()
        self.write()
        for server in self.servers.values():
            self.converse(server)
            if self.awake(server):
                self.decide(server)
        self.supervise()
        both = [
            s
            for s in self.servers.values()
            if s.writable and self.awake(s) and self.now - s.woke > 1.5
        ]
        assert len(both) < 2, "two servers take writes"


@pytest.mark.parametrize("seed", range(16))
def test_never_two_writable_and_nothing_acknowledged_lost(seed: int) -> None:
    model = Model(seed)
    for _ in range(6000):
        model.step()
    assert len(model.acknowledged) > 50


def test_the_model_promotes() -> None:
    promoted = 0
    for seed in range(6):
        model = Model(seed)
        for _ in range(6000):
            model.step()
        promoted += max(s.record[0] for s in model.servers.values()) - 1
    assert promoted >= 2


def hasty(self: Guard, serial: int, *_: object) -> str:
    """Accept whatever is ordered."""
    self.accepting = serial
    return ""


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        ("Guard.leased", lambda self, now: True),
        ("Guard.alone", lambda self, epoch: True),
        ("Guard.accept", hasty),
    ],
)
def test_the_model_finds_faults(place: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lease, without strict commits, without the replica's own condition."""
    monkeypatch.setattr(f"provision.database.failover.agent.rules.{place}", broken)

    def run() -> None:
        for seed in range(60):
            model = Model(seed)
            for _ in range(6000):
                model.step()

    with pytest.raises(AssertionError, match=r"two servers|a write was lost"):
        run()
