"""Pool, gate and watch: state between requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from foobar import pool, watch
from foobar.gate import BLOCKED_SECONDS, Gate, GateBlockedError
from foobar.pool import Pool
from foobar.session import DatabaseSession, LostError, StatementError
from foobar.watch import (
    PRIMARY,
    PROBE_SECONDS,
    REPLICA,
    Health,
    HealthView,
    Watch,
    is_writable,
)
from tests.unit.app.fakes import FakeServer, FakeSession


def _pool(server: FakeServer, clock: Callable[[], float] = lambda: 0.0) -> Pool:
    return Pool(lambda: FakeSession(server), 5, clock)


def test_session_is_reused() -> None:
    server = FakeServer("web-01", writable=True)
    pooled = _pool(server)
    assert [pooled.run(is_writable) for _ in range(3)] == [True] * 3
    assert server.opened == 1


def test_dead_session_is_replaced_within_the_same_request() -> None:
    server = FakeServer("web-01", writable=True)
    pooled = _pool(server)
    sessions: list[DatabaseSession] = []
    pooled.run(sessions.append)
    sessions[0].close()
    assert pooled.run(is_writable) is True
    assert server.opened == 2


@pytest.mark.parametrize("flags", [{"timed_out": True}, {"changing": True}])
def test_timeouts_and_changes_are_not_retried(flags: dict[str, bool]) -> None:
    server = FakeServer("web-01")
    pooled = _pool(server)
    pooled.run(is_writable)
    result = []

    def work(session: DatabaseSession) -> None:
        result.append(session)
        raise LostError("lost", **flags)

    with pytest.raises(LostError):
        pooled.run(work)
    assert len(result) == 1


def test_old_session_is_closed() -> None:
    server, clock = FakeServer("web-01"), [0.0]
    pooled = _pool(server, lambda: clock[0])
    pooled.run(is_writable)
    clock[0] = pool.MAX_AGE_SECONDS
    pooled.run(is_writable)
    assert server.opened == 2


def test_session_is_reused_after_a_failed_statement_but_not_after_a_bug() -> None:
    server = FakeServer("web-01")
    pooled = _pool(server)

    def refuse(session: DatabaseSession) -> None:
        raise StatementError(1146, "no such table")

    def bug(session: DatabaseSession) -> None:
        raise KeyError("bug")

    with pytest.raises(StatementError):
        pooled.run(refuse)
    with pytest.raises(KeyError):
        pooled.run(bug)
    assert server.opened == 1
    pooled.run(is_writable)
    assert server.opened == 2


def test_gate_refuses_when_no_slot_is_released() -> None:
    clock = [0.0]
    gate = Gate(slots=1, clock=lambda: clock[0])
    with gate.entered():
        clock[0] = BLOCKED_SECONDS
        with pytest.raises(GateBlockedError), gate.entered():
            pass
    with gate.entered():
        pass


def test_gate_waits_for_a_slot() -> None:
    gate, passed = Gate(slots=1), threading.Event()

    def second() -> None:
        with gate.entered():
            passed.set()

    with gate.entered():
        thread = threading.Thread(target=second)
        thread.start()
        assert not passed.wait(0.05)
    thread.join(5)
    assert passed.is_set()


def test_view_has_primary_replica_and_down() -> None:
    def gone() -> str:
        raise LostError("gone")

    view = Watch({"a": lambda: PRIMARY, "b": lambda: REPLICA, "c": gone}).view()
    assert [health.state for health in view.servers] == ["primary", "replica", "down"]
    assert view.primary == "a"
    assert view.servers[2].error == "gone"


def test_no_primary_with_two_writable_servers() -> None:
    view = Watch({"a": lambda: PRIMARY, "b": lambda: PRIMARY}).view()
    assert view.writable == ("a", "b")
    assert view.primary is None


def test_hanging_server_does_not_block_requests() -> None:
    end = threading.Event()

    def hang() -> str:
        end.wait(10)
        return PRIMARY

    watching = Watch({"a": lambda: PRIMARY, "b": hang})
    started = time.monotonic()
    first = watching.view()
    assert time.monotonic() - started < PROBE_SECONDS + 0.3
    assert (first.state("a"), first.state("b")) == ("primary", "down")
    started = time.monotonic()
    watching.view(0.0)
    assert time.monotonic() - started < PROBE_SECONDS / 2, "known to be down: not waited for"
    end.set()


def test_results_are_cached_and_probed_again() -> None:
    probed, clock = [], [0.0]

    def probe() -> str:
        probed.append(clock[0])
        return PRIMARY

    watching = Watch({"a": probe}, clock=lambda: clock[0])
    watching.view()
    clock[0] = watch.FRESH_SECONDS / 2
    watching.view()
    assert len(probed) == 1
    watching.view(insist=True)
    assert len(probed) == 2
    clock[0] = 10.0
    watching.view()
    assert len(probed) == 3


def test_only_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watching = Watch({"a": lambda: PRIMARY})
    for _ in range(3):
        watching.view(insist=True)
    assert [record.getMessage() for record in caplog.records] == ["a is primary"]


class HangingServers:
    """Probes of servers that may hang until the end of the test."""

    def __init__(self) -> None:
        self.hanging: set[str] = set()
        self.end = threading.Event()

    def probe(self, name: str) -> str:
        if name in self.hanging:
            self.end.wait(10)
        return PRIMARY if name == "a" else REPLICA

    def watch(self) -> Watch:
        return Watch({name: partial(self.probe, name) for name in ("a", "b")})


@pytest.fixture
def servers() -> Iterator[HangingServers]:
    hanging = HangingServers()
    yield hanging
    hanging.end.set()


def test_a_late_probe_makes_a_server_silent_and_a_longer_silence_down(
    servers: HangingServers,
) -> None:
    """A busy machine is late with everything; a database that hangs stays silent."""
    watching = servers.watch()
    watching.view()
    servers.hanging = {"a", "b"}
    started = time.monotonic()
    view = watching.view(0.0)
    assert time.monotonic() - started < PROBE_SECONDS + 0.3
    assert view.silent("a")
    assert view.silent("b")
    assert view.primary == "a"
    assert view.readable("b")
    while view.up("a"):
        assert time.monotonic() - started < watch.SILENT_SECONDS + PROBE_SECONDS + 0.5
        view = watching.view(0.0)
    assert time.monotonic() - started >= watch.SILENT_SECONDS
    assert view.primary is None


def test_a_silent_server_is_not_waited_for_while_another_one_responds(
    servers: HangingServers,
) -> None:
    watching = servers.watch()
    watching.view()
    servers.hanging = {"a"}
    assert watching.view(0.0).silent("a")
    started = time.monotonic()
    watching.view(0.0)
    assert time.monotonic() - started < PROBE_SECONDS / 2


def test_a_silent_server_that_responds_again_is_not_silent(servers: HangingServers) -> None:
    watching = servers.watch()
    watching.view()
    servers.hanging = {"b"}
    assert watching.view(0.0).silent("b")
    servers.hanging = set()
    servers.end.set()
    deadline = time.monotonic() + 5
    while (view := watching.view(0.0)).silent("b"):
        assert time.monotonic() < deadline
    assert view.state("b") == REPLICA


def test_an_impatient_caller_gets_the_last_known_health(servers: HangingServers) -> None:
    watching = servers.watch()
    watching.view()
    servers.hanging = {"a", "b"}
    started = time.monotonic()
    view = watching.view(0.0, patience=0.1)
    assert time.monotonic() - started < PROBE_SECONDS
    assert view.primary == "a"
    assert not view.silent("a")


def test_a_statement_that_times_out_makes_the_server_silent_and_a_refusal_down() -> None:
    clock = [0.0]
    watching = Watch({"a": lambda: PRIMARY}, clock=lambda: clock[0])
    watching.view()
    watching.lost("a", LostError("no response", timed_out=True))
    assert watching.view().silent("a")
    clock[0] = watch.SILENT_SECONDS
    watching.lost("a", LostError("no response", timed_out=True))
    assert watching.view().state("a") == "down"
    watching = Watch({"a": lambda: PRIMARY}, clock=lambda: clock[0])
    watching.view()
    watching.lost("a", LostError("connection refused"))
    assert watching.view().state("a") == "down"


def test_a_silent_primary_and_a_new_one_are_no_split_brain() -> None:
    silent = Health("a", PRIMARY, silent_since=1.0)
    assert HealthView((silent, Health("b", REPLICA))).primary == "a"
    assert HealthView((silent, Health("b", PRIMARY))).primary == "b"
    assert HealthView((Health("a", PRIMARY), Health("b", PRIMARY))).primary is None
