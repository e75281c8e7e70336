"""One set-up at a time in each checkout."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from provision.setup.console import ROOT, say

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PATH = ROOT / ".lab" / "setup.lock"


@contextlib.contextmanager
def setup_lock() -> Iterator[tuple[int, ...]]:
    """Hold the lock; another set-up in this checkout is waited for.

    Yields:
        The descriptors that a child process has to inherit to hold the lock as well (none on
        Windows): when only this process is killed, the next set-up waits until the child ends.
    """
    PATH.parent.mkdir(exist_ok=True)
    with PATH.open("ab") as file:
        descriptor = file.fileno()
        if not _acquire(descriptor, wait=False):
            say("waiting for another setup that is running in this checkout")
            _acquire(descriptor, wait=True)
        yield () if sys.platform == "win32" else (descriptor,)


def _acquire(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock could be taken; the system releases it with the descriptor."""
    while True:
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            if not wait:
                return False
            time.sleep(0.5)
        else:
            return True
