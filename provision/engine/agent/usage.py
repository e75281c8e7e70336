"""How full a machine is: file systems, memory, ports, and file descriptors of services.

Everything is read from /proc and statvfs(2) in some milliseconds, without starting a program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector
from provision.engine.agent.suspension import parse_unit

PSEUDO = (
    *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
    *("devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs", "proc"),
    *("pstore", "ramfs", "rpc_pipefs", "securityfs", "squashfs", "sysfs", "tracefs"),
)
"""Types without space of their own."""

REMOTE = ("nfs", "cifs", "smb", "ceph", "fuse", "9p", "vboxsf")
"""Types whose statvfs(2) can hang; a lab stores nothing there."""

OUTSIDE = ("/dev", "/proc", "/sys", "/run/credentials")
"""Mount points without data, logs or sockets; /dev/shm is not among them."""

PRECISE = 0.5
"""Share of ephemeral ports in use from which they are counted exactly."""


@dataclass(frozen=True)
class FileSystem:
    """One writable file system, in the terms of df(1).

    Args:
        mount: where it is mounted.
        size: bytes that unprivileged users can use at most.
        free: bytes that are left of them.
        inodes: 0 where the file system has no fixed number.
    """

    mount: str
    size: int
    free: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True)
class OpenFiles:
    """The process of a service that is closest to its limit of open file descriptors.

    Args:
        limit: RLIMIT_NOFILE, the soft limit.
    """

    unit: str
    pid: int
    used: int
    limit: int


@dataclass(frozen=True)
class Usage:
    """What is used of a machine.

    Args:
        memory: total bytes.
        available: bytes that processes can still get (proc(5), MemAvailable).
        ports: size of the range of ephemeral ports.
        ports_used: of that range.
        open_files: one entry per systemd service.
    """

    filesystems: tuple[FileSystem, ...] = ()
    memory: int = 0
    available: int = 0
    ports: int = 0
    ports_used: int = 0
    open_files: tuple[OpenFiles, ...] = ()


def usage_probe() -> Probe[Usage]:
    """How full the machine is."""
    return Probe("usage", "usage", {}, Usage)


@collector("usage")
def collect_usage(args: Args) -> Usage:
    """See `usage_probe`."""
    mounts = parse_mounts(_read("/proc/self/mountinfo"))
    memory = parse_memory(_read("/proc/meminfo"))
    low, high = (int(word) for word in _read("/proc/sys/net/ipv4/ip_local_port_range").split())
    return Usage(
        tuple(_filesystems(mounts)),
        memory.get("MemTotal", 0),
        memory.get("MemAvailable", 0),
        high - low + 1,
        _ports_used(low, high),
        tuple(_open_files()),
    )


# --- file systems --------------------------------------------------------------------------------


def parse_mounts(text: str) -> list[str]:
    """The mount points of writable file systems with space of their own, each device once.

    Args:
        text: of /proc/PID/mountinfo (proc_pid_mountinfo(5)). A mount point that is covered by a
            later mount is left out.
    """
    mounts: dict[str, tuple[str, bool]] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()[0]
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        relevant = (
            kind not in PSEUDO
            and not kind.startswith(REMOTE)
            and "rw" in fields[5].split(",")
            and (mount == "/dev/shm" or not _is_below(mount, OUTSIDE))
        )
        mounts.pop(mount, None)
        mounts[mount] = (fields[2], relevant)
    devices: dict[str, str] = {}
    for mount, (device, relevant) in mounts.items():
        if relevant:
            devices.setdefault(device, mount)
    return list(devices.values())


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _filesystems(mounts: Iterable[str]) -> Iterator[FileSystem]:
    for mount in mounts:
        try:
            status = os.statvfs(mount)
        except OSError:
            continue  # unmounted meanwhile
        if not status.f_blocks:
            continue
        used = status.f_blocks - status.f_bfree
        size = (used + status.f_bavail) * status.f_frsize
        free = status.f_bavail * status.f_frsize
        yield FileSystem(mount, size, free, status.f_files, status.f_ffree)


def parse_memory(text: str) -> dict[str, int]:
    """The values of /proc/meminfo in bytes."""
    values = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            values[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return values


# --- ports and file descriptors ------------------------------------------------------------------


def _ports_used(low: int, high: int) -> int:
    estimate = parse_tcp_sockets(_read("/proc/net/sockstat"))
    if estimate < PRECISE * (high - low + 1):
        return min(estimate, high - low + 1)
    return len(local_ports(_read("/proc/net/tcp"), low, high))


def parse_tcp_sockets(text: str) -> int:
    """The number of TCP sockets, including those in TIME_WAIT, in /proc/net/sockstat."""
    for line in text.splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            values = dict(zip(words[1::2], words[2::2], strict=False))
            return int(values.get("inuse", 0)) + int(values.get("tw", 0))
    return 0


def local_ports(text: str, low: int, high: int) -> set[int]:
    """The local ports between two numbers, inclusive, in /proc/net/tcp."""
    ports = set()
    for line in text.splitlines()[1:]:
        fields = line.split(maxsplit=2)
        port = int(fields[1].rpartition(":")[2], 16)
        if low <= port <= high:
            ports.add(port)
    return ports


def _open_files() -> Iterator[OpenFiles]:
    closest: dict[str, OpenFiles] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            unit = parse_unit(_read(f"/proc/{pid}/cgroup"))
            if not unit:
                continue
            used = len(os.listdir(f"/proc/{pid}/fd"))
            limit = parse_limit(_read(f"/proc/{pid}/limits"))
        except OSError:
            continue  # the process has ended
        entry = OpenFiles(unit, int(pid), used, limit)
        other = closest.get(unit)
        if limit and (other is None or limit - used < other.limit - other.used):
            closest[unit] = entry
    yield from (closest[unit] for unit in sorted(closest))


def parse_limit(text: str) -> int:
    """The soft limit of open files in /proc/PID/limits; 0 when it is unlimited."""
    match = re.search(r"^Max open files\s+(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode(errors="replace")
