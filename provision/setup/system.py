"""The operating system and the processor of this computer."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.setup import host_os

SYSTEMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
"""Names of operating systems by ``sys.platform``."""

ARCHITECTURES = {"amd64": "x86_64", "aarch64": "arm64", "arm64e": "arm64"}
"""Other names of processor architectures, in lower case."""

FAMILIES = ("ubuntu", "debian", "fedora")
"""Distributions whose packages are known; others are recognized by ID_LIKE (os-release(5))."""

OS_RELEASE = Path("/etc/os-release")

WINDOWS_11_BUILD = 22000
"""The first build of Windows 11; its version number is still 10.0."""


@dataclass(frozen=True)
class System:
    """An operating system on a processor.

    Args:
        kind: ``Linux``, ``macOS`` or ``Windows``.
        arch: ``x86_64``, ``arm64``, or what the system calls another one.
        family: for Linux, one of `FAMILIES`; empty for others.
        version: ``13`` of Debian, ``24.04`` of Ubuntu, ``14.5`` of macOS, ``11`` of Windows.
        name: for people.
        codename: of a Debian or Ubuntu release.
    """

    kind: str = "Linux"
    arch: str = "x86_64"
    family: str = "debian"
    version: str = "13"
    name: str = "Debian GNU/Linux 13 (trixie)"
    codename: str = "trixie"

    @property
    def arm64(self) -> bool:
        """Whether virtual machines need a box for arm64."""
        return self.arch == "arm64"


def parse_os_release(text: str) -> dict[str, str]:
    """The variables of an os-release file (os-release(5)); invalid lines are ignored."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if not separator or name.startswith("#"):
            continue
        try:
            values[name] = "".join(shlex.split(value))
        except ValueError:
            continue
    return values


def family_of(release: Mapping[str, str]) -> str:
    """The one of `FAMILIES` that a distribution is, or is derived from; else empty."""
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((name for name in names if name in FAMILIES), "")


def architecture(machine: str) -> str:
    """The one name of an architecture that this project uses."""
    lower = machine.lower()
    return ARCHITECTURES.get(lower, lower)


def linux(os_release: str, machine: str) -> System:
    """Linux with that os-release file."""
    release = parse_os_release(os_release)
    return System(
        "Linux",
        architecture(machine),
        family_of(release),
        release.get("VERSION_ID", ""),
        release.get("PRETTY_NAME", "") or "Linux",
        release.get("VERSION_CODENAME", ""),
    )


def macos(version: str, machine: str, *, translated: bool = False) -> System:
    """That version of macOS.

    Args:
        translated: whether this Python was built for Intel and runs on Apple silicon (Rosetta 2).
    """
    arch = "arm64" if translated else architecture(machine)
    processor = "Apple silicon" if arch == "arm64" else "Intel"
    return System("macOS", arch, "", version, f"macOS {version} ({processor})", "")


def windows(build: int, machine: str, environ: Mapping[str, str]) -> System:
    """Windows with that build number.

    Args:
        environ: PROCESSOR_ARCHITEW6432 is the processor when this Python was built for another one.
    """
    version = "11" if build >= WINDOWS_11_BUILD else "10"
    arch = architecture(environ.get("PROCESSOR_ARCHITEW6432") or machine)
    return System("Windows", arch, "", version, f"Windows {version} (build {build})", "")


def detect() -> System:
    """The system that this process runs on."""
    kind, machine = SYSTEMS.get(sys.platform, "Linux"), platform.machine()
    if kind == "Windows":
        version = getattr(sys, "getwindowsversion", None)
        return windows(version().build if version else 0, machine, os.environ)
    if kind == "macOS":
        translated = host_os.output_of(["sysctl", "-n", "sysctl.proc_translated"]).strip() == "1"
        return macos(platform.mac_ver()[0], machine, translated=translated)
    return linux(host_os.read_text(OS_RELEASE), machine)
