"""Root on this host, with sudo if necessary."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from provision.setup import host_os
from provision.setup.console import SetupError, say

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Folders that are not in the search path of ordinary users on Debian."""


def is_root() -> bool:
    """Whether this process runs as root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def as_root(argv: Sequence[str | Path]) -> list[str | Path]:
    """The command line that runs a program as root; sudo may ask for the password."""
    return [*argv] if is_root() else ["sudo", *argv]


def search_path() -> str:
    """The search path of the current user and of root."""
    return f"{os.environ.get('PATH', '')}:{SBIN}"


def is_installed(program: str) -> bool:
    """Whether a program is in the search path of the current user or of root."""
    return shutil.which(program, path=search_path()) is not None


def sudo_works() -> bool:
    """Whether sudo runs a program now without asking for a password."""
    return shutil.which("sudo") is not None and _succeeds("sudo", "-n", "true")


def require() -> None:
    """Make sure that programs can be run as root.

    Raises:
        SetupError: when they cannot.
    """
    if is_root() or sudo_works():
        return
    user = host_os.output_of(["id", "-un"]).strip()
    what = f"creating machines requires root on this host: you are {user}"
    again = f"adduser {user} sudo', then log in again"
    if shutil.which("sudo") is None:
        raise SetupError(
            f"{what}, and sudo is not installed",
            f"run this as root, or: su -c 'apt-get install sudo && {again}",
        )
    if sys.stdin is not None and sys.stdin.isatty():
        say("sudo is required for packages, machines and their network")
        if subprocess.call(["sudo", "-v"]) == 0:
            return
    raise SetupError(f"{what}, and sudo refuses access", f"run this as root, or: su -c '{again}")


def _succeeds(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
