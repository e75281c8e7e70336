"""The rules of automatic failover one by one, the wire and the decision file."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.core.errors import LabError
from provision.core.state import State
from provision.database.agent.results import ServerInspection
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ServerStatus
from provision.database.failover import control
from provision.database.failover.agent import wire
from provision.database.failover.agent import witness as witness_daemon
from provision.database.failover.agent.guard_rules import Guard
from provision.database.failover.agent.rules import (
    FAILED_PROBES,
    LEASE,
    MARGIN,
    REPLICA_TIMEOUT,
    Decision,
    GuardReport,
    from_json,
    to_json,
)
from provision.database.failover.agent.witness_rules import Witness
from provision.database.failover.control import adopted_state

LONG = LEASE + MARGIN + 0.1
PRIMARY = GuardReport("web-01", "one", 1, "web-01", True, "p")
REPLICA = GuardReport("web-02", "two", 1, "web-01", True, "r", primary_silent=99.0)


def settled(now: float = 0.0) -> Witness:
    """A witness that knows web-01 as primary and web-02 as promotable."""
    witness = Witness(Decision(serial=10), now)
    witness.receive(PRIMARY, now)
    witness.receive(replace(PRIMARY, revoked=witness.decision.serial, synced="r"), now)
    assert witness.decision.promotable == "r"
    return witness


# --- the witness ---------------------------------------------------------------------------------


def test_the_witness_learns_the_primary_and_grants_a_lease() -> None:
    witness = Witness(Decision(serial=10), 0.0)
    decision, granted = witness.receive(PRIMARY, 1.0)
    assert (decision.primary, decision.epoch, decision.promotable, granted) == (
        "web-01",
        1,
        "",
        True,
    )
    assert not witness.receive(replace(PRIMARY, machine="web-02", primary="web-02"), 2.0)[1]
    assert not witness.receive(replace(PRIMARY, up=False), 2.0)[1]


def test_the_replica_of_a_dead_primary_is_promoted() -> None:
    witness = settled()
    witness.receive(REPLICA, LONG)
    assert witness.consider_failover(FAILED_PROBES, LONG) == ""
    assert witness.decision.order == "r"
    assert not witness.receive(PRIMARY, LONG)[1], "no grant after an order"
    decision, granted = witness.receive(
        replace(REPLICA, epoch=2, primary="web-02", instance="two"), LONG + 1
    )
    assert (decision.primary, decision.epoch, decision.order, granted) == ("web-02", 2, "", True)
    assert not witness.receive(PRIMARY, LONG + 2)[1]


@pytest.mark.parametrize(
    ("failed", "when", "report", "objection"),
    [
        (FAILED_PROBES - 1, LONG, REPLICA, "responds"),
        (FAILED_PROBES, LEASE + MARGIN, REPLICA, "lease"),
        (FAILED_PROBES, LONG, None, "no replica reports"),
        (FAILED_PROBES, LONG, replace(REPLICA, primary_silent=LEASE), "reaches the primary"),
        (FAILED_PROBES, LONG, replace(REPLICA, receiving=True), "reaches the primary"),
        (FAILED_PROBES, LONG, replace(REPLICA, identity="another"), "not promotable"),
    ],
)
def test_objections_to_a_failover(
    failed: int, when: float, report: GuardReport | None, objection: str
) -> None:
    witness = settled()
    if report:
        witness.receive(report, when)
    assert objection in witness.consider_failover(failed, when)
    assert not witness.decision.order


def test_an_outdated_report_does_not_count() -> None:
    witness = settled()
    witness.receive(REPLICA, LONG)
    assert "no replica" in witness.consider_failover(FAILED_PROBES, LONG + 2)


def test_after_its_start_the_witness_waits_for_earlier_leases_to_end() -> None:
    witness = Witness(settled().decision, 100.0)
    witness.receive(REPLICA, 101.0)
    assert "lease" in witness.consider_failover(FAILED_PROBES, 101.0)


def test_an_order_is_withdrawn_only_after_a_refusal() -> None:
    witness = settled()
    witness.receive(REPLICA, LONG)
    witness.consider_failover(FAILED_PROBES, LONG)
    witness.receive(replace(REPLICA, identity="another"), LONG)
    assert witness.decision.order, "it may have been accepted by then"
    witness.receive(replace(REPLICA, refused=witness.decision.serial - 1), LONG)
    assert witness.decision.order
    witness.receive(replace(REPLICA, refused=witness.decision.serial), LONG)
    assert not witness.decision.order
    assert witness.receive(PRIMARY, LONG)[1]


def test_a_replica_is_lost_and_synced_again() -> None:
    witness = settled()
    decision, _ = witness.receive(replace(PRIMARY, replica_missing=REPLICA_TIMEOUT + 0.1), 1.0)
    assert decision.promotable == ""
    late = replace(PRIMARY, revoked=decision.serial - 1, synced="r")
    assert witness.receive(late, 2.0)[0].promotable == "", "an outdated permission does not count"
    again, _ = witness.receive(
        replace(PRIMARY, revoked=decision.serial, replica_missing=REPLICA_TIMEOUT + 0.1), 3.0
    )
    assert again.serial == decision.serial + 1, "permission revoked, and needed again"
    assert (
        witness.receive(replace(PRIMARY, revoked=decision.serial, synced="r"), 4.0)[0].promotable
        == ""
    )
    assert (
        witness.receive(replace(PRIMARY, revoked=again.serial, synced="r"), 5.0)[0].promotable
        == "r"
    )


def test_a_replica_with_another_identity_is_not_promotable() -> None:
    witness = settled()
    witness.receive(replace(REPLICA, identity="restarted"), 1.0)
    assert witness.decision.promotable == ""


def test_the_witness_learns_of_a_planned_promotion() -> None:
    witness = settled()
    new = replace(REPLICA, epoch=2, primary="web-02")
    witness.receive(new, 1.0)
    assert (witness.decision.primary, witness.decision.promotable) == ("web-02", "")


# --- the guard -----------------------------------------------------------------------------------


def test_a_lease_counts_from_its_request() -> None:
    guard = Guard("web-01", "one", 0.0, False)
    assert not guard.has_lease(0.0)
    guard.receive_decision(Decision(11, 1, "web-01", "one"), True, 10.0)
    assert guard.has_lease(10.0 + LEASE - 0.1)
    assert not guard.has_lease(10.0 + LEASE)
    guard.extend_lease(12.0)
    assert guard.has_lease(12.0 + LEASE - 0.1)
    assert guard.armed


def test_a_replica_grants_a_lease_only_to_its_own_primary() -> None:
    guard = Guard("web-02", "two", 0.0, True)
    assert guard.grant_lease(PRIMARY, 1, "web-01", 5.0)
    assert guard.granted == 5.0
    assert not guard.grant_lease(replace(PRIMARY, epoch=0), 1, "web-01", 6.0)
    assert not guard.grant_lease(replace(PRIMARY, up=False), 1, "web-01", 6.0)
    assert not guard.grant_lease(PRIMARY, 2, "web-02", 6.0)
    assert guard.granted == 5.0


def test_an_order_is_accepted_or_refused_permanently() -> None:
    guard = Guard("web-02", "two", 0.0, True)
    guard.receive_decision(Decision(11, 1, "web-01", "one", "r", "r"), False, 0.0)
    serial = guard.pending_order(1, "web-01")
    assert serial == 11
    assert "a moment ago" in guard.accept_order(serial, "r", False, LEASE)
    assert guard.pending_order(1, "web-01") == 0
    guard.receive_decision(Decision(13, 1, "web-01", "one", "r", "r"), False, 0.0)
    assert "connected" in guard.accept_order(13, "r", True, LONG)
    guard.receive_decision(Decision(15, 1, "web-01", "one", "r", "r"), False, 0.0)
    assert "another state" in guard.accept_order(15, "x", False, LONG)
    guard.receive_decision(Decision(17, 1, "web-01", "one", "r", "r"), False, 0.0)
    assert guard.pending_order(2, "web-01") == 0
    assert guard.accept_order(17, "r", False, LONG) == ""
    assert not guard.grant_lease(PRIMARY, 1, "web-01", LONG), "no grant after accepting"
    guard.refuse_order(17)
    assert guard.grant_lease(PRIMARY, 1, "web-01", LONG)


def test_commits_alone_need_a_permission_that_was_not_revoked() -> None:
    guard = Guard("web-01", "one", 0.0, True)
    assert not guard.may_commit_alone(1)
    guard.receive_decision(Decision(11, 1, "web-01", "one"), True, 0.0)
    assert guard.may_commit_alone(1)
    assert not guard.may_commit_alone(2)
    guard.revoke_permission()
    assert not guard.may_commit_alone(1)
    guard.receive_decision(Decision(12, 1, "web-01", "one"), True, 0.0)
    assert guard.may_commit_alone(1)
    guard.receive_decision(Decision(13, 1, "web-01", "other"), True, 0.0)
    assert not guard.may_commit_alone(1), "the permission of another process"


# --- files and wire ------------------------------------------------------------------------------


def test_json_roundtrip() -> None:
    decision = Decision(3, 2, "a", "b", "c", "d")
    assert from_json(Decision, {**to_json(decision), "unknown": 1}) == decision
    assert from_json(GuardReport, to_json(REPLICA)) == REPLICA


def test_the_decision_is_written_to_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "decision.json")
    assert witness_daemon.load_decision(path).serial > 1_000_000
    witness_daemon.save_decision(Decision(3, 2, "a"), path)
    assert witness_daemon.load_decision(path) == Decision(3, 2, "a")


def test_the_wire_accepts_only_the_secret() -> None:
    requests: list[dict[str, Any]] = []

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        requests.append(request)
        return {"received": request}

    with wire.serve("127.0.0.1", "secret", handle, 0) as server:
        port = server.getsockname()[1]
        response = wire.send_request("127.0.0.1", "secret", {"a": 1}, port)
        assert response == {"received": {"a": 1}}
        with pytest.raises(wire.WireError):
            wire.send_request("127.0.0.1", "wrong", {"a": 1}, port)
        assert len(requests) == 1
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        port = impostor.getsockname()[1]

        def lie() -> None:
            connection, _ = impostor.accept()
            with connection:
                connection.sendall(b"00\n")
                connection.recv(4096)
                connection.sendall(b'0 {"granted": true}\n')

        threading.Thread(target=lie, daemon=True).start()
        with pytest.raises(wire.WireError, match="not authentic"):
            wire.send_request("127.0.0.1", "secret", {}, port)


# --- the controller ------------------------------------------------------------------------------


def server(
    name: str, writable: bool, epoch: int, primary: str, *, recorded_epoch: int = 0
) -> ServerInspection:
    """A database machine: its server's epoch, and its record, of that epoch or another one."""
    status = ServerStatus(up=True, writable=writable, epoch=epoch)
    record = RoleRecord(name, primary, recorded_epoch or epoch)
    return ServerInspection(name, status, {}, record)


STOPPED = ServerInspection("web-01", ServerStatus(error="mysqld is not running"), {}, None)


def test_a_promotion_is_adopted() -> None:
    state = State(primary="web-01", epoch=1)
    new, old = server("web-02", True, 2, "web-02"), server("web-01", False, 1, "web-01")
    assert adopted_state({"web-02": new, "web-01": STOPPED}, state).primary == "web-02"
    assert adopted_state({"web-02": new, "web-01": old}, state).epoch == 2
    assert adopted_state({"web-01": server("web-01", True, 1, "web-01")}, state) == state
    not_writable_yet = server("web-02", False, 1, "web-02", recorded_epoch=2)
    assert adopted_state({"web-02": not_writable_yet}, state).primary == "web-02"


def test_switching_on_ends_when_the_primary_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [server("web-01", False, 1, "web-01"), server("web-01", True, 1, "web-01")]
    monkeypatch.setattr(control, "execute", lambda *_: answers.pop(0))
    host: Any = SimpleNamespace(name="web-01")
    control._wait_until_writable(host)
    assert not answers
    monkeypatch.setattr(control, "execute", lambda *_: server("web-01", False, 1, "web-01"))
    monkeypatch.setattr(control, "LEASE_SECONDS", 0.1)
    with pytest.raises(LabError, match="web-01 is not writable") as refused:
        control._wait_until_writable(host)
    assert refused.value.hint == "invoke db.autopromote status"


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (server("web-02", True, 2, "web-02"), server("web-01", True, 1, "web-01")),
        (
            server("web-02", True, 2, "web-02"),
            server("web-01", False, 3, "web-02", recorded_epoch=2),
        ),
        (server("web-02", True, 2, "web-02"), server("web-01", False, 2, "web-01")),
    ],
)
def test_contradictions_are_not_adopted(new: ServerInspection, old: ServerInspection) -> None:
    with pytest.raises(LabError, match="cannot be determined"):
        adopted_state({"web-02": new, "web-01": old}, State(primary="web-01", epoch=1))
