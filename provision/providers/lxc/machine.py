"""One machine's life: made, started, stopped, killed, removed."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from provision.core.errors import ProviderError
from provision.core.lab import Lab, Machine
from provision.core.report import Report
from provision.providers.lxc import places
from provision.providers.lxc.definition import archive, config_text, new_host_key
from provision.providers.lxc.privileged import run, write

HALT = 60
"""Seconds for a clean stop; a MySQL primary has been seen to take 12."""

SSHD = 60
"""Seconds from the start to sshd's banner; usually one or two."""

SOCKETS = Path("/proc/net/unix")
INTERFACES = Path("/sys/class/net")
CGROUPS = Path("/sys/fs/cgroup")


def create(lab: Lab, machine: Machine, lower: Sequence[Path], user: str, key: str) -> None:
    """Make a machine's folder; whatever an interrupted attempt left is removed first.

    The configuration comes last: a folder without it is not a machine and has no data.
    """
    at = places.of(lab)
    folder = at.machine(machine.name)
    host_key = new_host_key()
    doing = f"making {machine.name}"
    run(doing, ["rm", "-rf", "--one-file-system", "--", folder])
    run(doing, ["install", "-d", "-m", "755", "--", at.directory, at.host_keys])
    run(doing, ["install", "-d", "-m", "700", "--", folder])
    files = archive(lab, machine, user, key, host_key)
    run(doing, ["tar", "-x", "-p", "--numeric-owner", "-C", folder], stdin=files)
    write(at.host_keys / f"{machine.name}.pub", host_key.public + "\n")
    write(folder / "config", config_text(lab, machine, lower))


def start(lab: Lab, name: str) -> None:
    """Start a machine; it returns when its first process runs, not when it has booted.

    Raises:
        ProviderError: when LXC cannot start it; with what its log says.
    """
    at = places.of(lab)
    log = at.machine(name) / "log"
    run(f"starting {name}", ["rm", "-f", "--", log])
    remove_cgroups(at, name)
    cable = at.veth(lab.machine(name).address)
    if (INTERFACES / cable).exists():  # its machine is dead, and the kernel has yet to notice
        run(f"starting {name}", ["ip", "link", "delete", "dev", cable], ok=())
    place = ["-P", str(at.directory), "-n", name]
    done = run(f"starting {name}", ["lxc-start", *place, "-d", "-l", "ERROR", "-o", log], ok=())
    if done.status != 0:
        logged = run(f"reading the log of {name}", ["tail", "-n", "20", log], ok=()).out
        raise ProviderError(
            f"{name} does not start (its configuration: {at.machine(name)}/config)",
            "run this again; when it stays: invoke lab.destroy, then scripts/up",
            output=logged or done.said,
        )


def stop(lab: Lab, name: str) -> None:
    """Stop a machine as its power button would; its power is cut after `HALT` seconds."""
    at = places.of(lab)
    run(f"stopping {name}", ["lxc-stop", "-P", at.directory, "-n", name, "-t", str(HALT)], ok=())
    cut(lab, name)


def cut(lab: Lab, name: str) -> None:
    """Cut a machine's power, and end what a lost LXC monitor may have left running."""
    at = places.of(lab)
    if name in running(at, SOCKETS.read_text()):
        run(f"killing {name}", ["lxc-stop", "-P", at.directory, "-n", name, "-k"], ok=(0, 1, 2))
    orphans = processes(at, name)
    if orphans:
        run(f"killing {name}", ["kill", "-9", *map(str, orphans)], ok=())
    deadline = time.monotonic() + 20
    while name in running(at, SOCKETS.read_text()) or processes(at, name):
        if time.monotonic() > deadline:
            raise ProviderError(
                f"{name} does not stop, although its processes were killed 20 s ago",
                f"sudo lxc-info -P {at.directory} -n {name}",
            )
        time.sleep(0.05)


def processes(at: places.Places, name: str) -> tuple[int, ...]:
    """The processes that run in a machine, by its control groups (v1 or v2)."""
    wanted = f"/{at.cgroup('payload', name)}"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                groups = (entry / "cgroup").read_text().splitlines()
            except OSError:
                continue
            paths = (line.split(":", 2)[-1] for line in groups)
            if any(f"{path}/".startswith(f"{wanted}/") for path in paths):
                found.append(int(entry.name))
    return tuple(found)


def running(at: places.Places, sockets: str) -> frozenset[str]:
    """The machines whose LXC monitor runs.

    Args:
        at: the lab's places.
        sockets: the content of /proc/net/unix. Each monitor listens on an abstract socket named
            ``<lxcpath>/<name>/command``; anybody may read that, so asking needs no root.
    """
    prefix, suffix = f"@{at.directory}/", "/command"
    names = (line.rsplit(" ", 1)[-1] for line in sockets.splitlines())
    return frozenset(
        name.removeprefix(prefix).removesuffix(suffix)
        for name in names
        if name.startswith(prefix) and name.endswith(suffix)
    )


def boot(lab: Lab, name: str, report: Report) -> None:
    """Start a machine unless it runs, and wait until its sshd answers.

    It may seem to run and stop at once: the start of an interrupted ``lab.up``, whose LXC gives
    up when nobody listens any more. Such a machine is started again.

    Raises:
        ProviderError: when it does not start, stops again, or its sshd stays silent.
    """
    for _ in range(2):
        if not is_running(lab, name):
            report(name, "starting")
            cut(lab, name)
            start(lab, name)
        report(name, "waiting for sshd")
        if greeted(lab, name):
            report(name, "up")
            return
    raise ProviderError(
        f"{name} starts and stops again while it boots",
        f"sudo tail {places.of(lab).machine(name)}/console",
    )


def is_running(lab: Lab, name: str) -> bool:
    """Whether a machine's LXC monitor runs now."""
    return name in running(places.of(lab), SOCKETS.read_text())


def greeted(lab: Lab, name: str, seconds: float = SSHD) -> bool:
    """Wait for sshd's greeting; False when the machine stops meanwhile.

    Raises:
        ProviderError: when it runs for that many seconds and sshd does not answer.
    """
    address = lab.machine(name).address
    deadline = time.monotonic() + seconds
    last = "no answer"
    while is_running(lab, name):
        if time.monotonic() > deadline:
            raise ProviderError(
                f"{name} runs, but its sshd at {address} did not answer within {seconds:g} s "
                f"({last})",
                "invoke lab.halt, then scripts/up",
            )
        try:
            with socket.create_connection((str(address), 22), timeout=2) as connection:
                connection.settimeout(5)
                if connection.recv(64).startswith(b"SSH-"):
                    return True
                last = "something else than sshd answered"
        except OSError as error:
            last = str(error)
        time.sleep(0.05)
    return False


def remove(lab: Lab, name: str) -> None:
    """Remove a machine that does not run; its configuration goes first, so that half is nothing."""
    at = places.of(lab)
    folder = at.machine(name)
    doing = f"removing {name}"
    run(doing, ["rm", "-f", "--", folder / "config", at.host_keys / f"{name}.pub"])
    run(doing, ["rm", "-rf", "--one-file-system", "--", folder])


def remove_cgroups(at: places.Places, name: str = "") -> None:
    """Remove the control groups, of one machine or of all, that a killed LXC monitor has left.

    With them LXC would not start the machine ("Failed to create monitor cgroup").
    """
    kinds = ("monitor", "payload") if name else ("*",)
    names = [at.cgroup(kind, name) + ("" if name else "*") for kind in kinds]
    # cgroup v2 has them at the top, v1 a level below: in each controller's hierarchy.
    found = [p for n in names for level in (n, f"*/{n}") for p in CGROUPS.glob(level)]
    if found:
        argv = ["find", *map(str, found), "-depth", "-type", "d", "-delete"]
        run("removing control groups", argv, ok=())
