"""A server becomes the primary."""

from __future__ import annotations

from collections.abc import Callable

from provision.database.agent.relay_log import apply_relay_log, stop_receiver
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.session import MysqlSession, connect_local
from provision.database.agent.write_access import check_write_access, make_writable
from provision.engine.agent.process import AgentError, run
from provision.engine.agent.waiting import AgentTimeoutError, wait_until

START_SECONDS = 60.0
"""How long mysqld may take to accept connections after a start."""

GUARD_SECONDS = 15.0
"""How long the guard may take to make the server writable."""


def become_primary(
    session: MysqlSession,
    record: RoleRecord,
    seconds: float,
    dead: tuple[str, ...] = (),
    permitted: Callable[[], bool] = lambda: True,
) -> None:
    """Apply the relay log, stop replicating, and make the server writable.

    Args:
        seconds: for applying the relay log.
        dead: peers that are known not to run; they are not queried.
        permitted: see `write_access.make_writable`.

    Raises:
        AgentError: when a peer objects (see `write_access`), or applying takes too long. Nothing
            was changed then.
    """
    verdict = check_write_access(session, record, silent_peers_safe=True, dead=dead)
    if verdict.access != "grant":
        raise AgentError(
            f"{record.machine} is recorded as primary, but is not made writable: {verdict.reason}; "
            "invoke db.status shows all databases, invoke db.promote MACHINE makes one the primary"
        )
    if session.query("SHOW REPLICA STATUS"):
        stop_receiver(session)
        apply_relay_log(session, seconds)
        session.query("STOP REPLICA")
        session.query("RESET REPLICA ALL")
    make_writable(session, record, permitted)


def wait_until_writable() -> None:
    """Wait until the guard has made this server writable: with automatic failover only it does so.

    Raises:
        AgentError: when it does not, because it has no lease or a peer objects.
    """

    def writable() -> bool:
        with connect_local(30.0, wait=START_SECONDS) as session:
            return session.value("SELECT @@global.read_only") == "0"

    try:
        wait_until(writable, GUARD_SECONDS, "lab-autopromote.service", interval=0.05)
    except AgentTimeoutError:
        journal = ["journalctl", "-u", "lab-autopromote", "-o", "cat", "-n", "5", "--no-pager"]
        raise AgentError(
            "automatic failover is on, and the guard does not make this database writable: "
            "neither the witness nor the replica grants a lease (invoke db.autopromote status)",
            run(journal).stdout,
        ) from None
