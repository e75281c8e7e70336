"""Local ports that lead to the primary and to a database for reads, whatever these are just now.

An application of the user's own has the same ``DATABASE_URL`` all the time. After a promotion its
connections to the former primary are closed, and new ones lead to the new primary; without one they
wait a moment. Bytes are passed on unread, so TLS is between the application and the database. The
ports are those of MySQL Router ("Basic Connection Routing"), which needs a Group Replication
cluster to notice a new primary.

lab-database.service runs this module; its configuration is a credential (systemd.exec(5)).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provision.database.agent.session import (
    MysqlError,
    MysqlSession,
    ServerNotRunningError,
)
from provision.services.app.agent.database_view import DOWN, DatabaseView, role

CONFIG = "database.json"
"""Name of the credential."""

ADDRESS = "127.0.0.1"
WRITE_PORT, READ_PORT = 6446, 6447

PROBE_SECONDS = 0.4
INTERVAL_SECONDS = 0.2
CONNECT_SECONDS = 1.0
WAIT_SECONDS = 5.0
"""How long a new connection waits for a database; automatic failover takes that long."""

RETRY_SECONDS = 0.1
CHUNK = 1 << 16
NO_RESPONSE = (2003, 2006, 2013)
"""CR_CONN_HOST_ERROR, CR_SERVER_GONE_ERROR, CR_SERVER_LOST (MySQL, "Error Message Reference"): also
after a timeout."""

ROLE = "SELECT @@global.super_read_only OR @@global.read_only"


@dataclass(frozen=True)
class ProxyConfig:
    """What the proxy needs to know.

    Args:
        servers: addresses by name.
        reads: names, the preferred one first.
        user: may read the replica status.
    """

    servers: Mapping[str, str]
    reads: Sequence[str]
    user: str
    password: str
    ca: str
    port: int = 3306


class DatabaseProbe:
    """Asks one server for its role, over a connection that is kept."""

    def __init__(self, config: ProxyConfig, address: str) -> None:
        self._config, self._address = config, address
        self._session: MysqlSession | None = None

    def ask(self) -> str:
        """The server's role.

        Raises:
            MysqlError: when it does not respond, or refuses.
        """
        try:
            if self._session is None:
                self._session = self._connect()
            writable = self._session.value(ROLE) == "0"
            rows = [] if writable else self._session.query("SHOW REPLICA STATUS")
        except MysqlError:
            if self._session is not None:
                self._session.close()
            self._session = None
            raise
        states = [(str(r["Replica_IO_Running"]), str(r["Replica_SQL_Running"])) for r in rows]
        return role(writable, states)

    def _connect(self) -> MysqlSession:
        import ssl

        return MysqlSession(
            PROBE_SECONDS,
            host=self._address,
            port=self._config.port,
            user=self._config.user,
            password=self._config.password,
            ssl=ssl.create_default_context(cafile=self._config.ca),
        )


@dataclass(eq=False)
class Connection:
    """One client and the server that it is connected to."""

    server: str
    writes: bool
    streams: tuple[asyncio.StreamWriter, asyncio.StreamWriter]


@dataclass
class DatabaseProxy:
    """The listeners, the probes and the open connections."""

    config: ProxyConfig
    view: DatabaseView = field(init=False)
    connections: set[Connection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.view = DatabaseView(self.config.reads)

    async def run(self, write_port: int = WRITE_PORT, read_port: int = READ_PORT) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, address in self.config.servers.items():
                group.create_task(self._watch(name, DatabaseProbe(self.config, address)))
            while not self.view.complete:
                await asyncio.sleep(RETRY_SECONDS / 10)
            for port, writes in ((write_port, True), (read_port, False)):
                handler = self._handler(writes=writes)
                server = await asyncio.start_server(handler, ADDRESS, port, backlog=256)
                group.create_task(server.serve_forever())
            notify_systemd("READY=1")

    async def _watch(self, name: str, probe: DatabaseProbe) -> None:
        while True:
            try:
                self.view.record(name, await asyncio.to_thread(probe.ask))
            except ServerNotRunningError:
                self.view.record(name, DOWN)
            except MysqlError as error:
                if error.code in NO_RESPONSE:
                    self.view.record_silence(name)
                else:
                    self.view.record(name, DOWN)
            self._close_misplaced()
            await asyncio.sleep(INTERVAL_SECONDS)

    def _close_misplaced(self) -> None:
        for connection in list(self.connections):
            if not self.view.serves(connection.server, writes=connection.writes):
                for stream in connection.streams:
                    stream.transport.abort()

    def _handler(self, *, writes: bool) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                name, server = await self._connect(writes=writes)
            except TimeoutError:
                print(f"<4>no {'primary' if writes else 'database'} responds", flush=True)
                writer.transport.abort()
                return
            connection = Connection(name, writes, (writer, server[1]))
            self.connections.add(connection)
            try:
                await asyncio.gather(pump(reader, server[1]), pump(server[0], writer))
            finally:
                self.connections.discard(connection)
                for stream in connection.streams:
                    stream.transport.abort()

        return handle

    async def _connect(
        self, *, writes: bool
    ) -> tuple[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect to the right server, as soon as there is one.

        Raises:
            TimeoutError: when there is none for `WAIT_SECONDS`.
        """
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                name = self.view.primary if writes else self.view.reader
                if name:
                    address = self.config.servers[name]
                    with contextlib.suppress(OSError):  # TimeoutError is one
                        opened = asyncio.open_connection(address, self.config.port)
                        return name, await asyncio.wait_for(opened, CONNECT_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what arrives until the connection ends; then end the other one, too."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


def notify_systemd(message: str) -> None:
    """Tell systemd about this service (sd_notify(3)); nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address.replace("@", "\0", 1))
            sender.send(message.encode())


def main() -> int:
    """Run until stopped."""
    with open(os.path.join(os.environ["CREDENTIALS_DIRECTORY"], CONFIG)) as file:
        config = ProxyConfig(**json.load(file))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(DatabaseProxy(config).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
