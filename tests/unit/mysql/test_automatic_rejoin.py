"""Fencing in time, and the old primary's return without an operator."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.checks import checks
from provision.database.agent.errant_files import errant_files
from provision.database.agent.gtid import GtidSet
from provision.database.agent.results import ErrantTransactions
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.session import MysqlError
from provision.database.failover import feature
from provision.database.failover.agent import receiver, rejoin, rejoin_trigger
from provision.database.failover.agent.daemon import ChangeLog
from provision.database.failover.agent.fence import LeaseWatch
from provision.database.failover.agent.guard_rules import Guard
from provision.database.failover.agent.rejoin_trigger import RejoinTrigger
from provision.database.failover.agent.rules import (
    FENCE_TIMEOUT,
    RECEIVER_TIMEOUT,
    Decision,
    GuardReport,
)
from provision.engine.agent.process import AgentError
from provision.engine.resources import File
from provision.monitoring.agent import facts
from tests.unit.samples import context

UUID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture(autouse=True)
def _no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.database.agent.write_access.remove_writable_mark", lambda: None)


class Server:
    """A mysqld as the fence sees it."""

    def __init__(self, answer: Callable[[], str]) -> None:
        self.answer, self.identity, self.killed = answer, "first", 0

    def kill(self) -> None:
        self.killed += 1

    def fence(self) -> LeaseWatch:
        return LeaseWatch(lambda: True, ChangeLog(), self.answer, self.kill, lambda: self.identity)


def hangs() -> str:
    threading.Event().wait(5)
    return "fenced"


def refuses() -> str:
    raise MysqlError(2013, "no response")


@pytest.mark.parametrize("answer", [hangs, refuses])
def test_a_server_that_cannot_be_made_read_only_in_time_is_killed(
    answer: Callable[[], str],
) -> None:
    server = Server(answer)
    started = time.monotonic()
    server.fence().fence()
    assert time.monotonic() - started < FENCE_TIMEOUT + 0.5
    assert server.killed == 1


def test_a_server_that_is_read_only_is_not_killed() -> None:
    for answer in ("fenced", "read-only", "down"):
        server = Server(lambda answer=answer: answer)  # type: ignore[misc]
        server.fence().fence()
        assert server.killed == 0


def test_the_mysqld_after_a_killed_one_may_start_slowly() -> None:
    server = Server(refuses)
    fencing = server.fence()
    fencing.fence()
    server.identity = "second"
    fencing.fence()
    assert server.killed == 1


def test_one_that_was_read_only_is_not_killed_when_it_is_slow_later() -> None:
    server = Server(lambda: "read-only")
    fencing = server.fence()
    fencing.fence()
    fencing._read_only = refuses
    fencing.fence()
    assert server.killed == 0


# --- who rejoins ---------------------------------------------------------------------------------

PEER = GuardReport("web-02", "i", 2, "web-02", up=True)


def old_primary(decision: Decision) -> Guard:
    guard = Guard("web-01", "i", 0.0, armed=True)
    guard.decision = decision
    return guard


def rejoins(
    peer: GuardReport = PEER,
    decision: Decision | None = None,
    epoch: int = 1,
    primary: str = "web-01",
    *,
    writable: bool = False,
    following: bool = False,
) -> bool:
    guard = old_primary(decision or Decision(5, 2, "web-02"))
    return guard.must_rejoin(peer, epoch, primary, writable=writable, following=following)


def test_the_old_primary_rejoins_when_two_of_three_agree() -> None:
    assert rejoins()
    assert not rejoins(decision=Decision(5, 1, "web-01")), "the witness does not know it"
    assert not rejoins(replace(PEER, epoch=1, primary="web-01")), "the other one does not say so"
    assert not rejoins(replace(PEER, epoch=3)), "they name different epochs"
    assert not rejoins(replace(PEER, up=False))
    assert not rejoins(writable=True), "it must be fenced first"
    assert not rejoins(decision=Decision(5, 2, "web-02", order="x"))


def test_an_interrupted_rejoin_is_repeated_and_a_replica_is_left_alone() -> None:
    assert rejoins(epoch=2, primary="web-02", following=False)
    assert not rejoins(epoch=2, primary="web-02", following=True)


def test_it_starts_after_a_while_and_again_after_a_failure() -> None:
    started: list[tuple[str, int]] = []
    trigger = RejoinTrigger(ChangeLog(), lambda primary, epoch: started.append((primary, epoch)))
    for clock in (0.0, 1.0, 1.9):
        trigger.update(True, PEER, clock)
    assert started == []
    trigger.update(False, PEER, 2.0)
    trigger.update(True, PEER, 2.1)
    assert started == []
    trigger.update(True, PEER, 2.2 + rejoin_trigger.SETTLE_SECONDS)
    trigger.update(True, PEER, 3.0 + rejoin_trigger.SETTLE_SECONDS)
    assert started == [("web-02", 2)]
    trigger.update(True, PEER, 3.0 + rejoin_trigger.SETTLE_SECONDS + rejoin_trigger.RETRY_SECONDS)
    assert len(started) == 2


RECORD = RoleRecord("web-01", "web-01", 1, {"web-02": "192.168.56.12"})


def test_the_record_that_it_rejoins_with() -> None:
    wanted = rejoin.target_record(RECORD, {"primary": "web-02", "epoch": 2})
    assert wanted == replace(RECORD, primary="web-02", epoch=2)
    assert rejoin.target_record(wanted, {"primary": "web-02", "epoch": 2}) == wanted
    for newer in (replace(RECORD, epoch=3), replace(RECORD, epoch=2)):
        with pytest.raises(AgentError, match="not rejoining web-02"):
            rejoin.target_record(newer, {"primary": "web-02", "epoch": 2})


# --- what only it had ----------------------------------------------------------------------------


@pytest.fixture
def binary_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mysqlbinlog whose logs hold transactions 7 and 8."""
    program = tmp_path / "bin" / "mysqlbinlog"
    program.parent.mkdir()
    lines = [f"SET @@SESSION.GTID_NEXT= '{UUID}:{number}'/*!*/;" for number in (7, 8)]
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("binary_logs")
def test_errant_transactions_are_saved_before_anything_else(tmp_path: Path) -> None:
    folder = str(tmp_path / "errant")
    errant = ErrantTransactions(GtidSet(f"{UUID}:7-8"), ("/logs/binlog.000009",))
    path = rejoin.save_errant("web-01", errant, folder)
    assert f"{UUID}:8" in gzip.decompress(Path(path).read_bytes()).decode()
    assert errant_files(folder) == (path,)
    assert facts.errant(folder) == 1


@pytest.mark.usefixtures("binary_logs")
def test_nothing_is_cloned_when_the_logs_lack_some(tmp_path: Path) -> None:
    folder = str(tmp_path / "errant")
    errant = ErrantTransactions(GtidSet(f"{UUID}:1-8"), ("/logs/binlog.000009",))
    with pytest.raises(AgentError, match="hold only 2 of them; nothing was changed"):
        rejoin.save_errant("web-01", errant, folder)
    assert list((tmp_path / "errant").iterdir()) == []
    assert errant_files(str(tmp_path / "none")) == ()


def test_saved_files_are_a_metric() -> None:
    assert 'lab_errant_transaction_files{folder="/e"} 1' in facts.metrics({}, {}, {"/e": 1})


def test_each_database_has_a_check_while_automatic_failover_is_on() -> None:
    def names(enabled: Any) -> set[str]:
        return {check.name for check in checks(enabled) if check.name.startswith("errant/")}

    assert names(context("distributed", autopromote=True)) == {"errant/web-01", "errant/web-02"}
    assert names(context("distributed")) == set()


def test_the_guards_have_what_a_rejoin_needs() -> None:
    enabled = context("distributed", autopromote=True)
    for name in ("web-01", "lb-01"):
        (unit,) = feature.units(enabled, enabled.lab.machine(name))
        contents = {r.path: r.content for r in unit.resources if isinstance(r, File)}
        config = json.loads(contents[feature.CONFIG])
        assert ("replication" in config) == (name == "web-01")
        assert (feature.REJOIN in contents) == (name == "web-01")


# --- the receiver --------------------------------------------------------------------------------


class Session:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def query(self, sql: str) -> None:
        self.sent.append(sql)


def test_the_receiver_stops_while_the_primary_is_silent(tmp_path: Path) -> None:
    mark, session = str(tmp_path / "mark"), Session()
    update: Any = receiver.update
    update(session, True, 0.1, mark)
    assert session.sent == []
    update(session, True, RECEIVER_TIMEOUT + 0.1, mark)
    assert session.sent == ["STOP REPLICA IO_THREAD"]
    update(session, False, RECEIVER_TIMEOUT + 0.3, mark)
    assert len(session.sent) == 1
    update(session, False, 0.1, mark)
    assert session.sent[1:] == ["START REPLICA IO_THREAD"]
    update(session, False, 0.1, mark)
    assert len(session.sent) == 2, "what an operator stops stays stopped"


def test_a_lease_that_ended_meanwhile_makes_nothing_writable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from provision.database.agent import write_access

    class Answers(Session):
        def value(self, sql: str) -> str:
            return "1"

    session: Any = Answers()
    monkeypatch.setattr(write_access, "failover_enabled", lambda: False)
    monkeypatch.setattr(write_access, "read_epoch", lambda _session: {"epoch": "1"})
    with pytest.raises(AgentError, match="lease"):
        write_access.make_writable(session, RECORD, lambda: False)
    assert "SET GLOBAL read_only = OFF" not in session.sent
    assert session.sent[-1] == "SET GLOBAL super_read_only = ON"
