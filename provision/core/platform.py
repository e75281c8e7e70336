"""Differences between controllers: Linux and macOS on one side, Windows on the other."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

POSIX = hasattr(os, "getuid")
"""Whether files have an owner and a mode, and processes receive signals."""

BUSY_SECONDS = 2.0
"""How long to retry replacing a file that another process reads; only Windows refuses that."""


def is_alive(pid: int) -> bool:
    """Whether a process may still run; on Windows always true.

    There, os.kill sends Ctrl-C or ends the process, whatever the signal (Python's os.kill).
    """
    if not POSIX:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the process exists and belongs to another user
    return True


def is_open_to_others(mode: int) -> bool:
    """Whether a file's mode gives its group or others any access.

    Windows has no modes; there the access list of the user's own folder protects the checkout.
    """
    return POSIX and bool(mode & 0o077)


def replace_file(new: Path, path: Path) -> None:
    """Rename a file over another one, and flush the folder to the disk.

    Raises:
        OSError: when the file cannot be replaced.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            new.replace(path)
            break
        except PermissionError:
            if POSIX or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if POSIX:  # Windows cannot open a folder; its file system logs the rename itself
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def kill_command(pid: int) -> str:
    """The command that ends a process."""
    return f"kill {pid}" if POSIX else f"taskkill /PID {pid} /F"


def open_files_hint(path: Path) -> str:
    """How to find the process that has a file open."""
    if POSIX:
        return f"find the process: fuser -v {shlex.quote(str(path))}"
    return f"find the process that has {path} open: resmon, CPU, Associated Handles"


def take_ownership_command(folder: Path) -> str:
    """The command that makes the current user the owner of a folder and all its content."""
    if POSIX:
        return f'sudo chown -R "$(id -un)" {shlex.quote(str(folder))}'
    return f'icacls "{folder}" /grant "%USERNAME%":F /T'


def inspect_folder_command(folder: Path) -> str:
    """The commands that show a folder's permissions and the free space on its disk."""
    if POSIX:
        return f"ls -ld {shlex.quote(str(folder))}; df -h {shlex.quote(str(folder))}"
    return f'icacls "{folder}", and fsutil volume diskfree "{folder.anchor}"'


def free_space_command(folder: Path | None) -> str:
    """The command that shows the free space of a folder's disk, or of all disks."""
    if POSIX:
        return f"df -h {shlex.quote(str(folder))}" if folder else "df -h"
    return f"fsutil volume diskfree {(folder or Path.cwd()).anchor}"


def tolerate_output_encoding() -> None:
    """Print ``?`` for characters that the output's encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # replaced by a simpler object, or closed
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
