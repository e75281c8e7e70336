"""Facts that Linux, macOS and Windows provide in different ways (see `system.SYSTEMS`)."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def virtualization(system: str) -> bool | None:
    """Whether the processor supports virtualization; None if unknown."""
    if system == "Linux":
        cpuinfo = read_text(Path("/proc/cpuinfo"))
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
        return bool(re.search(r"\b(vmx|svm)\b", flags.group(1))) if flags else None
    if system == "macOS":
        text = output_of(["sysctl", "-n", "kern.hv_support"]).strip()
    else:
        text = windows_value("Processor", "VirtualizationFirmwareEnabled").strip()
    return {"1": True, "0": False, "True": True, "False": False}.get(text)


def windows_value(kind: str, name: str) -> str:
    """A property of the CIM class ``Win32_<kind>``, as text; empty on other systems."""
    command = f"(Get-CimInstance Win32_{kind} | Select-Object -First 1).{name}"
    return output_of(["powershell", "-NoProfile", "-Command", command])


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows' sysinfoapi.h."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total", ctypes.c_ulonglong),
        ("available", ctypes.c_ulonglong),
        ("others", ctypes.c_ulonglong * 5),
    )


def available_memory_mib(system: str) -> int:
    """The memory available to machines, in MiB; half of all memory on macOS; 0 if unknown."""
    if system == "Linux":
        meminfo = read_text(Path("/proc/meminfo"))
        available = re.search(r"^MemAvailable:\s*(\d+)", meminfo, re.MULTILINE)
        return int(available.group(1)) // 1024 if available else 0
    if system == "macOS":
        text = output_of(["sysctl", "-n", "hw.memsize"]).strip()
        return int(text) // 2**21 if text.isdigit() else 0
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    if kernel is None or not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 0
    return int(status.available) // 2**20


def free_mib(path: Path) -> int:
    """The free disk space, in MiB, at a path, which need not exist."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 2**20


def read_text(path: Path) -> str:
    """A file's text; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def output_of(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A program's stdout; empty when it does not exist or does not end within 30 s.

    Args:
        env: the complete environment; None for the inherited one.
    """
    try:
        process = subprocess.run(argv, capture_output=True, timeout=30, check=False, env=env)
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stdout.decode(errors="replace").replace("\r\n", "\n")
