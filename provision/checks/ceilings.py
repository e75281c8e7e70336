"""Checks of resources before they run out: disks, memory, ports, the journal, services' limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks import units
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.database import server_status
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.thresholds import (
    CEILING_PERCENT,
    CEILING_WARNING_PERCENT,
    DISK_USED_PERCENT,
    DISK_WARNING_PERCENT,
    FILES_RESERVE,
    LOOP_QUIET_SECONDS,
    MEMORY_AVAILABLE_PERCENT,
    MEMORY_WARNING_PERCENT,
    PORTS_RESERVE,
)
from provision.core.waiting import timeout_factor
from provision.engine.agent.http import socket_probe
from provision.engine.agent.protocol import Probe
from provision.engine.agent.unit_health import UnitsHealth, journal_probe
from provision.engine.agent.usage import FileSystem, Usage, usage_probe
from provision.engine.context import Context
from provision.services.haproxy.interface import SOCKET
from provision.services.haproxy.statistics import parse_slots

HAPROXY_INFO = socket_probe(SOCKET, "show info")

LAB_PATHS = ("/", "/var", "/srv", "/run", "/tmp")
"""Where the lab writes."""

TOO_MANY_CONNECTIONS = "1040"
"""MySQL's error when max_connections is reached."""


@dataclass(frozen=True)
class Level:
    """How much of a resource is used.

    Args:
        what: such as ``/run`` or ``connections``.
        reserve: so much must be free, whatever the share.
    """

    what: str
    used: int
    limit: int
    reserve: int = 0

    @property
    def percent(self) -> int:
        """Rounded up, as df(1) does."""
        return -(-100 * self.used // self.limit) if self.limit else 100

    def exceeds(self, percent: int) -> bool:
        """Whether more than this share is used."""
        return self.percent > percent


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """What is used of the machine, whether its journal writes, and HAProxy's slots."""
    yield usage_probe()
    yield journal_probe(timeout_factor())
    if "haproxy" in machine.roles:
        yield HAPROXY_INFO


def checks(context: Context) -> Iterator[Check]:
    """The ceilings of every machine and of the services of its roles."""
    for machine in context.lab.machines:
        name = machine.name
        # Machines of provider ssh have file systems that the lab does not use.
        needed = LAB_PATHS if context.state.provider == "ssh" else ()
        disk, inodes = partial(judge_disk, needed=needed), partial(judge_inodes, needed=needed)
        yield _usage(name, "disk", "disk", f"invoke lab.ssh {name} -- df -h", disk)
        yield _usage(name, "inodes", "disk", f"invoke lab.ssh {name} -- df -i", inodes)
        yield _memory(context, machine)
        hint = f"invoke lab.ssh {name} -- ss -s"
        yield _usage(name, "ports", "network", hint, judge_ports)
        yield _journal(name)
        restartable = {role.short_service for role in context.roles_of(machine) if role.service}
        for unit in context.services(machine):
            short = unit.removesuffix(".service")
            hint = f"invoke lab.ssh {name} -- sudo systemctl restart {short}"
            yield _ceiling(
                name, short, f"invoke lab.restart {short}" if short in restartable else hint
            )


def _usage(
    name: str, kind: str, service: str, hint: str, judge_usage: Callable[[Usage], Verdict]
) -> Check:
    def judge(observation: Observation) -> Verdict:
        usage = observation.result(name, usage_probe())
        if usage is None:
            return Verdict(False, f"{kind} below the limit", UNKNOWN)
        return judge_usage(usage)

    return Check(f"{kind}/{name}", name, service, hint, judge, requires.machine(name))


# --- file systems, ports -------------------------------------------------------------------------


def judge_levels(
    what: str, levels: Iterable[Level], failure: int, warning: int, text: Callable[[Level], str]
) -> Verdict:
    """The verdict of the fullest of several resources."""
    expected = f"at most {failure} % of {what} used"
    listed = list(levels)
    short = [level for level in listed if level.limit - level.used < level.reserve]
    full = [level for level in listed if level.exceeds(failure)] or short
    fullest = sorted(full or listed, key=lambda level: level.percent)[-1:]
    got = text(fullest[0]) if fullest else "nothing to measure"
    if full:
        others = [text(level) for level in full if level != fullest[0]]
        return Verdict(False, expected, got, "\n".join(others), cause=got)
    if fullest and fullest[0].exceeds(warning):
        return Verdict(False, expected, got, severity="warning", cause=got)
    return Verdict(True, expected, got)


def holding(usage: Usage, paths: Iterable[str]) -> tuple[FileSystem, ...]:
    """The file systems that hold some paths; all of them without paths."""
    if not paths:
        return usage.filesystems
    mounts = {filesystem.mount for filesystem in usage.filesystems}
    holders = set()
    for path in map(PurePosixPath, paths):
        above = (str(folder) for folder in (path, *path.parents))
        holders.add(next((folder for folder in above if folder in mounts), ""))
    return tuple(filesystem for filesystem in usage.filesystems if filesystem.mount in holders)


def judge_disk(usage: Usage, needed: tuple[str, ...] = ()) -> Verdict:
    """Blocks of the file systems that hold some paths; see `holding`."""

    def level(filesystem: FileSystem) -> Level:
        return Level(filesystem.mount, filesystem.size - filesystem.free, filesystem.size)

    def text(level: Level) -> str:
        full = "ENOSPC, " if level.used >= level.limit else ""
        return f"{level.what}: {full}{level.percent} % used of {size_text(level.limit)}"

    levels = [level(filesystem) for filesystem in holding(usage, needed)]
    return judge_levels("each disk", levels, DISK_USED_PERCENT, DISK_WARNING_PERCENT, text)


def judge_inodes(usage: Usage, needed: tuple[str, ...] = ()) -> Verdict:
    """Inodes of these file systems, where their number is fixed; see `holding`."""
    levels = [
        Level(filesystem.mount, filesystem.inodes - filesystem.inodes_free, filesystem.inodes)
        for filesystem in holding(usage, needed)
        if filesystem.inodes
    ]

    def text(level: Level) -> str:
        return f"{level.what}: {level.percent} % of {level.limit} inodes used"

    return judge_levels("all inodes", levels, DISK_USED_PERCENT, DISK_WARNING_PERCENT, text)


def judge_ports(usage: Usage) -> Verdict:
    """Ephemeral ports, which outgoing connections need."""
    level = Level("ephemeral ports", usage.ports_used, usage.ports, PORTS_RESERVE)
    return judge_levels(
        "the ephemeral ports",
        [level],
        CEILING_PERCENT,
        CEILING_WARNING_PERCENT,
        lambda used: f"{used.used} of {used.limit} ephemeral ports used",
    )


def size_text(size: int) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size} TiB"


# --- memory, journal -----------------------------------------------------------------------------


def _memory(context: Context, machine: Machine) -> Check:
    name = machine.name

    def judge(observation: Observation) -> Verdict:
        usage = observation.result(name, usage_probe())
        if usage is None:
            return Verdict(False, "available memory", UNKNOWN)
        return judge_memory(usage, units.health(context, observation, machine), name)

    hint = f"invoke lab.ssh {name} -- free -m"
    return Check(f"memory/{name}", name, "memory", hint, judge, requires.machine(name))


def judge_memory(usage: Usage, health: UnitsHealth, machine: str = "MACHINE") -> Verdict:
    """Available memory, and services that the kernel has killed for lack of it."""
    expected = f"at least {MEMORY_AVAILABLE_PERCENT} % available, nothing killed"
    killed = {name: unit for name, unit in health.units.items() if unit.out_of_memory}
    if killed:
        name, unit = next(iter(killed.items()))
        text = f"the kernel killed {', '.join(killed)}: out of memory"
        current = unit.active != "active" or unit.since < LOOP_QUIET_SECONDS
        return Verdict(
            False,
            expected,
            text,
            unit.journal,
            severity="error" if current else "warning",
            cause=text,
            hint=f"invoke lab.ssh {machine} -- sudo systemctl {units.repair_verb(unit)} {name}",
        )
    percent = 100 * usage.available // usage.memory if usage.memory else 0
    got = f"{percent} % of {size_text(usage.memory)} available"
    if percent >= MEMORY_WARNING_PERCENT:
        return Verdict(True, expected, got)
    severe = percent < MEMORY_AVAILABLE_PERCENT
    return Verdict(False, expected, got, severity="error" if severe else "warning", cause=got)


def _journal(name: str) -> Check:
    expected = "journald writes to disk"

    def judge(observation: Observation) -> Verdict:
        result = observation.result(name, journal_probe(timeout_factor()))
        got = UNKNOWN if result is None else result.error or expected
        return Verdict(got == expected, expected, got, cause=f"systemd-journald: {got}")

    service = "systemd-journald"
    hint = f"invoke lab.ssh {name} -- sudo systemctl restart {service}"
    sockets = (f"service/{name}/{service}.socket", f"service/{name}/{service}-dev-log.socket")
    prerequisites = (*requires.configured(name, service), f"service/{name}/{service}", *sockets)
    return Check(f"journal/{name}", name, service, hint, judge, prerequisites)


# --- services ------------------------------------------------------------------------------------


def _ceiling(name: str, short: str, hint: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        levels = list(_levels(observation, name, short))
        verdict = judge_levels(
            "every limit",
            levels,
            CEILING_PERCENT,
            CEILING_WARNING_PERCENT,
            lambda level: f"{short}: {level.used} of {level.limit} {level.what} used",
        )
        error = server_status(observation, name).error if short == "mysql" else ""
        if TOO_MANY_CONNECTIONS in error:
            return Verdict(False, verdict.expected, error, cause=f"mysql: {error}")
        return verdict

    # Not its drift: settings cannot be read from a server that accepts no more connections.
    prerequisites = (*requires.machine(name), f"service/{name}/{short}")
    return Check(f"ceiling/{name}/{short}", name, short, hint, judge, prerequisites)


def _levels(observation: Observation, name: str, short: str) -> Iterator[Level]:
    """The limits of one service; none while it does not run."""
    usage = observation.result(name, usage_probe()) or Usage()
    for entry in usage.open_files:
        if entry.unit == f"{short}.service":
            yield Level("file descriptors", entry.used, entry.limit, FILES_RESERVE)
    if short == "mysql":
        status = server_status(observation, name)
        if status.up and status.max_connections:
            yield Level("connections", status.connections, status.max_connections)
    if short == "haproxy":
        reply = observation.result(name, HAPROXY_INFO)
        slots = parse_slots(reply.text) if reply and not reply.error else None
        if slots is not None:
            yield Level("connection slots (maxconn)", slots.used, slots.limit)
