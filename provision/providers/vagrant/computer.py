"""The computer itself, asked on Linux, macOS and Windows: its processor, memory and disks."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def virtualisation(system: str) -> bool | None:
    """Whether the processor offers it to us; None when that cannot be told.

    Args:
        system: ``Linux``, ``macOS`` or ``Windows``.
    """
    if system == "Linux":
        text = read(Path("/proc/cpuinfo"))
        flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
        return bool(re.search(r"\b(vmx|svm)\b", flags.group(1))) if flags else None
    if system == "macOS":
        text = said(["sysctl", "-n", "kern.hv_support"]).strip()
    else:
        text = windows("Processor", "VirtualizationFirmwareEnabled").strip()
    return {"1": True, "0": False, "True": True, "False": False}.get(text)


def windows(kind: str, value: str) -> str:
    """One value of Windows' management interface (CIM), as text; empty elsewhere.

    Args:
        kind: of thing, without ``Win32_``.
        value: its property.
    """
    command = f"(Get-CimInstance Win32_{kind} | Select-Object -First 1).{value}"
    return said(["powershell", "-NoProfile", "-Command", command])


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows' sysinfoapi.h."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total", ctypes.c_ulonglong),
        ("available", ctypes.c_ulonglong),
        ("others", ctypes.c_ulonglong * 5),
    )


def memory(system: str) -> int:
    """MiB that machines could have; on macOS, which lends freely, half of all there is."""
    if system == "Linux":
        found = re.search(r"^MemAvailable:\s*(\d+)", read(Path("/proc/meminfo")), re.MULTILINE)
        return int(found.group(1)) // 1024 if found else 0
    if system == "macOS":
        text = said(["sysctl", "-n", "hw.memsize"]).strip()
        return int(text) // 2**21 if text.isdigit() else 0
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    if kernel is None or not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 0
    return int(status.available) // 2**20


def free(path: Path) -> int:
    """MiB that are free where a folder is, or would be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 2**20


def read(path: Path) -> str:
    """A file's text; nothing when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def said(argv: Sequence[str]) -> str:
    """What a program prints; nothing when it is not there or does not end."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").replace("\r\n", "\n")
