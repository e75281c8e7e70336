"""One machine as an instance of Incus: create, start, stop, kill and remove it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from provision.core.errors import ProviderError
from provision.core.lab import Lab, Machine
from provision.core.limits import Limits
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.providers.image_recipe import USER, load_recipe
from provision.providers.incus import limits, names
from provision.providers.incus.client import IncusClient, IncusError
from provision.providers.lxc.container_config import USER_ID, HostKey, source_files

SHUTDOWN_SECONDS = 60
"""For a clean shutdown; a MySQL primary can take 12."""

SSHD_SECONDS = 60 * timeout_factor()

DROPPED = "mac_admin mac_override sys_time sys_module sys_rawio"
"""Capabilities that machines of the lxc provider lack, too: systemd then loads no modules."""

RUNNING, STOPPED, FROZEN = "Running", "Stopped", "Frozen"


def settings(lab: Lab, machine: Machine, limit: Limits) -> dict[str, str]:
    """The configuration of a new instance."""
    address = f"{machine.address}/{lab.network.prefixlen}"
    raw = {
        "lxc.net.0.ipv4.address": address,
        "lxc.net.0.ipv4.gateway": str(lab.gateway),
        "lxc.cap.drop": DROPPED,
    }
    config = {
        "raw.lxc": "".join(f"{key} = {value}\n" for key, value in raw.items()),
        "security.nesting": "true",  # systemd's sandboxes need mount namespaces
        names.LAB_KEY: lab.name,
        names.MACHINE_KEY: machine.name,
        **limits.instance_config(lab, machine, limit),
    }
    return {key: value for key, value in config.items() if value}


def create(
    client: IncusClient,
    lab: Lab,
    machine: Machine,
    image: str,
    pool: str,
    member: str,
    limit: Limits,
) -> None:
    """Create a stopped instance from an image."""
    root = {"type": "disk", "path": "/", "pool": pool}
    size = limits.disk_size(lab, limit)
    nic = {
        "type": "nic",
        "network": names.network(lab),
        "name": "eth0",
        "hwaddr": names.mac(lab, machine.address),
    }
    body = {
        "name": names.instance(lab, machine.name),
        "type": "container",
        "profiles": [],
        "source": {"type": "image", "alias": image},
        "config": settings(lab, machine, limit),
        "devices": {"root": {**root, **({"size": size} if size else {})}, "eth0": nic},
    }
    client.post("/instances", body, **({"target": member} if member else {}))


def write_files(
    client: IncusClient, lab: Lab, machine: Machine, key: str, host_key: HostKey
) -> None:
    """Give a new instance its own files, and mark it as complete.

    Args:
        key: lines for authorized_keys.
    """
    hosts = f"127.0.0.1\tlocalhost\n{machine.address}\t{machine.name}\n\n::1\tlocalhost\n"
    files = {
        "/etc/hostname": machine.name + "\n",
        "/etc/hosts": hosts,
        "/etc/resolv.conf": f"nameserver {lab.gateway}\n",
        "/etc/ssh/ssh_host_ed25519_key.pub": host_key.public + "\n",
        **source_files(load_recipe()),
    }
    path = names.instance_path(lab, machine.name)
    for name, text in files.items():
        _push(client, path, name, text)
    _push(client, path, "/etc/ssh/ssh_host_ed25519_key", host_key.private, mode="0600")
    home = f"/home/{USER}/.ssh/authorized_keys"
    _push(client, path, home, key.strip() + "\n", mode="0600", owner=USER_ID)
    client.patch(path, {"config": {names.COMPLETE_KEY: "true"}})


def _push(
    client: IncusClient, path: str, name: str, text: str, mode: str = "0644", owner: int = 0
) -> None:
    headers = {
        "X-Incus-type": "file",
        "X-Incus-mode": mode,
        "X-Incus-uid": str(owner),
        "X-Incus-gid": str(owner),
        "X-Incus-write": "overwrite",
    }
    client.upload(f"{path}/files", text.encode(), headers, {"path": name})


def instances(client: IncusClient, lab: Lab) -> dict[str, Mapping[str, Any]]:
    """The lab's instances as Incus describes them, by machine."""
    rows = client.get("/instances", recursion="1")
    own = names.prefix(lab)
    return {
        row["name"].removeprefix(own): row
        for row in sorted(rows, key=lambda row: str(row["name"]))
        if row["name"].startswith(own)
    }


def is_complete(row: Mapping[str, Any]) -> bool:
    """Whether an instance has all its own files."""
    return (row.get("config") or {}).get(names.COMPLETE_KEY) == "true"


def change_state(
    client: IncusClient,
    lab: Lab,
    machine: str,
    action: str,
    *,
    force: bool = False,
    timeout: int = -1,
) -> None:
    """``start``, ``stop``, ``freeze`` or ``unfreeze`` an instance; no error when it is so already.

    Args:
        timeout: seconds for a clean shutdown; -1 for no limit.
    """
    body = {"action": action, "force": force, "timeout": timeout}
    try:
        client.put(f"{names.instance_path(lab, machine)}/state", body)
    except IncusError as error:
        if "already" not in error.what and "is not running" not in error.what:
            raise


def start(client: IncusClient, lab: Lab, machine: str) -> None:
    """Start an instance, and return before it has booted.

    Raises:
        ProviderError: when it does not start; with the end of its log.
    """
    try:
        change_state(client, lab, machine, "start")
    except IncusError as error:
        log = client.text(f"{names.instance_path(lab, machine)}/logs/lxc.log")
        raise ProviderError(
            f"{machine} does not start: {error.what}",
            f"run the same command again; if it keeps failing: invoke lab.rebuild {machine}",
            output=log,
        ) from None


def shut_down(client: IncusClient, lab: Lab, machine: str) -> None:
    """Shut an instance down cleanly; it is killed after `SHUTDOWN_SECONDS`."""
    try:
        change_state(client, lab, machine, "stop", timeout=SHUTDOWN_SECONDS)
    except IncusError:
        kill(client, lab, machine)


def kill(client: IncusClient, lab: Lab, machine: str) -> None:
    """Stop an instance without a shutdown."""
    change_state(client, lab, machine, "stop", force=True)


def remove(client: IncusClient, lab: Lab, machine: str) -> None:
    """Remove an instance with its snapshots. Idempotent."""
    path = names.instance_path(lab, machine)
    try:
        kill(client, lab, machine)
    except IncusError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
    client.delete(path)


def set_limits(client: IncusClient, lab: Lab, row: Mapping[str, Any], limit: Limits) -> None:
    """Give an instance the lab's present limits, unless it has them."""
    name = row["name"].removeprefix(names.prefix(lab))
    wanted = limits.instance_config(lab, lab.machine(name), limit)
    present = row.get("config") or {}
    if any(present.get(key, "") != value for key, value in wanted.items()):
        client.patch(names.instance_path(lab, name), {"config": wanted})


def wait_for_sshd(lab: Lab, machine: str, seconds: float = SSHD_SECONDS) -> None:
    """Wait for sshd's banner.

    Raises:
        ProviderError: when there is none in time.
    """
    address = str(lab.machine(machine).address)
    errors = ["no response"]

    def banner() -> bool:
        try:
            with socket.create_connection((address, 22), timeout=2) as connection:
                connection.settimeout(5)
                return connection.recv(64).startswith(b"SSH-")
        except OSError as error:
            errors.append(str(error))
            return False

    try:
        wait_until(banner, seconds, f"sshd of {machine}", interval=0.05)
    except Timeout as error:
        what = f"{machine} runs, but {error.what} at {address} ({errors[-1]})"
        raise ProviderError(what, f"invoke lab.rescue {machine} --fix") from None
