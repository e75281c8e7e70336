"""What other services use of the application server: where it listens, what it runs."""

from __future__ import annotations

from pathlib import Path

from provision.core.lab import Machine
from provision.engine.context import Context
from provision.services.app.application import HEALTH, Application, load_record

__all__ = ["HEALTH", "Application", "application"]

SERVICE = "foobar.service"
SOCKET = "/run/foobar/gunicorn.sock"
HEALTH_SOCKET = "/run/foobar/health.sock"
"""The health listener, whose threads serve no visitor (provision/app/foobar/health.py)."""
PORT = 8000
"""Gunicorn's TCP port when the web servers are other machines."""

DATABASE = ".database"
"""In the folder of releases: whether the lab has a schema for applications of the user's own."""


HEALTH_PORT = 8001
"""The health listener's TCP port in the same case."""


def listen_address(machine: Machine) -> str:
    """Gunicorn's ``address:port`` for web servers on other machines; empty: on `SOCKET`."""
    return "" if "nginx" in machine.roles else f"{machine.address}:{PORT}"


def application(context: Context) -> Application:
    """How the recorded release runs."""
    if not context.state.release:
        return Application()
    record = load_record(context.lab.directory, context.state.release)
    return record.application if record else Application()


def uses_database(context: Context) -> bool:
    """Whether an application of the user's own was ever deployed with a schema.

    It keeps schema and account while another release runs, so that a rollback to it works.
    """
    return application(context).database or (releases_folder(context) / DATABASE).exists()


def record_database(context: Context) -> None:
    """Record that the lab has a schema for applications of the user's own."""
    releases_folder(context).mkdir(parents=True, exist_ok=True)
    (releases_folder(context) / DATABASE).touch()


def releases_folder(context: Context) -> Path:
    """The controller's folder of releases."""
    return context.lab.directory / "releases"
