"""A database's answer, understood: who writes, who follows whom, how far behind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Status:
    """How a server is (see ``remote/mysql.py`` for what it was asked).

    Args:
        up: whether it answered.
        writable: whether it takes writes.
        epoch: the last promotion that it knows of; 0 when none.
        semisync_on: whether commits are meant to wait for a replica.
        semisync_active: whether they do now; False after a fall back to asynchronous.
        semisync_replicas: how many replicas acknowledge.
        source: the address that it replicates from, or empty.
        io_running: the receiving thread: ``Yes``, ``No``, ``Connecting``, or empty.
        sql_running: the applying thread: ``Yes``, ``No``, or empty.
        lag: seconds that the applying is behind the source's clock; None when not known.
        received: transactions that came over the wire, as a GTID set.
        executed: transactions that it has.
        purged: those of them that its binary logs no longer hold.
        binlog: its current binary log and position.
        error: what stopped replication, or why it does not answer.
        version: of MySQL.
        uuid: MySQL's own name for it.
        uptime: seconds.
    """

    up: bool = False
    writable: bool = False
    epoch: int = 0
    semisync_on: bool = False
    semisync_active: bool = False
    semisync_replicas: int = 0
    source: str = ""
    io_running: str = ""
    sql_running: str = ""
    lag: int | None = None
    received: str = ""
    executed: str = ""
    purged: str = ""
    binlog: str = ""
    error: str = ""
    version: str = ""
    uuid: str = ""
    uptime: int = 0

    @property
    def following(self) -> bool:
        """Whether both threads run."""
        return self.io_running == self.sql_running == "Yes"

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Status:
        """Understand the answer to ``{"want": "server"}``."""
        if not answer.get("up"):
            return cls(error=str(answer.get("error", "")))
        variables, status = answer["variables"], answer["status"]
        replica = answer["replica"] or {}
        on = variables.get("rpl_semi_sync_source_enabled") == "ON"
        lag = replica.get("Seconds_Behind_Source")
        errors = [replica.get("Last_IO_Error"), replica.get("Last_SQL_Error")]
        binlog = answer.get("binlog") or {}
        return cls(
            up=True,
            writable=variables["read_only"] == variables["super_read_only"] == "0",
            epoch=int(answer["epoch"].get("epoch") or 0),
            semisync_on=on,
            semisync_active=on and status.get("Rpl_semi_sync_source_status") == "ON",
            semisync_replicas=int(status.get("Rpl_semi_sync_source_clients") or 0),
            source=replica.get("Source_Host") or "",
            io_running=replica.get("Replica_IO_Running") or "",
            sql_running=replica.get("Replica_SQL_Running") or "",
            lag=int(lag) if lag is not None else None,
            received=_line(replica.get("Retrieved_Gtid_Set")),
            executed=_line(variables["gtid_executed"]),
            purged=_line(variables["gtid_purged"]),
            binlog=f"{binlog['File']}:{binlog['Position']}" if binlog else "",
            error="; ".join(error for error in errors if error),
            version=variables["version"],
            uuid=variables["server_uuid"],
            uptime=int(status.get("Uptime") or 0),
        )


def _line(gtids: str | None) -> str:
    return (gtids or "").replace("\n", "")
