"""On a database machine: lab-autopromote.service, the hands of autopromote.py's rules.

On the primary it keeps the lease, fences, and says how commits are acknowledged; on the replica it
answers for the primary's life and carries out an order. It is the only one who makes a server
writable by itself while autopromotion is on (lab-mysql-role.service leaves that to it).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from provision.database.agent import operations as mysql_ops
from provision.database.agent import replication as mysql_replica
from provision.database.agent import role as mysql_role
from provision.database.agent.client import SOCKET, Client, MysqlError
from provision.database.failover.agent import wire
from provision.database.failover.agent.rules import (
    FENCE,
    FRESH,
    MARGIN,
    Guard,
    Report,
    report,
    values,
    word,
)
from provision.engine.agent.core import Failed

ARMED = "/run/foobar-lab/autopromote-armed"
TICK = 0.2
POLL = 0.4
CAUGHT_UP = 3.0
"""Seconds that a replica may be behind when commits begin to wait for it."""

DRAIN = 60.0
"""Seconds that a replica may need to apply what it received, before an order is refused."""

SETTLED = mysql_role.ALONE_MS / 1000 + 0.5
"""Seconds after which no commit is left that began to wait while the time-out was short."""

STATE = (
    "SELECT @@global.super_read_only + @@global.read_only AS read_only,"
    " @@global.gtid_executed AS gtids, @@global.rpl_semi_sync_source_timeout AS timeout,"
    " @@global.rpl_semi_sync_source_wait_no_replica AS waits,"
    " @@global.rpl_semi_sync_source_enabled AS enabled"
)
SEMI_SYNC = (
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('Rpl_semi_sync_source_status',"
    " 'Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_no_times')"
)


@dataclass(frozen=True)
class Facts:
    """How the local server is now.

    Args:
        server: its identity.
        writable: whether it takes writes.
        executed: transactions that it has applied.
        have: also those that it has received.
        strict: whether commits wait for the replica without limit.
        active: whether semi-sync is on and has not fallen back.
        switched: how often it ever fell back.
        clients: replicas that acknowledge.
        receiving: whether the receiving thread is connected.
    """

    server: str
    writable: bool
    executed: str
    have: str
    strict: bool
    active: bool
    switched: str
    clients: int
    receiving: bool


def now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def identity() -> str:
    """Which mysqld with which relay logs this is; empty when there is none."""
    try:
        found = os.stat(SOCKET)
    except OSError:
        return ""
    return f"{found.st_ino}-{found.st_mtime_ns}-{mysql_role.generation()}"


def facts(client: Client) -> Facts:
    """Ask the local server.

    Raises:
        MysqlError: when it does not answer.
    """
    server = identity()
    row = client.row(STATE)
    status = {r["Variable_name"]: r["Value"] or "" for r in client.query(SEMI_SYNC)}
    replica = client.row("SHOW REPLICA STATUS")
    executed = (row["gtids"] or "").replace("\n", "")
    received = (replica.get("Retrieved_Gtid_Set") or "").replace("\n", "")
    return Facts(
        server,
        row["read_only"] == "0",
        executed,
        ",".join(part for part in (executed, received) if part),
        row["timeout"] == str(mysql_role.STRICT_MS) and row["waits"] == row["enabled"] == "1",
        status.get("Rpl_semi_sync_source_status") == "ON",
        status.get("Rpl_semi_sync_source_no_times", ""),
        int(status.get("Rpl_semi_sync_source_clients") or 0),
        replica.get("Replica_IO_Running") == "Yes",
    )


class Daemon:
    """One guard: two threads that talk, one that answers, and the one that decides."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        instance = os.urandom(8).hex()
        self.guard = Guard(config["machine"], instance, now(), os.path.exists(ARMED))
        self.mutex = threading.Lock()
        self.record: dict[str, Any] = mysql_role.read(mysql_role.RECORD)
        self.facts: Facts | None = None
        self.followed = now()
        self.claim = ""
        self.strict_since: tuple[float, str, str] | None = None
        self.baseline = ""
        self.mark: tuple[float, str] | None = None
        self.peer: tuple[Report, float] | None = None
        self.client: Client | None = None
        self.quiet_until = 0.0
        self._said: dict[str, str] = {}

    def say(self, topic: str, text: str, level: int = 5) -> None:
        """Tell the journal, once as long as it stays the same."""
        if self._said.get(topic) != text:
            self._said[topic] = text
            if text:
                print(f"<{level}>{text}", flush=True)

    # --- talking ---------------------------------------------------------------------------------

    def report(self) -> Report:
        """What is true now."""
        found, guard, record = self.facts, self.guard, self.record
        return Report(
            guard.machine,
            guard.instance,
            int(record.get("epoch", 0)),
            str(record.get("primary", "")),
            found is not None,
            found.server if found else "",
            found.have if found else "",
            now() - self.followed,
            guard.revoked,
            self.claim,
            now() - max(guard.heard, guard.granted),
            found.receiving if found else False,
            guard.refused,
        )

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer the other guard."""
        said = report(question)
        with self.mutex:
            epoch, primary = int(self.record.get("epoch", 0)), str(self.record.get("primary", ""))
            granted = self.guard.answer(said, epoch, primary, now())
            self.peer = (said, now())
            return {"report": values(self.report()), "granted": granted}

    def ask_supervisor(self) -> None:
        """One round with the supervisor."""
        with self.mutex:
            sent, mine = now(), self.report()
        said = wire.ask(self.config["supervisor"], self.config["secret"], values(mine))
        with self.mutex:
            if not self.guard.armed:
                with open(ARMED, "w"):
                    pass
            self.guard.told(word(said["word"]), bool(said["granted"]), sent)

    def ask_peer(self) -> None:
        """One round with the other guard; its machine's database is greeted when that fails."""
        (address,) = self.record["peers"].values()
        with self.mutex:
            sent, mine = now(), self.report()
        try:
            said = wire.ask(address, self.config["secret"], values(mine))
        except wire.WireError:
            if wire.greets(address):
                with self.mutex:
                    self.guard.heard = now()
            raise
        with self.mutex:
            theirs = report(said["report"])
            self.peer = (theirs, now())
            if theirs.up:
                self.guard.heard = now()
            if said["granted"]:
                self.guard.peer_granted(sent)

    def talk(self) -> None:
        """Begin to talk, in threads."""

        def loop(round_: Any) -> None:
            while True:
                with contextlib.suppress(wire.WireError, KeyError, ValueError, TypeError, OSError):
                    round_()
                time.sleep(POLL)

        wire.serve(self.config["address"], self.config["secret"], self.answer)
        for each in (self.ask_supervisor, self.ask_peer):
            threading.Thread(target=loop, args=(each,), daemon=True).start()

    # --- deciding --------------------------------------------------------------------------------

    def look(self) -> Facts | None:
        """Learn how the server is; None when it does not answer."""
        record = mysql_role.read(mysql_role.RECORD)
        try:
            if self.client is None:
                self.client = mysql_role.connect(0.0, 1.0)
            found: Facts | None = facts(self.client)
        except MysqlError:
            self.drop()
            found = None
        with self.mutex:
            self.record, self.facts = record, found
        return found

    def tick(self) -> None:
        """Look at the server and do what follows."""
        found, record = self.look(), self.record
        with self.mutex:
            leads = record.get("primary") == self.guard.machine
            lost = leads and self.guard.armed and not self.guard.leased(now())
        if lost:
            self.fence(found)
        if found is None:
            self.strict_since, self.claim = None, ""
        elif leads:
            self.lead(found, record)
        else:
            self.followed, self.claim, self.strict_since = now(), "", None
            self.obey(found, record)

    def drop(self) -> None:
        """Forget the session."""
        if self.client is not None:
            self.client.close()
        self.client = None

    def fence(self, found: Facts | None) -> None:
        """Take no writes, at once; whoever cannot be told is killed."""
        if found is not None and not found.writable:
            self.say("lease", "read-only: neither the supervisor nor the replica grants a lease", 4)
            return
        try:
            with mysql_role.connect(0.0, FENCE) as client:
                if client.value("SELECT @@global.super_read_only") == "0":
                    client.query("SET GLOBAL super_read_only = ON")
                    self.say("lease", "no lease any more: fenced, read-only", 2)
        except MysqlError as error:
            if error.text.startswith("mysqld does not answer"):
                return  # it does not run, and starts read-only
            self.say("lease", f"no lease any more, and {error}: mysqld is killed", 2)
            kill = ["systemctl", "kill", "--signal=KILL", "mysql.service"]
            subprocess.run(kill, check=False, timeout=10)
            self.drop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mysql_role.MARK)

    def lead(self, found: Facts, record: dict[str, Any]) -> None:
        """The primary's part."""
        if not self.guard.leased(now()):
            return
        if not found.writable:
            self.assume(record)
            return
        self.say("lease", "")
        peer = self.peer
        fresh = peer is not None and now() - peer[1] < FRESH
        if peer and fresh and found.clients and peer[0].receiving:
            self.followed = peer[1]
        with contextlib.suppress(MysqlError):
            self.commits(found, int(record["epoch"]), peer[0] if peer and fresh else None)

    def commits(self, found: Facts, epoch: int, peer: Report | None) -> None:
        """Commits are strict, or alone with permission; and what the replica has, is claimed."""
        assert self.client is not None
        with self.mutex:
            alone = self.guard.alone(epoch)
        if not self.guard.armed:
            return
        if alone and not self.caught_up(found, peer):
            self.strict_since, self.claim = None, ""
            if found.strict:
                self.say("commits", "the replica is recorded as not promotable: going on alone", 4)
                mysql_role.commit_alone(self.client)
            return
        if not (found.strict and found.active):
            self.strict_since, self.claim = None, ""
            mysql_role.commit_strictly(self.client)
            with self.mutex:
                self.guard.revoke()
            return
        self.mark = None
        key = (found.server, found.switched)
        if self.strict_since is None or self.strict_since[1:] != key:
            self.strict_since, self.claim, self.baseline = (now(), *key), "", ""
            return
        with self.mutex:
            self.guard.revoke()
        if now() - self.strict_since[0] < SETTLED:
            return
        self.baseline = self.baseline or found.executed
        self.claim = ""
        if peer and peer.server and found.clients:
            lacking = mysql_replica.subtract(self.client, self.baseline, peer.have)
            if not lacking:
                self.claim = peer.server
                self.say("commits", "every commit waits for the replica")

    def caught_up(self, found: Facts, peer: Report | None) -> bool:
        """Whether the replica follows, and has by now what was committed here a moment ago.

        MySQL's own word on it, Rpl_semi_sync_source_status, changes only with the next commit.
        """
        if peer is None or now() - self.followed > 1.0 or self.client is None:
            self.mark = None
            return False
        if self.mark is None or now() - self.mark[0] > CAUGHT_UP:
            self.mark = (now(), found.executed)
        return not mysql_replica.subtract(self.client, self.mark[1], peer.have)

    def assume(self, record: dict[str, Any]) -> None:
        """Become writable: recorded as primary, with a lease."""
        if now() < self.quiet_until:
            return
        silent = self.peer is None or now() - self.peer[1] > FRESH
        dead = tuple(record["peers"]) if silent else ()
        try:
            with mysql_role.lock(), mysql_role.connect(0.0, 30.0) as client:
                if mysql_role.read(mysql_role.RECORD) != record:
                    return
                mysql_replica.lead(client, record, DRAIN, lambda _: None, dead)
            self.say("role", f"takes writes, in epoch {record['epoch']}")
        except (Failed, MysqlError) as error:
            self.say("role", f"not made writable: {error}", 3)
            self.quiet_until = now() + 1.0

    def obey(self, found: Facts, record: dict[str, Any]) -> None:
        """The replica's part: carry out an order, or refuse it."""
        with self.mutex:
            serial = self.guard.ordered(int(record.get("epoch", 0)), record.get("primary", ""))
            if not serial:
                return
            why = self.guard.accept(serial, found.server, found.receiving, now())
        if why:
            self.say("order", f"order {serial} is refused: {why}", 4)
            return
        self.say("order", f"order {serial}: {record['primary']} is dead, taking its place", 2)
        try:
            self.succeed(found.server, record)
        except (Failed, MysqlError) as error:
            self.say("order", f"order {serial} is refused: {error}", 3)
            with self.mutex:
                self.guard.refuse(serial)
            with contextlib.suppress(MysqlError), mysql_role.connect(0.0, 10.0) as client:
                client.query("START REPLICA")

    def succeed(self, server: str, record: dict[str, Any]) -> None:
        """Acknowledge nothing any more, apply what was received, record this machine as primary.

        Raises:
            Failed: when something was received that cannot be applied.
            MysqlError: when the server does not answer.
        """
        with mysql_role.lock(), mysql_role.connect(0.0, 30.0) as client:
            client.query("STOP REPLICA IO_THREAD")
            mysql_replica.apply_received(client, DRAIN, lambda _: None)
            if identity() != server or mysql_role.read(mysql_role.RECORD) != record:
                raise Failed("the database or its role changed meanwhile")
            after = {**record, "primary": record["machine"], "epoch": int(record["epoch"]) + 1}
            mysql_ops.write_record(after)
            folder = os.open(os.path.dirname(mysql_role.RECORD), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        with self.mutex:
            self.record = after
            self.guard.accepting = 0


def stopped() -> int:
    """After the daemon was stopped for good: commits are what the configuration says."""
    if not mysql_role.autopromoted():
        with contextlib.suppress(MysqlError), mysql_role.connect(0.0, 5.0) as client:
            mysql_role.commit_alone(client)
    return 0


def main() -> int:
    """Guard this machine's database until told to stop."""
    if "--stopped" in sys.argv:
        return stopped()
    daemon = Daemon(mysql_role.read(mysql_role.AUTOPROMOTE))
    daemon.look()
    daemon.talk()
    time.sleep(min(1.0, MARGIN / 2))  # the lease of the process before this one may still be good
    while True:
        daemon.tick()
        time.sleep(TICK)


if __name__ == "__main__":
    sys.exit(main())
