"""The receiver thread of a replica whose primary is silent.

A dead machine closes no connection: the thread would notice after replica_net_timeout, and then
try to connect for as long, which STOP REPLICA waits for. While it still waits for data, it stops at
once. It is started again when the primary is back.
"""

from __future__ import annotations

import contextlib
import os

from provision.database.agent.session import MysqlSession
from provision.database.failover.agent.rules import RECEIVER_TIMEOUT

MARK = "/run/foobar-lab/receiver-stopped"
"""Exists while the guard has stopped the thread; an operator's STOP REPLICA leaves none."""


def update(session: MysqlSession | None, receiving: bool, silent: float, mark: str = MARK) -> None:
    """Stop or start the thread.

    Args:
        silent: seconds since the last sign of life of the primary.

    Raises:
        MysqlError: when the server does not respond.
    """
    if session is None:
        return
    if receiving and silent > RECEIVER_TIMEOUT:
        with open(mark, "w"):
            pass
        session.query("STOP REPLICA IO_THREAD")
    elif silent < RECEIVER_TIMEOUT / 2 and os.path.exists(mark):
        session.query("START REPLICA IO_THREAD")
        forget(mark)


def forget(mark: str = MARK) -> None:
    """The thread is no longer to be started: this server is the primary now."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)
