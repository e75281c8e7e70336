"""Callbacks through which long operations report progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Log = Callable[[str], None]
"""Receives one message."""


class Report(Protocol):
    """Receives the current activity of a machine."""

    def __call__(self, machine: str, message: str, /) -> None:
        """Report that ``machine`` (``host`` for the controller) now does what ``message`` says."""
