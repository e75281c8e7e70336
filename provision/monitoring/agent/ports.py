"""Ports of the lab's own monitoring programs; the controller knows them without the programs."""

from __future__ import annotations

ALERTS_PORT = 9099
"""Receives Alertmanager's notifications, on the loopback interface."""
