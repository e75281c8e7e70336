"""Configuration of gunicorn: `gunicorn -c gunicorn.conf.py 'foobar:create_app()'`.

FOOBAR_WORKERS processes with FOOBAR_THREADS threads serve requests (provision/core/capacity.py).
Each process has its own connection pool (foobar/pool.py) and health listener (foobar/health.py).
Setting names: gunicorn's "Settings" reference.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

bind = "unix:/run/foobar/gunicorn.sock"
worker_class = "gthread"
workers = int(os.environ.get("FOOBAR_WORKERS", "1"))
threads = int(os.environ.get("FOOBAR_THREADS", "1"))

# A process whose accept loop hangs is killed; requests have their own timeouts (foobar/session.py).
timeout = 30
graceful_timeout = int(os.environ.get("FOOBAR_STOP_SECONDS", "12"))
keepalive = 5

# The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm"

# Only Nginx can open the socket (by the mode of its directory), and only it sets the headers.
forwarded_allow_ips = "*"

limit_request_line = 4094
limit_request_fields = 60
limit_request_field_size = 8190

# Nginx logs requests; errors go to standard error and thus to the journal.
accesslog = None
errorlog = "-"
loglevel = "info"


def on_starting(server: Any) -> None:
    """Exit with one message if a setting is invalid, before any worker starts."""
    from foobar.settings import SettingsError, from_environment

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        from_environment(os.environ)
    except SettingsError as error:
        sys.exit(str(error))

    from foobar import health

    server.health = health.Supervisor(health.take_socket(os.environ), health.Activity())


def pre_fork(server: Any, worker: Any) -> None:
    """A new process begins."""
    server.health.pre_fork(worker)


def child_exit(server: Any, worker: Any) -> None:
    """A process has exited."""
    server.health.child_exit(worker)


def post_worker_init(worker: Any) -> None:
    """A process has loaded the application; it accepts visitors when this returns."""
    from foobar.context import EXTENSION

    worker.wsgi.extensions[EXTENSION].store.warm_up()
    worker.health.start(worker, worker.wsgi)


def pre_request(worker: Any, _request: Any) -> None:
    """A thread begins a request."""
    worker.health.activity.begin()


def post_request(worker: Any, _request: Any, _environ: Any, _response: Any) -> None:
    """A thread has ended a request."""
    worker.health.activity.end()
