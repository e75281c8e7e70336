"""Operations that change a server's role; the controller orders them.

After each of them the next command, or lab.up, can continue. What must survive a reboot is in the
machine's record before the server is changed.
"""

from __future__ import annotations

import time

from provision.database.agent import primary, relay_log, requests
from provision.database.agent.clone import clone_primary
from provision.database.agent.gtid import GtidSet
from provision.database.agent.identity import ensure_own_uuid
from provision.database.agent.replica import attach, query_primary, try_replicate
from provision.database.agent.requests import Done
from provision.database.agent.results import CatchUpResult, ErrantTransactions, ServerInspection
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.role_store import load_record, role_lock, save_record
from provision.database.agent.session import MysqlError, MysqlSession, connect_local
from provision.database.agent.status_query import query_local, query_peers, read_server_status
from provision.database.agent.write_access import failover_enabled, make_read_only, refuse_writes
from provision.engine.agent.codec import decode
from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log, run
from provision.engine.agent.registry import Args, action, operation
from provision.engine.agent.services import activate, is_active

SERVICE = "mysql.service"
DATA = "/var/lib/mysql"
DEAD_SECONDS = 0.4
"""How long a server that should be dead may take to respond after all."""


@operation("mysql.inspect")
def inspect(args: Args, log: Log) -> ServerInspection:
    """See `Inspect`."""
    request = decode(requests.Inspect, args)
    peers = query_peers(request.peers, DEAD_SECONDS)
    return ServerInspection(request.machine, query_local(), peers, load_record())


@operation("mysql.fence")
def fence(args: Args, log: Log) -> GtidSet:
    """See `Fence`; when the server does not respond, its previous record is restored."""
    log("refusing writes")
    with role_lock():
        previous = load_record()
        save_record(decode(requests.Fence, args).record)
        try:
            with connect_local(30.0) as session:
                refuse_writes(session)
                return GtidSet(session.value("SELECT @@global.gtid_executed"))
        except MysqlError:
            if previous:
                save_record(previous)
            raise


@operation("mysql.fence_dead_primary")
def fence_dead_primary(args: Args, log: Log) -> Done:
    """See `FenceDeadPrimary`."""
    log("keeping the old primary stopped")
    with role_lock():
        save_record(decode(requests.FenceDeadPrimary, args).record)
    # The stop job comes first, so that systemd does not restart the killed process. A plain stop
    # would wait a minute for a server that hangs; InnoDB recovers from a kill.
    run(["systemctl", "--no-block", "stop", SERVICE])
    run(["systemctl", "kill", "--signal=KILL", SERVICE])
    result = run(["systemctl", "stop", SERVICE], timeout=90)
    if not result.ok:
        raise AgentError("mysqld cannot be stopped", result.stderr)
    return Done()


@operation("mysql.catch_up")
def catch_up(args: Args, log: Log) -> CatchUpResult:
    """See `CatchUp`."""
    request = decode(requests.CatchUp, args)
    gtids, deadline = request.gtids, time.monotonic() + request.seconds
    with connect_local(30.0) as session:
        while session.value("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 1)", [gtids.text]) != "0":
            error = relay_log.applier_error(session)
            if error or time.monotonic() > deadline:
                executed = GtidSet(session.value("SELECT @@global.gtid_executed"))
                return CatchUpResult(gtids - executed, error)
    return CatchUpResult(GtidSet())


@operation("mysql.apply_relay_log")
def apply_relay_log(args: Args, log: Log) -> Done:
    """See `ApplyRelayLog`."""
    request = decode(requests.ApplyRelayLog, args)
    with connect_local(30.0) as session:
        if not session.query("SHOW REPLICA STATUS"):
            return Done()
        log("applying the relay log")
        relay_log.stop_receiver(session)
        try:
            relay_log.apply_relay_log(session, request.seconds)
        except AgentError:
            session.query("START REPLICA")
            raise
    return Done()


@operation("mysql.become_primary")
def become_primary(args: Args, log: Log) -> Done:
    """See `BecomePrimary`; with automatic failover the guard makes the server writable."""
    request = decode(requests.BecomePrimary, args)
    log("becoming primary")
    with role_lock():
        save_record(request.record)
        if not failover_enabled():
            with connect_local(30.0, wait=5.0) as session:
                primary.become_primary(session, request.record, request.seconds, request.dead)
            return Done()
    primary.wait_until_writable()
    return Done()


@action("mysql_role")
def assume_recorded_role(args: Args, journal: Journal, log: Log) -> None:
    """A step of a unit whose other step has written the record (see `AssumeRole`)."""
    assume_saved_role(decode(requests.AssumeRole, args), log)


@operation("mysql.assume_role")
def assume_role(args: Args, log: Log) -> Done:
    """See `AssumeRole`."""
    request = decode(requests.AssumeRole, args)
    with role_lock():
        save_record(request.record)
    start_server(log)
    assume_saved_role(request, log)
    return Done()


def assume_saved_role(request: requests.AssumeRole, log: Log) -> None:
    """Become what the record says, which is saved on this machine already (see `AssumeRole`)."""
    record = request.record
    log(f"database: {'primary' if record.is_primary else 'replica'}")
    if record.is_primary and failover_enabled():
        primary.wait_until_writable()
        return
    with role_lock():
        if not record.is_primary:
            ensure_own_uuid(record, log)
        with connect_local(30.0, wait=primary.START_SECONDS) as session:
            if record.is_primary:
                primary.become_primary(session, record, request.seconds)
                return
            if try_replicate(session, record, request.account, log):
                return
        _clone_and_attach(request, log)


@operation("mysql.rebuild")
def rebuild(args: Args, log: Log) -> Done:
    """See `Rebuild`."""
    rebuild_replica(decode(requests.Rebuild, args), log)
    return Done()


def rebuild_replica(request: requests.Rebuild, log: Log) -> None:
    """Clone the primary and replicate from it, whatever the server has (see `Rebuild`)."""
    start_server(log)
    with role_lock():
        save_record(request.record)
        with connect_local(30.0, wait=primary.START_SECONDS) as session:
            make_read_only(session)
        _clone_and_attach(request, log)


def _clone_and_attach(request: requests.AssumeRole | requests.Rebuild, log: Log) -> None:
    clone_primary(request.record, request.account, log)
    with connect_local(30.0, wait=primary.START_SECONDS) as session:
        attach(session, request.record, request.account, log)


@operation("mysql.find_errant")
def find_errant(args: Args, log: Log) -> ErrantTransactions:
    """See `FindErrant`."""
    record = decode(requests.FindErrant, args).record
    with role_lock():
        save_record(record)
    return errant_transactions(record, log)


def errant_transactions(record: RoleRecord, log: Log) -> ErrantTransactions:
    """What this server has and the recorded primary lacks; the server is kept read-only."""
    start_server(log)
    with connect_local(30.0, wait=primary.START_SECONDS) as session:
        make_read_only(session)
        errant = read_server_status(session).executed - query_primary(record).executed
        return ErrantTransactions(errant, binary_logs(session) if errant else ())


def binary_logs(session: MysqlSession) -> tuple[str, ...]:
    """The paths of the server's binary logs, oldest first."""
    return tuple(f"{DATA}/{row['Log_name']}" for row in session.query("SHOW BINARY LOGS"))


def start_server(log: Log) -> None:
    """Start mysqld when it does not run."""
    if not is_active(SERVICE):
        activate(SERVICE, "start", log)
