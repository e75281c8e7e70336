"""Whether a server may be writable: the decision on the machine in every situation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provision.database.agent.gtid import GtidSet
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ServerStatus
from provision.database.agent.write_access import WriteVerdict, judge_write_access

RECORD = RoleRecord("web-01", "web-01", 3, {"web-02": "192.168.56.12"})
OWN = ServerStatus(up=True, epoch=3, primary="web-01", uuid="a", executed=GtidSet("a:1-9"))
REPLICA = replace(OWN, uuid="b")
SILENT = ServerStatus(error="no connection to 192.168.56.12 (timed out)")


def judge(
    *peers: ServerStatus,
    own: ServerStatus = OWN,
    safe: bool = False,
    lacking: GtidSet | None = None,
    **record: Any,
) -> WriteVerdict:
    """The verdict with peers called web-02 and web-03."""
    return judge_write_access(
        replace(RECORD, **record),
        own,
        {f"web-0{number}": peer for number, peer in enumerate(peers, 2)},
        {"web-02": lacking or GtidSet()},
        silent_peers_safe=safe,
    )


def test_the_recorded_primary_with_an_agreeing_replica() -> None:
    assert judge(REPLICA).access == "grant"


def test_the_only_database_of_a_lab() -> None:
    assert judge(peers={}).access == "grant"


def test_a_replica_that_has_not_received_the_new_epoch_yet() -> None:
    assert judge(replace(REPLICA, epoch=2)).access == "grant"


def test_a_server_under_promotion_has_not_written_its_epoch_yet() -> None:
    own = replace(OWN, epoch=2, primary="web-02")
    assert judge(replace(REPLICA, epoch=2), own=own).access == "grant"


def test_a_replica_stays_read_only() -> None:
    verdict = judge(REPLICA, primary="web-02")
    assert verdict == WriteVerdict("deny", "web-02 is recorded as primary")


@pytest.mark.parametrize("safe", [False, True])
def test_another_server_is_writable(safe: bool) -> None:
    """The controller cannot overrule that either."""
    verdict = judge(replace(REPLICA, writable=True), safe=safe)
    assert verdict == WriteVerdict("deny", "web-02 is writable (epoch 3)")


@pytest.mark.parametrize("safe", [False, True])
def test_a_peer_has_seen_a_later_promotion(safe: bool) -> None:
    verdict = judge(replace(REPLICA, epoch=4, primary="web-02"), safe=safe)
    assert verdict.access == "deny"
    assert "web-02 was promoted in epoch 4" in verdict.reason


def test_this_server_has_seen_a_later_promotion() -> None:
    verdict = judge(REPLICA, own=replace(OWN, epoch=4, primary="web-02"), safe=True)
    assert verdict.access == "deny"
    assert "seen epoch 4 (web-02)" in verdict.reason


def test_a_primary_that_lost_its_data_does_not_start_empty() -> None:
    verdict = judge(REPLICA, own=ServerStatus(up=True, uuid="c"), safe=True)
    assert verdict.access == "deny"
    assert "web-02 has the data of epoch 3" in verdict.reason


def test_a_peer_with_transactions_of_a_third_server() -> None:
    verdict = judge(REPLICA, lacking=GtidSet("a:10-12"), safe=True)
    assert verdict.access == "deny"
    assert "a:10-12" in verdict.reason


def test_writes_wait_for_a_peer_that_does_not_respond() -> None:
    verdict = judge(SILENT)
    assert verdict.access == "wait"
    assert "192.168.56.12 (timed out)" in verdict.reason


def test_writes_do_not_wait_for_a_peer_that_cannot_have_been_promoted() -> None:
    assert judge(SILENT, safe=True).access == "grant"


def test_one_of_two_peers_does_not_respond() -> None:
    assert judge(SILENT, REPLICA).access == "wait"
    assert judge(SILENT, replace(REPLICA, writable=True)).access == "deny"
