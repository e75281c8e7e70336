"""Sections of a command that Ctrl-C does not cut in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""What interrupts a command; SIGINT first, so that it is restored last."""


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Signals that interrupt a command take effect at the end of the block; keep it short.

    For code of libraries that an exception at any place would leave with a lock held or half a
    packet sent. Python calls signal handlers in the main thread only, so others are not affected.

    Raises:
        KeyboardInterrupt: at the end, when a signal has arrived meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def record(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    before: dict[int, Any] = {}
    try:
        for name in NAMES:
            number = getattr(signal, name, None)
            handler = signal.getsignal(number) if number is not None else None
            if number is not None and callable(handler):
                before[number] = handler
                signal.signal(number, record)
        yield
    finally:
        for number, handler in reversed(before.items()):
            signal.signal(number, handler)
        if arrived:
            raise KeyboardInterrupt
