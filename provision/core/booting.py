"""Whether a machine's systemd has started everything."""

from __future__ import annotations

COMMAND = ("systemctl", "is-system-running")

BOOTED = ("running", "degraded")
"""States of a system that has booted (systemctl(1)); ``degraded``: with failed units."""


def finished(output: str) -> bool:
    """Whether the output of `COMMAND` says that the machine has booted."""
    return output.strip() in BOOTED
