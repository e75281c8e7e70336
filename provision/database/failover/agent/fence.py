"""Fencing: a thread that watches the lease makes the server read-only, or kills mysqld, in time.

See rules.py, "At most one server is writable".
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

from provision.database.agent import write_access
from provision.database.agent.session import MysqlError, ServerNotRunningError, connect_local
from provision.database.failover.agent.daemon import CRITICAL, WARNING, ChangeLog
from provision.database.failover.agent.local_server import server_identity
from provision.database.failover.agent.rules import FENCE_INTERVAL, FENCE_TIMEOUT

CONFIRM_INTERVAL = 0.2
"""Seconds between two looks at a server that is read-only: only the guard makes it writable."""


def set_read_only() -> str:
    """Set super_read_only; returns ``fenced``, ``read-only`` before, or ``down``.

    Raises:
        MysqlError: when the server does not respond.
    """
    try:
        with connect_local(FENCE_TIMEOUT) as session:
            if session.value("SELECT @@global.super_read_only") != "0":
                return "read-only"
            session.query("SET GLOBAL super_read_only = ON")
            return "fenced"
    except ServerNotRunningError:
        return "down"  # it starts read-only


def kill_mysqld() -> None:
    """Kill mysqld; systemd restarts it, read-only."""
    kill = ["systemctl", "kill", "--signal=KILL", "mysql.service"]
    subprocess.run(kill, check=False, timeout=10)


class LeaseWatch:
    """Watches the lease.

    Args:
        must_fence: whether this machine is the recorded primary and has no lease.
    """

    def __init__(
        self,
        must_fence: Callable[[], bool],
        log: ChangeLog,
        read_only: Callable[[], str] = set_read_only,
        kill: Callable[[], None] = kill_mysqld,
        identity: Callable[[], str] = server_identity,
    ) -> None:
        self._must_fence = must_fence
        self._log = log
        self._read_only = read_only
        self._kill = kill
        self._identity = identity
        self._wait = 0.0
        self._suspect: str | None = None

    def start(self) -> None:
        """Watch in a thread from now on."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            if self._must_fence():
                self.fence()
            else:
                self._wait, self._suspect = 0.0, None
            time.sleep(max(FENCE_INTERVAL, self._wait))

    def fence(self) -> None:
        """Make the server read-only within FENCE_TIMEOUT seconds, or kill mysqld.

        Only the mysqld that ran when the lease ended can be writable: a later one starts read-only,
        and may start as slowly as it has to.
        """
        results: list[str] = []
        if self._suspect is None:
            self._suspect = self._identity()

        def attempt() -> None:
            try:
                results.append(self._read_only())
            except MysqlError as error:
                results.append(str(error))

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(FENCE_TIMEOUT)
        result = results[0] if results else f"super_read_only waits for {FENCE_TIMEOUT:g} s"
        self._wait = CONFIRM_INTERVAL
        if result == "fenced":
            self._log("lease", "the lease has ended: fenced, read-only", CRITICAL)
        elif result == "read-only":
            text = "read-only: neither the witness nor the replica grants a lease"
            self._log("lease", text, WARNING)
        elif result != "down":
            if self._identity() != self._suspect:
                return
            self._log("lease", f"the lease has ended, and {result}: killing mysqld", CRITICAL)
            self._kill()
            write_access.remove_writable_mark()
            return
        self._suspect = ""
        write_access.remove_writable_mark()
