"""A few open sessions to one server, kept between requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from foobar.session import DuplicateError, LostError, ReadOnlyError, RefusedError, Session

KEPT = 5
"""Sessions kept: one for each of gunicorn's four threads and one for the watch."""
OLDEST_SECONDS = 300.0
"""Sessions older than this are closed, far below MySQL's wait_timeout of eight hours."""

T = TypeVar("T")


class Pool:
    """Lends sessions to one server to one thread at a time."""

    def __init__(
        self,
        open_session: Callable[[], Session],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty.

        Args:
            open_session: makes a new session; may raise `LostError` or `RefusedError`.
            clock: seconds, rising.
        """
        self._open = open_session
        self._clock = clock
        self._idle: list[Session] = []
        self._lock = threading.Lock()

    def run(self, work: Callable[[Session], T]) -> T:
        """Do some work with a session and return what it returns.

        A kept session may have died since it was last used (MySQL was restarted). When that
        shows before any change was sent, all kept sessions are dropped and the work is done once
        more with a new one. Silence of the server is not repeated: it would double the wait.

        Args:
            work: takes a session, sends statements, returns a value.

        Raises:
            SessionError: as raised by the work, or because no session could be opened.
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
        """Close all kept sessions."""
        with self._lock:
            dropped, self._idle = self._idle, []
        for session in dropped:
            session.close()

    def _take(self) -> Session | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                session = self._idle.pop()
            if self._clock() - session.opened < OLDEST_SECONDS:
                return session
            session.close()

    def _lend(self, session: Session, work: Callable[[Session], T]) -> T:
        sound = False
        try:
            result = work(session)
            sound = True
        except (DuplicateError, ReadOnlyError, RefusedError):
            sound = True
            raise
        finally:
            if not (sound and self._keep(session)):
                session.close()
        return result

    def _keep(self, session: Session) -> bool:
        with self._lock:
            if len(self._idle) < KEPT:
                self._idle.append(session)
                return True
        return False
