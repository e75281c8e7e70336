"""How long each layer waits, in milliseconds: a ladder in which a caller outlasts what it calls.

client > balancer > Nginx > application > database. Otherwise a caller gives up on a request that is
still being served, retries it, and adds load. Health checks have their own, shorter ladder: a check
fails before any visitor's request would, so a server that hangs is out of rotation first.

Every template takes its timeouts from `TIMEOUTS`; `rungs` is the ladder for tests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """All timeouts on a request's way, in milliseconds. A derived one is a property.

    Args:
        database_connect: of the application: the TCP connection, and each reply during login.
        database_query: a statement that changes nothing.
        database_change: a change, whose commit waits for a replica.
        semi_sync: how long a commit waits for the replica before replication becomes asynchronous.
        database_probe: the application's probe of a database.
        gate: how long a write waits for a free writer of its process.
        app_read: the longest read, also while the databases fail: one that hangs and another one.
        app_stop: for open requests when gunicorn stops.
        nginx_connect: Nginx to the application.
        nginx_client: between two packets of a client.
        health_connect: Nginx to the health listener.
        health_read: Nginx waits for the health listener's response.
        connect: HAProxy to a web server.
        queue: a request waits for a free slot of a server.
        request: a client sends its whole request.
        keep_alive: an idle connection of a client; the same for one to a server.
        client: a client that does not read or send.
        readiness: a balancer's own readiness, asked by keepalived's script.
        margin: by which a caller outlasts what it calls.
    """

    database_connect: int = 1_000
    database_query: int = 800
    database_change: int = 5_000
    semi_sync: int = 1_500
    database_probe: int = 400
    gate: int = 400
    app_read: int = 2_000
    app_stop: int = 12_000
    nginx_connect: int = 500
    nginx_client: int = 10_000
    health_connect: int = 200
    health_read: int = 650
    connect: int = 1_000
    queue: int = 2_000
    request: int = 10_000
    keep_alive: int = 5_000
    client: int = 30_000
    readiness: int = 400
    margin: int = 300

    @property
    def app_write(self) -> int:
        """The longest write: two attempts, each a connection, two queries and the change."""
        attempt = self.database_connect + 2 * self.database_query + self.database_change
        return self.gate + 2 * attempt + self.database_probe

    @property
    def nginx_read(self) -> int:
        """Nginx waits for the response to a GET."""
        return self.app_read + self.margin

    @property
    def nginx_write(self) -> int:
        """Nginx waits for the response to any other request."""
        return self.app_write + self.margin

    @property
    def server_read(self) -> int:
        """HAProxy waits for a web server's response to a GET; then it tries another server."""
        return self.nginx_connect + self.nginx_read + self.margin

    @property
    def server_write(self) -> int:
        """HAProxy waits for a web server's response to any other request."""
        return self.nginx_connect + self.nginx_write + self.margin

    @property
    def check(self) -> int:
        """HAProxy's health check, which includes a failed connection of Nginx and a next try."""
        return self.health_connect + self.health_read + 100

    @property
    def nginx_keep_alive(self) -> int:
        """Nginx keeps an idle connection; longer than HAProxy reuses it."""
        return 6 * self.keep_alive

    @property
    def visitors(self) -> tuple[tuple[str, int], ...]:
        """The ladders of visitors' requests, lowest rung first: reads, then writes."""
        return (
            ("a query", self.database_query),
            ("a read of the application", self.app_read),
            ("Nginx, reads", self.nginx_connect + self.nginx_read),
            ("the balancer, reads", self.server_read),
            ("a client, reads", self.client),
        )

    @property
    def writes(self) -> tuple[tuple[str, int], ...]:
        """The ladder of writes, lowest rung first."""
        return (
            ("a commit that waits for a replica", self.semi_sync),
            ("a change", self.database_change),
            ("a write of the application", self.app_write),
            ("Nginx, writes", self.nginx_connect + self.nginx_write),
            ("the balancer, writes", self.server_write),
            ("a client, writes, after the queue", self.client - self.queue),
        )

    @property
    def checks(self) -> tuple[tuple[str, int], ...]:
        """The ladder of health checks; its top is below every rung where a visitor waits."""
        return (
            ("the probe of a database", self.database_probe),
            ("Nginx, health", self.health_connect + self.health_read),
            ("the balancer's health check", self.check),
            ("a read of the application", self.app_read),
        )


TIMEOUTS = Timeouts()

SERVICE_STOP_SECONDS = 10
"""After which a service that hangs while it stops is killed; systemd's default is 90 s."""

CHECK_INTERVAL = 800
"""Milliseconds between health checks of a server. HAProxy also gives a check so much time to
connect, TLS handshake included ("timeout check"); a busy web server may need half a second."""

FAST_INTERVAL = 250
"""The same after a failed check or an error in a response."""

DOWN_INTERVAL = 500
"""The same while a server is DOWN."""

CHECK_FALLS = 2
"""Failed checks after which a server is DOWN."""

SLOW_START = 3_000
"""Milliseconds in which a server that returns gets its full share of requests."""
