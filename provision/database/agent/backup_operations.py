"""Operations on backups and binary logs, called by the controller."""

from __future__ import annotations

import subprocess
import tempfile

from provision.database.agent import backup
from provision.database.agent.backup_file import BackupError
from provision.database.agent.binlog import parse_commits
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import Done, FindLogged, MakeBackup
from provision.database.agent.results import BackupSchedule, LoggedTransactions
from provision.database.agent.role_change import binary_logs
from provision.database.agent.session import connect_local
from provision.engine.agent.codec import decode
from provision.engine.agent.process import AgentError, Log, run
from provision.engine.agent.registry import Args, operation

TIMER = "lab-mysql-backup.timer"


@operation("mysql.list_backups")
def list_backups(args: Args, log: Log) -> BackupSchedule:
    """See `ListBackups`."""
    next_run = run(["systemctl", "show", "-P", "NextElapseUSecRealtime", TIMER]).stdout.strip()
    return BackupSchedule(backup.list_backups(), next_run)


@operation("mysql.make_backup")
def make_backup(args: Args, log: Log) -> Done:
    """See `MakeBackup`."""
    log("dumping the database")
    try:
        backup.make(decode(MakeBackup, args).path)
    except BackupError as error:
        raise AgentError(str(error)) from None
    return Done()


@operation("mysql.find_logged")
def find_logged(args: Args, log: Log) -> LoggedTransactions:
    """See `FindLogged`."""
    request = decode(FindLogged, args)
    with connect_local(30.0) as session:
        session.query("FLUSH BINARY LOGS")
        logs = binary_logs(session)
        purged = GtidSet(session.value("SELECT @@global.gtid_purged"))
    log("reading the binary logs")
    # Decoded rows are printed only with -v; without it, only the header of a row event is.
    argv = ["mysqlbinlog", "--base64-output=decode-rows", f"--exclude-gtids={request.after}"]
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen([*argv, *logs], stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdout is not None
        commits = parse_commits(process.stdout)
        if process.wait() != 0:
            stderr.seek(0)
            text = stderr.read().decode(errors="replace")
            raise AgentError("the binary logs cannot be read", text)
    wanted = [(moment, gtid) for moment, gtid in commits if moment <= request.until]
    return LoggedTransactions(
        gtids=tuple(gtid for _, gtid in wanted),
        last_commit=max((moment for moment, _ in wanted), default=0),
        purged=purged - request.after,
        logs=logs,
    )
