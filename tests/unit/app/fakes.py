"""Database servers in memory that support the statements of the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from foobar.application import create_app
from foobar.database import Database
from foobar.session import DuplicateError, LostError, ReadOnlyError, Row, StatementError
from foobar.settings import Server, Settings
from foobar.store import Store

UUID = "7caff0d0-e5b4-11f1-a0e4-027000000015"

SETTINGS = Settings(
    host="web-02",
    site="www.foobar.com",
    servers=(Server("web-01", "192.168.56.11"), Server("web-02", "192.168.56.12")),
    read_order=("web-02", "web-01"),
    user="foobar_app",
    password="secret-word",
    database="foobar",
    ca=Path("/nowhere/ca.pem"),
    threads=4,
)


@dataclass
class FakeServer:
    """One server; `rows` and `markers` are shared with another to simulate replication."""

    name: str
    writable: bool = False
    up: bool = True
    caught_up: bool = True
    has_source: bool = True
    following: bool = True
    rows: dict[str, Row] = field(default_factory=dict)
    markers: dict[str, Row] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    opened: int = 0
    before_insert: Callable[[], None] = lambda: None
    after_insert: Callable[[], None] = lambda: None


class FakeSession:
    """A connection to a FakeServer."""

    def __init__(self, server: FakeServer) -> None:
        if not server.up:
            raise LostError(f"cannot connect to {server.name}")
        server.opened += 1
        self.server = server
        self.opened = 0.0
        self.generation = server.opened
        self.changing = False
        self.closed = False

    def query(self, sql: str, args: Sequence[object] = (), seconds: float = 1.0) -> list[Row]:
        self._reach(sql)
        server = self.server
        if sql.startswith("SELECT @@global.super_read_only"):
            flag = 0 if server.writable else 1
            return [(flag, flag, 1)]
        if sql == "SHOW REPLICA STATUS":
            running = "Yes" if server.following else "No"
            return [(*[""] * 10, running, running)] if server.has_source else []
        if sql.startswith("SELECT GTID_SUBSET"):
            if ":0" in str(args[0]):
                raise StatementError(1772, "malformed GTID set specification")
            return [(int(server.caught_up),)]
        if sql.startswith("SELECT WAIT_FOR_EXECUTED_GTID_SET"):
            return [(0 if server.caught_up else 1,)]
        if sql.startswith("SELECT @@global.gtid_executed"):
            return [(f"{UUID}:1-{len(server.rows)},\n{UUID[:-1]}6:1-3", UUID)]
        if "FROM notes ORDER BY" in sql:
            return list(reversed(server.rows.values()))[: int(str(args[0]))]
        if "FROM notes WHERE" in sql:
            return [server.rows[str(args[0])]] if args[0] in server.rows else []
        if "FROM markers WHERE" in sql:
            return [server.markers[str(args[0])]] if args[0] in server.markers else []
        if "FROM markers ORDER BY" in sql:
            newest = sorted((row[2] for row in server.markers.values()), reverse=True)
            return [(moment,) for moment in newest[int(str(args[0])) :][:1]]
        raise AssertionError(f"unknown statement: {sql}")

    def change(self, sql: str, args: Sequence[object] = ()) -> int:
        self._reach(sql)
        server = self.server
        if not server.writable:
            raise ReadOnlyError("running with the --super-read-only option")
        self.changing = True
        server.before_insert()
        if sql.startswith("DELETE FROM markers"):
            old = [name for name, row in server.markers.items() if row[2] < args[0]]
            for name in old:
                del server.markers[name]
            return len(old)
        table = server.rows if "INTO notes" in sql else server.markers
        if args[0] in table:
            self.changing = False
            raise DuplicateError("Duplicate entry")
        table[str(args[0])] = tuple(args)
        server.after_insert()
        self.changing = False
        return 1

    def close(self) -> None:
        self.closed = True

    def _reach(self, sql: str) -> None:
        if not self.server.up or self.closed:
            raise LostError(f"{self.server.name} is gone")
        self.server.sent.append(sql)


def lost_while_changing() -> None:
    """Raise the error of a connection that is lost during a change."""
    raise LostError("connection reset", changing=True)


class FakeLab:
    """Two servers, and the application on them."""

    def __init__(self) -> None:
        self.primary = FakeServer("web-01", writable=True)
        self.replica = FakeServer("web-02", rows=self.primary.rows, markers=self.primary.markers)
        self.servers = {"web-01": self.primary, "web-02": self.replica}

    def database(self) -> Database:
        """Return a new database layer, without any health of the servers."""
        return Database(SETTINGS, lambda server: FakeSession(self.servers[server.name]))

    def client(self) -> FlaskClient:
        """Return a client of a new application."""
        return create_app(SETTINGS, Store(self.database(), SETTINGS.host)).test_client()

    def promote(self) -> None:
        """Move the primary from web-01 to web-02."""
        self.primary.writable, self.replica.writable = False, True


def note(client: FlaskClient, **fields: Any) -> Any:
    """Send a note to the API and return the response."""
    return client.post("/api/notes", json={"author": "Ada", "text": "hello"} | fields)


def body(response: Any) -> Any:
    """Return the JSON of a response."""
    assert response.mimetype == "application/json"
    return response.json
