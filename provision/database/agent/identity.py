"""A server's own server_uuid: a copied data directory has the one of its original."""

from __future__ import annotations

import contextlib
import os

from provision.database.agent.primary import START_SECONDS
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.session import connect_local
from provision.database.agent.status_query import query_peers
from provision.engine.agent.process import Log
from provision.engine.agent.services import activate

UUID_FILE = "/var/lib/mysql/auto.cnf"
SERVICE = "mysql.service"


def ensure_own_uuid(record: RoleRecord, log: Log) -> None:
    """Get a new server_uuid when the primary has the same one: replication refuses that.

    mysqld generates it at the start without auto.cnf (the manual, "server_uuid").
    """
    with connect_local(30.0, wait=START_SECONDS) as session:
        own = session.value("SELECT @@global.server_uuid")
    primary = query_peers({record.primary: record.primary_address}, 2.0)[record.primary]
    if not primary.up or primary.uuid != own:
        return
    log(f"a new server_uuid: {record.primary} has the same one")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(UUID_FILE)
    activate(SERVICE, "restart", log)
