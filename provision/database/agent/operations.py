"""On the machine: the steps of promoting and rejoining; provision/ops/db_promote.py orders them.

Each step leaves the machine in a state that the next command, or lab.up, can go on from. What must
survive a reboot is written to the machine's record before the server is changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from provision.database.agent import replication as mysql_replica
from provision.database.agent import role as mysql_role
from provision.database.agent.binlog import commits, count
from provision.database.agent.client import Client, MysqlError, quote
from provision.engine.agent.core import Failed, Say, run
from provision.engine.agent.files import place_file

DATA = "/var/lib/mysql"
DEAD_SECONDS = 0.4
"""How long a server that is said to be dead may take to show that it is not."""


def write_record(record: dict[str, Any]) -> None:
    """Keep who is primary on this machine, in the very text that resources/mysql.py desires."""
    os.makedirs(os.path.dirname(mysql_role.RECORD), exist_ok=True)
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    place_file(mysql_role.RECORD, text.encode(), 0, 0, 0o644)


def look(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """What this server says of itself, and what its peers say over the network.

    Args:
        args: ``machine``; ``ask``, peers by name and address, that are asked too.
        say: unused.

    Returns:
        ``own`` and ``peers``, as `mysql_role.Seen`; ``received`` but not applied GTIDs; ``active``,
        systemd's word on mysqld; ``record``, the machine's.
    """
    peers = []
    if args.get("ask"):
        peers = mysql_role.ask(args["ask"], mysql_role.read(mysql_role.CHECK), DEAD_SECONDS)
    active = run(["systemctl", "is-active", "mysql.service"]).out.strip()
    found: dict[str, Any] = {
        "peers": [asdict(p) for p in peers],
        "received": "",
        "active": active,
        "source": "",
        "record": mysql_role.read(mysql_role.RECORD),
    }
    try:
        with mysql_role.connect(0.0, 5.0) as client:
            found["own"] = asdict(mysql_role.look(args["machine"], client))
            row = client.row("SHOW REPLICA STATUS")
            found["received"] = (row.get("Retrieved_Gtid_Set") or "").replace("\n", "")
            found["source"] = row.get("Source_Host") or ""
    except MysqlError as error:
        found["own"] = asdict(mysql_role.Seen(args["machine"], answered=False, error=str(error)))
    return found


def fence(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Stop taking writes, now and after every restart, until a record says otherwise.

    Args:
        args: ``record``, which names another primary.
        say: reports progress.

    Returns:
        ``gtids``: everything that was committed here.
    """
    say("refusing writes")
    with mysql_role.lock():
        before = mysql_role.read(mysql_role.RECORD)
        write_record(args["record"])
        try:
            with mysql_role.connect(0.0, 30.0) as client:
                mysql_role.refuse_writes(client)
                return {"gtids": client.value("SELECT @@global.gtid_executed").replace("\n", "")}
        except MysqlError:
            if before:
                write_record(before)
            raise


def bury(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Keep a dead mysqld from coming back as a primary: record the new one, stop the service."""
    say("keeping the old primary down")
    with mysql_role.lock():
        write_record(args["record"])
    # The stop job comes first, so that systemd does not restart what is killed. A server that hangs
    # would let a plain stop wait for a minute; InnoDB recovers from a kill.
    run(["systemctl", "--no-block", "stop", "mysql.service"])
    run(["systemctl", "kill", "--signal=KILL", "mysql.service"])
    done = run(["systemctl", "stop", "mysql.service"], timeout=90)
    if done.status != 0:
        raise Failed("mysqld cannot be stopped", done.err)
    return {}


def catch_up(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Wait until transactions are applied here.

    Args:
        args: ``gtids``; ``seconds``, how long.
        say: reports progress.

    Returns:
        ``missing``: what is still not here, empty when all is; ``error``, what stopped applying.
    """
    wanted, deadline = quote(args["gtids"]), time.monotonic() + args["seconds"]
    with mysql_role.connect(0.0, 30.0) as client:
        while True:
            done = client.value(f"SELECT WAIT_FOR_EXECUTED_GTID_SET({wanted}, 1)")
            if done == "0":
                return {"missing": "", "error": ""}
            row = client.row("SHOW REPLICA STATUS")
            error = row.get("Last_SQL_Error") if row.get("Replica_SQL_Running") == "No" else ""
            if error or time.monotonic() > deadline:
                missing = client.value(f"SELECT GTID_SUBTRACT({wanted}, @@global.gtid_executed)")
                return {"missing": missing.replace("\n", "") or "unknown", "error": error or ""}


def drain(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Apply everything that was received from a source that is gone.

    When it takes too long, receiving is switched on again, so that nothing has changed.

    Args:
        args: ``seconds``, how long.
        say: reports progress.

    Raises:
        Failed: with the transactions that are received and not applied.
    """
    with mysql_role.connect(0.0, 30.0) as client:
        if not client.query("SHOW REPLICA STATUS"):
            return {}
        say("applying what was received")
        mysql_replica.stop_receiving(client)
        try:
            mysql_replica.apply_received(client, args["seconds"], say)
        except Failed:
            client.patience(30.0)
            client.query("START REPLICA")
            raise
    return {}


def lead(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Become primary: ``record``, ``seconds`` for what is not applied, ``dead`` peers."""
    say("taking writes")
    record = args["record"]
    with mysql_role.lock():
        write_record(record)
        if not mysql_role.autopromoted():
            with mysql_role.connect(5.0, 30.0) as client:
                dead = tuple(args.get("dead", ()))
                mysql_replica.lead(client, record, args["seconds"], say, dead)
            return {}
    mysql_replica.led(say)
    return {}


def follow(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Become a replica: the arguments of `mysql_replica.assume`, whose record is written first."""
    with mysql_role.lock():
        write_record(args["record"])
    start(say)
    mysql_replica.assume(args, say)
    return {}


def rebuild(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Throw this server's data away for a copy of the primary's, then follow it."""
    start(say)
    with mysql_role.lock():
        write_record(args["record"])
        with mysql_role.connect(60.0, 30.0) as client:
            mysql_role.make_read_only(client)
        mysql_replica.clone(args, say)
        with mysql_role.connect(60.0, 30.0) as client:
            mysql_replica.attach(client, args, say)
    return {}


def start(say: Say) -> None:
    """Start mysqld when it does not run.

    Raises:
        Failed: with its journal when it does not start.
    """
    from provision.engine.agent.services import activate

    if run(["systemctl", "is-active", "mysql.service"]).out.strip() != "active":
        activate("mysql.service", "start", say)


def errant(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """The transactions that this server has and the recorded primary does not.

    Args:
        args: ``record``; the server is started and kept read-only.
        say: reports progress.

    Returns:
        ``gtids``: them, empty when there are none; ``count``: how many; ``found``: how many of them
        the binary logs still hold; ``logs``: the binary logs' paths.
    """
    start(say)
    record = args["record"]
    with mysql_role.lock():
        write_record(record)
    with mysql_role.connect(60.0, 30.0) as client:
        mysql_role.make_read_only(client)
        own = mysql_role.look(record["machine"], client)
        source = mysql_replica.source_of(record)
        if not source.answered:
            raise Failed(f"the primary {source.name} does not answer", source.error)
        gtids = mysql_replica.subtract(client, own.gtids, source.gtids)
        if not gtids:
            return {"gtids": "", "count": 0, "found": 0, "logs": []}
        held = mysql_replica.subtract(client, gtids, own.purged)
        return {
            "gtids": gtids,
            "count": count(gtids),
            "found": count(held),
            "logs": binary_logs(client),
        }


def binary_logs(client: Client) -> list[str]:
    """The paths of this server's binary logs, oldest first."""
    return [f"{DATA}/{row['Log_name']}" for row in client.query("SHOW BINARY LOGS")]


def committed_until(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Which transactions in the binary logs were committed up to a moment.

    Args:
        args: ``after``, a GTID set that is not wanted; ``until``, microseconds since 1970.
        say: reports progress.

    Returns:
        ``gtids``, those that are wanted, as a list; ``purged``, the set that the logs no longer
        hold; ``logs``, their paths; ``last``, microseconds of the last wanted commit.
    """
    with mysql_role.connect(0.0, 30.0) as client:
        client.query("FLUSH BINARY LOGS")
        logs = binary_logs(client)
        purged = client.value("SELECT @@global.gtid_purged").replace("\n", "")
        missing = mysql_replica.subtract(client, purged, args["after"])
    say("looking through the binary logs")
    # Decoded rows are comments for -v only: what is printed of a row event is its header.
    argv = ["mysqlbinlog", "--base64-output=decode-rows", f"--exclude-gtids={args['after']}", *logs]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout is not None
        found = commits(process.stdout)
        if process.wait() != 0:
            said.seek(0)
            raise Failed("the binary logs cannot be read", said.read().decode(errors="replace"))
    wanted = [(when, gtid) for when, gtid in found if when <= args["until"]]
    return {
        "gtids": [gtid for _, gtid in wanted],
        "last": max((when for when, _ in wanted), default=0),
        "missing": missing,
        "logs": logs,
    }


def backups(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """The scheduled backups on this machine, and when the next one is due."""
    from provision.database.agent import backup as mysql_backup

    timer = run(
        ["systemctl", "show", "-P", "NextElapseUSecRealtime", "lab-mysql-backup.timer"]
    ).out.strip()
    return {"backups": mysql_backup.listed(), "next": timer}


def backup(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Make a backup of this server now; ``path`` of the file. See mysql_backup.py."""
    from provision.database.agent import backup as mysql_backup

    began = time.monotonic()
    try:
        manifest = mysql_backup.make(args["path"], say)
    except mysql_backup.BackupError as error:
        raise Failed(str(error)) from None
    return {"manifest": manifest, "seconds": time.monotonic() - began}


OPERATIONS: dict[str, Callable[[dict[str, Any], Say], Any]] = {
    "look": look,
    "fence": fence,
    "bury": bury,
    "catch_up": catch_up,
    "drain": drain,
    "lead": lead,
    "follow": follow,
    "rebuild": rebuild,
    "errant": errant,
    "committed_until": committed_until,
    "backups": backups,
    "backup": backup,
}
