"""Parsers of HAProxy's statistics: ``show stat`` and the master CLI's ``show proc``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass

from provision.services.haproxy.interface import BACKEND, STATIC_BACKEND

CSV_PREFIX = "# "
"""Begins the CSV header of ``show stat``; any other response is not statistics."""


@dataclass(frozen=True)
class ServerStatistics:
    """One backend server as one balancer reports it.

    Args:
        status: ``UP``, ``DOWN``, ``DRAIN``, ``MAINT`` …
        check: the last health check's result, such as ``L7OK``.
        weight: the effective weight.
        sessions: currently open.
        rate: sessions in the last second.
        total: sessions since HAProxy started.
        errors: failed connections and responses.
        retries: requests sent again, to this server or to another one.
        backup: whether it gets requests only while the servers before it are down.
        starting: whether it has just returned, and gets fewer requests (slowstart).
    """

    name: str
    status: str
    check: str
    weight: int
    sessions: int
    rate: int
    total: int
    errors: int
    retries: int
    backup: bool
    starting: bool

    @property
    def up(self) -> bool:
        """Whether it gets requests, or would if the servers before it failed."""
        return self.status.startswith(("UP", "no check"))


@dataclass(frozen=True)
class BackendStatistics:
    """How one balancer distributes requests.

    Args:
        algorithm: HAProxy's ``balance`` in effect.
        weights: the effective weight by server; 0 for a drained one.
    """

    algorithm: str
    weights: Mapping[str, int]


def _int(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _rows(text: str) -> csv.DictReader[str]:
    return csv.DictReader(text.removeprefix(CSV_PREFIX).splitlines())


def server_rows(text: str, backend: str = BACKEND) -> dict[str, dict[str, str]]:
    """The rows of a backend's servers in ``show stat``, by server name (management guide, 9.1).

    A drained server has weight 0 in the configuration, and HAProxy reports it as ``UP`` after a
    reload; its status is ``DRAIN`` here, as it is after a drain at run time.
    """
    servers = {}
    for row in _rows(text):
        if row["pxname"] != backend or row["svname"] in ("FRONTEND", "BACKEND"):
            continue
        drained = row["status"].startswith("UP") and row["weight"] == "0"
        servers[row["svname"]] = row | ({"status": "DRAIN"} if drained else {})
    return servers


def parse_servers(text: str, *, active_passive: bool = False) -> tuple[ServerStatistics, ...]:
    """The servers in the response to ``show stat``.

    Args:
        active_passive: whether all servers but the first one are backups.
    """
    return tuple(
        ServerStatistics(
            name=name,
            status=row["status"],
            check=row["check_status"].strip("* "),
            weight=_int(row["weight"]),
            sessions=_int(row["scur"]),
            rate=_int(row["rate"]),
            total=_int(row["stot"]),
            errors=_int(row["econ"]) + _int(row["eresp"]),
            retries=_int(row["wretr"]) + _int(row["wredis"]),
            backup=active_passive and position > 0,
            starting=row["throttle"] != "",
        )
        for position, (name, row) in enumerate(server_rows(text).items())
    )


def open_sessions(text: str, server: str) -> int:
    """The open sessions of a server in all backends that serve visitors."""
    backends = [server_rows(text, backend) for backend in (BACKEND, STATIC_BACKEND)]
    return sum(_int(rows[server]["scur"]) for rows in backends if server in rows)


def parse_backend(text: str) -> BackendStatistics | None:
    """The backend in the response to ``show stat``; None without it."""
    for row in _rows(text):
        if (row["pxname"], row["svname"]) == (BACKEND, "BACKEND"):
            weights = {name: _int(server["weight"]) for name, server in server_rows(text).items()}
            return BackendStatistics(row["algo"], weights)
    return None


def frontend_sessions(text: str, frontend: str) -> int:
    """The number of open sessions of a frontend, in the response to ``show stat``."""
    return sum(
        _int(row["scur"])
        for row in _rows(text)
        if (row["pxname"], row["svname"]) == (frontend, "FRONTEND")
    )


def parse_old_workers(text: str) -> tuple[int, ...]:
    """The process ids of workers from before a reload that still have connections.

    Args:
        text: the master CLI's response to ``show proc`` (management guide, 9.4.1): sections of
            lines that begin with a process id.
    """
    pids, in_section = [], False
    for line in text.splitlines():
        if line.startswith("#"):
            in_section = line.strip() == "# old workers"
        elif in_section and (pid := line.split(" ")[0]).isdigit():
            pids.append(int(pid))
    return tuple(pids)


@dataclass(frozen=True)
class Slots:
    """Open client connections, and HAProxy's ``maxconn``."""

    used: int
    limit: int


def parse_slots(text: str) -> Slots | None:
    """The slots in the response to ``show info``; None without them."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if "CurrConns" not in values or "Maxconn" not in values:
        return None
    return Slots(_int(values["CurrConns"]), _int(values["Maxconn"]))
