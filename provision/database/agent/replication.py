"""On the machine: a server becomes primary or replica, and the steps of a promotion.

What protects the data: a server is made writable only by `mysql_role.make_writable`, after every
peer was asked; a server that has transactions which its source lacks is never attached and never
overwritten here, unless it was never part of the lab or the controller says so.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from provision.database.agent import client as mysql_client
from provision.database.agent import role as mysql_role
from provision.database.agent.client import Client, MysqlError, quote
from provision.database.agent.role import Seen
from provision.engine.agent.core import Failed, Say, run

START_SECONDS = 60.0
THREADS_SECONDS = 15.0
GUARD_SECONDS = 15.0
BACKLOG_SECONDS = 3.0
"""How long an applying thread is watched for an error while it has a backlog."""

CLONE_SECONDS = 900.0
LOST = (2006, 2013, 3707, 0)
"""Errors of a session whose server restarts itself (the manual, "Cloning Remote Data")."""

DONOR_BUSY = "3634"
"""In an error of CLONE: the donor serves one at a time (ER_CLONE_TOO_MANY_CONCURRENT_CLONES)."""

CANNOT_CATCH_UP = (1236, 13114, 13117)
"""Replication's words for a source that no longer holds what the replica needs."""


def assume(args: dict[str, Any], say: Say) -> None:
    """Become what is recorded.

    Args:
        args: ``record`` (see `mysql_role.RECORD`), ``repl`` (``user``, ``password``) and
            ``rejoin``, the command that a person types when transactions are in the way.
        say: reports progress.

    Raises:
        Failed: when that would lose data or make two writable servers.
    """
    record = args["record"]
    say(f"database: {'primary' if record['primary'] == record['machine'] else 'replica'}")
    try:
        with mysql_role.lock():
            with mysql_role.connect(START_SECONDS, 30.0) as client:
                if record["primary"] == record["machine"] and mysql_role.autopromoted():
                    clone_needed = False
                elif record["primary"] == record["machine"]:
                    lead(client, record, args["drain"], say)
                    return
                else:
                    clone_needed = follow(client, args, say)
            if clone_needed:
                clone(args, say)
                with mysql_role.connect(START_SECONDS, 30.0) as client:
                    attach(client, args, say)
        if record["primary"] == record["machine"]:
            led(say)
    except MysqlError as error:
        raise Failed("MySQL refused a step of replication", str(error)) from None


# --- primary -------------------------------------------------------------------------------------


def lead(
    client: Client, record: dict[str, Any], drain: float, say: Say, dead: tuple[str, ...] = ()
) -> None:
    """Become the primary: apply everything that was received, stop replicating, take writes.

    Args:
        client: a local session.
        record: the machine's record, which names it as primary.
        drain: seconds for what was received and not applied yet.
        say: reports progress.
        dead: peers that are known not to run, and not asked.

    Raises:
        Failed: when somebody else takes writes, knows a later promotion, or has transactions of
            third servers, or when the applying takes too long. Nothing was changed then.
    """
    verdict = mysql_role.judge(client, record, sure=True, dead=dead)
    if verdict.what != "assert":
        raise Failed(
            f"{record['machine']} is recorded as primary, but is not made writable: {verdict.why}; "
            "invoke db.status shows all databases, db.promote says which one takes writes"
        )
    if client.query("SHOW REPLICA STATUS"):
        stop_receiving(client)
        apply_received(client, drain, say)
        client.query("STOP REPLICA")
        client.query("RESET REPLICA ALL")
    mysql_role.make_writable(client, record)


def led(say: Say) -> None:
    """Wait until the guard has made this server writable: while autopromotion is on, nobody else.

    Raises:
        Failed: when it does not; it waits for a lease, or something speaks against it.
    """
    say("waiting for lab-autopromote.service to take writes")
    deadline = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < deadline:
        with mysql_role.connect(START_SECONDS, 30.0) as client:
            if client.value("SELECT @@global.read_only") == "0":
                return
        time.sleep(0.05)
    said = run(["journalctl", "-u", "lab-autopromote", "-o", "cat", "-n", "5", "--no-pager"]).out
    raise Failed(
        "automatic promotion is on, and the guard of this database does not let it take writes: "
        "neither the supervisor nor the other database grants it (invoke db.autopromote status)",
        said,
    )


def stop_receiving(client: Client) -> None:
    """Stop the receiving thread, without waiting for its attempt to reach a source that is gone.

    An attempt to connect to a dead machine lasts for replica_net_timeout, and the thread stops only
    after it. Ending the half-open socket (``ss -K``, where the kernel can) ends the attempt.
    """
    source = client.row("SHOW REPLICA STATUS").get("Source_Host") or ""
    stopped = threading.Event()

    def cut() -> None:
        while not stopped.wait(0.1):
            run(["ss", "-K", "-tn", "state", "syn-sent", "dst", f"{source}:3306"], timeout=2)

    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()
    try:
        client.query("STOP REPLICA IO_THREAD")
    finally:
        stopped.set()
        cutter.join()


def apply_received(client: Client, seconds: float, say: Say) -> None:
    """Wait until all that was received is applied.

    Raises:
        Failed: when it takes longer; says how many transactions are missing.
    """
    row = client.row("SHOW REPLICA STATUS")
    received = (row.get("Retrieved_Gtid_Set") or "").replace("\n", "")
    if not received:
        return
    if row.get("Replica_SQL_Running") != "Yes":
        client.query("START REPLICA SQL_THREAD")
    deadline = time.monotonic() + seconds
    # Only 0 means that all of it is applied; each call waits up to a second.
    while client.value(f"SELECT WAIT_FOR_EXECUTED_GTID_SET({quote(received)}, 1)") != "0":
        row = client.row("SHOW REPLICA STATUS")
        error = row.get("Last_SQL_Error") if row.get("Replica_SQL_Running") == "No" else ""
        if error or time.monotonic() > deadline:
            missing = behind(client, row).replace("\n", "")
            why = "applying stopped" if error else f"it takes longer than {seconds:.0f} s"
            raise Failed(f"received transactions were not applied, {why}: {missing}", error or "")


# --- replica -------------------------------------------------------------------------------------


def follow(client: Client, args: dict[str, Any], say: Say) -> bool:
    """Become a replica of the recorded primary; True when that takes a clone first.

    Raises:
        Failed: when this server has transactions of its own, or the primary does not answer.
    """
    record = args["record"]
    mysql_role.make_read_only(client)
    source = source_of(record)
    own = mysql_role.look(record["machine"], client)
    if not source.answered:
        if _points_to(client, record):
            client.query("START REPLICA")
        raise Failed(f"the primary {source.name} does not answer", source.error)
    if fresh(client, own) and own.gtids:
        # Never part of the lab: what it has comes from its installation.
        forget(client)
        own = mysql_role.look(record["machine"], client)
    errant = subtract(client, own.gtids, source.gtids)
    if errant:
        raise Failed(
            f"{record['machine']} has transactions that the primary {source.name} does not have: "
            f"{errant}; nothing was changed. {args['rejoin']} keeps a copy of them in a file and "
            "builds the server anew"
        )
    if subtract(client, source.purged, own.gtids):
        say(f"the binary logs of {source.name} no longer reach back: cloning")
        return True
    if not own.gtids and int(record["epoch"]) > 1:
        # A server skips what carries its own server_id (the manual, replicate_same_server_id). A
        # machine that was made anew has the number of the one before it, so it would leave out all
        # that was written while that one was primary.
        say("there were other primaries before, maybe on this machine: cloning")
        return True
    try:
        attach(client, args, say)
    except CannotCatchUp as error:
        say(f"cannot catch up ({error}): cloning")
        return True
    return False


def fresh(client: Client, own: Seen) -> bool:
    """Whether a server never was part of the lab: it has neither the lab's mark nor any data."""
    theirs = "'mysql', 'sys', 'performance_schema', 'information_schema'"
    count = f"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name NOT IN ({theirs})"
    return own.epoch == 0 and client.value(count) == "0"


def forget(client: Client) -> None:
    """Forget all transactions of a server that never was part of the lab."""
    mysql_role.new_generation()
    if client.query("SHOW REPLICA STATUS"):
        client.query("STOP REPLICA")
        client.query("RESET REPLICA ALL")
    client.query("RESET BINARY LOGS AND GTIDS")


def source_of(record: dict[str, Any]) -> Seen:
    """What the recorded primary says of itself now."""
    name = record["primary"]
    check = mysql_role.read(mysql_role.CHECK)
    return mysql_role.ask({name: record["peers"][name]}, check, 5.0)[0]


def subtract(client: Client, these: str, those: str) -> str:
    """The transactions of the first set that are not in the second."""
    return client.value(f"SELECT GTID_SUBTRACT({quote(these)}, {quote(those)})").replace("\n", "")


class CannotCatchUp(Exception):  # noqa: N818 (an outcome)
    """The source no longer has what the replica needs."""


def _points_to(client: Client, record: dict[str, Any]) -> bool:
    address: str = record["peers"][record["primary"]]
    return client.row("SHOW REPLICA STATUS").get("Source_Host") == address


def change_source(address: str, user: str, password: str) -> str:
    """The statement that points a replica at its source. A pure function."""
    return (
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = {quote(address)}, SOURCE_PORT = 3306,"
        f" SOURCE_USER = {quote(user)}, SOURCE_PASSWORD = {quote(password)},"
        " SOURCE_AUTO_POSITION = 1, SOURCE_DELAY = 0,"
        f" SOURCE_SSL = 1, SOURCE_SSL_CA = {quote(mysql_client.CA)},"
        " SOURCE_SSL_VERIFY_SERVER_CERT = 1,"
        # A source that died is asked again every second, for ever (the default gives up after ten).
        " SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 1"
    )


def attach(client: Client, args: dict[str, Any], say: Say) -> None:
    """Replicate from the recorded primary; returns when both threads run.

    Raises:
        CannotCatchUp: when only a clone helps.
        Failed: when the threads do not run; with replication's own words.
    """
    record, repl = args["record"], args["repl"]
    address = record["peers"][record["primary"]]
    say(f"replicating from {record['primary']}")
    mysql_role.new_generation()
    if client.query("SHOW REPLICA STATUS"):
        client.query("STOP REPLICA")
        if not _points_to(client, record):
            client.query("RESET REPLICA ALL")
    client.query(change_source(address, repl["user"], repl["password"]))
    client.query("SET GLOBAL rpl_semi_sync_replica_enabled = ON")
    client.query("START REPLICA")
    wait_for_threads(client, args)


def wait_for_threads(client: Client, args: dict[str, Any]) -> None:
    """Poll until both threads run.

    Raises:
        CannotCatchUp: see `attach`.
        Failed: when they do not in time.
    """
    deadline = time.monotonic() + THREADS_SECONDS
    seen: float | None = None
    while True:
        row = client.row("SHOW REPLICA STATUS")
        running = (row.get("Replica_IO_Running"), row.get("Replica_SQL_Running"))
        if running == ("Yes", "Yes"):
            # An error in what comes next stops it again at once, so see it apply something.
            if not behind(client, row):
                return
            seen = time.monotonic() if seen is None else seen
            if time.monotonic() > seen + BACKLOG_SECONDS:
                return
        code = int(row.get("Last_IO_Errno") or 0)
        if code in CANNOT_CATCH_UP:
            raise CannotCatchUp(row.get("Last_IO_Error") or "")
        stopped = running[1] == "No" and int(row.get("Last_SQL_Errno") or 0)
        if stopped or time.monotonic() > deadline:
            said = f"{row.get('Last_IO_Error') or ''}\n{row.get('Last_SQL_Error') or ''}"
            raise Failed(
                f"replication on {args['record']['machine']} does not run (receiving: "
                f"{running[0]}, applying: {running[1]}); if it cannot be mended, "
                f"{args['rejoin']} --rebuild copies everything from the primary anew",
                said,
            )
        time.sleep(0.02)


def behind(client: Client, row: dict[str, str | None]) -> str:
    """What was received and is not applied yet."""
    received = quote(row.get("Retrieved_Gtid_Set") or "")
    return client.value(f"SELECT GTID_SUBTRACT({received}, @@global.gtid_executed)")


def clone(args: dict[str, Any], say: Say) -> None:
    """Replace all data of this server by the primary's; it restarts itself under systemd.

    Raises:
        Failed: when the copy did not come about.
        MysqlError: when the server does not come back.
    """
    record, repl = args["record"], args["repl"]
    source = source_of(record)
    if not source.answered:
        raise Failed(f"the primary {source.name} does not answer", source.error)
    address = record["peers"][record["primary"]]
    began = time.monotonic()
    say(f"cloning the data of {record['primary']}")
    with mysql_role.connect(START_SECONDS, CLONE_SECONDS) as client:
        before = client.value("SELECT @@global.server_uuid")
        mysql_role.new_generation()
        if client.query("SHOW REPLICA STATUS"):
            client.query("STOP REPLICA")
            client.query("RESET REPLICA ALL")
        pid = _pid()
        client.query(f"SET GLOBAL clone_valid_donor_list = {quote(address + ':3306')}")
        # Cloning drops what is there, which super_read_only refuses (error 1290); read_only stays.
        client.query("SET GLOBAL super_read_only = OFF")
        while True:
            try:
                client.query(
                    f"CLONE INSTANCE FROM {quote(repl['user'])}@{quote(address)}:3306"
                    f" IDENTIFIED BY {quote(repl['password'])} REQUIRE SSL"
                )
            except MysqlError as error:
                if f": {DONOR_BUSY} :" in str(error) and time.monotonic() < began + CLONE_SECONDS:
                    say(f"waiting for {record['primary']}, which is being cloned by another server")
                    time.sleep(1)
                    continue
                if error.code not in LOST:
                    client.query("SET GLOBAL super_read_only = ON")
                    text = str(error).replace(repl["password"], "********")
                    raise Failed("the clone failed; the server keeps its data", text) from None
            break
    _restarted(pid)
    with mysql_role.connect(START_SECONDS, 30.0) as client:
        own = mysql_role.look(record["machine"], client)
        lacking = subtract(client, source.gtids, own.gtids)
        if lacking or own.epoch == 0 or own.uuid == source.uuid:
            raise Failed(
                f"after the clone the server lacks {lacking or 'the lab'}",
                f"before: {before}, now: {own.uuid}",
            )
        client.query("SET GLOBAL super_read_only = ON")
    say(f"cloned in {time.monotonic() - began:.1f} s")


def _pid() -> str:
    """The process id of mysqld, as systemd knows it."""
    return run(["systemctl", "show", "-P", "MainPID", "mysql.service"]).out.strip()


def _restarted(before: str) -> None:
    """Wait until mysqld is another process than before.

    Raises:
        Failed: when it is not within a minute.
    """
    deadline = time.monotonic() + START_SECONDS
    while _pid() in (before, "0", ""):
        if time.monotonic() > deadline:
            raise Failed("mysqld did not restart after the clone")
        time.sleep(0.1)
