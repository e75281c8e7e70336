"""Configuration of gunicorn: `gunicorn -c gunicorn.conf.py 'foobar:create_app()'`.

Eight concurrent requests (2 processes with 4 threads) suit one or two cores, because requests
mostly wait for MySQL; each process has its own connection pool (foobar/pool.py).
Setting names: gunicorn's "Settings" reference.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

bind = "unix:/run/foobar/gunicorn.sock"
worker_class = "gthread"
workers = 2
threads = 4

# Requests are limited by the timeouts in foobar/session.py, far below this.
timeout = 30
graceful_timeout = 20
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
