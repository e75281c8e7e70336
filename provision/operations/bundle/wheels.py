"""Wheels of the lock files for the Pythons and platforms of other computers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from provision.core.errors import LabError
from provision.operations.bundle.programs import run

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True)
class Platform:
    """Computers that use the same wheels.

    Args:
        tags: platform tags (PEP 425), the newest first; pip adds the older ones of macOS.
        markers: environment markers (PEP 508) that differ from those of this computer.
    """

    tags: tuple[str, ...]
    markers: Mapping[str, str]


def _linux(machine: str) -> Platform:
    """Linux with the C library of Debian 12 (glibc 2.36) or a newer one."""
    tags = [*(f"manylinux_2_{n}" for n in range(36, 16, -1)), "manylinux2014", "linux"]
    markers = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return Platform(
        tuple(f"{tag}_{machine}" for tag in tags), {**markers, "platform_machine": machine}
    )


def _macos(machine: str) -> Platform:
    """MacOS 13 or newer."""
    markers = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}
    return Platform((f"macosx_13_0_{machine}",), {**markers, "platform_machine": machine})


def _windows(tag: str, machine: str) -> Platform:
    markers = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"}
    return Platform((tag,), {**markers, "platform_machine": machine})


PLATFORMS = {
    "linux-amd64": _linux("x86_64"),
    "linux-arm64": _linux("aarch64"),
    "macos-amd64": _macos("x86_64"),
    "macos-arm64": _macos("arm64"),
    "windows-amd64": _windows("win_amd64", "AMD64"),
    "windows-arm64": _windows("win_arm64", "ARM64"),
}


def requirements(lock: str) -> Iterator[tuple[str, str, str]]:
    """The packages of a lock file: ``name==version``, its marker or nothing, its hashes."""
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock.replace("\\\n", " ")):
        match = re.match(r"([A-Za-z0-9._-]+==[^\s;]+)\s*(?:;\s*(.*?))?\s*(--hash=.*)", block, re.S)
        if match:
            yield match[1], match[2] or "", " ".join(match[3].split())


def lock_for(lock: str, platform: Platform, python: str) -> str:
    """The part of a lock file that applies to a platform: pip reads markers for its own."""
    environment = {
        **platform.markers,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return "".join(
        f"{name} {hashes}\n"
        for name, marker, hashes in requirements(lock)
        if not marker or Marker(marker).evaluate(environment)
    )


def download(target: Path, lock: Path, platform: str, python: str) -> None:
    """Download the wheels of a lock file to a new folder, and the one of pip.

    Raises:
        LabError: naming what has no wheel for the platform.
    """
    target.mkdir()
    own = target / "requirements.txt"
    own.write_text(lock_for(lock.read_text(encoding="utf-8"), PLATFORMS[platform], python))
    try:
        _download(target, platform, python, ["--require-hashes", "--requirement", str(own)])
        # The newest: this computer's own may be too old for a later Python.
        _download(target, platform, python, ["pip"])
    finally:
        own.unlink()


def _download(target: Path, platform: str, python: str, what: Sequence[str]) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    argv += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(target)]
    argv += ["--implementation", "cp", "--python-version", python]
    argv += [f"--platform={tag}" for tag in PLATFORMS[platform].tags]
    try:
        run(f"downloading wheels for {platform}, Python {python}", [*argv, *what])
    except LabError as error:
        missing = re.search(r"No matching distribution found for (\S+)", error.output)
        if missing is None:
            raise
        raise LabError(
            f"{missing[1]} has no wheel for {platform}, Python {python}",
            "leave the platform or this Python out: --platforms, --pythons",
            output=error.output,
        ) from None
