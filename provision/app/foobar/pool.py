"""A pool of sessions to one server, reused between requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from foobar.session import (
    DatabaseSession,
    DuplicateError,
    LostError,
    ReadOnlyError,
    StatementError,
)

MAX_AGE_SECONDS = 300.0
"""Sessions older than this are closed, far below MySQL's wait_timeout of eight hours."""

T = TypeVar("T")


class Pool:
    """Gives each session to one thread at a time."""

    def __init__(
        self,
        open_session: Callable[[], DatabaseSession],
        kept: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without sessions.

        Args:
            kept: sessions that stay open while they are idle.
        """
        self._open = open_session
        self._kept = kept
        self._clock = clock
        self._idle: list[DatabaseSession] = []
        self._lock = threading.Lock()

    def run(self, work: Callable[[DatabaseSession], T]) -> T:
        """Call `work` with a session and return its result.

        A pooled session may have been closed by the server (MySQL was restarted). If that is
        detected before a change was sent, the pool is cleared and `work` is retried with a new
        session. A timeout is not retried: it would double the wait.

        Raises:
            SessionError: raised by `work`, or because no session could be opened.
        """
        session = self._take()
        if session is not None:
            try:
                return self._lend(session, work)
            except LostError as loss:
                if loss.timed_out or loss.changing:
                    raise
                self.clear()
        return self._lend(self._open(), work)

    def clear(self) -> None:
        """Close all pooled sessions."""
        with self._lock:
            dropped, self._idle = self._idle, []
        for session in dropped:
            session.close()

    def _take(self) -> DatabaseSession | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                session = self._idle.pop()
            if self._clock() - session.opened < MAX_AGE_SECONDS:
                return session
            session.close()

    def _lend(self, session: DatabaseSession, work: Callable[[DatabaseSession], T]) -> T:
        usable = False
        try:
            result = work(session)
            usable = True
        except (DuplicateError, ReadOnlyError, StatementError):
            usable = True
            raise
        finally:
            if not (usable and self._keep(session)):
                session.close()
        return result

    def _keep(self, session: DatabaseSession) -> bool:
        with self._lock:
            if len(self._idle) < self._kept:
                self._idle.append(session)
                return True
        return False
