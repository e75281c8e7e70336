"""Which database servers answer, and which of them takes writes: asked often, remembered shortly.

No request waits for a server that is known to be silent; it is asked again beside the requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from foobar.session import LostError, Session, SessionError

PATIENCE_SECONDS = 0.4
"""How long a request waits for the servers' answers before it goes on without them."""
FRESH_SECONDS = 1.0
"""How long an answer is used before the server is asked again."""

FORGOTTEN_SECONDS = 3.0
"""Age from which it no longer counts that a server was down: a request waits for it again."""
JUST_DOWN_SECONDS = 0.25
"""How long even a request that insists does not ask again a server that was found down."""

_ROLE = "SELECT @@global.super_read_only, @@global.read_only, EXISTS(SELECT 1 FROM notes)"

_log = logging.getLogger(__name__)


def is_writable(session: Session) -> bool:
    """Ask a server whether it takes writes; also proves that the notes can be read.

    Both variables can be read without any privilege (MySQL 9.7 manual, "System Variable
    Privileges").

    Args:
        session: a session to the server.
    """
    super_read_only, read_only, _ = session.ask(_ROLE, seconds=PATIENCE_SECONDS)[0]
    return not (int(super_read_only) or int(read_only))


@dataclass(frozen=True)
class Health:
    """What one server last showed of itself."""

    server: str
    up: bool = False
    writable: bool = False
    error: str | None = None
    checked: float = float("-inf")

    @property
    def state(self) -> str:
        """One of "primary", "replica" and "down"."""
        if not self.up:
            return "down"
        return "primary" if self.writable else "replica"


@dataclass(frozen=True)
class View:
    """What is known of all servers at one moment."""

    servers: tuple[Health, ...]

    @property
    def writable(self) -> tuple[str, ...]:
        """Names of the servers that take writes; more than one is a split brain."""
        return tuple(each.server for each in self.servers if each.writable)

    @property
    def primary(self) -> str | None:
        """The one server that takes writes, or None when there is none or more than one."""
        return self.writable[0] if len(self.writable) == 1 else None

    def up(self, server: str) -> bool:
        """Say whether the server of that name answers."""
        return any(each.server == server and each.up for each in self.servers)

    def state(self, server: str) -> str:
        """Return "primary", "replica" or "down" for the server of that name."""
        return next((each.state for each in self.servers if each.server == server), "down")


class Watch:
    """Remembers the health of each server and asks again when the memory is too old."""

    def __init__(
        self,
        probes: Mapping[str, Callable[[], bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know nothing yet.

        Args:
            probes: for each server's name, a function that asks it whether it takes writes and
                raises SessionError when it does not answer.
            clock: seconds, rising.
        """
        self._probes = dict(probes)
        self._clock = clock
        self._lock = threading.Lock()
        self._health = {name: Health(name) for name in probes}
        self._asked: dict[str, tuple[float, Future[None]]] = {}
        # At most one question to a server is under way, so a free thread is always there.
        self._threads = ThreadPoolExecutor(len(self._probes), thread_name_prefix="watch")

    def view(self, fresh: float = FRESH_SECONDS, *, insist: bool = False) -> View:
        """Return what is known, after asking the servers whose last answer is too old.

        Args:
            fresh: greatest age of an answer in seconds.
            insist: ask all servers now, whatever `fresh` says, and wait for those believed
                down, too.

        Returns:
            The view, after PATIENCE_SECONDS at most.
        """
        now = self._clock()
        with self._lock:
            known = dict(self._health)
        none_up = not any(each.up for each in known.values())
        awaited: list[Future[None]] = []
        ends = now
        for name, health in known.items():
            enough = (0.0 if health.up else JUST_DOWN_SECONDS) if insist else fresh
            if now - health.checked < enough:
                continue
            started, answer = self._ask(name, now)
            if insist or health.up or none_up or now - health.checked > FORGOTTEN_SECONDS:
                awaited.append(answer)
                ends = max(ends, started + PATIENCE_SECONDS)
        wait(awaited, timeout=max(0.0, ends - self._clock()))
        self._give_up_on_silent(self._clock())
        with self._lock:
            return View(tuple(self._health[name] for name in self._probes))

    def lost(self, server: str, error: Exception) -> None:
        """Remember that a server could not be used.

        Args:
            server: the server's name.
            error: what happened.
        """
        # One that is gone, not silent, answers quickly when asked again: it may be back.
        silent = isinstance(error, LostError) and error.timed_out
        checked = self._clock() - (0.0 if silent else JUST_DOWN_SECONDS)
        self._note(Health(server, error=str(error), checked=checked))

    def _ask(self, name: str, now: float) -> tuple[float, Future[None]]:
        with self._lock:
            asked = self._asked.get(name)
            if asked is None or asked[1].done():
                asked = (now, self._threads.submit(self._probe, name))
                self._asked[name] = asked
            return asked

    def _probe(self, name: str) -> None:
        try:
            writable = self._probes[name]()
        except SessionError as error:
            self.lost(name, error)
        else:
            self._note(Health(name, up=True, writable=writable, checked=self._clock()))

    def _give_up_on_silent(self, now: float) -> None:
        with self._lock:
            silent = [
                name
                for name, (started, answer) in self._asked.items()
                if not answer.done()
                and now - started >= PATIENCE_SECONDS
                and self._health[name].checked < started
            ]
        for name in silent:
            words = f"no answer within {PATIENCE_SECONDS:g} s"
            self._note(Health(name, error=words, checked=now))

    def _note(self, health: Health) -> None:
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
