"""The relay log of a replica: stop receiving, apply what was received, identify its content."""

from __future__ import annotations

import os
import threading
import time

from provision.database.agent.session import MysqlSession
from provision.database.agent.status_query import read_replica_status
from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError, run

GENERATION = "/run/foobar-lab/mysql-generation"
"""A new random value before received transactions are discarded."""


def relay_log_generation() -> str:
    """Identifies the content of the relay log; empty while nothing was discarded since boot."""
    return read_text(GENERATION).strip()


def start_new_generation() -> None:
    """Announce that received transactions are about to be discarded."""
    os.makedirs(os.path.dirname(GENERATION), exist_ok=True)
    with open(GENERATION, "w") as file:
        file.write(f"{os.urandom(8).hex()}\n")


def stop_receiver(session: MysqlSession) -> None:
    """Stop the receiver thread without waiting for its attempt to connect to a dead source.

    The thread stops only after that attempt, which lasts for replica_net_timeout. Killing its
    half-open socket (``ss -K``, where the kernel supports it) ends the attempt.
    """
    replica = read_replica_status(session)
    source = replica.source if replica else ""
    stopped = threading.Event()

    def kill_half_open() -> None:
        while not stopped.wait(0.1):
            run(["ss", "-K", "-tn", "state", "syn-sent", "dst", f"{source}:3306"], timeout=2)

    killer = threading.Thread(target=kill_half_open, daemon=True)
    killer.start()
    try:
        session.query("STOP REPLICA IO_THREAD")
    finally:
        stopped.set()
        killer.join()


def apply_relay_log(session: MysqlSession, seconds: float) -> None:
    """Wait until everything in the relay log is applied.

    Raises:
        AgentError: when it takes longer than ``seconds``; names the missing transactions.
    """
    replica = read_replica_status(session)
    if replica is None or not replica.received:
        return
    received = replica.received
    if replica.sql_running != "Yes":
        session.query("START REPLICA SQL_THREAD")
    deadline = time.monotonic() + seconds
    # Only 0 means that all of it is applied; each call waits up to a second.
    while session.value("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 1)", [received.text]) != "0":
        error = applier_error(session)
        if error or time.monotonic() > deadline:
            reason = "the applier stopped" if error else f"it takes longer than {seconds:.0f} s"
            missing = session.value(
                "SELECT GTID_SUBTRACT(%s, @@global.gtid_executed)", [received.text]
            )
            raise AgentError(f"the relay log was not applied, {reason}: {missing}", error)


def applier_error(session: MysqlSession) -> str:
    """The error that stopped the applier thread; empty while it runs."""
    replica = read_replica_status(session)
    return replica.sql_error if replica and replica.sql_running == "No" else ""
