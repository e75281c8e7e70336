"""Routing of reads and writes, failover and retries."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

import pytest

from foobar import gtid
from foobar.database import (
    BehindError,
    Database,
    NoPrimaryError,
    NoReaderError,
    OutcomeUnknownError,
)
from foobar.session import DatabaseSession, SessionError
from foobar.store import Store
from foobar.text import Draft
from tests.unit.app.fakes import SETTINGS, UUID, FakeLab, FakeSession, lost_while_changing

LAST_WRITE = f"{UUID}:1-9"


def _ping(session: DatabaseSession) -> str:
    return "read"


def _store(database: Database) -> Store:
    return Store(database, "web-02")


DRAFT = Draft("id-1", "Ada", "hello")


def test_reads_prefer_the_first_of_the_order(lab: FakeLab) -> None:
    read = lab.database().read(_ping)
    assert (read.server, read.role, read.freshness) == ("web-02", "replica", "unasked")


def test_reads_fall_back(lab: FakeLab) -> None:
    lab.replica.up = False
    assert lab.database().read(_ping).server == "web-01"


def test_reads_fall_back_within_the_request(lab: FakeLab) -> None:
    database = lab.database()
    database.read(_ping)
    lab.replica.up = False
    assert database.read(lambda session: session.query("SELECT @@global.super_read_only, x"))
    assert database.view().state("web-02") == "down"


def test_a_new_process_waits_for_a_server_that_is_slow_to_connect(lab: FakeLab) -> None:
    """Also when the first connection takes longer than a request waits."""
    lab.replica.up = lab.primary.up = False
    database = lab.database()
    connected = threading.Timer(0.6, lambda: setattr(lab.primary, "up", True))
    connected.start()
    database.warm_up()
    connected.join()
    assert database.view().primary == "web-01"


def test_a_new_process_does_not_wait_longer_without_a_writable_server(lab: FakeLab) -> None:
    lab.primary.up = False
    database = lab.database()
    started = time.monotonic()
    database.warm_up(0.3)
    assert 0.3 <= time.monotonic() - started < 2
    assert database.view().state("web-02") == "replica"


def test_no_reader(lab: FakeLab) -> None:
    lab.replica.up = lab.primary.up = False
    with pytest.raises(NoReaderError):
        lab.database().read(_ping)


def test_lagging_replica_is_skipped_for_the_primary(lab: FakeLab) -> None:
    lab.replica.caught_up = False
    read = lab.database().read(_ping, last_write=LAST_WRITE)
    assert (read.server, read.freshness) == ("web-01", "primary")


def test_replica_that_has_caught_up_is_read(lab: FakeLab) -> None:
    read = lab.database().read(_ping, last_write=LAST_WRITE)
    assert (read.server, read.freshness) == ("web-02", "covered")


def test_no_stale_data_when_no_server_has_the_last_write(lab: FakeLab) -> None:
    """Commits did not wait for the replica, and the primary is lost."""
    lab.replica.caught_up, lab.primary.up = False, False
    with pytest.raises(BehindError, match="your last write is not on web-02 yet"):
        lab.database().read(_ping, last_write=LAST_WRITE)
    assert lab.database().read(_ping).server == "web-02", "others still read"
    lab.primary.up, lab.primary.caught_up = True, False
    with pytest.raises(BehindError, match="web-02 or web-01"):
        lab.database().read(_ping, last_write=LAST_WRITE)


def test_a_last_write_without_a_known_set_is_read_from_the_primary(lab: FakeLab) -> None:
    read = lab.database().read(_ping, last_write=gtid.ON_PRIMARY)
    assert (read.server, read.freshness) == ("web-01", "primary")
    lab.primary.writable = False
    with pytest.raises(BehindError):
        lab.database().read(_ping, last_write=gtid.ON_PRIMARY)


def test_a_server_without_a_source_is_not_read_from(lab: FakeLab) -> None:
    """As a primary that returns after the other server was promoted."""
    lab.promote()
    lab.primary.has_source = False
    view = lab.database().view()
    assert (view.state("web-01"), view.state("web-02")) == ("detached", "primary")
    lab.replica.up = False
    with pytest.raises(NoReaderError, match="web-01 is detached, web-02 is down"):
        lab.database().read(_ping)
    assert lab.database().read(_ping, only="web-01").server == "web-01"


def test_a_stopped_replica_has_no_source(lab: FakeLab) -> None:
    lab.replica.following = False
    read = lab.database().read(_ping)
    assert (read.server, read.role) == ("web-01", "primary")


def test_reads_wait_for_the_end_of_a_promotion(lab: FakeLab) -> None:
    lab.primary.writable = lab.primary.has_source = lab.replica.following = False
    database = lab.database()
    threading.Timer(0.3, lambda: setattr(lab.replica, "writable", True)).start()
    assert database.read(_ping).server == "web-02"


def test_the_only_server_is_read_from_while_it_starts(lab: FakeLab) -> None:
    alone = replace(SETTINGS, servers=SETTINGS.servers[:1], read_order=("web-01",))
    lab.primary.writable = lab.primary.has_source = False
    database = Database(alone, lambda server: FakeSession(lab.servers[server.name]))
    assert database.read(_ping).server == "web-01"


def test_only_reads_from_no_other_server(lab: FakeLab) -> None:
    database = lab.database()
    assert database.read(_ping, only="web-01").server == "web-01"
    lab.replica.up = False
    with pytest.raises(NoReaderError):
        lab.database().read(_ping, only="web-02")


def test_write_goes_to_the_primary_and_returns_its_gtids(lab: FakeLab) -> None:
    written = _store(lab.database()).add(DRAFT)
    assert written.server == "web-01"
    assert written.value.new
    assert written.last_write == f"{UUID}:1-1,{UUID[:-1]}6:1-3"


def test_promotion_is_followed_within_one_request(lab: FakeLab) -> None:
    store = _store(lab.database())
    store.add(DRAFT)
    lab.promote()
    assert store.add(Draft("id-2", "Ada", "again")).server == "web-02"


def test_dead_primary_is_replaced_within_one_request(lab: FakeLab) -> None:
    store = _store(lab.database())
    store.add(DRAFT)
    lab.promote()
    lab.primary.up = False
    assert store.add(Draft("id-2", "Ada", "again")).server == "web-02"


def test_no_primary_refuses_the_write(lab: FakeLab) -> None:
    lab.primary.writable = False
    with pytest.raises(NoPrimaryError, match="web-01 is replica") as caught:
        _store(lab.database()).add(DRAFT)
    assert caught.value.outcome == "refused"


def test_split_brain_refuses_the_write_and_logs_critical(
    lab: FakeLab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.replica.writable = True
    with pytest.raises(NoPrimaryError, match="split brain: web-01 and web-02 are both writable"):
        _store(lab.database()).add(DRAFT)
    assert not lab.primary.rows
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


def test_lost_connection_is_retried_once_with_the_same_id(lab: FakeLab) -> None:
    calls = []

    def lose_first() -> None:
        calls.append(1)
        if len(calls) == 1:
            lost_while_changing()

    lab.primary.after_insert = lose_first
    written = _store(lab.database()).add(DRAFT)
    assert written.value.new
    assert list(lab.primary.rows) == ["id-1"]


def test_outcome_is_unknown_when_the_retry_is_lost_too(lab: FakeLab) -> None:
    calls = []

    def lose() -> None:
        calls.append(1)
        lost_while_changing()

    lab.primary.before_insert = lose
    with pytest.raises(OutcomeUnknownError):
        _store(lab.database()).add(DRAFT)
    assert len(calls) == 2


def test_outcome_is_unknown_when_the_primary_fails_afterwards(lab: FakeLab) -> None:
    def die() -> None:
        lab.primary.up = False
        lost_while_changing()

    lab.primary.after_insert = die
    with pytest.raises(OutcomeUnknownError):
        _store(lab.database()).add(DRAFT)


def test_lost_connection_before_the_change_is_a_refusal(lab: FakeLab) -> None:
    database = lab.database()
    database.view()
    lab.primary.up = False
    with pytest.raises(NoPrimaryError):
        _store(database).add(DRAFT)


def test_write_succeeds_when_its_gtids_cannot_be_read(lab: FakeLab) -> None:
    def die() -> None:
        lab.primary.up = False

    lab.primary.after_insert = die
    written = _store(lab.database()).add(DRAFT)
    assert (written.value.new, written.last_write) == (True, gtid.ON_PRIMARY)


def test_failed_statement_on_the_replica_falls_back(lab: FakeLab) -> None:
    def fail_on_replica(session: DatabaseSession) -> str:
        if getattr(session, "server", None) is lab.replica:
            raise SessionError("no such table")
        return "read"

    assert lab.database().read(fail_on_replica).server == "web-01"
