"""A monotonic clock that stands still while the command is stopped (Ctrl-Z).

Deadlines of the controller are measured with it, so that a command that continues does not find
all of them passed.
"""

from __future__ import annotations

import time

_stopped_at: float | None = None
_stopped_seconds = 0.0


def now() -> float:
    """Seconds since an arbitrary point, without the time in which the command was stopped."""
    stopped_at = _stopped_at  # read once: the signal handler changes it in another thread
    return (time.monotonic() if stopped_at is None else stopped_at) - _stopped_seconds


def stopped_seconds() -> float:
    """How long the command has been stopped in all, the current stop included."""
    stopped_at = _stopped_at
    current = 0.0 if stopped_at is None else time.monotonic() - stopped_at
    return _stopped_seconds + current


def stop() -> None:
    """The command is about to be stopped."""
    global _stopped_at
    _stopped_at = time.monotonic()


def resume() -> None:
    """The command continues."""
    global _stopped_at, _stopped_seconds
    if _stopped_at is not None:
        _stopped_seconds += time.monotonic() - _stopped_at
        _stopped_at = None
