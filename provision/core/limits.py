"""Limits of a lab, so that one lab cannot take what the others on the same host need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

RANGES: Mapping[str, tuple[int, int, str]] = {
    "memory": (256, 2**20, "MiB"),
    "processes": (100, 10**6, ""),
    "disk": (512, 2**24, "MiB"),
    "cpu": (1, 10000, ""),
}
"""By name: the lowest and the highest value, and the unit."""


@dataclass(frozen=True)
class Limits:
    """What all machines of a lab may use together; 0 for no limit.

    Args:
        memory: MiB of RAM, the page cache included.
        processes: processes and threads.
        disk: MiB that the machines and their snapshots occupy.
        cpu: the share of processor time when it is scarce, as cgroup v2's ``cpu.weight``: 100 is
            that of a lab without a limit.
    """

    memory: int = 0
    processes: int = 0
    disk: int = 0
    cpu: int = 0

    def over(self, other: Limits) -> Limits:
        """These limits, and the other ones where these have none."""
        names = [field.name for field in fields(self)]
        return Limits(**{n: getattr(self, n) or getattr(other, n) for n in names})
