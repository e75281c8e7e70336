"""lab-rejoin.service: the old primary becomes a replica of the new one, without the controller.

The guard starts it when the witness and the new primary agree (`Guard.must_rejoin`). Transactions
that only this server has are saved to a file before the primary is cloned; an alert and a check
report the file until lab.up has moved it to the controller.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from provision.database.agent import requests, role_change, role_store
from provision.database.agent.binlog import parse_commits
from provision.database.agent.errant_files import FOLDER
from provision.database.agent.results import ErrantTransactions
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.role_store import load_record, role_lock, save_record
from provision.database.agent.write_access import FAILOVER_CONFIG
from provision.database.failover.agent.daemon import CRITICAL, ERROR, INFO, WARNING
from provision.database.failover.agent.rejoin_trigger import TARGET
from provision.engine.agent.process import AgentError

SAVE_SECONDS = 600.0


def target_record(record: RoleRecord, target: Mapping[str, Any]) -> RoleRecord:
    """The record of this machine as a replica of the new primary.

    Raises:
        AgentError: when the machine's own record is newer, or names this machine in this epoch.
    """
    wanted = replace(record, primary=str(target["primary"]), epoch=int(target["epoch"]))
    newer = record.epoch > wanted.epoch
    if newer or (record.epoch == wanted.epoch and record.primary != wanted.primary):
        raise AgentError(
            f"the record says {record.primary} since epoch {record.epoch}; "
            f"not rejoining {wanted.primary} of epoch {wanted.epoch}"
        )
    return wanted


def save_errant(machine: str, errant: ErrantTransactions, folder: str = FOLDER) -> str:
    """Save errant transactions to a file, as mysql can replay them; returns its path.

    Raises:
        AgentError: when the binary logs do not hold all of them.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = f"{folder}/{machine}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sql.gz"
    new = f"{path}.new"
    # -vv adds the rows as readable comments.
    argv = ["mysqlbinlog", "-vv", f"--include-gtids={errant.gtids}", *errant.logs]
    try:
        saved = _write_compressed(argv, new)
        if saved < errant.gtids.count:
            raise AgentError(
                f"{machine} has {errant.gtids.count} errant transactions, but its binary logs hold "
                f"only {saved} of them; nothing was changed. invoke db.rejoin {machine} --discard "
                "continues without the others"
            )
        os.replace(new, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
    role_store.sync_folder(folder)
    return path


def _write_compressed(argv: list[str], path: str) -> int:
    """Write a program's compressed output; returns the number of transactions in it."""
    import gzip

    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    with open(path, "wb") as file:

        def lines() -> Any:
            for line in process.stdout or ():
                compressed.write(line)
                yield line

        with gzip.GzipFile(fileobj=file, mode="wb") as compressed:
            saved = len(parse_commits(lines()))
        file.flush()
        os.fsync(file.fileno())
    _, error = process.communicate(timeout=SAVE_SECONDS)
    if process.returncode:
        raise AgentError("mysqlbinlog failed", error.decode(errors="replace"))
    return saved


def rejoin(target: Mapping[str, Any], account: requests.ReplicationAccount) -> str:
    """Make this machine's server a replica of the new primary; returns what was done.

    Raises:
        AgentError: when it cannot be done; errant transactions are kept then.
    """
    with role_lock():
        record = load_record()
        if record is None:
            raise AgentError("no role is recorded on this machine")
        wanted = target_record(record, target)
        save_record(wanted)
        role_store.sync_folder(os.path.dirname(role_store.RECORD))
    errant = role_change.errant_transactions(wanted, _log)
    if not errant.gtids:
        role_change.assume_saved_role(requests.AssumeRole(wanted, account), _log)
        return f"replicates from {wanted.primary} in epoch {wanted.epoch}"
    path = save_errant(wanted.machine, errant)
    print(
        f"<{CRITICAL}>{errant.gtids.count} errant transactions ({errant.gtids}) saved in {path}",
        flush=True,
    )
    role_change.rebuild_replica(requests.Rebuild(wanted, account), _log)
    return f"cloned {wanted.primary} and replicates from it in epoch {wanted.epoch}"


def _log(text: str) -> None:
    print(f"<{INFO}>{text}", flush=True)


def main() -> int:
    """Rejoin once; the guard starts it again after a failure."""
    target, config = role_store.read_json(TARGET), role_store.read_json(FAILOVER_CONFIG)
    if not target or "replication" not in config:
        print(f"<{WARNING}>there is nothing to rejoin, or automatic failover is off", flush=True)
        return 0
    try:
        done = rejoin(target, requests.ReplicationAccount(**config["replication"]))
    except AgentError as error:
        print(f"<{ERROR}>not rejoined: {error}", flush=True)
        return 1
    print(f"<{WARNING}>{done}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
