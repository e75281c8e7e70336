"""Progress of long work: who is told, and by which name."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Where long work says what it is doing."""

    def __call__(self, machine: str, doing: str) -> None:
        """Say that ``machine`` (or ``host``, the controller) is now doing that."""
