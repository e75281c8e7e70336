"""Route reads to a reachable server and writes to the primary; fail over and retry."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from foobar import gtid
from foobar.gate import Gate, GateBlockedError
from foobar.pool import Pool
from foobar.session import DatabaseSession, LostError, ReadOnlyError, SessionError, StatementError
from foobar.settings import Server, Settings
from foobar.watch import PROBE_SECONDS, HealthView, Watch, is_writable, role

RETRY_SECONDS = 2
"""The Retry-After header of a 503 response."""

WARM_UP_SECONDS = 2.0
"""How long a new process waits for a writable server before it accepts visitors.

With little CPU time, the first connection over TLS takes longer than a request waits for it."""
WARM_UP_INTERVAL = 0.1

SETTLE_SECONDS = 1.0
"""How long a read waits while every server that is up is detached."""
SETTLE_INTERVAL = 0.1

WAITING_READERS = 2
"""Reads of a process that may wait for a replica to catch up; others use the primary at once."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The databases cannot serve a request at the moment.

    `outcome` of a write: "refused" (nothing was changed) or "unknown".
    """

    outcome: str | None = None


class NoReaderError(UnavailableError):
    """No server could be read from."""


class BehindError(NoReaderError):
    """No server that can be read from has the reader's last write."""


class NoPrimaryError(UnavailableError):
    """No server is writable, or more than one is; nothing was written."""

    outcome = "refused"


class OutcomeUnknownError(UnavailableError):
    """The connection was lost while a write was under way; the outcome is unknown."""

    outcome = "unknown"


@dataclass(frozen=True)
class Read(Generic[T]):
    """What was read, and from which server.

    `freshness` is "unasked" (the reader has written nothing), "covered" (the server has the
    reader's last write) or "primary" (the replica was behind, so the primary was read).
    """

    value: T
    server: str
    role: str
    freshness: str


@dataclass(frozen=True)
class Written(Generic[T]):
    """The result of a write, its server, and a GTID set that contains it or `gtid.ON_PRIMARY`."""

    value: T
    server: str
    last_write: str


class Database:
    """The database servers of the lab behind one interface."""

    def __init__(
        self, settings: Settings, open_session: Callable[[Server], DatabaseSession]
    ) -> None:
        def pool_of(server: Server) -> Pool:
            # One for each thread, and one for the watch.
            return Pool(lambda: open_session(server), kept=settings.threads + 1)

        def probe_of(pool: Pool) -> Callable[[], str]:
            return lambda: pool.run(role)

        self._order = settings.read_order
        self._pools = {server.name: pool_of(server) for server in settings.servers}
        self._gate = Gate(max(1, settings.threads // 2))
        self._waiting = threading.BoundedSemaphore(WAITING_READERS)
        self._watch = Watch({name: probe_of(pool) for name, pool in self._pools.items()})

    def view(self, fresh: float = 1.0, patience: float = PROBE_SECONDS) -> HealthView:
        """Return the health of the servers, at most `fresh` seconds old if they respond in time.

        Args:
            patience: how long to wait for them.
        """
        return self._watch.view(fresh, patience=patience)

    def warm_up(self, seconds: float = WARM_UP_SECONDS) -> None:
        """Connect to the servers, until one is writable or the time has passed."""
        ends = time.monotonic() + seconds
        while self._watch.view(insist=True).primary is None and time.monotonic() < ends:
            time.sleep(WARM_UP_INTERVAL)

    def read(
        self,
        work: Callable[[DatabaseSession], T],
        *,
        last_write: str | None = None,
        only: str | None = None,
    ) -> Read[T]:
        """Read from the first available server in the order of preference.

        Args:
            last_write: of the reader, as a GTID set or `gtid.ON_PRIMARY`; a server that lacks it is
                not used.
            only: the name of the only server to use, whatever its role.

        Raises:
            BehindError: no server that can be read from has the last write.
            NoReaderError: no server could be read from.
        """
        view = self._watch.view() if only else self._view_with_reader()
        waiting = [only] if only else self._readable(view)
        failures: list[str] = []
        behind: list[str] = []
        while waiting:
            name = waiting.pop(0)
            try:
                result = self._read_from(name, work, last_write, primary=name == view.primary)
            except SessionError as error:
                failures.append(f"{name}: {error}")
                continue
            if result is not None:
                return Read(result[0], name, view.state(name), _freshness(last_write, behind))
            behind.append(name)
            waiting.sort(key=lambda other: other != view.primary)
        if behind:
            raise BehindError(
                f"your last write is not on {' or '.join(behind)} yet, and no other database can be"
                " read from; it is not lost"
            )
        raise NoReaderError(
            "no database could be read from: " + "; ".join(failures or [_states(view)])
        )

    def _readable(self, view: HealthView) -> list[str]:
        """Return the servers to read from: those that respond, then one that is silent."""
        readable = [name for name in self._order if view.readable(name)]
        silent = [name for name in readable if view.silent(name)]
        return [name for name in readable if name not in silent] + silent[:1]

    def _view_with_reader(self) -> HealthView:
        """Return the health; during a promotion no server may be readable for a moment."""
        view = self._watch.view()
        ends = time.monotonic() + SETTLE_SECONDS
        while _detached_only(view) and time.monotonic() < ends:
            time.sleep(SETTLE_INTERVAL)
            view = self._watch.view(insist=True)
        return view

    def write(self, work: Callable[[DatabaseSession], T]) -> Written[T]:
        """Write to the primary; when this returns, the write is committed.

        `work` may run twice: it is retried once after a failure, also after one with an unknown
        outcome. So it must use a unique key.

        Raises:
            NoPrimaryError: nothing was written, because no or more than one server is writable.
            OutcomeUnknownError: the connection was lost during the change.
        """
        try:
            with self._gate.entered():
                return self._write(work)
        except GateBlockedError:
            raise NoPrimaryError("earlier writes are still waiting for the primary") from None

    def _write(self, work: Callable[[DatabaseSession], T]) -> Written[T]:
        unknown: LostError | None = None
        failure: SessionError | None = None
        for retry in (False, True):
            try:
                name = self._primary(insist=retry)
            except NoPrimaryError as error:
                if unknown is None:
                    raise
                raise _unknown() from error
            try:
                return self._write_to(name, work)
            except LostError as error:
                failure = error
                unknown = error if error.changing else unknown
                self._watch.lost(name, error)
            except (ReadOnlyError, StatementError) as error:
                failure = error
            _log.warning("a write on %s failed: %s", name, failure)
        if unknown is not None:
            raise _unknown() from failure
        raise NoPrimaryError(f"the primary refused the write: {failure}") from failure

    def _read_from(
        self,
        name: str,
        work: Callable[[DatabaseSession], T],
        required: str | None,
        *,
        primary: bool,
    ) -> tuple[T] | None:
        """Return what was read in a tuple, or None if the server lacks the required write."""
        if required == gtid.ON_PRIMARY and not primary:
            return None

        def when_caught_up(session: DatabaseSession) -> tuple[T] | None:
            if required and required != gtid.ON_PRIMARY:
                if not self._covers(session, required, wait=not primary):
                    return None
            elif required and not is_writable(session):
                return None
            return (work(session),)

        try:
            return self._pools[name].run(when_caught_up)
        except LostError as error:
            self._watch.lost(name, error)
            raise
        except StatementError as error:
            _log.error("reading from %s failed: %s", name, error)
            raise

    def _covers(self, session: DatabaseSession, required: str, *, wait: bool) -> bool:
        may_wait = wait and self._waiting.acquire(blocking=False)
        try:
            return gtid.covers(session, required, wait=may_wait)
        finally:
            if may_wait:
                self._waiting.release()

    def _primary(self, *, insist: bool) -> str:
        view = self._watch.view(insist=insist)
        if view.primary is None and not insist:
            view = self._watch.view(insist=True)
        if view.primary is not None:
            return view.primary
        if view.writable:
            names = " and ".join(view.writable)
            _log.critical("SPLIT BRAIN: %s are writable at the same time; refusing writes", names)
            raise NoPrimaryError(
                f"split brain: {names} are both writable; writes are refused until one of them is"
                " read-only"
            )
        raise NoPrimaryError(f"no database is writable at the moment ({_states(view)})")

    def _write_to(self, name: str, work: Callable[[DatabaseSession], T]) -> Written[T]:
        def checked(session: DatabaseSession) -> Written[T]:
            # Detects a dead connection or a demoted primary before a change is sent.
            if not is_writable(session):
                raise ReadOnlyError(f"{name} is read-only")
            value = work(session)
            try:
                last_write = gtid.executed(session) or gtid.ON_PRIMARY
            except SessionError as error:
                _log.warning("committed on %s, but its GTIDs cannot be read: %s", name, error)
                last_write = gtid.ON_PRIMARY
            return Written(value, name, last_write)

        return self._pools[name].run(checked)


def _freshness(last_write: str | None, behind: list[str]) -> str:
    if not last_write:
        return "unasked"
    return "primary" if behind else "covered"


def _states(view: HealthView) -> str:
    return ", ".join(f"{health.server} is {health.state}" for health in view.servers)


def _detached_only(view: HealthView) -> bool:
    """Return whether servers are up, but none of them can be read from."""
    up = [health.server for health in view.servers if health.up]
    return bool(up) and not any(map(view.readable, up))


def _unknown() -> OutcomeUnknownError:
    return OutcomeUnknownError(
        "the connection to the database was lost during the write, so its outcome is unknown."
        " Send it again with the same id: it will be stored once."
    )
