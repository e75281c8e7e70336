"""The LXC configuration of a machine, and the files that it has on top of its image."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from provision.core import apt_source
from provision.core.lab import Lab, Machine
from provision.core.pool.store import CANONICAL
from provision.providers.files import add_file, add_folder
from provision.providers.image_recipe import Recipe
from provision.providers.lxc.paths import LabPaths

USER_ID = 1000


@dataclass(frozen=True)
class HostKey:
    """An SSH host key in OpenSSH's formats."""

    private: str
    public: str


def new_host_key() -> HostKey:
    """An ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return HostKey(private.decode(), public.decode())


PLUG = Path(__file__).with_name("plug.sh")


def render_config(
    lab: Lab, machine: Machine, lower: Sequence[Path], paths: LabPaths | None = None
) -> str:
    """A container's configuration (lxc.container.conf(5)).

    Args:
        lower: root file systems of the image and its layer, the uppermost first.
        paths: of the set that the machine is of; the current one by default.
    """
    paths = paths or LabPaths.of(lab)
    # A container reboots with the link that it was started with, so a spare's is in a file.
    link = f"lxc.net.0.link = {paths.bridge}"
    if paths.number:
        link = f"lxc.net.0.script.up = {paths.directory}/{PLUG.name} {paths.link}"
    folder = paths.machine(machine.name)
    rootfs = ":".join(str(path) for path in (*lower, folder / "delta"))
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
lxc.cgroup.dir.monitor = {paths.cgroup("monitor", machine.name)}
lxc.cgroup.dir.container = {paths.lab_cgroup}/{paths.cgroup("payload", machine.name)}
lxc.cgroup.dir.monitor.pivot = {paths.cgroup("pivot", "")}
lxc.net.0.type = veth
{link}
lxc.net.0.flags = up
lxc.net.0.name = eth0
lxc.net.0.hwaddr = {paths.mac(machine.address)}
lxc.net.0.veth.pair = {paths.veth(machine.address)}
lxc.net.0.ipv4.address = {machine.address}/{lab.network.prefixlen}
lxc.net.0.ipv4.gateway = {lab.gateway}
"""


HOST_SETTINGS = "/etc/apt/apt.conf.d/81lab-host"
"""On a machine: what apt needs on this host; an image does not depend on the host."""


def source_files(recipe: Recipe) -> dict[str, str]:
    """Files of apt by path, for this host's mirror and proxies; none when it has neither."""
    files = {}
    # The pool does not see what apt reads over HTTPS; it asks such a mirror itself.
    if recipe.mirror != CANONICAL and recipe.mirror.startswith("http://"):
        files[apt_source.SOURCES] = apt_source.debian_sources(recipe.mirror, recipe.suite)
    if recipe.apt:
        files[HOST_SETTINGS] = "".join(f"{setting}\n" for setting in recipe.apt)
    return files


def machine_files(
    lab: Lab,
    machine: Machine,
    user: str,
    key: str,
    host_key: HostKey,
    sources: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A tar archive with the files of one machine, relative to its folder.

    Args:
        user: the account that the controller logs in as.
        key: that account's line for authorized_keys.
        sources: further files by path (`source_files`).
    """
    hosts = f"127.0.0.1\tlocalhost\n{machine.address}\t{machine.name}\n\n::1\tlocalhost\n"
    home = f"delta/home/{user}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("delta", "delta/etc", "delta/etc/ssh", "delta/home"):
            add_folder(tar, folder)
        add_folder(tar, home, 0o700, USER_ID)
        add_folder(tar, f"{home}/.ssh", 0o700, USER_ID)
        add_file(tar, f"{home}/.ssh/authorized_keys", key.strip() + "\n", 0o600, USER_ID)
        add_file(tar, "delta/etc/hostname", machine.name + "\n")
        add_file(tar, "delta/etc/hosts", hosts)
        add_file(tar, "delta/etc/resolv.conf", f"nameserver {lab.gateway}\n")
        add_file(tar, "delta/etc/ssh/ssh_host_ed25519_key", host_key.private, 0o600)
        add_file(tar, "delta/etc/ssh/ssh_host_ed25519_key.pub", host_key.public + "\n")
        for name in sorted({str(up) for path in sources for up in Path(path).parents[:-2]}):
            add_folder(tar, f"delta{name}")
        for path, content in sources.items():
            add_file(tar, f"delta{path}", content)
    return buffer.getvalue()
