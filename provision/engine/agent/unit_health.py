"""Health of systemd units over time: automatic restarts, timers, failed units, the journal."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from provision.engine.agent.process import must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector
from provision.engine.agent.services import last_lines
from provision.engine.agent.suspension import PROPERTY, suspended_processes, suspension

PROPERTIES = (
    "Id,LoadState,ActiveState,UnitFileState,Result,NRestarts,ActiveEnterTimestampMonotonic,"
    "LastTriggerUSec,NextElapseUSecRealtime,NextElapseUSecMonotonic,ConditionResult,"
    f"ConditionTimestampMonotonic,{PROPERTY}"
)

RESTART_MESSAGE = "5eb03494b6584870a536b337290809b3"
"""MESSAGE_ID of "Scheduled restart job" (systemd's catalog, "An automatic restart of a unit")."""

WANTS = "/etc/systemd/system/{}.target.wants"
"""Links to the units that are enabled."""

JOURNAL_SOCKET = "/run/systemd/journal/io.systemd.journal"
"""journald's Varlink interface; ``Synchronize`` returns when everything is written to disk."""

JOURNAL_SECONDS = 3.0
"""How long journald may take to respond."""


@dataclass(frozen=True)
class UnitHealth:
    """One systemd unit.

    Args:
        load: ``loaded``, ``masked``, ``not-found`` …
        active: ActiveState.
        enabled: UnitFileState; empty for a unit that does not exist.
        result: of the last run, such as ``success``, ``exit-code`` or ``oom-kill``.
        since: seconds since it became active; 0 when it was not.
        restarts: automatic ones since its last start by hand (NRestarts).
        recent_restarts: those of the last ``window`` seconds.
        next_run: seconds until a timer elapses; None for none.
        last_run: seconds since a timer last elapsed; None for never.
        condition: False when systemd did not start it because of a condition.
        journal: the last lines of a unit that failed or restarted by itself in the window.
        suspended: what suspends an active unit (`suspension`); otherwise empty.
    """

    load: str
    active: str
    enabled: str
    result: str = ""
    since: float = 0.0
    restarts: int = 0
    recent_restarts: int = 0
    next_run: float | None = None
    last_run: float | None = None
    condition: bool = True
    journal: str = ""
    suspended: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel killed a process of it for lack of memory."""
        return self.result == "oom-kill" or "oom-kill" in self.journal


@dataclass(frozen=True)
class UnitsHealth:
    """The units that a lab or Debian needs, and all failed ones.

    Args:
        units: by name.
        failed: names of all failed units.
        enabled: names of the timers and sockets that are enabled.
        uptime: seconds since the machine booted; in a container, since it started.
    """

    units: Mapping[str, UnitHealth] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    uptime: float = 0.0


@dataclass(frozen=True)
class JournalHealth:
    """Whether journald wrote everything to disk when it was asked to; why not otherwise."""

    error: str = ""


def units_probe(names: Iterable[str], window: float) -> Probe[UnitsHealth]:
    """The health of units.

    Args:
        names: with suffixes.
        window: seconds in which automatic restarts are counted.
    """
    args = {"names": sorted(set(names)), "window": window}
    return Probe("units-health", "units health", args, UnitsHealth)


def journal_probe(factor: float) -> Probe[JournalHealth]:
    """Whether journald is alive and writes.

    Args:
        factor: by which `JOURNAL_SECONDS` are multiplied.
    """
    args = {"seconds": JOURNAL_SECONDS * factor}
    return Probe("journal-health", "journal health", args, JournalHealth)


@collector("units-health")
def collect_units(args: Args) -> UnitsHealth:
    """See `units_probe`."""
    listed = run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full"])
    failed = [line.split()[0] for line in listed.stdout.splitlines() if line.split()]
    enabled = [*_enabled("timers"), *_enabled("sockets")]
    names = list(dict.fromkeys([*args["names"], *failed, *enabled]))
    argv = ["systemctl", "show", f"--property={PROPERTIES}", "--", *names]
    blocks = must(["env", "TZ=UTC", *argv]).stdout.strip("\n").split("\n\n")
    clock, realtime = time.clock_gettime(time.CLOCK_MONOTONIC), time.time()
    units, processes = {}, suspended_processes()
    for name, block in zip(names, blocks, strict=True):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        unit = parse_unit_health(values, clock, realtime)
        unit = replace(unit, suspended=suspension(name, values, processes))
        units[name] = _with_journal(name, unit, args)
    return UnitsHealth(units, tuple(failed), tuple(enabled), _uptime())


def _enabled(target: str) -> list[str]:
    """The units that a target wants by links in /etc; templates of instances are no units."""
    folder = WANTS.format(target)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name for name in names if name.isascii() and "@." not in name)


def parse_unit_health(values: Mapping[str, str], monotonic: float, realtime: float) -> UnitHealth:
    """One unit from the properties of ``systemctl show`` with TZ=UTC.

    Args:
        monotonic: CLOCK_MONOTONIC in seconds.
        realtime: Unix time.
    """
    since = int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    last = _unix(values.get("LastTriggerUSec", ""))
    return UnitHealth(
        values.get("LoadState", ""),
        values.get("ActiveState", ""),
        values.get("UnitFileState", ""),
        values.get("Result", ""),
        since=max(0.0, monotonic - since) if since else 0.0,
        restarts=int(values.get("NRestarts") or 0),
        next_run=_next_run(values, monotonic, realtime),
        last_run=None if last is None else realtime - last,
        condition=values.get("ConditionResult") != "no"
        or values.get("ConditionTimestampMonotonic", "0") == "0",
    )


def _next_run(values: Mapping[str, str], monotonic: float, realtime: float) -> float | None:
    elapses = []
    at = _unix(values.get("NextElapseUSecRealtime", ""))
    if at is not None:
        elapses.append(at - realtime)
    text = values.get("NextElapseUSecMonotonic", "")
    if text not in ("", "0", "infinity"):
        elapses.append(parse_span(text) - monotonic)
    return min(elapses) if elapses else None


def _unix(text: str) -> float | None:
    """Unix time of a text such as ``Tue 2026-12-01 03:04:57 UTC``; None for none."""
    words = text.split()
    if len(words) != 4:
        return None
    date = datetime.strptime(f"{words[1]} {words[2]}", "%Y-%m-%d %H:%M:%S")
    return date.replace(tzinfo=UTC).timestamp()


UNITS_OF_TIME = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "w": 604800.0,
    "month": 2629800.0,
    "months": 2629800.0,
    "y": 31557600.0,
}


def parse_span(text: str) -> float:
    """A time span as systemd prints it (systemd.time(7)), such as ``1h 15min 6.51s``."""
    seconds = 0.0
    for word in text.split():
        digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        seconds += float(digits) * UNITS_OF_TIME.get(word[len(digits) :], 0.0)
    return seconds


def _with_journal(name: str, unit: UnitHealth, args: Args) -> UnitHealth:
    """Read the journal only for units that failed or restarted: it takes some 10 ms."""
    if unit.active == "failed":
        return replace(unit, journal=last_lines(name))
    if not unit.restarts or not 0 < unit.since < args["window"]:
        if unit.active == "activating" and unit.restarts:
            return replace(unit, recent_restarts=unit.restarts, journal=last_lines(name))
        return unit
    since = f"--since=@{time.time() - args['window']:.0f}"
    argv = ["journalctl", "--quiet", "--no-pager", "-o", "cat", since]
    entries = run([*argv, f"MESSAGE_ID={RESTART_MESSAGE}", f"UNIT={name}"], timeout=5)
    count = len(entries.stdout.splitlines()) if entries.ok else unit.restarts
    return replace(
        unit, recent_restarts=min(max(1, count), unit.restarts), journal=last_lines(name)
    )


def _uptime() -> float:
    """Seconds since PID 1 started, which in a container is its start."""
    with open("/proc/1/stat", encoding="utf-8", errors="replace") as file:
        started = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


@collector("journal-health")
def collect_journal(args: Args) -> JournalHealth:
    """See `journal_probe`."""
    call = {"method": "io.systemd.Journal.Synchronize", "parameters": {}}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(args["seconds"])
            connection.connect(JOURNAL_SOCKET)
            connection.sendall(json.dumps(call).encode() + b"\0")
            received = b""
            while not received.endswith(b"\0"):
                chunk = connection.recv(4096)
                if not chunk:
                    return JournalHealth("journald closed the connection")
                received += chunk
    except TimeoutError:
        return JournalHealth(f"journald does not respond in {args['seconds']:g} s")
    except OSError as error:
        return JournalHealth(f"journald does not accept connections: {error.strerror}")
    return JournalHealth(parse_reply(received))


def parse_reply(received: bytes) -> str:
    """The error in a Varlink reply; empty without one."""
    reply = json.loads(received.rstrip(b"\0"))
    return str(reply.get("error", ""))
