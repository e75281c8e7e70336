"""Whether this host can run a lab with Vagrant, judged from its facts."""

from __future__ import annotations

from collections.abc import Iterator

from provision.core.lab import Lab
from provision.providers.base import PreflightProblem
from provision.providers.vagrant.host_facts import OWN_BOX, VagrantHostFacts
from provision.providers.vagrant.output import parse_version

REQUIRED_VAGRANT = (((7, 2), (2, 4, 9)), ((7, 1), (2, 4, 2)), ((7, 0), (2, 3, 2)))
"""A version of VirtualBox, and the first Vagrant that supports it (Vagrant's CHANGELOG)."""

NEWEST_VIRTUALBOX = (7, 2)
FIRST_VIRTUALBOX_ARM64 = (7, 1, 6)
"""The first VirtualBox for which there is a box of Debian 13 on arm64."""

MIN_FREE_MIB = 6144
"""For the box, and the linked clones of three machines."""

RESERVED_MIB = 512
"""Memory that remains for the host, in addition to the machines' memory."""

_INSTALL_HINTS = {
    ("Vagrant", "Linux"): "sudo apt-get install vagrant, or developer.hashicorp.com/vagrant",
    ("Vagrant", "macOS"): "brew install --cask hashicorp/tap/hashicorp-vagrant",
    ("Vagrant", "Windows"): "winget install Hashicorp.Vagrant, then open a new terminal",
    ("VirtualBox", "Linux"): "install it from virtualbox.org (it is not in Debian stable), "
    "or use --provider lxc",
    ("VirtualBox", "macOS"): "brew install --cask virtualbox",
    ("VirtualBox", "Windows"): "winget install Oracle.VirtualBox, then open a new terminal",
}


def problems(lab: Lab, facts: VagrantHostFacts) -> list[PreflightProblem]:
    """What prevents the lab from running on a host with these facts, and warnings."""
    return [
        *_programs(facts),
        *(_libvirt(facts) if facts.provider == "libvirt" else _virtualbox(lab, facts)),
        *_network(lab, facts),
        *_resources(lab, facts),
        *_existing_machines(facts),
    ]


def _programs(facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    programs = {"Vagrant": facts.vagrant}
    if facts.provider == "virtualbox":
        programs["VirtualBox"] = facts.virtualbox
    for program, version in programs.items():
        if not version:
            hint = _INSTALL_HINTS[program, facts.system]
            yield PreflightProblem(f"{program} is not installed", hint)


def _virtualbox(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.virtualbox:
        yield from check_versions(facts.vagrant, facts.virtualbox)
        if facts.system == "Linux" and not facts.driver:
            what = "VirtualBox's kernel driver is not loaded (/dev/vboxdrv)"
            hint = "sudo /sbin/vboxconfig; with Secure Boot, its modules must be signed"
            yield PreflightProblem(what, hint)
        version = parse_version(facts.virtualbox)
        if facts.arch in ("arm64", "aarch64") and version < FIRST_VIRTUALBOX_ARM64:
            what = f"VirtualBox {facts.virtualbox} cannot run Debian 13 on arm64"
            yield PreflightProblem(what, "install VirtualBox 7.1.6 or newer")
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
        if facts.system == "Linux":
            hint += ", or use --provider lxc"
        yield PreflightProblem(what, hint)
    if not any(lab.network.subnet_of(allowed) for allowed in facts.ranges):
        allowed = ", ".join(map(str, facts.ranges))
        hint = "--network 192.168.57.0/24"
        if facts.system != "Windows":
            hint += f", or as root: echo '* {lab.network}' >>/etc/vbox/networks.conf"
        what = f"VirtualBox allows host-only networks only in {allowed}, not {lab.network}"
        yield PreflightProblem(what, hint)
    if facts.own_box and not facts.box:
        what = f"the box {OWN_BOX} for VirtualBox is not installed"
        hint = "invoke box.build --provider virtualbox, on a Debian host"
        yield PreflightProblem(what, hint)


def check_versions(vagrant: str, virtualbox: str) -> Iterator[PreflightProblem]:
    """Whether that version of Vagrant (if it is installed) supports that version of VirtualBox."""
    installed, version = parse_version(vagrant), parse_version(virtualbox)
    required = next((v for since, v in REQUIRED_VAGRANT if version[:2] >= since), ())
    if installed and installed < required:
        text = ".".join(map(str, required))
        what = f"Vagrant {vagrant} does not support VirtualBox {virtualbox}"
        hint = f"install Vagrant {text} or newer (developer.hashicorp.com/vagrant)"
        yield PreflightProblem(what, hint)
    elif version[:2] > NEWEST_VIRTUALBOX:
        what = f"VirtualBox {virtualbox} is newer than the versions tested with this lab"
        hint = "if Vagrant does not support it, install the newest Vagrant, or VirtualBox 7.2"
        yield PreflightProblem(what, hint, fatal=False)


def _libvirt(facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.system != "Linux":
        hint = "VAGRANT_DEFAULT_PROVIDER=virtualbox"
        yield PreflightProblem("libvirt is available on Linux only", hint)
        return
    if not facts.plugin:
        what = "Vagrant's plugin for libvirt is not installed"
        hint = "sudo apt-get install vagrant-libvirt libvirt-daemon-system"
        yield PreflightProblem(what, hint)
    if not facts.libvirt:
        what = "libvirt is not running, or you have no permission to use it"
        hint = "sudo systemctl start libvirtd; sudo adduser $(id -un) libvirt, then log in again"
        yield PreflightProblem(what, hint)
    if not facts.kvm:
        what = "KVM does not work: machines are emulated, about twenty times slower"
        hint = "enable virtualization in the firmware, or use --provider lxc"
        yield PreflightProblem(what, hint, fatal=False)
    if facts.own_box and not facts.box:
        what = f"the box {OWN_BOX} for libvirt is not installed"
        yield PreflightProblem(what, "invoke box.build")


def _network(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    """Whether the lab's network is in use before its machines exist."""
    if facts.created or facts.source is None or facts.source not in lab.network:
        return
    if facts.provider == "virtualbox" and facts.source == lab.gateway:
        return  # VirtualBox reuses a host-only adapter with that address
    yield PreflightProblem(
        f"the network {lab.network} is already in use: this host has {facts.source} in it "
        "(a bridge of libvirt or Docker, another lab, or your local network)",
        "--network 192.168.57.0/24, or another free one",
    )


def _resources(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.created:
        return
    required = sum(machine.memory for machine in lab.machines)
    if facts.memory_mib and facts.memory_mib < required + RESERVED_MIB:
        yield PreflightProblem(
            f"{facts.memory_mib} MiB of memory are available, and the machines need {required}",
            "close other programs, or set a lower memory: in the topology file (a web server "
            "needs about 600, a balancer 300)",
            fatal=facts.memory_mib < required * 2 // 3,
        )
    for folder, free in facts.free_mib:
        if free < MIN_FREE_MIB:
            what = (
                f"{free} MiB are free in {folder}, and a box with its machines needs {MIN_FREE_MIB}"
            )
            hint = "free disk space, or store boxes elsewhere: VAGRANT_HOME=/other/folder"
            yield PreflightProblem(what, hint)


def _existing_machines(facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.unpinned:
        what = f"{', '.join(facts.unpinned)}: created by hand, or by a lab.up that failed"
        hint = "they are used as they are; to start from scratch: invoke lab.destroy"
        yield PreflightProblem(what, hint, fatal=False)
    if facts.orphaned:
        what = f"{', '.join(facts.orphaned)}: orphaned machines, no longer in the topology"
        hint = "Vagrant can remove them only with a topology that has them: vagrant destroy NAME"
        yield PreflightProblem(what, hint, fatal=False)
    if facts.unmanaged:
        names = ", ".join(facts.unmanaged)
        what = f"virtual machines with names of this lab that Vagrant does not know: {names}"
        if facts.provider == "virtualbox":  # names contain a time, so new ones differ
            hint = "VBoxManage unregistervm NAME --delete"
            yield PreflightProblem(what, hint, fatal=False)
        else:
            hint = "virsh -c qemu:///system undefine --remove-all-storage NAME"
            yield PreflightProblem(what, hint)
