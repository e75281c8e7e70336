"""The database proxy: which server a connection leads to, also while the primary changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import ANY
from urllib.parse import parse_qs, urlsplit

import pytest

from provision.core.waiting import timeout_factor
from provision.database.agent.session import MysqlError, ServerNotRunningError
from provision.engine.context import Context
from provision.engine.resources import File, Tree
from provision.services.app import database
from provision.services.app import role as app
from provision.services.app.agent import database_proxy as proxy
from provision.services.app.agent.database_proxy import DatabaseProxy, ProxyConfig
from provision.services.app.agent.database_view import (
    DETACHED,
    DOWN,
    PRIMARY,
    REPLICA,
    SILENT_SECONDS,
    DatabaseView,
    role,
)
from provision.services.app.interface import record_database
from tests.unit.samples import context

NAMES = ("web-01", "web-02")


# --- roles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writable", "replication", "expected"),
    [
        (True, [], PRIMARY),
        (True, [("No", "No")], PRIMARY),
        (False, [("Yes", "Yes")], REPLICA),
        (False, [("No", "Yes")], REPLICA),  # during a promotion
        (False, [("Connecting", "Yes")], REPLICA),
        (False, [("No", "No")], DETACHED),
        (False, [], DETACHED),
    ],
)
def test_the_role_of_a_server(
    writable: bool, replication: list[tuple[str, str]], expected: str
) -> None:
    assert role(writable, replication) == expected


@pytest.mark.parametrize(
    ("first", "second", "primary", "reader"),
    [
        (PRIMARY, REPLICA, "web-01", "web-01"),
        (REPLICA, PRIMARY, "web-02", "web-01"),
        (DETACHED, PRIMARY, "web-02", "web-02"),
        (DOWN, PRIMARY, "web-02", "web-02"),
        (DOWN, REPLICA, "", "web-02"),
        (PRIMARY, PRIMARY, "", "web-01"),  # split brain: no writes
        (DOWN, DETACHED, "", ""),
    ],
)
def test_where_connections_lead(first: str, second: str, primary: str, reader: str) -> None:
    view = DatabaseView(NAMES)
    for name, state in zip(NAMES, (first, second), strict=True):
        view.record(name, state)
    assert view.complete
    assert (view.primary, view.reader) == (primary, reader)
    for name, state in zip(NAMES, (first, second), strict=True):
        stays = name == primary or (not primary and state == DOWN)
        assert view.serves(name, writes=True) == stays
        assert view.serves(name, writes=False) == (state in (PRIMARY, REPLICA))


def test_a_silent_server_keeps_its_role_for_a_moment() -> None:
    times = [100.0]
    view = DatabaseView(NAMES, clock=lambda: times[0])
    view.record("web-01", PRIMARY)
    times[0] += SILENT_SECONDS
    view.record_silence("web-01")
    assert view.primary == "web-01"
    times[0] += 0.1
    view.record_silence("web-01")
    assert view.primary == ""
    view.record_silence("web-02")  # it never responded
    assert view.complete


# --- connections ---------------------------------------------------------------------------------


@dataclass
class Databases:
    """Two servers that greet with their name and echo; their roles as the probes report them."""

    roles: dict[str, str | Exception] = field(default_factory=dict)
    write_port: int = 0
    read_port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    primary: Callable[[], str] = str
    """The primary as the proxy sees it."""

    async def seen(self, primary: str) -> None:
        """Wait until the proxy has noticed who is primary."""
        async with asyncio.timeout(60 * timeout_factor()):
            while self.primary() != primary:
                await asyncio.sleep(0.02)

    async def connect(self, *, writes: bool) -> tuple[str, asyncio.StreamReader]:
        port = self.write_port if writes else self.read_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.writers.append(writer)
        greeting = (await within(reader.readline())).decode().strip()
        if greeting:
            writer.write(b"ping\n")
            assert await within(reader.readline()) == b"ping\n"
        return greeting, reader


async def ended(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await within(reader.read()) == b""


async def within(work: Awaitable[bytes]) -> bytes:
    return await asyncio.wait_for(work, 60 * timeout_factor())


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Databases]:
    databases = Databases({"web-01": PRIMARY, "web-02": REPLICA}, free_port(), free_port())
    port = free_port()
    addresses = {"web-01": "127.0.0.2", "web-02": "127.0.0.3"}

    def server_of(name: str) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            databases.writers.append(writer)
            writer.write(f"{name}\n".encode())
            while line := await reader.readline():
                writer.write(line)
            writer.close()

        return serve

    def ask(self: proxy.DatabaseProbe) -> str:
        name = next(n for n, address in addresses.items() if address == self._address)
        state = databases.roles[name]
        if isinstance(state, Exception):
            raise state
        return state

    monkeypatch.setattr(proxy.DatabaseProbe, "ask", ask)
    monkeypatch.setattr(proxy, "WAIT_SECONDS", 60 * timeout_factor())
    config = ProxyConfig(addresses, ("web-02", "web-01"), "u", "p", "", port)
    servers = [
        await asyncio.start_server(server_of(name), address, port)
        for name, address in addresses.items()
    ]
    running_proxy = DatabaseProxy(config)
    databases.primary = lambda: running_proxy.view.primary
    task = asyncio.create_task(running_proxy.run(databases.write_port, databases.read_port))
    await databases.seen("web-01")
    for _ in range(1500):
        try:
            (await asyncio.open_connection("127.0.0.1", databases.read_port))[1].close()
            break
        except OSError:
            await asyncio.sleep(0.02)
    try:
        yield databases
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for writer in databases.writers:
            writer.transport.abort()
        for server in servers:
            server.close()
        await asyncio.sleep(0.05)  # the transports close in the loop


def test_connections_follow_a_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running(monkeypatch) as databases:
            name, old = await databases.connect(writes=True)
            assert name == "web-01"
            name, reading = await databases.connect(writes=False)
            assert name == "web-02"
            # The planned way: read-only first, then the other server is writable.
            databases.roles["web-01"] = DETACHED
            await ended(old)
            databases.roles["web-02"] = PRIMARY
            await databases.seen("web-02")
            assert (await databases.connect(writes=True))[0] == "web-02"
            assert (await databases.connect(writes=False))[0] == "web-02"
            assert not reading.at_eof(), "a connection for reads stays where it may read"

    asyncio.run(run())


def test_connections_to_a_dead_primary_end_when_another_one_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        async with running(monkeypatch) as databases:
            _, old = await databases.connect(writes=True)
            databases.roles["web-01"] = ServerNotRunningError(2003, "refused")
            await databases.seen("")
            assert not old.at_eof()
            databases.roles["web-02"] = PRIMARY
            await ended(old)

    asyncio.run(run())


def test_without_a_primary_a_connection_waits_and_then_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        async with running(monkeypatch) as databases:
            databases.roles["web-01"] = MysqlError(1045, "denied")
            await databases.seen("")
            waiting = asyncio.create_task(databases.connect(writes=True))
            await asyncio.sleep(3 * proxy.INTERVAL_SECONDS)
            assert not waiting.done()
            databases.roles["web-02"] = PRIMARY
            assert (await waiting)[0] == "web-02"
            databases.roles["web-02"] = REPLICA
            await databases.seen("")
            monkeypatch.setattr(proxy, "WAIT_SECONDS", 0.3)
            assert await databases.connect(writes=True) == ("", ANY)

    asyncio.run(run())


# --- on machines ---------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Context:
    here = context(root=tmp_path)
    record_database(here)
    return here


def test_the_address_of_the_database_does_not_depend_on_the_primary(lab: Context) -> None:
    promoted = replace(lab, state=replace(lab.state, primary="web-02"))
    assert database.variables(lab) == database.variables(promoted)
    url = urlsplit(database.variables(lab)["DATABASE_URL"])
    assert (url.hostname, url.port) == ("127.0.0.1", proxy.WRITE_PORT)
    assert parse_qs(url.query) == {"ssl_ca": ["/etc/foobar/ca.pem"]}


def test_the_installed_program_is_complete(lab: Context, tmp_path: Path) -> None:
    """The machine starts it from these files alone, before the application."""
    machine = lab.lab.machine("web-01")
    names = [unit.name for unit in lab.desired(machine)]
    assert names.index(database.UNIT) < names.index("app")
    (unit,) = app.proxies(lab, machine)
    tree = next(r for r in unit.resources if isinstance(r, Tree))
    for path, _, content in tree.files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    text = next(
        r.content for r in unit.resources if isinstance(r, File) and r.path == database.CONFIG
    )
    config = ProxyConfig(**json.loads(text))
    assert config.reads == ["web-01", "web-02"]
    assert set(config.servers) == set(config.reads)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        " from provision.services.app.agent.database_proxy import main"
    )
    argv = [sys.executable, "-I", "-c", code]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_only_labs_with_an_application_that_needs_it_have_a_proxy(tmp_path: Path) -> None:
    here = context("scaled", root=tmp_path)
    for needed in (False, True):
        for machine in here.lab.machines:
            names = {unit.name for unit in here.desired(machine)}
            assert (database.UNIT in names) == (needed and "app" in machine.roles)
        record_database(here)
        here = replace(here)
