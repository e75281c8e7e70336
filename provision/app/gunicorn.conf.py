"""How gunicorn serves the app: `gunicorn -c gunicorn.conf.py 'foobar:create_app()'`.

Eight requests at a time (2 processes of 4 threads) suit a machine of one or two cores whose
requests mostly wait for MySQL; each process keeps its own few connections (foobar/pool.py).
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

# A worker that gives no sign of life for 30 s is replaced. Requests are bounded by the time-outs
# in foobar/session.py, far below this.
timeout = 30
graceful_timeout = 20
keepalive = 5

# The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm"

# Only Nginx can open the socket (the directory's mode says so), and only it sets the headers.
forwarded_allow_ips = "*"

limit_request_line = 4094
limit_request_fields = 60
limit_request_field_size = 8190

# Nginx keeps the access log; errors go to standard error and so to the journal.
accesslog = None
errorlog = "-"
loglevel = "info"


def on_starting(server: Any) -> None:
    """Refuse to start with one message when a setting is wrong, before any worker is made.

    Args:
        server: gunicorn's arbiter, unused.
    """
    from foobar.settings import SettingsError, from_environment

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        from_environment(os.environ)
    except SettingsError as error:
        sys.exit(str(error))
