"""How to get a program on a system: one table for scripts/doctor and the preflight checks."""

from __future__ import annotations

from provision.setup.system import System

VAGRANT_PAGE = "developer.hashicorp.com/vagrant/install"
VIRTUALBOX_PAGE = "virtualbox.org/wiki/Linux_Downloads"
NEW_TERMINAL = "then open a new terminal"

MACOS, WINDOWS, OTHER = "macOS", "Windows", "Linux"
"""Keys of `_HINTS` besides the families of Linux distributions."""

_HINTS: dict[str, dict[str, str]] = {
    "Python": {
        "debian": "sudo apt-get install python3 python3-venv",
        "ubuntu": "sudo apt-get install python3 python3-venv "
        "(Ubuntu 22.04: python3.11 python3.11-venv)",
        "fedora": "sudo dnf install python3",
        OTHER: "install Python 3.11 or newer",
        MACOS: "brew install python, or install it from python.org",
        WINDOWS: f"winget install Python.Python.3.13, {NEW_TERMINAL}",
    },
    "Python's module ensurepip": {
        "debian": "sudo apt-get install python3-venv    # scripts/up does this too",
        "ubuntu": "sudo apt-get install python3-venv    # scripts/up does this too",
        "fedora": "sudo dnf install python3-pip",
        OTHER: "install Python's modules venv and ensurepip",
        MACOS: "brew install python",
        WINDOWS: f"winget install Python.Python.3.13, {NEW_TERMINAL}",
    },
    "ssh": {
        "debian": "sudo apt-get install openssh-client    # scripts/up does this too",
        "ubuntu": "sudo apt-get install openssh-client    # scripts/up does this too",
        "fedora": "sudo dnf install openssh-clients",
        OTHER: "install OpenSSH's client",
        MACOS: "it is part of macOS: repair the search path (echo $PATH)",
        WINDOWS: "as administrator, in PowerShell: Add-WindowsCapability -Online "
        "-Name OpenSSH.Client~~~~0.0.1.0",
    },
    "Vagrant": {
        "debian": "sudo apt-get install vagrant; for VirtualBox 7.1 or newer, "
        f"install the one of {VAGRANT_PAGE}",
        "ubuntu": f"install it from {VAGRANT_PAGE}",
        "fedora": f"sudo dnf install vagrant; for VirtualBox, install the one of {VAGRANT_PAGE}",
        OTHER: f"install it from {VAGRANT_PAGE}",
        MACOS: "brew install --cask hashicorp/tap/hashicorp-vagrant",
        WINDOWS: f"winget install Hashicorp.Vagrant, {NEW_TERMINAL}",
    },
    "VirtualBox": {
        "debian": f"install it from {VIRTUALBOX_PAGE} (it is not in Debian stable), "
        "or use --provider lxc",
        "ubuntu": f"sudo apt-get install virtualbox (multiverse), or a newer one from "
        f"{VIRTUALBOX_PAGE}, or use --provider lxc",
        "fedora": f"install it from {VIRTUALBOX_PAGE}",
        OTHER: f"install it from {VIRTUALBOX_PAGE}",
        MACOS: "brew install --cask virtualbox",
        WINDOWS: f"winget install Oracle.VirtualBox, {NEW_TERMINAL}",
    },
    "Vagrant's plugin for libvirt": {
        "debian": "sudo apt-get install vagrant-libvirt libvirt-daemon-system",
        "ubuntu": "sudo apt-get install libvirt-daemon-system libvirt-dev build-essential; "
        "vagrant plugin install vagrant-libvirt",
        "fedora": "sudo dnf install vagrant-libvirt libvirt-daemon-kvm",
        OTHER: "vagrant plugin install vagrant-libvirt",
    },
    "Incus": {
        "debian": "sudo apt-get install incus (Debian 12: from bookworm-backports); sudo incus "
        "admin init --minimal",
        "ubuntu": "sudo apt-get install incus (Ubuntu 24.04 or newer); sudo incus admin init "
        "--minimal",
        "fedora": "sudo dnf install incus; sudo systemctl enable --now incus; sudo incus admin "
        "init --minimal",
        OTHER: "install Incus 6.0 or newer; sudo incus admin init --minimal",
        MACOS: "brew install incus (the client; the server runs on Linux)",
        WINDOWS: f"winget install LinuxContainers.Incus, {NEW_TERMINAL} (the client; the server "
        "runs on Linux)",
    },
    "QEMU": {
        "debian": "sudo apt-get install qemu-system-x86 qemu-utils    # arm64: qemu-system-arm",
        "ubuntu": "sudo apt-get install qemu-system-x86 qemu-utils    # arm64: qemu-system-arm",
        "fedora": "sudo dnf install qemu-kvm qemu-img",
        OTHER: "install QEMU",
    },
    "access to libvirt": {
        "fedora": "sudo systemctl start libvirtd; sudo usermod -aG libvirt $(id -un), "
        "then log in again",
        OTHER: "sudo systemctl start libvirtd; sudo adduser $(id -un) libvirt, then log in again",
    },
}


def how_to_install(program: str, system: System) -> str:
    """The command or the page from which a program is installed on that system."""
    hints = _HINTS[program]
    return hints.get(system.family) or hints.get(system.kind) or hints[OTHER]


def names() -> tuple[str, ...]:
    """Everything that the table knows how to install."""
    return tuple(_HINTS)
