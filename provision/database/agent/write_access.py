"""Write access: whether this server may be writable, and the switch to writable and read-only.

MySQL always starts read-only. A server becomes writable only when the machine's own record names it
as primary and no other server objects.

Every promotion has a number, the epoch. It is a row in ``lab.epoch``; the new primary writes it
before anything else, and it is replicated. So each server knows the last promotion that it has
seen, and an old primary that returns finds a peer with a higher epoch and stays read-only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from provision.database.agent import semisync
from provision.database.agent.gtid import GtidSet
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ServerStatus
from provision.database.agent.session import MysqlSession
from provision.database.agent.status_query import query_peers, read_epoch, read_server_status
from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError

WRITABLE_MARK = "/run/foobar-lab/mysql-primary"
"""Holds the epoch in which this machine was made writable since it booted."""

FAILOVER_CONFIG = "/etc/foobar-lab/autopromote.json"
"""Exists while automatic failover is on; the guard then decides (see ``failover/agent``)."""


@dataclass(frozen=True)
class WriteVerdict:
    """Whether the server may be writable, and why.

    Args:
        access: ``grant``, ``wait`` for peers that do not respond, or ``deny``.
    """

    access: Literal["grant", "wait", "deny"]
    reason: str


def failover_enabled() -> bool:
    """Whether automatic failover is on, so that only the guard makes this server writable."""
    return os.path.exists(FAILOVER_CONFIG)


# --- the decision --------------------------------------------------------------------------------


def judge_write_access(
    record: RoleRecord,
    own: ServerStatus,
    peers: Mapping[str, ServerStatus],
    lacking: Mapping[str, GtidSet],
    *,
    silent_peers_safe: bool,
) -> WriteVerdict:
    """Decide whether this server may be writable. A pure function.

    Args:
        lacking: by peer, transactions of other servers that the peer has and this server lacks.
        silent_peers_safe: peers that do not respond cannot have been promoted: the controller has
            made sure, or this machine was writable in this epoch since it booted.
    """
    if not record.is_primary:
        return WriteVerdict("deny", f"{record.primary or 'no machine'} is recorded as primary")
    if own.epoch > record.epoch:
        return WriteVerdict(
            "deny",
            f"this server has seen epoch {own.epoch} ({own.primary}), "
            f"the record says {record.epoch}",
        )
    responding = {name: peer for name, peer in peers.items() if peer.up}
    for name, peer in responding.items():
        objection = _objection(record, own, name, peer, lacking.get(name, GtidSet()))
        if objection:
            return WriteVerdict("deny", objection)
    silent = {name: peer for name, peer in peers.items() if not peer.up}
    if silent and not silent_peers_safe:
        reasons = "; ".join(f"{name}: {peer.error}" for name, peer in silent.items())
        return WriteVerdict("wait", reasons)
    return WriteVerdict("grant", f"recorded as primary in epoch {record.epoch}, no peer objects")


def _objection(
    record: RoleRecord, own: ServerStatus, name: str, peer: ServerStatus, lacking: GtidSet
) -> str:
    if peer.writable:
        return f"{name} is writable (epoch {peer.epoch})"
    if peer.epoch > record.epoch:
        return (
            f"{peer.primary} was promoted in epoch {peer.epoch}, according to {name}; "
            f"the record here says {record.epoch}"
        )
    if peer.epoch > own.epoch and own.epoch < record.epoch - 1:
        return f"{name} has the data of epoch {peer.epoch}, this server that of epoch {own.epoch}"
    if lacking:
        return f"{name} has transactions of another server that this one lacks: {lacking}"
    return ""


def check_write_access(
    session: MysqlSession,
    record: RoleRecord,
    *,
    silent_peers_safe: bool,
    dead: tuple[str, ...] = (),
) -> WriteVerdict:
    """Query the server and its peers, and decide.

    Args:
        dead: peers that are known not to run; they are not queried.
    """
    own = read_server_status(session)
    addresses = {name: address for name, address in record.peers.items() if name not in dead}
    peers = query_peers(addresses)
    # Read again after the peers: this server may have applied more meanwhile.
    executed = GtidSet(session.value("SELECT @@global.gtid_executed"))
    lacking = {
        name: (peer.executed - executed).without_source(peer.uuid) for name, peer in peers.items()
    }
    return judge_write_access(record, own, peers, lacking, silent_peers_safe=silent_peers_safe)


# --- the switch ----------------------------------------------------------------------------------


def make_writable(
    session: MysqlSession, record: RoleRecord, permitted: Callable[[], bool] = lambda: True
) -> None:
    """Enable semi-sync's source side, write the epoch, then accept writes of all users.

    Args:
        permitted: asked last; the guard's lease may have ended meanwhile.

    Raises:
        AgentError: when it is not permitted any more; the server is read-only then.
    """
    strict = failover_enabled()
    if not strict:
        session.query("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    elif session.value("SELECT @@global.super_read_only") == "1":
        # The epoch is acknowledged to no user, so it need not wait for a replica: there may be
        # none.
        session.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
    # read_only stays on until the epoch is written: meanwhile only root can write.
    session.query("SET GLOBAL super_read_only = OFF")
    last = int(read_epoch(session).get("epoch") or 0)
    if last == 0:
        session.query("CREATE DATABASE IF NOT EXISTS lab")
        session.query(
            "CREATE TABLE IF NOT EXISTS lab.epoch (epoch BIGINT UNSIGNED PRIMARY KEY,"
            " machine VARCHAR(64) NOT NULL,"
            " since TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3))"
        )
    if last < record.epoch:
        session.query(
            "INSERT IGNORE INTO lab.epoch (epoch, machine) VALUES (%s, %s)",
            [record.epoch, record.machine],
        )
    if strict:
        semisync.require_replica(session)
    if not permitted():
        session.query("SET GLOBAL super_read_only = ON")
        raise AgentError("the lease ended meanwhile")
    session.query("SET GLOBAL read_only = OFF")
    os.makedirs(os.path.dirname(WRITABLE_MARK), exist_ok=True)
    with open(WRITABLE_MARK, "w") as file:
        file.write(f"{record.epoch}\n")


def refuse_writes(session: MysqlSession) -> None:
    """Refuse all writes; returns when running commits have ended."""
    # super_read_only waits for running commits and then refuses those of open transactions (the
    # manual, "super_read_only"); the timeout limits the wait for a session that holds a lock.
    session.query("SET SESSION lock_wait_timeout = 5")
    session.query("SET GLOBAL super_read_only = ON")
    remove_writable_mark()


def make_read_only(session: MysqlSession) -> None:
    """Refuse writes, and disable semi-sync's source side.

    The latter waits for a thread that wakes up only every 0.1 to 0.4 s, so it is not part of the
    switchover's pause.
    """
    refuse_writes(session)
    session.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")


def was_writable_in(epoch: int) -> bool:
    """Whether this machine was writable in this epoch since it booted."""
    return read_text(WRITABLE_MARK).strip() == str(epoch)


def remove_writable_mark() -> None:
    """Forget that this machine was writable since it booted."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(WRITABLE_MARK)
