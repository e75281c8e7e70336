"""What a provider reports about the machines in a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredMachine:
    """A machine in a snapshot.

    Args:
        running: whether it ran when the snapshot was taken, and so runs after a restore.
        fingerprint: changes with the stored data; only the provider can compare it.
        size: bytes on the disk; 0 when the provider does not know.
    """

    running: bool
    fingerprint: str
    size: int = 0


@dataclass(frozen=True)
class StoredMachines:
    """The provider's part of a snapshot.

    Args:
        paused: seconds for which the machines stood still.
    """

    machines: Mapping[str, StoredMachine]
    paused: float = 0.0
