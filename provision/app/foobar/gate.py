"""Keeps a database that hangs from holding all threads of the process.

gunicorn's threads are few. If each of them waited for the same silent primary, /healthz and reads
would wait in line behind the writes, and the balancers would take a sound machine out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WRITERS = 2
"""Writes at a time in a process; half of gunicorn's four threads."""
STUCK_SECONDS = 0.4
"""With no write begun or ended for this long, further ones are turned away at once."""


class StuckError(Exception):
    """All places are taken, and those who have them do not move."""


class Gate:
    """Lets a few threads in at a time; the others wait as long as the line moves."""

    def __init__(self, places: int = WRITERS, clock: Callable[[], float] = time.monotonic) -> None:
        """Open with all places free.

        Args:
            places: how many may be inside.
            clock: seconds, rising.
        """
        self._free = places
        self._clock = clock
        self._moved = clock()
        self._change = threading.Condition()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside for the length of a `with` block.

        Raises:
            StuckError: nothing has moved for STUCK_SECONDS.
        """
        with self._change:
            while self._free == 0:
                patience = self._moved + STUCK_SECONDS - self._clock()
                if patience <= 0:
                    raise StuckError
                self._change.wait(patience)
            self._free -= 1
            self._moved = self._clock()
        try:
            yield
        finally:
            with self._change:
                self._free += 1
                self._moved = self._clock()
                self._change.notify()
