"""Locks between processes: one command at a time per lab, and short locks on single files.

The kernel holds the locks (flock), so a lock ends with its process, however the process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock

from provision.core import platform as controller
from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import cannot_read
from provision.core.waiting import Timeout, wait_until

HOLDER_FILE = "lock.holder"
HOLDER_SECONDS = 0.5
"""How long to wait until the holder of a lock has written its pid."""

_held: dict[Path, tuple[filelock.BaseFileLock, int]] = {}
_held_mutex = threading.Lock()


@contextlib.contextmanager
def lab_lock(directory: Path, what: str = "") -> Iterator[None]:
    """Refuse every other command on the lab while the body runs.

    The lock is reentrant within one process.

    Args:
        what: in messages; the lab by default.

    Raises:
        LabError: at once, when another process holds it; the message names its pid and command.
    """
    path = (directory / "lock").absolute()
    with _held_mutex:
        lock, count = _held[path] if path in _held else (_acquire(path, what), 0)
        _held[path] = (lock, count + 1)
    try:
        yield
    finally:
        with _held_mutex:
            lock, count = _held.pop(path)
            if count > 1:
                _held[path] = (lock, count - 1)
            else:
                with contextlib.suppress(OSError):
                    path.with_name(HOLDER_FILE).unlink(missing_ok=True)
                lock.release()


@contextlib.contextmanager
def file_lock(path: Path, timeout: float = 10.0) -> Iterator[None]:
    """Hold a lock between reading a file and writing it; wait for another holder.

    Args:
        path: the lock's own file.
        timeout: in seconds.

    Raises:
        LabError: when the lock is still held after the timeout.
    """
    lock = _new_lock(path, timeout)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LabError(
            f"{path} was locked by another process for {timeout:.0f} s",
            controller.open_files_hint(path),
        ) from None
    except OSError as error:
        raise cannot_read(path, error) from None
    try:
        yield
    finally:
        lock.release()


def _new_lock(path: Path, timeout: float = -1) -> filelock.BaseFileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_read(path.parent, error) from None
    return filelock.FileLock(
        path, timeout=timeout, mode=0o600, thread_local=False, fallback_to_soft=False
    )


def _acquire(path: Path, what: str) -> filelock.BaseFileLock:
    """Take a lab's lock, or raise an error that names its holder.

    The holder writes its pid after it has taken the lock, and a killed holder leaves the file
    behind. So the file counts only while the process that it names is alive.
    """
    lock = _new_lock(path)
    holder_file = path.with_name(HOLDER_FILE)
    holder: tuple[int, str] | None = None

    def acquired_or_holder_known() -> bool:
        nonlocal holder
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            holder = _read_holder(holder_file)
        return lock.is_locked or holder is not None

    try:
        with contextlib.suppress(Timeout):
            wait_until(acquired_or_holder_known, HOLDER_SECONDS, "the lock", interval=0.02)
    except OSError as error:
        raise cannot_read(path, error) from None
    if not lock.is_locked:
        raise _in_use(path.parent, what or f"lab {path.parent.name}", holder)
    try:
        command = shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])
        process = {"pid": os.getpid(), "born": _start_time(os.getpid()), "command": command}
        write_atomically(holder_file, json.dumps(process))
    except BaseException:
        lock.release()
        raise
    return lock


def _read_holder(path: Path) -> tuple[int, str] | None:
    """The pid and command in a holder file, if that very process is still alive."""
    try:
        process = json.loads(path.read_text(encoding="utf-8"))
        pid, start_time = int(process["pid"]), str(process["born"])
        command = str(process["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (pid, command) if controller.is_alive(pid) and _start_time(pid) == start_time else None


def _start_time(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5), stat field 22); empty without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _in_use(directory: Path, what: str, holder: tuple[int, str] | None) -> LabError:
    if holder is None:
        return LabError(
            f"{what} is in use by another command",
            f"wait for it, or {controller.open_files_hint(directory / 'lock')}",
        )
    pid, command = holder
    return LabError(
        f"{what} is in use by another command: {command} (pid {pid})",
        f"wait until it ends, or end it: {controller.kill_command(pid)}",
    )
