"""lab-mysql-role.service: after each start of mysqld, make the recorded primary writable again.

It works without the controller, so roles come back after a reboot of all machines in any order.
"""

from __future__ import annotations

import sys
import time

from provision.database.agent.role_store import load_record, role_lock
from provision.database.agent.session import MysqlError, connect_local
from provision.database.agent.write_access import (
    WriteVerdict,
    check_write_access,
    failover_enabled,
    make_writable,
    was_writable_in,
)

INFO, NOTICE, WARNING, CRITICAL = "<6>", "<5>", "<4>", "<2>"
"""Log levels of sd-daemon(3)."""


def restore_role() -> WriteVerdict:
    """Make the server writable if it is recorded as primary and no peer objects."""
    with role_lock():
        record = load_record()
        if record is None:
            return WriteVerdict("deny", "no role is recorded on this machine")
        if not record.is_primary:
            return WriteVerdict("deny", f"this machine is a replica of {record.primary}")
        if failover_enabled():
            return WriteVerdict("deny", "automatic failover is on: lab-autopromote.service decides")
        try:
            with connect_local() as session:
                if session.query("SHOW REPLICA STATUS"):
                    return WriteVerdict(
                        "deny",
                        "recorded as primary, but this server replicates: "
                        "a promotion was interrupted (lab.up completes it)",
                    )
                if session.value("SELECT @@global.read_only") == "0":
                    return WriteVerdict("grant", "already writable")
                verdict = check_write_access(
                    session, record, silent_peers_safe=was_writable_in(record.epoch)
                )
                if verdict.access == "grant":
                    make_writable(session, record)
                return verdict
        except MysqlError as error:
            return WriteVerdict("wait", f"mysqld: {error}")


def log_level(verdict: WriteVerdict) -> str:
    """The journal's level: another primary is critical, a replica is normal."""
    if " is writable (" in verdict.reason or " was promoted in " in verdict.reason:
        return CRITICAL
    if "is a replica of" in verdict.reason:
        return INFO
    return NOTICE if verdict.access == "grant" else WARNING


def main() -> int:
    """Wait for mysqld and for peers that do not respond, as long as it takes."""
    last, started = None, time.monotonic()
    while True:
        verdict = restore_role()
        if verdict != last:
            elapsed = time.monotonic() - started
            text = f"{verdict.access}: {verdict.reason} (after {elapsed:.2f} s)"
            print(f"{log_level(verdict)}{text}", flush=True)
            last = verdict
        if verdict.access != "wait":
            return 0
        time.sleep(0.05 if verdict.reason.startswith("mysqld:") else 0.3)


if __name__ == "__main__":
    sys.exit(main())
