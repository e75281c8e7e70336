"""What virtual machines need from this host, apart from a particular lab."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provision.setup import choice, host_os, privileges
from provision.setup.install import VAGRANT_PAGE, how_to_install
from provision.setup.problem import PreflightProblem
from provision.setup.system import System, detect

REQUIRED_VAGRANT = (((7, 2), (2, 4, 9)), ((7, 1), (2, 4, 2)), ((7, 0), (2, 3, 2)))
"""A version of VirtualBox, and the first Vagrant that supports it (Vagrant's CHANGELOG)."""

NEWEST_VIRTUALBOX = (7, 2)
FIRST_VIRTUALBOX_ARM64 = {"macOS": (7, 1, 6), "Windows": (7, 2)}
"""By system: the first VirtualBox that runs Debian 13 on arm64 there; on macOS, the first one for
which there is a box. There is none for Linux on arm64."""

MIN_FREE_MIB = 6144
"""For the box, and the linked clones of three machines."""

EMULATORS = {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
"""QEMU's program by the architecture of the host and its machines."""


@dataclass(frozen=True)
class VirtualMachineFacts:
    """Facts of this host; the defaults are those of a suitable one.

    Args:
        vagrant, virtualbox: versions, or empty.
        driver: whether VirtualBox's kernel driver is loaded (Linux).
        virtualization: whether the processor supports it; None if unknown.
        hypervisor: whether another hypervisor (Hyper-V) is active.
        plugin: whether vagrant-libvirt is installed.
        libvirt: whether it runs and the user may use it.
        emulator: whether QEMU for this processor is installed.
        patched: whether Vagrant accepts VirtualBox although it is older than `REQUIRED_VAGRANT`:
            distributions add support for newer versions. Unknown, and taken for granted, while the
            kernel driver is missing: Vagrant then does not look for a driver of its own.
    """

    system: System = field(default_factory=System)
    vagrant: str = "2.4.9"
    virtualbox: str = "7.2.0"
    driver: bool = True
    virtualization: bool | None = True
    hypervisor: bool = False
    plugin: bool = True
    libvirt: bool = True
    kvm: bool = True
    emulator: bool = True
    patched: bool = False


def collect(system: System | None = None) -> VirtualMachineFacts:
    """The facts of this host."""
    system = system or detect()
    version = host_os.output_of(["vagrant", "--version"]).strip().removeprefix("Vagrant ")
    vboxmanage = choice.find_vboxmanage()
    printed = host_os.output_of([vboxmanage, "--version"]) if vboxmanage else ""
    virtualbox = virtualbox_version(printed)
    driver = system.kind != "Linux" or Path("/dev/vboxdrv").exists()
    return VirtualMachineFacts(
        system=system,
        vagrant=version,
        virtualbox=virtualbox,
        patched=bool(_too_old(version, virtualbox)) and (not driver or _accepts_virtualbox()),
        driver=driver,
        virtualization=host_os.virtualization(system.kind),
        hypervisor=system.kind == "Windows"
        and "True" in host_os.windows_value("ComputerSystem", "HypervisorPresent"),
        plugin=choice.has_libvirt_plugin(),
        libvirt=any(os.access(path, os.W_OK) for path in choice.LIBVIRT_SOCKETS),
        kvm=system.kind == "Linux" and choice.kvm_works(),
        emulator=any(map(privileges.is_installed, emulators(system))),
    )


def emulators(system: System, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The programs of QEMU that can run machines on a system; LAB_QEMU names another one."""
    names = [environ.get("LAB_QEMU", ""), EMULATORS.get(system.arch, ""), "qemu-kvm"]
    return [name for name in names if name]


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of a version such as ``2.4.9`` or ``7.1.6r167084``; empty when there are none."""
    match = re.match(r"\D*(\d+(?:\.\d+)*)", text)
    return tuple(map(int, match.group(1).split("."))) if match else ()


def virtualbox_version(text: str) -> str:
    """The version that ``VBoxManage --version`` prints last.

    Debian's prints a warning before it while the kernel driver is missing.
    """
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*\d+\.\d+", line)]
    return lines[-1] if lines else ""


def programs(facts: VirtualMachineFacts, provider: str) -> Iterator[PreflightProblem]:
    """Missing programs for one of Vagrant's providers."""
    versions = {"Vagrant": facts.vagrant}
    if provider == "virtualbox" and not _unavailable(facts.system):
        versions["VirtualBox"] = facts.virtualbox
    for program, version in versions.items():
        if not version:
            hint = how_to_install(program, facts.system)
            yield PreflightProblem(f"{program} is not installed", hint)


def _unavailable(system: System) -> bool:
    """Whether there is no VirtualBox for a system."""
    return system.arm64 and system.kind not in FIRST_VIRTUALBOX_ARM64


def virtualbox(facts: VirtualMachineFacts) -> Iterator[PreflightProblem]:
    """Whether VirtualBox can run machines here."""
    system = facts.system
    if _unavailable(system):
        what = f"there is no VirtualBox for {system.kind} on {system.arch}"
        yield PreflightProblem(what, "use --provider lxc, or libvirt")
        return
    if facts.virtualbox:
        yield from check_versions(facts.vagrant, facts.virtualbox, patched=facts.patched)
        if system.kind == "Linux" and not facts.driver:
            what = "VirtualBox's kernel driver is not loaded (/dev/vboxdrv)"
            hint = "sudo /sbin/vboxconfig"
            if re.search("Debian|Ubuntu", facts.virtualbox):  # their package has no vboxconfig
                hint = (
                    "sudo modprobe vboxdrv; if there is no such module, sudo apt-get install "
                    "virtualbox-dkms linux-headers-$(uname -r)"
                )
            hint += "; with Secure Boot, its modules must be signed"
            yield PreflightProblem(what, hint)
        first = FIRST_VIRTUALBOX_ARM64.get(system.kind, ()) if system.arm64 else ()
        if parse_version(facts.virtualbox) < first:
            what = f"VirtualBox {facts.virtualbox} cannot run Debian 13 on arm64"
            hint = f"install VirtualBox {'.'.join(map(str, first))} or newer"
            yield PreflightProblem(what, hint)
    if facts.hypervisor:
        yield PreflightProblem(
            "Hyper-V is active: VirtualBox is very slow with it, or does not start",
            "as administrator: bcdedit /set hypervisorlaunchtype off, then restart (WSL 2 and "
            "Docker Desktop need Hyper-V)",
            fatal=False,
        )
    elif facts.virtualization is False:
        what = "virtualization (VT-x, AMD-V) is disabled on this computer"
        hint = "enable it in the firmware setup (often under CPU or Security)"
        if system.kind == "Linux":
            hint += ", or use --provider lxc"
        yield PreflightProblem(what, hint)


def check_versions(
    vagrant: str, virtualbox: str, *, patched: bool = False
) -> Iterator[PreflightProblem]:
    """Whether that version of Vagrant (if it is installed) supports that version of VirtualBox."""
    required = () if patched else _too_old(vagrant, virtualbox)
    if required:
        text = ".".join(map(str, required))
        what = f"Vagrant {vagrant} does not support VirtualBox {virtualbox}"
        yield PreflightProblem(what, f"install Vagrant {text} or newer ({VAGRANT_PAGE})")
    elif parse_version(virtualbox)[:2] > NEWEST_VIRTUALBOX:
        what = f"VirtualBox {virtualbox} is newer than the versions tested with this lab"
        hint = "if Vagrant does not support it, install the newest Vagrant, or VirtualBox 7.2"
        yield PreflightProblem(what, hint, fatal=False)


def _too_old(vagrant: str, virtualbox: str) -> tuple[int, ...]:
    """The Vagrant that a version of VirtualBox needs if the installed one is older, or empty."""
    installed, version = parse_version(vagrant), parse_version(virtualbox)
    required = next((v for since, v in REQUIRED_VAGRANT if version[:2] >= since), ())
    return required if installed and installed < required else ()


def _accepts_virtualbox() -> bool:
    """Whether Vagrant finds a driver for the installed VirtualBox; it loads it for any machine."""
    with tempfile.TemporaryDirectory() as folder:
        text = 'Vagrant.configure("2") { |config| config.vm.box = "none" }\n'
        (Path(folder) / "Vagrantfile").write_text(text, encoding="utf-8")
        env = {
            **os.environ,
            "VAGRANT_CWD": folder,
            "VAGRANT_DEFAULT_PROVIDER": "virtualbox",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
        }
        argv = ["vagrant", "status", "--machine-readable"]
        return ",state,not_created" in host_os.output_of(argv, env)


def libvirt(facts: VirtualMachineFacts) -> Iterator[PreflightProblem]:
    """Whether libvirt can run machines here."""
    system = facts.system
    if system.kind != "Linux":
        hint = "VAGRANT_DEFAULT_PROVIDER=virtualbox"
        yield PreflightProblem("libvirt is available on Linux only", hint)
        return
    if not facts.plugin:
        what = "Vagrant's plugin for libvirt is not installed"
        yield PreflightProblem(what, how_to_install("Vagrant's plugin for libvirt", system))
    if not facts.emulator:
        what = f"QEMU for {system.arch} is not installed"
        yield PreflightProblem(what, how_to_install("QEMU", system))
    if not facts.libvirt:
        what = "libvirt is not running, or you have no permission to use it"
        yield PreflightProblem(what, how_to_install("access to libvirt", system))
    if not facts.kvm:
        what = "KVM does not work: machines are emulated, about twenty times slower"
        hint = "enable virtualization in the firmware, or use --provider lxc"
        yield PreflightProblem(what, hint, fatal=False)


def vagrant_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Vagrant's home folder, which contains the boxes."""
    return Path(environ.get("VAGRANT_HOME") or "~/.vagrant.d").expanduser()


def disk_space(folder: Path, free: int) -> Iterator[PreflightProblem]:
    """Whether a folder has room for a box and its machines.

    Args:
        free: in MiB.
    """
    if free < MIN_FREE_MIB:
        yield PreflightProblem(
            f"{free} MiB are free in {folder}, and a box with its machines needs {MIN_FREE_MIB}",
            "free disk space, or store boxes elsewhere: VAGRANT_HOME=/other/folder",
        )
