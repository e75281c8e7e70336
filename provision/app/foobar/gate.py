"""Limit concurrent writes, so that a hanging database does not block all threads.

If all threads of gunicorn waited for the same hanging primary, /healthz and reads would queue
behind the writes, and the balancer would take a healthy machine out of rotation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BLOCKED_SECONDS = 0.4
"""If no write has begun or ended for this long, further writes are refused at once."""


class GateBlockedError(Exception):
    """All slots are in use, and none was released in time."""


class Gate:
    """A semaphore whose waiters give up when no slot changes hands any more."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with all slots free.

        Args:
            slots: concurrent writes of a process; half of gunicorn's threads.
        """
        self._free = slots
        self._clock = clock
        self._last_change = clock()
        self._condition = threading.Condition()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a slot for the length of a `with` block.

        Raises:
            GateBlockedError: no slot was taken or released for BLOCKED_SECONDS.
        """
        with self._condition:
            while self._free == 0:
                remaining = self._last_change + BLOCKED_SECONDS - self._clock()
                if remaining <= 0:
                    raise GateBlockedError
                self._condition.wait(remaining)
            self._free -= 1
            self._last_change = self._clock()
        try:
            yield
        finally:
            with self._condition:
                self._free += 1
                self._last_change = self._clock()
                self._condition.notify()
