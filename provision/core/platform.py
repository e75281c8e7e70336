"""What the computer that a lab is driven from can do: Linux and macOS can, Windows cannot.

Everything else of the way to existing machines is the same on all three.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

POSIX = hasattr(os, "getuid")
"""Whether files have an owner and a mode, and processes signals."""

BUSY = 2.0
"""Seconds that a file which somebody reads is waited for; Windows does not replace it meanwhile."""


def alive(pid: int) -> bool:
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
        pass  # alive, and another user's
    return True


def open_to_others(mode: int) -> bool:
    """Whether a file's mode lets its group or others in.

    Windows has no modes; there a checkout in the user's own folder is closed by its access list.
    """
    return POSIX and bool(mode & 0o077)


def put(new: Path, path: Path) -> None:
    """Rename a file over another one, and flush the folder to the disk.

    Raises:
        OSError: when it cannot be done.
    """
    deadline = time.monotonic() + BUSY
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


def end(pid: int) -> str:
    """What to type to end a process."""
    return f"kill {pid}" if POSIX else f"taskkill /PID {pid} /F"


def who_has(path: Path) -> str:
    """What to type to see which process has a file open."""
    if POSIX:
        return f"see who: fuser -v {shlex.quote(str(path))}"
    return f"see who has {path}: resmon, CPU, Associated Handles"


def make_mine(folder: Path) -> str:
    """What to type to become the owner of a folder and of all in it."""
    if POSIX:
        return f'sudo chown -R "$(id -un)" {shlex.quote(str(folder))}'
    return f'icacls "{folder}" /grant "%USERNAME%":F /T'


def look_at(folder: Path) -> str:
    """What to type to see a folder's rights, and the room on its disk."""
    if POSIX:
        return f"ls -ld {shlex.quote(str(folder))}; df -h {shlex.quote(str(folder))}"
    return f'icacls "{folder}", and fsutil volume diskfree "{folder.anchor}"'


def plain_output() -> None:
    """What the terminal's or the pipe's code page lacks is shown as ``?``, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # replaced by something simpler, or closed
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
