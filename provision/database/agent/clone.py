"""Replace all data of a server by a clone of the primary's (the manual, "Cloning Remote Data")."""

from __future__ import annotations

import time

from provision.database.agent.primary import START_SECONDS
from provision.database.agent.relay_log import start_new_generation
from provision.database.agent.replica import query_primary
from provision.database.agent.requests import ReplicationAccount
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.session import MysqlError, MysqlSession, connect_local
from provision.database.agent.status_query import read_server_status
from provision.engine.agent.process import AgentError, Log, run
from provision.engine.agent.waiting import wait_until

CLONE_SECONDS = 900.0

SESSION_LOST = (0, 2006, 2013, 3707)
"""Errors of a session whose server restarts after cloning; 0 for a closed socket."""

DONOR_BUSY = ": 3634 :"
"""In an error of CLONE: the donor serves one recipient at a time
(ER_CLONE_TOO_MANY_CONCURRENT_CLONES)."""


def clone_primary(record: RoleRecord, account: ReplicationAccount, log: Log) -> None:
    """Clone the primary; mysqld restarts under systemd and is read-only afterwards.

    Raises:
        AgentError: when the primary does not respond, or cloning fails.
        MysqlError: when the server does not come back.
    """
    primary = query_primary(record)
    started = time.monotonic()
    log(f"cloning the data of {record.primary}")
    with connect_local(CLONE_SECONDS, wait=START_SECONDS) as session:
        uuid = session.value("SELECT @@global.server_uuid")
        start_new_generation()
        if session.query("SHOW REPLICA STATUS"):
            session.query("STOP REPLICA")
            session.query("RESET REPLICA ALL")
        pid = _mysqld_pid()
        session.query("SET GLOBAL clone_valid_donor_list = %s", [f"{record.primary_address}:3306"])
        # CLONE drops the local data, which super_read_only refuses (error 1290); read_only stays.
        session.query("SET GLOBAL super_read_only = OFF")
        _clone(session, record, account, started + CLONE_SECONDS, log)
    wait_until(
        lambda: _mysqld_pid() not in (pid, "0", ""),
        START_SECONDS,
        "mysqld to restart after the clone",
    )
    # The restart belongs to the clone: it is not one of a server that crashes.
    run(["systemctl", "reset-failed", "mysql.service"])
    with connect_local(30.0, wait=START_SECONDS) as session:
        own = read_server_status(session)
        lacking = primary.executed - own.executed
        if lacking or own.epoch == 0 or own.uuid == primary.uuid:
            raise AgentError(
                f"after the clone the server lacks {lacking or 'the data of the lab'}",
                f"server_uuid before: {uuid}, after: {own.uuid}",
            )
        session.query("SET GLOBAL super_read_only = ON")
    log(f"cloned in {time.monotonic() - started:.1f} s")


def _clone(
    session: MysqlSession,
    record: RoleRecord,
    account: ReplicationAccount,
    deadline: float,
    log: Log,
) -> None:
    """Run CLONE; a donor that is busy is tried again. The session is lost on success."""
    while True:
        try:
            session.query(
                "CLONE INSTANCE FROM %s@%s:3306 IDENTIFIED BY %s REQUIRE SSL",
                [account.user, record.primary_address, account.password],
            )
            return
        except MysqlError as error:
            if error.code in SESSION_LOST:
                return
            if DONOR_BUSY not in error.text or time.monotonic() > deadline:
                session.query("SET GLOBAL super_read_only = ON")
                text = str(error).replace(account.password, "********")
                raise AgentError("cloning failed; the server keeps its data", text) from None
        log(f"waiting for {record.primary}: another server is cloning it")
        time.sleep(1)


def _mysqld_pid() -> str:
    """The process ID of mysqld, from systemd."""
    return run(["systemctl", "show", "-P", "MainPID", "mysql.service"]).stdout.strip()
