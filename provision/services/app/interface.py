"""What other services use of the application server: where gunicorn listens."""

from __future__ import annotations

from provision.core.lab import Machine

SERVICE = "foobar.service"
SOCKET = "/run/foobar/gunicorn.sock"
PORT = 8000
"""Gunicorn's TCP port when the web servers are other machines."""


def listen_address(machine: Machine) -> str:
    """Gunicorn's ``address:port`` for web servers on other machines; empty: on `SOCKET`."""
    return "" if "nginx" in machine.roles else f"{machine.address}:{PORT}"
