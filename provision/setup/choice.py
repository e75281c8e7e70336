"""The default provider of a new lab, selected by the capabilities of this host."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.setup.system import SYSTEMS

GEMS = (
    "/usr/share/rubygems-integration/all/gems",  # Debian's package vagrant-libvirt
    "~/.vagrant.d/gems/*/gems",  # vagrant plugin install vagrant-libvirt
)
LIBVIRT_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")


@dataclass(frozen=True)
class HostCapabilities:
    """What this host can create machines with; ``system`` is one of `SYSTEMS`.

    Args:
        virtualbox: whether VirtualBox is installed and, on Linux, its kernel driver is loaded.
        libvirt: whether libvirt runs and Vagrant has its plugin for it.
        kvm: whether the current user can run virtual machines with KVM.
    """

    system: str = "Linux"
    vagrant: bool = False
    virtualbox: bool = False
    libvirt: bool = False
    kvm: bool = False


def select(host: HostCapabilities) -> tuple[str, str]:
    """The provider for a new lab on that host, and the reason for it."""
    if host.vagrant and host.virtualbox:
        return "vagrant", "VirtualBox and Vagrant are installed"
    if host.vagrant and host.libvirt and host.kvm:
        return "vagrant", "libvirt and Vagrant are installed, and KVM works"
    if host.system != "Linux":
        return "vagrant", f"{host.system} needs virtual machines"
    reason = "system containers run on any Linux host"
    if host.vagrant:
        missing = "KVM does not work" if host.libvirt else "neither VirtualBox nor libvirt works"
        reason += f", and Vagrant cannot be used: {missing} here"
    return "lxc", reason


def detect(environ: Mapping[str, str] = os.environ) -> HostCapabilities:
    """The capabilities of this host, from files and the search path; no program is run."""
    system = SYSTEMS.get(sys.platform, "Linux")
    driver = system != "Linux" or Path("/dev/vboxdrv").exists()
    return HostCapabilities(
        system=system,
        vagrant=shutil.which("vagrant") is not None,
        virtualbox=find_vboxmanage(environ) is not None and driver,
        libvirt=any(Path(path).exists() for path in LIBVIRT_SOCKETS) and has_libvirt_plugin(),
        kvm=system == "Linux" and kvm_works(),
    )


def vagrants_provider(environ: Mapping[str, str] = os.environ) -> str:
    """Vagrant's provider for new machines.

    VAGRANT_DEFAULT_PROVIDER; else VirtualBox if it is installed; else libvirt on Linux.
    """
    if environ.get("VAGRANT_DEFAULT_PROVIDER"):
        return environ["VAGRANT_DEFAULT_PROVIDER"]
    linux = SYSTEMS.get(sys.platform, "Linux") == "Linux"
    return "libvirt" if find_vboxmanage(environ) is None and linux else "virtualbox"


def find_vboxmanage(environ: Mapping[str, str] = os.environ) -> str | None:
    """VirtualBox's command line; its installer for Windows does not add it to the search path."""
    program = shutil.which("VBoxManage")
    folders = [environ.get("VBOX_MSI_INSTALL_PATH"), environ.get("VBOX_INSTALL_PATH")]
    for folder in filter(None, folders):
        program = program or shutil.which("VBoxManage", path=folder)
    return program


def has_libvirt_plugin() -> bool:
    """Whether vagrant-libvirt is installed, from the folders that plugins are installed to."""
    return any(
        next(Path(path.anchor).glob(f"{path.relative_to(path.anchor)}/vagrant-libvirt-*"), None)
        for path in (Path(folder).expanduser() for folder in GEMS)
    )


def kvm_works(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> bool:
    """Whether the current user may use KVM, and it can run an ordinary kernel.

    The device alone is not enough: a virtual host may have it without the processor flags ``vmx``
    or ``svm``, and then KVM runs only kernels built for that.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not flags or bool({"vmx", "svm"} & set(flags.split()))
