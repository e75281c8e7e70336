"""Health of the database servers: which are up, which is writable, and which replicate.

No request waits for a server that is known to be down; it is probed in the background. A server
that was up and does not respond in time is *silent* before it is down: on a machine without CPU
time to spare, a probe is late although its server is well, and a site that believes it would refuse
all requests just when it is busy. Reads prefer servers that are not silent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from foobar.session import DatabaseSession, LostError, SessionError, StatementError

PROBE_SECONDS = 0.4
"""How long a request waits for probes before it continues without them."""
FRESH_SECONDS = 1.0
"""How long a result is used before the server is probed again."""

SILENT_SECONDS = 1.5
"""Silence after which a server that was up is down."""

DOWN_EXPIRES_SECONDS = 3.0
"""Age from which a request waits again for a server that was down."""
DOWN_RECHECK_SECONDS = 0.25
"""Minimum time between probes of a server that is down, also for a request that insists."""

PRIMARY, REPLICA = "primary", "replica"
DETACHED = "detached"
"""Read-only, and without a source: its data gets old, as on a primary that returns after
another server was promoted."""

_IO_RUNNING, _SQL_RUNNING = 10, 11
"""Columns of SHOW REPLICA STATUS (MySQL 9.7 manual): Replica_IO_Running, Replica_SQL_Running."""

_ROLE = "SELECT @@global.super_read_only, @@global.read_only, EXISTS(SELECT 1 FROM notes)"

_log = logging.getLogger(__name__)


def is_writable(session: DatabaseSession) -> bool:
    """Return whether a server is writable; also proves that notes can be read.

    Both variables can be read without any privilege (MySQL 9.7 manual, "System Variable
    Privileges").
    """
    super_read_only, read_only, _ = session.query(_ROLE, seconds=PROBE_SECONDS)[0]
    return not (int(super_read_only) or int(read_only))


def role(session: DatabaseSession) -> str:
    """Return `PRIMARY`, `REPLICA` or `DETACHED`."""
    if is_writable(session):
        return PRIMARY
    try:
        rows = session.query("SHOW REPLICA STATUS", seconds=PROBE_SECONDS)
    except StatementError as error:
        # Without the privilege nothing is known; it is granted before a release that asks.
        _log.warning("the replica status cannot be read: %s", error)
        return REPLICA
    # During a promotion the receiver is stopped while the applier completes what was received.
    stopped = all((row[_IO_RUNNING], row[_SQL_RUNNING]) == ("No", "No") for row in rows)
    return DETACHED if stopped else REPLICA


@dataclass(frozen=True)
class Health:
    """The last known state of a server; without a role it is down.

    `silent_since` is the time of the first probe or statement without a response.
    """

    server: str
    role: str = ""
    error: str | None = None
    checked: float = float("-inf")
    silent_since: float | None = None

    @property
    def up(self) -> bool:
        """Whether it responds."""
        return self.role != ""

    @property
    def responds(self) -> bool:
        """Whether it is up and not silent."""
        return self.up and self.silent_since is None

    @property
    def writable(self) -> bool:
        """Whether it accepts writes."""
        return self.role == PRIMARY

    @property
    def state(self) -> str:
        """Return the role or "down"."""
        return self.role or "down"


@dataclass(frozen=True)
class HealthView:
    """The health of all servers."""

    servers: tuple[Health, ...]

    @property
    def writable(self) -> tuple[str, ...]:
        """Names of the writable servers; more than one is a split brain.

        What a silent server was counts only while no other one is writable.
        """
        writable = [s for s in self.servers if s.writable]
        responding = [s for s in writable if s.responds]
        return tuple(s.server for s in responding or writable)

    @property
    def primary(self) -> str | None:
        """The only writable server; None if there is none or more than one."""
        return self.writable[0] if len(self.writable) == 1 else None

    def up(self, server: str) -> bool:
        """Return whether a server is up."""
        return any(s.server == server and s.up for s in self.servers)

    def readable(self, server: str) -> bool:
        """Return whether a server is up, and either follows a primary or is the only one."""
        state = self.state(server)
        return state in (PRIMARY, REPLICA) or (state == DETACHED and len(self.servers) == 1)

    def silent(self, server: str) -> bool:
        """Return whether a server is up, but has not responded lately."""
        return any(s.server == server and s.up and not s.responds for s in self.servers)

    def state(self, server: str) -> str:
        """Return "primary", "replica", "detached" or "down"."""
        return next((s.state for s in self.servers if s.server == server), "down")


class Watch:
    """Caches the health of each server, and probes again when it is too old."""

    def __init__(
        self,
        probes: Mapping[str, Callable[[], str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without any health.

        Args:
            probes: by server, a function that returns its role, and raises SessionError if it is
                down.
        """
        self._probes = dict(probes)
        self._clock = clock
        self._lock = threading.RLock()
        self._health = {name: Health(name) for name in probes}
        self._running: dict[str, tuple[float, Future[None]]] = {}
        # At most one probe per server runs, so a thread is always available.
        self._threads = ThreadPoolExecutor(len(self._probes), thread_name_prefix="watch")

    def view(
        self,
        fresh: float = FRESH_SECONDS,
        *,
        insist: bool = False,
        patience: float = PROBE_SECONDS,
    ) -> HealthView:
        """Return the health, after probing servers whose result is too old; in PROBE_SECONDS.

        Args:
            fresh: maximum age of a result in seconds.
            insist: probe all servers now, and wait for those that are down, too.
            patience: the longest wait; then the last known health of a server counts.
        """
        now = self._clock()
        with self._lock:
            health_by_server = dict(self._health)
        none_responds = not any(h.responds for h in health_by_server.values())
        awaited: list[Future[None]] = []
        ends = now
        for name, health in health_by_server.items():
            enough = (0.0 if health.up else DOWN_RECHECK_SECONDS) if insist else fresh
            if now - health.checked < enough:
                continue
            started, probe = self._start_probe(name, now)
            expired = not health.up and now - health.checked > DOWN_EXPIRES_SECONDS
            if insist or health.responds or none_responds or expired:
                awaited.append(probe)
                known = health.checked > float("-inf")
                waits = now + patience if known else float("inf")
                ends = max(ends, min(started + PROBE_SECONDS, waits))
        wait(awaited, timeout=max(0.0, ends - self._clock()))
        self._mark_silent(self._clock())
        with self._lock:
            return HealthView(tuple(self._health[name] for name in self._probes))

    def lost(self, server: str, error: Exception) -> None:
        """Record that a connection to a server was lost."""
        now = self._clock()
        if isinstance(error, LostError) and error.timed_out:
            self._silence(server, now, now, str(error))
            return
        # A server that closed the connection may be back soon, so it is probed again early.
        self._record(Health(server, error=str(error), checked=now - DOWN_RECHECK_SECONDS))

    def _start_probe(self, name: str, now: float) -> tuple[float, Future[None]]:
        with self._lock:
            running = self._running.get(name)
            if running is None or running[1].done():
                running = (now, self._threads.submit(self._probe, name))
                self._running[name] = running
            return running

    def _probe(self, name: str) -> None:
        try:
            state = self._probes[name]()
        except SessionError as error:
            self.lost(name, error)
        else:
            self._record(Health(name, state, checked=self._clock()))

    def _mark_silent(self, now: float) -> None:
        with self._lock:
            silent = {
                name: started
                for name, (started, probe) in self._running.items()
                if not probe.done()
                and now - started >= PROBE_SECONDS
                and (self._health[name].checked < started or self._health[name].silent_since)
            }
        for name, started in silent.items():
            self._silence(name, started, now, f"no response within {PROBE_SECONDS:g} s")

    def _silence(self, server: str, since: float, now: float, error: str) -> None:
        """Record that a server does not respond: silent first, then down."""
        with self._lock:
            before = self._health[server]
            since = since if before.silent_since is None else before.silent_since
            if before.up and now - since < SILENT_SECONDS:
                self._record(replace(before, error=error, checked=now, silent_since=since))
            else:
                self._record(Health(server, error=error, checked=now))

    def _record(self, health: Health) -> None:
        with self._lock:
            before = self._health[health.server]
            self._health[health.server] = health
        if before.state != health.state or before.checked == float("-inf"):
            level = logging.INFO if health.up else logging.WARNING
            _log.log(
                level,
                "%s is %s%s",
                health.server,
                health.state,
                f": {health.error}" if health.error else "",
            )
