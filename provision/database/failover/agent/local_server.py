"""The mysqld on a guard's machine: its identity and its status."""

from __future__ import annotations

import os
from dataclasses import dataclass

from provision.database.agent.relay_log import relay_log_generation
from provision.database.agent.server_status import ServerStatus
from provision.database.agent.session import SOCKET, MysqlSession
from provision.database.agent.status_query import read_server_status


@dataclass(frozen=True)
class LocalServer:
    """The local mysqld; see `server_identity`."""

    identity: str
    status: ServerStatus

    @property
    def receiving(self) -> bool:
        """Whether the receiver thread is connected to the source."""
        replica = self.status.replica
        return replica is not None and replica.io_running == "Yes"


def server_identity() -> str:
    """Names the running mysqld and the content of its relay log; empty without a mysqld."""
    try:
        socket = os.stat(SOCKET)
    except OSError:
        return ""
    return f"{socket.st_ino}-{socket.st_mtime_ns}-{relay_log_generation()}"


def read_local_server(session: MysqlSession) -> LocalServer:
    """The identity, read before the status so that a restart in between is detected later.

    Raises:
        MysqlError: when mysqld does not respond.
    """
    identity = server_identity()
    return LocalServer(identity, read_server_status(session))
