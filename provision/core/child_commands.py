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
from collections.abc import Iterator
from typing import Any

from provision.core.errors import LabError

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


@contextlib.contextmanager
def running(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A child, until the body ends; interrupted once if it still runs, and waited for."""
    process = start(argv, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
        ended(process)


def run(argv: list[str], **options: Any) -> int:
    """Run a child to its end; returns its exit status.

    Raises:
        KeyboardInterrupt: after the child, which is interrupted once, has rolled back.
    """
    with running(argv, **options) as process:
        return process.wait()


def output(argv: list[str], seconds: float, **options: Any) -> str:
    """Run a child to its end; returns what it has printed.

    Raises:
        LabError: when it takes longer than that, after it has rolled back.
        KeyboardInterrupt: likewise.
    """
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with running(argv, stdout=pipe, stderr=both, errors="replace", **options) as process:
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            raise LabError(f"{' '.join(argv)} has not ended after {seconds:.0f} s") from None


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
