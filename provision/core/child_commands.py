"""Commands of the lab that run as children, each in a process group of its own.

The terminal sends Ctrl-C and Ctrl-Z to its foreground group only. So an interrupted child gets one
signal, from its parent, and its rollback is not interrupted by a second one; a stopped parent
stops its children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import Any

STOP_SECONDS = 60.0
"""For an interrupted child to roll back."""

_lock = threading.Lock()
_running: set[subprocess.Popen[Any]] = set()


def start(argv: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a child in its own process group; `ended` must be called when it has ended."""
    process = subprocess.Popen(argv, text=True, process_group=0, **options)
    with _lock:
        _running.add(process)
    return process


def ended(process: subprocess.Popen[Any]) -> None:
    """A child has ended."""
    with _lock:
        _running.discard(process)


def run(argv: list[str], **options: Any) -> int:
    """Run a child to its end; returns its exit status.

    Raises:
        KeyboardInterrupt: after the child, which is interrupted once, has rolled back.
    """
    process = start(argv, stdin=subprocess.DEVNULL, **options)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        raise
    finally:
        ended(process)


def stop() -> None:
    """The command is about to be stopped (Ctrl-Z): stop its children."""
    _signal("SIGTSTP")


def resume() -> None:
    """The command continues, and its children do."""
    _signal("SIGCONT")


def _signal(name: str) -> None:
    # Called by a signal handler: the lock may be held by the code that it interrupted.
    for process in tuple(_running):
        with contextlib.suppress(OSError, AttributeError):
            os.killpg(process.pid, getattr(signal, name))
