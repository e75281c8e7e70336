"""A hung server has a state that is unknown; a server that does not run has one to correct."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import cryptography
import pytest

from provision.database.agent import probes, session, settings
from provision.database.resources import OtherAccounts
from provision.database.settings import EffectiveSettings
from provision.engine.agent.gathering import collect
from provision.engine.agent.protocol import ProbeResponse, Results
from provision.engine.plan import Unit, UnitPlan, plan

assert cryptography  # imported before `MysqlSession` declares it absent

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""PyMySQL leaves a socket that it cannot connect to the garbage collector."""

SETTINGS = EffectiveSettings((("sync_binlog", "1"),))
ACCOUNTS = OtherAccounts(())
UNIT = Unit("mysql-settings", (SETTINGS, ACCOUNTS))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the server's socket is; it has a fifth of a second to respond."""
    path = tmp_path / "mysqld.sock"
    monkeypatch.setattr(session, "SOCKET", str(path))
    for module in (probes, settings):
        monkeypatch.setattr(module, "connect_local", lambda *_: session.connect_local(0.2))
    yield path
    gc.collect()


@contextlib.contextmanager
def listening(path: Path, queue: int = 10) -> Iterator[None]:
    """A server that a debugger has stopped: the kernel accepts connections, no response follows."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(queue)
        yield


def planned() -> UnitPlan:
    """What a run would do with this server, as the agent sees it."""
    responses: dict[str, ProbeResponse] = {}
    for probe in (SETTINGS.probe(), ACCOUNTS.probe()):
        responses |= collect(probe.kind, {probe.name: probe.args})
    (unit_plan,) = plan("web-01", [UNIT], Results("web-01", responses)).units
    return unit_plan


def test_a_server_that_accepts_connections_and_does_not_respond_is_unreadable(path: Path) -> None:
    with listening(path):
        unit_plan = planned()
    assert not unit_plan.changes
    assert [item.resource for item in unit_plan.unreadable] == [SETTINGS, ACCOUNTS]
    for item in unit_plan.unreadable:
        assert item.reason.startswith("MySQL error 2013: Lost connection"), item.reason


def test_so_is_one_with_a_full_queue_of_connections(path: Path) -> None:
    with listening(path, 0), contextlib.ExitStack() as stack:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        unit_plan = planned()
    assert not unit_plan.changes
    assert {item.reason for item in unit_plan.unreadable} == {
        "MySQL error 2013: its queue of connections is full"
    }


@pytest.mark.parametrize("stale", [False, True], ids=["no socket", "socket of a killed server"])
def test_a_server_that_does_not_run_is_a_change(path: Path, stale: bool) -> None:
    if stale:
        with listening(path):
            pass
    unit_plan = planned()
    assert not unit_plan.unreadable
    (change,) = unit_plan.changes
    assert change.resource == SETTINGS
    assert "not readable: MySQL error 2003" in change.differences[0].before
