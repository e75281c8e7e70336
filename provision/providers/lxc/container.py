"""One container: create, start, stop, kill and remove it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

from provision.core.errors import ProviderError
from provision.core.lab import Lab, Machine
from provision.core.report import Report
from provision.core.waiting import Timeout, wait_until
from provision.providers.image_recipe import load_recipe
from provision.providers.lxc.container_config import (
    machine_files,
    new_host_key,
    render_config,
    source_files,
)
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import make_folders, remove_tree, run, write_file

SHUTDOWN_SECONDS = 60
"""For a clean shutdown; a MySQL primary can take 12."""

SSHD_SECONDS = 60
"""From the start of a container to sshd's banner; usually one or two."""

RUNNING_SSHD_SECONDS = 15
"""To sshd's banner in a container that runs already; an interrupted command may have started it."""

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Root's in Debian."""

SOCKETS = Path("/proc/net/unix")
INTERFACES = Path("/sys/class/net")
CGROUPS = Path("/sys/fs/cgroup")


def create(lab: Lab, machine: Machine, lower: Sequence[Path], user: str, key: str) -> None:
    """Create a machine's folder from scratch, replacing what an interrupted attempt left.

    The configuration is written last: a folder without one is not a machine and holds no data.
    """
    paths = LabPaths.of(lab)
    folder = paths.machine(machine.name)
    host_key = new_host_key()
    remove_tree(folder)
    make_folders(paths.directory, paths.host_keys)
    make_folders(folder, mode="700")
    run(
        f"creating {machine.name}",
        ["tar", "-x", "-p", "--numeric-owner", "-C", folder],
        stdin=machine_files(lab, machine, user, key, host_key, source_files(load_recipe())),
    )
    write_file(paths.host_keys / f"{machine.name}.pub", host_key.public + "\n")
    write_file(folder / "config", render_config(lab, machine, lower))


def start(lab: Lab, name: str, paths: LabPaths | None = None) -> None:
    """Start a container; returns before it has booted.

    Args:
        paths: of the set that it is of; the current one by default.

    Raises:
        ProviderError: when LXC cannot start it; with the last lines of its log.
    """
    paths = paths or LabPaths.of(lab)
    action = f"starting {name}"
    log = paths.machine(name) / "log"
    run(action, ["rm", "-f", "--", log])
    remove_cgroups(paths, name)
    veth = paths.veth(lab.machine(name).address)
    if (INTERFACES / veth).exists():  # of a killed container; the kernel removes it later
        run(action, ["ip", "link", "delete", "dev", veth], ok=())
    options = ["-P", str(paths.lxc), "-n", name, "-d", "-l", "ERROR", "-o", str(log)]
    result = run(action, ["lxc-start", *options], ok=())
    if not result.ok:
        logged = run(f"reading the log of {name}", ["tail", "-n", "20", log], ok=()).stdout
        raise ProviderError(
            f"{name} does not start (its configuration: {paths.machine(name)}/config)",
            f"run the same command again; if it keeps failing: invoke lab.rebuild {name}",
            output=logged or result.output,
        )


def frozen_machines(paths: LabPaths, cgroups: Path = CGROUPS) -> frozenset[str]:
    """The machines that are frozen or being frozen. Needs no root.

    Args:
        cgroups: where control groups are mounted; version 1 has ``freezer.state``, version 2
            ``cgroup.freeze``.
    """
    prefix = paths.cgroup("payload", "") + "."
    files = [
        *cgroups.glob(f"freezer/{paths.lab_cgroup}/{prefix}*/freezer.state"),
        *cgroups.glob(f"{paths.lab_cgroup}/{prefix}*/cgroup.freeze"),
    ]
    frozen = set()
    for path in files:
        with contextlib.suppress(OSError):
            if path.read_text().strip() not in ("THAWED", "0"):
                frozen.add(path.parent.name.removeprefix(prefix))
    return frozenset(frozen)


def thaw(paths: LabPaths, name: str) -> None:
    """Continue a frozen container."""
    run(f"thawing {name}", ["lxc-unfreeze", "-P", paths.lxc, "-n", name], ok=())


def shut_down(lab: Lab, name: str) -> None:
    """Shut a container down cleanly; it is killed after `SHUTDOWN_SECONDS`."""
    if name in frozen_machines(LabPaths.of(lab)):
        thaw(LabPaths.of(lab), name)
    options = ["-P", str(LabPaths.of(lab).lxc), "-n", name, "-t", str(SHUTDOWN_SECONDS)]
    run(f"stopping {name}", ["lxc-stop", *options], ok=())
    kill(LabPaths.of(lab), name)


def kill(paths: LabPaths, name: str) -> None:
    """Kill a container, including processes that a killed LXC monitor has left behind."""
    action = f"killing {name}"
    if name in frozen_machines(paths):
        thaw(paths, name)
    if name in running_machines(paths):
        run(action, ["lxc-stop", "-P", paths.lxc, "-n", name, "-k"], ok=(0, 1, 2))
    orphans = processes(paths, name)
    if orphans:
        run(action, ["kill", "-9", *map(str, orphans)], ok=())
    wait_until(
        lambda: not (name in running_machines(paths) or processes(paths, name)),
        20,
        f"the killed processes of {name} to exit",
        interval=0.05,
    )


def processes(paths: LabPaths, name: str) -> tuple[int, ...]:
    """The processes of a container, found by its control group (v1 or v2)."""
    payload = f"/{paths.lab_cgroup}/{paths.cgroup('payload', name)}/"
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines = (entry / "cgroup").read_text().splitlines()
            except OSError:
                continue
            if any(f"{line.split(':', 2)[-1]}/".startswith(payload) for line in lines):
                pids.append(int(entry.name))
    return tuple(pids)


def running_machines(paths: LabPaths, sockets: Path = SOCKETS) -> frozenset[str]:
    """The machines whose LXC monitor runs. Needs no root.

    Args:
        sockets: /proc/net/unix. Each monitor listens on the abstract socket
            ``<lxcpath>/<name>/command``.
    """
    prefix, suffix = f"@{paths.lxc}/", "/command"
    names = (line.rsplit(" ", 1)[-1] for line in sockets.read_text().splitlines())
    own = (
        name.removeprefix(prefix).removesuffix(suffix)
        for name in names
        if name.startswith(prefix) and name.endswith(suffix)
    )
    return frozenset(name for name in own if "/" not in name)  # not of another set


def attach(lab: Lab, name: str, argv: Sequence[str], paths: LabPaths | None = None) -> list[str]:
    """The command line that runs a program inside a container, or a login shell.

    The program gets the environment of a machine's root, not the caller's.
    """
    environment = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
    options = ["--clear-env", "--keep-var", "TERM"]
    for variable, value in environment.items():
        options += ["--set-var", f"{variable}={value}"]
    program = list(argv) or ["/bin/bash", "-l"]
    return [
        "lxc-attach",
        "-P",
        str((paths or LabPaths.of(lab)).lxc),
        "-n",
        name,
        *options,
        "--",
        *program,
    ]


def is_running(lab: Lab, name: str) -> bool:
    """Whether the container runs."""
    return name in running_machines(LabPaths.of(lab))


def boot(lab: Lab, name: str, report: Report) -> None:
    """Start a container unless it runs, and wait until sshd accepts connections.

    LXC stops a container that an interrupted ``lab.up`` was starting; it is started again.

    Raises:
        ProviderError: when it does not start, stops again, or sshd does not respond.
    """
    for _ in range(2):
        seconds = RUNNING_SSHD_SECONDS
        if not is_running(lab, name):
            report(name, "starting")
            kill(LabPaths.of(lab), name)
            start(lab, name)
            seconds = SSHD_SECONDS
        report(name, "waiting for sshd")
        if wait_for_sshd(lab, name, seconds):
            report(name, "up")
            return
    raise ProviderError(
        f"{name} stops again while it boots",
        f"sudo tail {LabPaths.of(lab).machine(name)}/console",
    )


def wait_for_sshd(lab: Lab, name: str, seconds: float = SSHD_SECONDS) -> bool:
    """Wait for sshd's banner; False when the container stops meanwhile.

    Raises:
        ProviderError: when there is no banner in time.
    """
    address = str(lab.machine(name).address)
    errors = ["no response"]

    def banner_or_stopped() -> bool:
        try:
            with socket.create_connection((address, 22), timeout=2) as connection:
                connection.settimeout(5)
                if connection.recv(64).startswith(b"SSH-"):
                    return True
                errors.append("the response is not from an SSH server")
        except OSError as error:
            errors.append(str(error))
        return not is_running(lab, name)

    try:
        wait_until(banner_or_stopped, seconds, f"sshd of {name}", interval=0.05)
    except Timeout as error:
        what = f"{name} runs, but {error.what} at {address} ({errors[-1]})"
        raise ProviderError(what, f"invoke lab.rescue {name} --fix") from None
    return is_running(lab, name)


def remove(paths: LabPaths, name: str) -> None:
    """Remove a stopped container; its configuration first, so that an interruption is harmless."""
    configuration = [paths.machine(name) / "config", paths.host_keys / f"{name}.pub"]
    run(f"removing {name}", ["rm", "-f", "--", *configuration])
    remove_tree(paths.machine(name))
    remove_cgroups(paths, name)


def remove_cgroups(paths: LabPaths, name: str = "") -> None:
    """Remove the control groups that a killed LXC monitor has left, of one machine or of all.

    LXC would not start the machine otherwise ("Failed to create monitor cgroup").
    """
    if name:
        payload = f"{paths.lab_cgroup}/{paths.cgroup('payload', name)}"
        names = [paths.cgroup("monitor", name), payload]
    else:
        names = [LabPaths(paths.id).cgroup("*", "") + "*"]
    # In cgroup v2 they are at the top, in v1 one level below, once per controller.
    folders = [p for n in names for level in (n, f"*/{n}") for p in CGROUPS.glob(level)]
    if folders:
        argv = ["find", *map(str, folders), "-depth", "-type", "d", "-delete"]
        run("removing control groups", argv, ok=())
