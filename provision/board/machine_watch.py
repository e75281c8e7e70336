"""Observe one machine again and again over one connection that stays open."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from provision.board.limits import OBSERVE_SECONDS
from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, LabError
from provision.engine.agent.protocol import Probe, Results
from provision.engine.host import Host

PROBE_SECONDS = 3.0
"""After which a probe without a result has failed; the others of the machine arrive."""

RETRY_SECONDS = 2.0
"""Between two attempts to log in."""

STALE_SECONDS = 6.0
"""After which the last results say nothing any more."""


class MachineWatch:
    """A thread that keeps the newest results of a machine.

    Args:
        probes: what is observed.
        changed: called after every observation.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        probes: Sequence[Probe[Any]],
        changed: Callable[[], None],
    ) -> None:
        self.name, self.endpoint, self.probes = name, endpoint, tuple(probes)
        self._host = Host(name, endpoint)
        self._changed = changed
        self._stopped = threading.Event()
        self._results: Results | None = None
        self._error = "not observed yet"
        self._time = time.monotonic()
        thread = threading.Thread(target=self._observe, name=f"watch {name}", daemon=True)
        thread.start()

    def newest(self) -> tuple[Results | None, str]:
        """The newest results, or why there are none."""
        results, error = self._results, self._error
        if results is not None and time.monotonic() - self._time > STALE_SECONDS:
            return None, f"{self.name}: no response for {time.monotonic() - self._time:.0f} s"
        return results, error

    def stop(self) -> None:
        """End the thread and its connection."""
        self._stopped.set()
        threading.Thread(target=self._host.close, daemon=True).start()

    def _observe(self) -> None:
        while not self._stopped.is_set():
            pause = OBSERVE_SECONDS
            started = time.monotonic()
            try:
                self._results = self._host.gather(self.probes, 10.0, each=PROBE_SECONDS)
                self._error, self._time = "", time.monotonic()
            except HostError as error:
                self._results, self._error, pause = None, error.what, RETRY_SECONDS
                self._host.close()
            except Exception as error:
                self._results, pause = None, RETRY_SECONDS
                self._error = f"{self.name}: {type(error).__name__}: {error}"
                with contextlib.suppress(LabError, OSError):
                    self._host.close()
            if not self._stopped.is_set():
                self._changed()
            self._stopped.wait(max(0.05, pause - (time.monotonic() - started)))
        self._host.close()
