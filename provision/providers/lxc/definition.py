"""What one machine is made of: LXC's configuration, and its own files over an image."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from provision.core.lab import Lab, Machine
from provision.providers.lxc import places

USER_ID = 1000


@dataclass(frozen=True)
class HostKey:
    """A machine's SSH host key, in OpenSSH's formats."""

    private: str
    public: str


def new_host_key() -> HostKey:
    """An ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return HostKey(private.decode(), public.decode())


def config_text(lab: Lab, machine: Machine, lower: Sequence[Path]) -> str:
    """LXC's configuration (lxc.container.conf(5)).

    Args:
        lab: whose machine it is.
        machine: which one.
        lower: root file systems below the machine's own files, uppermost first.
    """
    at = places.of(lab)
    folder = at.machine(machine.name)
    rootfs = ":".join(str(path) for path in (*lower, folder / "delta"))
    prefix = lab.network.prefixlen
    return f"""\
lxc.include = /usr/share/lxc/config/common.conf
lxc.apparmor.profile = unconfined
lxc.rootfs.path = overlay:{rootfs}
lxc.uts.name = {machine.name}
lxc.start.auto = 0
lxc.tty.max = 0
lxc.signal.halt = SIGRTMIN+3
lxc.console.logfile = {folder}/console
lxc.console.rotate = 1
lxc.cgroup.dir.monitor = {at.cgroup("monitor", machine.name)}
lxc.cgroup.dir.container = {at.cgroup("payload", machine.name)}
lxc.cgroup.dir.monitor.pivot = {at.cgroup("pivot", "")}
lxc.net.0.type = veth
lxc.net.0.link = {at.bridge}
lxc.net.0.flags = up
lxc.net.0.name = eth0
lxc.net.0.hwaddr = {at.mac(machine.address)}
lxc.net.0.veth.pair = {at.veth(machine.address)}
lxc.net.0.ipv4.address = {machine.address}/{prefix}
lxc.net.0.ipv4.gateway = {lab.gateway}
"""


def archive(lab: Lab, machine: Machine, user: str, key: str, host_key: HostKey) -> bytes:
    """A machine's own files as a tar to be unpacked in its folder.

    Args:
        lab: whose machine it is.
        machine: which one.
        user: the account that the controller logs in as.
        key: that account's line for authorized_keys.
        host_key: the machine's.
    """
    hosts = f"127.0.0.1\tlocalhost\n{machine.address}\t{machine.name}\n\n::1\tlocalhost\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: str | None, mode: int, owner: int = 0) -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, int(time.time())
            data = (content or "").encode()
            info.size = len(data)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(data))

        home = f"delta/home/{user}"
        for folder in ("delta", "delta/etc", "delta/etc/ssh", "delta/home"):
            add(folder, None, 0o755)
        add(home, None, 0o700, USER_ID)
        add(f"{home}/.ssh", None, 0o700, USER_ID)
        add(f"{home}/.ssh/authorized_keys", key.strip() + "\n", 0o600, USER_ID)
        add("delta/etc/hostname", machine.name + "\n", 0o644)
        add("delta/etc/hosts", hosts, 0o644)
        add("delta/etc/resolv.conf", f"nameserver {lab.gateway}\n", 0o644)
        add("delta/etc/ssh/ssh_host_ed25519_key", host_key.private, 0o600)
        add("delta/etc/ssh/ssh_host_ed25519_key.pub", host_key.public + "\n", 0o644)
    return buffer.getvalue()
