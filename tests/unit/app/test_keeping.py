"""Pool, gate and watch: what is kept between requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from foobar import pool, watch
from foobar.gate import STUCK_SECONDS, Gate, StuckError
from foobar.pool import Pool
from foobar.session import LostError, RefusedError, Session
from foobar.watch import PATIENCE_SECONDS, Watch, is_writable
from tests.unit.app.fakes import FakeServer, FakeSession


def _pool(server: FakeServer, clock: Callable[[], float] = lambda: 0.0) -> Pool:
    return Pool(lambda: FakeSession(server), clock)


def test_session_is_kept() -> None:
    server = FakeServer("web-01", writable=True)
    kept = _pool(server)
    assert [kept.run(is_writable) for _ in range(3)] == [True] * 3
    assert server.opened == 1


def test_dead_session_is_replaced_within_the_same_request() -> None:
    server = FakeServer("web-01", writable=True)
    kept = _pool(server)
    sessions: list[Session] = []
    kept.run(sessions.append)
    sessions[0].close()
    assert kept.run(is_writable) is True
    assert server.opened == 2


@pytest.mark.parametrize("flags", [{"timed_out": True}, {"changing": True}])
def test_silence_and_changes_are_not_repeated(flags: dict[str, bool]) -> None:
    server = FakeServer("web-01")
    kept = _pool(server)
    kept.run(is_writable)
    done = []

    def work(session: Session) -> None:
        done.append(session)
        raise LostError("lost", **flags)

    with pytest.raises(LostError):
        kept.run(work)
    assert len(done) == 1


def test_old_session_is_closed() -> None:
    server, now = FakeServer("web-01"), [0.0]
    kept = _pool(server, lambda: now[0])
    kept.run(is_writable)
    now[0] = pool.OLDEST_SECONDS
    kept.run(is_writable)
    assert server.opened == 2


def test_session_of_a_refused_statement_is_kept_and_of_a_bug_is_not() -> None:
    server = FakeServer("web-01")
    kept = _pool(server)

    def refuse(session: Session) -> None:
        raise RefusedError(1146, "no such table")

    def bug(session: Session) -> None:
        raise KeyError("bug")

    with pytest.raises(RefusedError):
        kept.run(refuse)
    with pytest.raises(KeyError):
        kept.run(bug)
    assert server.opened == 1
    kept.run(is_writable)
    assert server.opened == 2


def test_gate_turns_away_when_nothing_moves() -> None:
    now = [0.0]
    gate = Gate(places=1, clock=lambda: now[0])
    with gate.entered():
        now[0] = STUCK_SECONDS
        with pytest.raises(StuckError), gate.entered():
            pass
    with gate.entered():
        pass


def test_gate_lets_wait_while_the_line_moves() -> None:
    gate, passed = Gate(places=1), threading.Event()

    def second() -> None:
        with gate.entered():
            passed.set()

    with gate.entered():
        thread = threading.Thread(target=second)
        thread.start()
        assert not passed.wait(0.05)
    thread.join(5)
    assert passed.is_set()


def test_view_tells_primary_replica_and_down() -> None:
    def gone() -> bool:
        raise LostError("gone")

    view = Watch({"a": lambda: True, "b": lambda: False, "c": gone}).view()
    assert [each.state for each in view.servers] == ["primary", "replica", "down"]
    assert view.primary == "a"
    assert view.servers[2].error == "gone"


def test_two_writable_servers_are_no_primary() -> None:
    view = Watch({"a": lambda: True, "b": lambda: True}).view()
    assert view.writable == ("a", "b")
    assert view.primary is None


def test_hanging_server_delays_nobody_for_long() -> None:
    end = threading.Event()

    def hang() -> bool:
        end.wait(10)
        return True

    watching = Watch({"a": lambda: True, "b": hang})
    started = time.monotonic()
    first = watching.view()
    assert time.monotonic() - started < PATIENCE_SECONDS + 0.3
    assert (first.state("a"), first.state("b")) == ("primary", "down")
    started = time.monotonic()
    watching.view(0.0)
    assert time.monotonic() - started < PATIENCE_SECONDS / 2, "known to be down: not waited for"
    end.set()


def test_answers_are_remembered_and_asked_again() -> None:
    asked, now = [], [0.0]

    def answer() -> bool:
        asked.append(now[0])
        return True

    watching = Watch({"a": answer}, clock=lambda: now[0])
    watching.view()
    now[0] = watch.FRESH_SECONDS / 2
    watching.view()
    assert len(asked) == 1
    watching.view(insist=True)
    assert len(asked) == 2
    now[0] = 10.0
    watching.view()
    assert len(asked) == 3


def test_only_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watching = Watch({"a": lambda: True})
    for _ in range(3):
        watching.view(insist=True)
    assert [record.getMessage() for record in caplog.records] == ["a is primary"]
