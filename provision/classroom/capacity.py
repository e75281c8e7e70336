"""How many labs a host has room for: memory, disk, and limits of the kernel that labs share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import Topology
from provision.core.limits import Limits
from provision.registry import roles

PROC = Path("/proc")

MACHINE_MIB = 45
"""MiB of memory (PSS) of an idle machine without roles (scripts/bench --class)."""

RESERVE_MIB = 1024
"""Left for the host, the page cache and the commands."""

IN_INCUS = 1.4
"""More memory than with LXC: machines share no files, and Incus has a process for each."""

DISK_MIB = 450
"""Of a machine with its own files and a snapshot of them."""

DISK_RESERVE_MIB = 2048
INOTIFY_PER_MACHINE = 20
AIO_PER_DATABASE = 2300
KEYS_PER_MACHINE = 20
USER_KEYS_PER_MACHINE = 2
"""Of each user of a service, which has the same number in all machines, and a low limit."""

PROCESSES_PER_MACHINE = 150
"""Processes and threads, with some for a command and its backups."""


@dataclass(frozen=True)
class SharedResource:
    """One resource of the host.

    Args:
        needed: by one lab.
        free: on the host; None when unknown.
        unit: such as ``MiB``.
        hint: how to get more.
    """

    name: str
    needed: int
    free: int | None
    unit: str = ""
    hint: str = ""

    @property
    def fits(self) -> int | None:
        """For how many labs it is enough; None when it does not limit them."""
        if self.free is None or not self.needed:
            return None
        return max(0, self.free // self.needed)


@dataclass(frozen=True)
class Room:
    """What is free on a host; None for what is unknown.

    Args:
        inotify: instances (fs.inotify.max_user_instances).
        aio: requests (fs.aio-max-nr).
        keys: of root (kernel.keys.root_maxkeys).
        user_keys: of the user with the most keys (kernel.keys.maxkeys).
    """

    memory: int | None = None
    disk: int | None = None
    inotify: int | None = None
    aio: int | None = None
    keys: int | None = None
    user_keys: int | None = None
    processes: int | None = None


def resources(topology: Topology, limits: Limits, room: Room) -> tuple[SharedResource, ...]:
    """What one lab of a topology needs, and what the host has."""
    machines = len(topology.machines)
    databases = sum("mysql" in machine.roles for machine in topology.machines)
    by_role = {role.name: role.memory for role in roles()}
    memory = sum(
        MACHINE_MIB + sum(by_role[role] for role in machine.roles) for machine in topology.machines
    )
    return (
        SharedResource("memory", memory, room.memory, "MiB", "a smaller topology, or fewer teams"),
        SharedResource(
            "disk",
            min(DISK_MIB * machines, limits.disk or DISK_MIB * machines),
            room.disk,
            "MiB",
            "invoke lab.prune shows what can be freed",
        ),
        SharedResource(
            "inotify instances",
            INOTIFY_PER_MACHINE * machines,
            room.inotify,
            hint="sudo sysctl fs.inotify.max_user_instances=8192",
        ),
        SharedResource(
            "asynchronous I/O requests",
            AIO_PER_DATABASE * databases,
            room.aio,
            hint="sudo sysctl fs.aio-max-nr=4194304",
        ),
        SharedResource(
            "kernel keys of root",
            KEYS_PER_MACHINE * machines,
            room.keys,
            hint="sudo sysctl kernel.keys.root_maxkeys=1000000",
        ),
        SharedResource(
            "kernel keys of a user",
            USER_KEYS_PER_MACHINE * machines,
            room.user_keys,
            hint="sudo sysctl kernel.keys.maxkeys=20000",
        ),
        SharedResource(
            "processes",
            PROCESSES_PER_MACHINE * machines,
            room.processes,
            hint="sudo sysctl kernel.pid_max=4194304",
        ),
    )


def in_members(
    topology: Topology, limits: Limits, available: Iterable[int]
) -> tuple[SharedResource, ...]:
    """What one lab needs of a cluster, and what its members have; a lab is on one member.

    Args:
        available: MiB of memory on each member.
    """
    memory = resources(topology, limits, Room())[0]
    whole = sum(max(0, mib - RESERVE_MIB) // memory.needed for mib in available)
    return (
        SharedResource(
            "memory of members", memory.needed, whole * memory.needed, "MiB", memory.hint
        ),
    )


def require_room(
    count: int, running: int, needs: tuple[SharedResource, ...], where: str = "this host"
) -> None:
    """Refuse more labs than there is room for.

    Args:
        count: labs to start.
        running: labs of the class that run already.
        where: in messages.

    Raises:
        LabError: naming every resource that is not enough, and how many labs fit.
    """
    short = [r for r in needs if r.fits is not None and r.fits < count]
    if not short:
        return
    fit = min(r.fits for r in short if r.fits is not None)
    lines = [
        f"  - {r.name}: {r.free} {r.unit}".rstrip()
        + f" free, and a lab needs {r.needed} {r.unit}".rstrip()
        + f": enough for {r.fits}\n    fix: {r.hint}"
        for r in short
    ]
    more = " more" if running else ""
    raise LabError(
        f"{where} has room for {fit}{more} labs, and {count} would be started:\n"
        + "\n".join(lines),
        f"invoke class.up {running + fit}" if fit else "",
    )


def read_room(disk: int, raised: Mapping[str, int], proc: Path = PROC) -> Room:
    """What is free on this host.

    Args:
        disk: MiB that are free where machines are stored.
        raised: kernel parameters that the provider raises before it starts a machine.
    """

    def parameter(name: str) -> int | None:
        with suppress(OSError, ValueError, IndexError):
            value = int((proc / "sys" / name.replace(".", "/")).read_text().split()[0])
            return max(value, raised.get(name, 0))
        return None

    def less(limit: int | None, used: int | None) -> int | None:
        return None if limit is None or used is None else limit - used

    keys = dict(_keys(proc))
    memory = _available_mib(proc)
    pids = [v for n in ("kernel.pid_max", "kernel.threads-max") if (v := parameter(n)) is not None]
    return Room(
        memory=less(memory, RESERVE_MIB),
        disk=disk - DISK_RESERVE_MIB,
        inotify=less(parameter("fs.inotify.max_user_instances"), _inotify_instances(proc)),
        aio=less(parameter("fs.aio-max-nr"), parameter("fs.aio-nr")),
        keys=less(parameter("kernel.keys.root_maxkeys"), keys.get(0, 0)),
        user_keys=less(
            parameter("kernel.keys.maxkeys"),
            max((used for uid, used in keys.items() if uid), default=0),
        ),
        processes=less(min(pids) if pids else None, _tasks(proc)),
    )


def _available_mib(proc: Path) -> int | None:
    with suppress(OSError, ValueError):
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    return None


def _tasks(proc: Path) -> int | None:
    """Processes and threads on the host (proc(5), loadavg)."""
    with suppress(OSError, ValueError, IndexError):
        return int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    return None


def _keys(proc: Path) -> Iterator[tuple[int, int]]:
    """Keys in use by user id (proc(5), key-users)."""
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / "key-users").read_text().splitlines():
            uid, _, rest = line.partition(":")
            yield int(uid), int(rest.split()[2].partition("/")[0])


def _inotify_instances(proc: Path) -> int:
    """Instances on the host that this user may see."""
    count = 0
    for folder in proc.glob("[0-9]*/fd"):
        with suppress(OSError):
            count += sum(
                entry.readlink().name == "anon_inode:inotify" for entry in folder.iterdir()
            )
    return count
