"""The processor architectures of boxes, and what building each of them requires."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provision.setup import system

_DEBIAN = {"x86_64": "amd64", "arm64": "arm64"}
"""Debian's names by those of `System.arch`; Vagrant's names are the same."""

_DISK = {
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
}


@dataclass(frozen=True)
class Architecture:
    """One processor architecture.

    Args:
        name: Debian's and Vagrant's.
        boots: how, for people.
        programs: required on the host, with their Debian packages.
        files: likewise.
        emulator: a program, required on hosts of another architecture, and its package.
    """

    name: str
    boots: str
    programs: Mapping[str, str]
    emulator: tuple[str, str]
    files: Mapping[Path, str] = field(default_factory=dict)

    def requirements(self, host: str) -> Mapping[str, str]:
        """The programs that building requires on a host, with their Debian packages."""
        return self.programs if host == self.name else {**self.programs, **dict([self.emulator])}


ARCHITECTURES = {
    "amd64": Architecture(
        "amd64",
        "BIOS and GRUB",
        {**_DISK, "grub-mkimage": "grub-common"},
        ("qemu-x86_64-static", "qemu-user-static"),
        {Path("/usr/lib/grub/i386-pc/boot.img"): "grub-pc-bin"},
    ),
    "arm64": Architecture(
        "arm64",
        "UEFI and GRUB",
        {**_DISK, "mkfs.vfat": "dosfstools", "mcopy": "mtools"},
        ("qemu-aarch64-static", "qemu-user-static"),
    ),
}


def native(machine: str | None = None) -> str:
    """The architecture of this host, or of what ``uname -m`` prints; empty for another one."""
    return _DEBIAN.get(system.architecture(machine or platform.machine()), "")
