"""Which provider a new lab gets when nobody says: judged from what this host has."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
"""``sys.platform`` and what people call it."""

GEMS = (
    "/usr/share/rubygems-integration/all/gems",  # Debian's package vagrant-libvirt
    "~/.vagrant.d/gems/*/gems",  # vagrant plugin install vagrant-libvirt
)
LIBVIRT_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")


@dataclass(frozen=True)
class Host:
    """What this host has for making machines.

    Args:
        system: ``Linux``, ``macOS`` or ``Windows``.
        vagrant: whether Vagrant is installed.
        virtualbox: whether VirtualBox is installed and, on Linux, its kernel driver is loaded.
        libvirt: whether libvirt runs and Vagrant has its plugin for it.
        kvm: whether the processor can run virtual machines for us.
    """

    system: str = "Linux"
    vagrant: bool = False
    virtualbox: bool = False
    libvirt: bool = False
    kvm: bool = False


def pick(host: Host) -> tuple[str, str]:
    """The provider for a new lab on that host, and why it is that one."""
    if host.vagrant and host.virtualbox:
        return "vagrant", "VirtualBox and Vagrant are installed here"
    if host.vagrant and host.libvirt and host.kvm:
        return "vagrant", "libvirt and Vagrant are installed here, and KVM works"
    if host.system == "Linux":
        if host.vagrant:
            return "lxc", f"system containers run on any Linux host, and {_lacks(host)}"
        return "lxc", "system containers run on any Linux host"
    return "vagrant", f"on {host.system} a lab's machines are virtual ones"


def _lacks(host: Host) -> str:
    """Why Vagrant, which is there, was not taken."""
    if not host.libvirt:
        return "Vagrant has neither VirtualBox nor libvirt here"
    return "KVM does not work for Vagrant and libvirt here"


def gather(environ: Mapping[str, str] = os.environ) -> Host:
    """Look at this host: files and programs only, nothing is started."""
    system = SYSTEMS.get(sys.platform, "Linux")
    driver = system != "Linux" or Path("/dev/vboxdrv").exists()
    return Host(
        system=system,
        vagrant=shutil.which("vagrant") is not None,
        virtualbox=vboxmanage(environ) is not None and driver,
        libvirt=any(Path(path).exists() for path in LIBVIRT_SOCKETS) and plugin(),
        kvm=system == "Linux" and kvm_works(),
    )


def vboxmanage(environ: Mapping[str, str] = os.environ) -> str | None:
    """VirtualBox's command line; on Windows its installer does not put it into the path."""
    found = shutil.which("VBoxManage")
    places = [environ.get("VBOX_MSI_INSTALL_PATH"), environ.get("VBOX_INSTALL_PATH")]
    for folder in filter(None, places):
        found = found or shutil.which("VBoxManage", path=folder)
    return found


def plugin() -> bool:
    """Whether vagrant-libvirt is installed, from the folders that plugins go to."""
    return any(
        next(Path(path.anchor).glob(f"{path.relative_to(path.anchor)}/vagrant-libvirt-*"), None)
        for path in (Path(folder).expanduser() for folder in GEMS)
    )


def kvm_works(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> bool:
    """Whether we may use KVM, and the processor has what an ordinary kernel needs under it.

    The device alone proves little: hosts that are virtual themselves may offer it without the
    processor's ``vmx`` or ``svm``, and then only kernels made for that run.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not flags or bool({"vmx", "svm"} & set(flags.split()))
