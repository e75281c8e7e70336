"""Configuration of gunicorn for an application of the user's own; includes its gunicorn.conf.py.

It adds the guest book's health listener (provision/app/foobar/health.py, beside this file on a
machine): threads that serve no visitor respond to health checks. gunicorn calls the functions, and
reads all other names as settings ("Settings" in its documentation).
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import runpy
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

OWN = "gunicorn.conf.py"
LOCK_SECONDS = 0.3
"""How long a health check waits for the only thread of a process; then it is busy, and healthy."""

Wsgi = Callable[..., Iterable[bytes]]

_own: dict[str, Any] = runpy.run_path(OWN) if os.path.exists(OWN) else {}
globals().update({name: value for name, value in _own.items() if not name.startswith("_")})
if not _own:
    worker_class = "gthread"
    timeout = 30
    worker_tmp_dir = "/dev/shm"
    forwarded_allow_ips = "*"
    graceful_timeout = int(os.environ["LAB_STOP_SECONDS"])


def _load_health() -> Any:
    # By its path: the application may have a module of the same name.
    spec = importlib.util.spec_from_file_location(
        "lab_health", Path(__file__).with_name("health.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _theirs(name: str, *arguments: Any) -> None:
    """Call the application's own hook, which may leave out the last arguments of some hooks."""
    hook = _own.get(name)
    if hook is not None:
        hook(*arguments[: len(inspect.signature(hook).parameters)])


def _is_write(request: Any) -> bool:
    return request.method not in ("GET", "HEAD", "OPTIONS")


class SerialApplication:
    """An application whose process serves one request at a time, which a health check respects."""

    def __init__(self, wsgi: Wsgi, lock: threading.Lock) -> None:
        self._wsgi, self._lock = wsgi, lock

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Respond to a health check; a process that serves a visitor is healthy."""
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"busy\n"]
        try:
            response = self._wsgi(environ, start_response)
            try:
                return list(response)
            finally:
                getattr(response, "close", lambda: None)()
        finally:
            self._lock.release()


def on_starting(server: Any) -> None:
    """Take the socket for health checks before gunicorn uses it for visitors."""
    health = _load_health()
    seconds = (float(os.environ[f"LAB_{kind}_SECONDS"]) for kind in ("READ", "WRITE"))
    activity = health.Activity(read_seconds=next(seconds), write_seconds=next(seconds))
    server.health = health.Supervisor(health.take_socket(os.environ), activity)
    _theirs("on_starting", server)


def pre_fork(server: Any, worker: Any) -> None:
    """A new process begins."""
    server.health.pre_fork(worker)
    worker.health_lock = threading.Lock()
    _theirs("pre_fork", server, worker)


def child_exit(server: Any, worker: Any) -> None:
    """A process has exited."""
    server.health.child_exit(worker)
    _theirs("child_exit", server, worker)


def post_worker_init(worker: Any) -> None:
    """A process has loaded the application."""
    _theirs("post_worker_init", worker)
    serial = worker.cfg.threads == 1
    wsgi = SerialApplication(worker.wsgi, worker.health_lock) if serial else worker.wsgi
    path = unquote(os.environ["LAB_HEALTH"].partition("?")[0], "iso-8859-1")  # as in PATH_INFO
    # A worker of another class beats only between requests.
    beats = any(base.__name__ == "ThreadWorker" for base in type(worker).__mro__)
    worker.health.start(worker, wsgi, paths=(path,), beats=beats)


def pre_request(worker: Any, request: Any) -> None:
    """A thread begins a request."""
    if worker.cfg.threads == 1:
        worker.health_lock.acquire()
    worker.health.activity.begin(write=_is_write(request))
    _theirs("pre_request", worker, request)


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:
    """A thread has ended a request."""
    worker.health.activity.end(write=_is_write(request))
    if worker.cfg.threads == 1:
        worker.health_lock.release()
    _theirs("post_request", worker, request, environ, response)
