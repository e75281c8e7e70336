"""Signals: SIGTERM and a closed terminal interrupt like Ctrl-C; Ctrl-Z leaves a usable terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from provision.core import child_commands, clock

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"

_hidden_cursor = 0
"""How many live displays hide the cursor."""


def install() -> None:
    """Handle the signals for the duration of the process. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # An ignored signal stays ignored: nohup does that.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
    stop = getattr(signal, "SIGTSTP", None)
    if stop is not None and signal.getsignal(stop) is signal.SIG_DFL:
        signal.signal(stop, suspend)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt the command as Ctrl-C does, so that what was begun is rolled back."""
    raise KeyboardInterrupt


def suspend(number: int, frame: FrameType | None) -> None:
    """Stop the process (Ctrl-Z). Deadlines do not pass until it continues."""
    clock.stop()
    child_commands.stop()
    _write(SHOW_CURSOR)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)  # returns when the process continues
    signal.signal(number, suspend)
    child_commands.resume()
    _write(HIDE_CURSOR)
    clock.resume()


def cursor_hidden(hidden: bool) -> None:
    """Record that a live display hides the cursor, or shows it again."""
    global _hidden_cursor
    _hidden_cursor += 1 if hidden else -1


def _write(sequence: str) -> None:
    if _hidden_cursor > 0:
        sys.stderr.write(sequence)
        sys.stderr.flush()
