"""On the machine: who may write. Run by lab-mysql-role.service after every start of mysqld.

MySQL starts read-only, always. Then this asks the other database machines what they know, and
makes the server writable only when the machine's own record names it as primary and nobody has
been promoted since. It works without the controller, so roles come back after a reboot of
everything in any order.

Every promotion has a number, the epoch. It is a row in ``lab.epoch``, written by the new primary
before anything else and replicated, so that each server knows the last promotion that it has seen.
An old primary that returns finds a peer with a higher epoch and stays read-only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from provision.database.agent import client as mysql_client
from provision.database.agent.client import Client, MysqlError

RECORD = "/etc/foobar-lab/mysql-role.json"
"""The machine's record: ``machine``, ``primary``, ``epoch`` and ``peers`` (name to address)."""

CHECK = "/etc/foobar-lab/mysql-check.json"
"""The account that peers are asked with: ``user`` and ``password``; 0600."""

MARK = "/run/foobar-lab/mysql-primary"
"""Holds the epoch in which this machine was made writable since it booted."""

LOCK = "/run/foobar-lab/mysql-role.lock"
"""Held by whoever reads the record and acts on it, so that a fence and an assertion take turns."""

AUTOPROMOTE = "/etc/foobar-lab/autopromote.json"
"""There while db.autopromote is on; lab-autopromote.service decides then (autopromote.py)."""

GENERATION = "/run/foobar-lab/mysql-generation"
"""Changes before received transactions are thrown away for others to be received."""

ALONE_MS, STRICT_MS = 1500, 4294967295
"""How long a commit waits for a replica: as configured, and as long as MySQL can (49 days)."""

ASK_SECONDS = 1.0
"""How long a peer is waited for. On one network an answer takes some 10 ms."""

SELF = (
    "SELECT @@global.super_read_only + @@global.read_only AS read_only, @@server_uuid AS uuid,"
    " @@global.gtid_executed AS gtids, @@global.gtid_purged AS purged"
)
NO_SUCH = (1049, 1146, 1142)
"""No such schema, no such table, no right to a table (a server that never was in this lab)."""


@dataclass(frozen=True)
class Seen:
    """What a server says of itself.

    Args:
        name: of its machine.
        answered: False when it is silent or lets nobody in; then ``error`` says why.
        writable: whether it takes writes.
        epoch: the last promotion that it knows of; 0 when it knows none.
        primary: the machine promoted then.
        uuid: MySQL's own name for it.
        gtids: the transactions that it has.
        purged: those of them that its binary logs no longer hold.
    """

    name: str
    answered: bool = True
    writable: bool = False
    epoch: int = 0
    primary: str = ""
    uuid: str = ""
    gtids: str = ""
    purged: str = ""
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """What to do about the role: ``assert``, ``wait`` or ``stay`` (read-only), and why."""

    what: str
    why: str


def look(name: str, client: Client) -> Seen:
    """What a server says of itself through this session.

    Raises:
        MysqlError: when it stops answering.
    """
    row = client.row(SELF)
    epoch, primary = last_epoch(client)
    return Seen(
        name,
        writable=row["read_only"] == "0",
        epoch=epoch,
        primary=primary,
        uuid=row["uuid"] or "",
        gtids=(row["gtids"] or "").replace("\n", ""),
        purged=(row["purged"] or "").replace("\n", ""),
    )


def last_epoch(client: Client) -> tuple[int, str]:
    """The last promotion that a server knows of, and who was promoted; 0 when none."""
    try:
        row = client.row("SELECT epoch, machine FROM lab.epoch ORDER BY epoch DESC LIMIT 1")
    except MysqlError as error:
        if error.code in NO_SUCH:
            return 0, ""
        raise
    return int(row.get("epoch") or 0), row.get("machine") or ""


def ask(peers: dict[str, str], check: dict[str, str], seconds: float = ASK_SECONDS) -> list[Seen]:
    """Ask other servers over TLS, all at once.

    Args:
        peers: machine name to address.
        check: ``user`` and ``password``.
        seconds: how long each may take to connect, and to answer.
    """

    def one(name: str) -> Seen:
        try:
            with mysql_client.remote(
                peers[name], check["user"], check["password"], timeout=seconds
            ) as client:
                return look(name, client)
        except MysqlError as error:
            return Seen(name, answered=False, error=str(error))

    if not peers:
        return []
    with ThreadPoolExecutor(len(peers)) as pool:
        return list(pool.map(one, peers))


def foreign(client: Client, own: Seen, peer: Seen) -> str:
    """The transactions that a peer has, this server lacks, and the peer did not make itself."""
    lacking = client.value(
        f"SELECT GTID_SUBTRACT({mysql_client.quote(peer.gtids)}, @@global.gtid_executed)"
    )
    parts = [part for part in lacking.replace("\n", "").split(",") if part]
    return ",".join(part for part in parts if not part.strip().startswith(peer.uuid))


def decide(
    record: dict[str, Any], own: Seen, peers: list[Seen], lacking: dict[str, str], sure: bool
) -> Verdict:
    """Whether this server may take writes. A pure function.

    Args:
        record: the machine's record.
        own: this server.
        peers: the others.
        lacking: by peer, transactions of third servers that this one does not have.
        sure: True when silent peers cannot have been promoted: the controller says so, or this
            machine was writable in this epoch since it booted.
    """
    epoch = int(record["epoch"])
    if record["primary"] != record["machine"]:
        return Verdict("stay", f"{record['primary'] or 'nobody'} is recorded as primary")
    if own.epoch > epoch:
        return Verdict(
            "stay",
            f"this server has seen epoch {own.epoch} ({own.primary}), the record says {epoch}",
        )
    for peer in peers:
        if peer.answered and peer.writable:
            return Verdict("stay", f"{peer.name} takes writes (epoch {peer.epoch})")
    for peer in peers:
        if peer.answered and peer.epoch > epoch:
            what = f"{peer.primary} was promoted in epoch {peer.epoch}, as {peer.name} knows"
            return Verdict("stay", f"{what}; the record here says {epoch}")
        if peer.answered and peer.epoch > own.epoch and own.epoch < epoch - 1:
            what = f"{peer.name} has the data of epoch {peer.epoch}"
            return Verdict("stay", f"{what}, this server that of epoch {own.epoch}")
    for peer in peers:
        if lacking.get(peer.name):
            what = f"{peer.name} has transactions of another server that are not here"
            return Verdict("stay", f"{what}: {lacking[peer.name]}")
    silent = [peer for peer in peers if not peer.answered]
    if silent and not sure:
        return Verdict("wait", "; ".join(f"{p.name}: {p.error}" for p in silent))
    return Verdict("assert", f"recorded as primary in epoch {epoch}, and nobody says otherwise")


def make_writable(client: Client, record: dict[str, Any]) -> None:
    """Take writes: semi-sync's source side on, the epoch written first, then everyone else's.

    Raises:
        MysqlError: when the server refuses.
    """
    strictly = autopromoted()
    if not strictly:
        client.query("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    elif client.value("SELECT @@global.super_read_only") == "1":
        # Nobody wrote the epoch for a user: it need not wait for a replica, and may not have one.
        client.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
    # read_only stays on until the epoch is written: root may write then, and nobody else.
    client.query("SET GLOBAL super_read_only = OFF")
    epoch, machine = int(record["epoch"]), mysql_client.quote(record["machine"])
    last = last_epoch(client)[0]
    if last == 0:
        client.query("CREATE DATABASE IF NOT EXISTS lab")
        client.query(
            "CREATE TABLE IF NOT EXISTS lab.epoch (epoch BIGINT UNSIGNED PRIMARY KEY,"
            " machine VARCHAR(64) NOT NULL,"
            " since TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3))"
        )
    if last < epoch:
        client.query(f"INSERT IGNORE INTO lab.epoch (epoch, machine) VALUES ({epoch}, {machine})")
    if strictly:
        commit_strictly(client)
    client.query("SET GLOBAL read_only = OFF")
    os.makedirs(os.path.dirname(MARK), exist_ok=True)
    with open(MARK, "w") as file:
        file.write(f"{epoch}\n")


def autopromoted() -> bool:
    """Whether lab-autopromote.service decides who may write."""
    return os.path.exists(AUTOPROMOTE)


def commit_strictly(client: Client) -> None:
    """Let every commit wait for a replica without limit, also while there is none.

    Raises:
        MysqlError: when the server refuses.
    """
    client.query(f"SET GLOBAL rpl_semi_sync_source_timeout = {STRICT_MS}")
    client.query("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    # This ends a fall back to asynchronous commits; OFF would let go of commits that wait, so it is
    # said only when there are none.
    client.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON")
    status = client.row("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'")
    if status.get("Value") == "OFF":
        client.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF")
        client.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON")


def commit_alone(client: Client) -> None:
    """Let commits go on without a replica, those too that wait for one now.

    Raises:
        MysqlError: when the server refuses.
    """
    client.query(f"SET GLOBAL rpl_semi_sync_source_timeout = {ALONE_MS}")
    client.query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF")
    if client.value("SELECT @@global.rpl_semi_sync_source_enabled") == "1":
        # A replica that died without a word is still counted: only this lets go of who waits.
        client.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
        client.query("SET GLOBAL rpl_semi_sync_source_enabled = ON")


def generation() -> str:
    """The name of this server's relay logs; empty when they are as they were at boot."""
    try:
        with open(GENERATION) as file:
            return file.read().strip()
    except OSError:
        return ""


def new_generation() -> None:
    """Say that received transactions are about to be thrown away."""
    os.makedirs(os.path.dirname(GENERATION), exist_ok=True)
    with open(GENERATION, "w") as file:
        file.write(f"{os.urandom(8).hex()}\n")


def refuse_writes(client: Client) -> None:
    """Refuse all writes; returns when those that were being committed are done.

    Raises:
        MysqlError: when the server refuses.
    """
    # read_only waits for running commits and refuses those of open transactions (the manual,
    # "super_read_only"); the timeout is against a lock that somebody holds.
    client.query("SET SESSION lock_wait_timeout = 5")
    client.query("SET GLOBAL super_read_only = ON")
    if os.path.exists(MARK):
        os.unlink(MARK)


def make_read_only(client: Client) -> None:
    """Be no primary any more: refuse writes, and leave semi-sync's source side.

    The latter waits for a thread that looks up only now and then (0.1 to 0.4 s were seen), so it is
    not part of the moment in which nobody takes writes.

    Raises:
        MysqlError: when the server refuses.
    """
    refuse_writes(client)
    client.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")


def read(path: str) -> dict[str, Any]:
    """A JSON file of the machine; empty when it is not there."""
    try:
        with open(path) as file:
            found: dict[str, Any] = json.load(file)
            return found
    except FileNotFoundError:
        return {}


def marked(epoch: int) -> bool:
    """Whether this machine was writable in this epoch since it booted."""
    try:
        with open(MARK) as file:
            return file.read().strip() == str(epoch)
    except OSError:
        return False


def connect(seconds: float, patience: float = 10.0) -> Client:
    """A local session, as soon as mysqld accepts one.

    Args:
        seconds: how long to wait for that.
        patience: seconds for each answer later.

    Raises:
        MysqlError: when the time has passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return mysql_client.local(patience)
        except MysqlError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def judge(
    client: Client, record: dict[str, Any], sure: bool, dead: tuple[str, ...] = ()
) -> Verdict:
    """Ask everyone and decide; peers that are known to be dead are not asked."""
    own = look(record["machine"], client)
    alive = {name: address for name, address in record["peers"].items() if name not in dead}
    peers = ask(alive, read(CHECK)) if alive else []
    lacking = {p.name: foreign(client, own, p) for p in peers if p.answered}
    return decide(record, own, peers, lacking, sure)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let nobody else on this machine change its database's role meanwhile."""
    os.makedirs(os.path.dirname(LOCK), exist_ok=True)
    with open(LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def attempt() -> Verdict:
    """Assert the recorded role once, if nothing speaks against it."""
    with lock():
        record = read(RECORD)
        if not record:
            return Verdict("stay", "no role is recorded on this machine")
        if record["primary"] != record["machine"]:
            return Verdict("stay", f"this machine is a replica of {record['primary']}")
        if autopromoted():
            return Verdict("stay", "autopromotion is on: lab-autopromote.service decides")
        try:
            with connect(0.0) as client:
                if client.query("SHOW REPLICA STATUS"):
                    return Verdict(
                        "stay",
                        "the record says primary, but this server replicates: "
                        "a promotion was not finished (lab.up finishes it)",
                    )
                if client.value("SELECT @@global.read_only") == "0":
                    return Verdict("assert", "already writable")
                verdict = judge(client, record, marked(int(record["epoch"])))
                if verdict.what == "assert":
                    make_writable(client, record)
                return verdict
        except MysqlError as error:
            return Verdict("wait", f"mysqld: {error}")


def main() -> int:
    """Assert the recorded role; waits for mysqld and for silent peers as long as it takes."""
    said, began = "", time.monotonic()
    while True:
        verdict = attempt()
        text = f"{verdict.what}: {verdict.why}"
        if text != said:
            # A level that the journal understands: sd-daemon(3).
            level = {"stay": "<4>", "wait": "<4>"}.get(verdict.what, "<5>")
            if "takes writes" in text or "was promoted" in text:
                level = "<2>"
            elif "is a replica of" in text:
                level = "<6>"
            print(f"{level}{text} (after {time.monotonic() - began:.2f} s)", flush=True)
            said = text
        if verdict.what != "wait":
            return 0
        time.sleep(0.05 if "mysqld" in text else 0.3)


if __name__ == "__main__":
    sys.exit(main())
