"""Who may write: the decision on the machine, in every situation that it can meet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provision.database.agent.role import Seen, Verdict, decide

RECORD: dict[str, Any] = {
    "machine": "web-01",
    "primary": "web-01",
    "epoch": 3,
    "peers": {"web-02": "192.168.56.12"},
}
OWN = Seen("web-01", epoch=3, primary="web-01", uuid="a", gtids="a:1-9")
REPLICA = Seen("web-02", epoch=3, primary="web-01", uuid="b", gtids="a:1-9")
SILENT = Seen("web-02", answered=False, error="no connection to 192.168.56.12 (timed out)")


def judged(
    *peers: Seen,
    own: Seen = OWN,
    sure: bool = False,
    lacking: dict[str, str] | None = None,
    **record: Any,
) -> Verdict:
    return decide({**RECORD, **record}, own, list(peers), lacking or {}, sure)


def test_the_recorded_primary_with_an_agreeing_replica() -> None:
    assert judged(REPLICA).what == "assert"


def test_the_only_database_of_a_lab() -> None:
    assert judged(peers={}).what == "assert"


def test_a_replica_that_has_not_heard_of_the_promotion_yet() -> None:
    assert judged(replace(REPLICA, epoch=2)).what == "assert"


def test_a_server_about_to_be_promoted_has_not_written_its_epoch_yet() -> None:
    own = replace(OWN, epoch=2, primary="web-02")
    assert judged(replace(REPLICA, epoch=2), own=own).what == "assert"


def test_a_replica_stays_read_only() -> None:
    verdict = judged(REPLICA, primary="web-02")
    assert verdict == Verdict("stay", "web-02 is recorded as primary")


@pytest.mark.parametrize("sure", [False, True])
def test_another_server_takes_writes(sure: bool) -> None:
    """The controller cannot overrule that either."""
    verdict = judged(replace(REPLICA, writable=True), sure=sure)
    assert verdict == Verdict("stay", "web-02 takes writes (epoch 3)")


@pytest.mark.parametrize("sure", [False, True])
def test_a_later_promotion_is_known(sure: bool) -> None:
    verdict = judged(replace(REPLICA, epoch=4, primary="web-02"), sure=sure)
    assert verdict.what == "stay"
    assert "web-02 was promoted in epoch 4" in verdict.why


def test_this_server_itself_knows_a_later_promotion() -> None:
    verdict = judged(REPLICA, own=replace(OWN, epoch=4, primary="web-02"), sure=True)
    assert verdict.what == "stay"
    assert "seen epoch 4 (web-02)" in verdict.why


def test_a_primary_whose_data_is_gone_does_not_start_empty() -> None:
    empty = Seen("web-01", uuid="c")
    verdict = judged(REPLICA, own=empty, sure=True)
    assert verdict.what == "stay"
    assert "web-02 has the data of epoch 3" in verdict.why


def test_a_peer_with_transactions_of_a_third_server() -> None:
    verdict = judged(REPLICA, lacking={"web-02": "a:10-12"}, sure=True)
    assert verdict.what == "stay"
    assert "a:10-12" in verdict.why


def test_a_silent_peer_is_waited_for() -> None:
    verdict = judged(SILENT)
    assert verdict.what == "wait"
    assert "192.168.56.12 (timed out)" in verdict.why


def test_a_silent_peer_is_not_waited_for_when_it_cannot_have_been_promoted() -> None:
    assert judged(SILENT, sure=True).what == "assert"


def test_one_silent_peer_of_two() -> None:
    third = replace(REPLICA, name="web-03")
    assert judged(SILENT, third).what == "wait"
    assert judged(SILENT, replace(third, writable=True)).what == "stay"
