"""The health listener: threads that serve no visitor respond to health checks.

If health checks waited behind visitors, a busy server would miss them and lose its traffic to the
others, until all are out of rotation. So systemd passes a second socket, and two threads of each
gunicorn process respond there with the application's own /healthz. They also notice what visitors
would: a process that does not run, an accept loop that hangs, threads that are all stuck. Processes
see each other's state on a board in shared memory, so one that hangs fails the whole server.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

LISTENERS = 2
"""Threads of a process; one may wait for a slow client."""
CLIENT_SECONDS = 1.0
"""Timeout of a client of the listener."""

TICK_SECONDS = 0.2
"""How often a process writes its state."""
SILENT_SECONDS = 1.3
"""A process that has not written for so long does not run."""
STUCK_SECONDS = 1.6
"""All threads are busy, and none has begun or ended a request for so long; reads take less."""
LOOP_SECONDS = 1.8
"""Age of the heartbeat of gunicorn's accept loop, which beats every second."""

PATHS = ("/healthz", "/healthz/write")
_FIRST_FD = 3
_NAME = "health"
_MAX_PROCESSES = 64
_STARTING = float("inf")
_log = logging.getLogger(__name__)


def take_socket(environ: dict[str, str] | os._Environ[str]) -> socket.socket | None:
    """Take the socket called "health" that systemd passed, before gunicorn uses it for visitors.

    The variables are described in sd_listen_fds_with_names(3).
    """
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if environ.get("LISTEN_PID") != str(os.getpid()) or _NAME not in names:
        return None
    place, last = _FIRST_FD + names.index(_NAME), _FIRST_FD + len(names) - 1
    taken = socket.socket(fileno=os.dup(place))
    taken.setblocking(True)
    # The others stay numbered without a gap.
    os.dup2(last, place)
    names[place - _FIRST_FD] = names[-1]
    environ["LISTEN_FDS"] = str(len(names) - 1)
    environ["LISTEN_FDNAMES"] = ":".join(names[:-1])
    return taken


class Activity:
    """Which requests a process serves, and when the last one began or ended.

    `read_seconds` and `write_seconds`: without progress for so long, busy threads are stuck.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        read_seconds: float = STUCK_SECONDS,
        write_seconds: float = STUCK_SECONDS,
    ) -> None:
        self._clock = clock
        self._seconds = (read_seconds, write_seconds)
        self._lock = threading.Lock()
        self._busy = [0, 0]
        self._changed = clock()

    def begin(self, *, write: bool = False) -> None:
        """A thread begins a request."""
        self._change(1, write)

    def end(self, *, write: bool = False) -> None:
        """A thread has ended a request."""
        self._change(-1, write)

    @property
    def busy(self) -> int:
        """The number of requests that are served."""
        with self._lock:
            return sum(self._busy)

    def stuck(self, threads: int) -> bool:
        """Whether all threads are busy and none has made progress for too long."""
        with self._lock:
            allowed = self._seconds[self._busy[True] > 0]
            return sum(self._busy) >= threads and self._clock() - self._changed > allowed

    def _change(self, by: int, write: bool) -> None:
        with self._lock:
            self._busy[write] += by
            self._changed = self._clock()


class Board:
    """The state of every process: 0 for none, else its last tick, negative when it is stuck."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # One double per process, shared with the processes that are forked later.
        self._ticks = memoryview(mmap.mmap(-1, 8 * _MAX_PROCESSES)).cast("d")
        self._clock = clock

    def claim(self) -> int:
        """Return a free place; -1 if there is none."""
        free = (place for place, tick in enumerate(self._ticks) if tick == 0)
        place = next(free, -1)
        if place >= 0:
            self._ticks[place] = _STARTING
        return place

    def write(self, place: int, *, stuck: bool) -> None:
        """Record that a process runs."""
        if place >= 0:
            self._ticks[place] = -self._clock() if stuck else self._clock()

    def release(self, place: int) -> None:
        """Forget a process that has exited."""
        if place >= 0:
            self._ticks[place] = 0

    def problem(self) -> str:
        """Return why the server is not healthy, or an empty string."""
        now = self._clock()
        for tick in self._ticks:
            if tick < 0:
                return "all threads of a process are stuck"
            if tick and now - tick > SILENT_SECONDS:
                return "a process does not run"
        return ""


class Listener:
    """Responds on the health socket in one process."""

    def __init__(
        self,
        listening: socket.socket,
        wsgi: Callable[..., Iterable[bytes]],
        board: Board,
        tls: ssl.SSLContext | None,
        paths: Sequence[str] = PATHS,
    ) -> None:
        self._listening = listening
        self._paths = paths
        self._wsgi = wsgi
        self._board = board
        self._tls = tls
        # What wsgiref's handler reads of its server.
        self.base_environ = {
            "SERVER_NAME": "health",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PORT": "0",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
        }

    def get_app(self) -> Callable[..., Iterable[bytes]]:
        """Return the WSGI application, for wsgiref's handler."""
        return self._respond

    def start(self) -> None:
        """Start the threads."""
        for _ in range(LISTENERS):
            threading.Thread(target=self._serve, name="health", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                _log.exception("the health socket cannot be used")
                return
            try:
                with connection:
                    connection.settimeout(CLIENT_SECONDS)
                    if self._tls is None:
                        _Handler(connection, ("", 0), self)  # type: ignore[arg-type]
                    else:
                        with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                            _Handler(encrypted, ("", 0), self)  # type: ignore[arg-type]
            except OSError:
                continue  # the client has gone
            except Exception:
                _log.exception("a health check failed")

    def _respond(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("PATH_INFO") not in self._paths:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"health checks only\n"]
        problem = self._board.problem()
        if not problem:
            return self._wsgi(environ, start_response)
        start_response("503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps({"status": "unfit", "error": problem}).encode()]


class _Handler(WSGIRequestHandler):
    """One request per connection, without a log line."""

    timeout = CLIENT_SECONDS

    def address_string(self) -> str:
        """A client on a Unix socket has no address."""
        return ""

    def log_message(self, format: str, *args: object) -> None:
        """Nginx and the application log what matters."""


def tick(
    board: Board, place: int, activity: Activity, threads: int, loop_age: Callable[[], float]
) -> None:
    """Write the state of this process, again and again; call it in a thread of its own."""
    while True:
        board.write(place, stuck=activity.stuck(threads) or loop_age() > LOOP_SECONDS)
        time.sleep(TICK_SECONDS)


class Supervisor:
    """The health of all processes: gunicorn's master makes one, and the hooks call its methods."""

    def __init__(self, listening: socket.socket | None, activity: Activity) -> None:
        self.activity = activity
        self._listening = listening
        self._board = Board()

    def pre_fork(self, worker: Any) -> None:
        """Give a new process its place on the board."""
        worker.health = self
        worker.health_place = self._board.claim()

    def child_exit(self, worker: Any) -> None:
        """Forget a process that has exited."""
        self._board.release(worker.health_place)

    def start(
        self,
        worker: Any,
        wsgi: Callable[..., Iterable[bytes]],
        *,
        paths: Sequence[str] = PATHS,
        beats: bool = True,
    ) -> None:
        """Start the health listener of a process that has loaded the application.

        Args:
            paths: what it responds to.
            beats: whether gunicorn's accept loop beats also while requests are served.
        """
        if self._listening is None:
            return
        tls = None
        if worker.cfg.certfile:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(worker.cfg.certfile, worker.cfg.keyfile)

        def loop_age() -> float:
            return float(time.monotonic() - worker.tmp.last_update()) if beats else 0.0

        args = (self._board, worker.health_place, self.activity, worker.cfg.threads, loop_age)
        threading.Thread(target=tick, args=args, name="tick", daemon=True).start()
        Listener(self._listening, wsgi, self._board, tls, paths).start()
