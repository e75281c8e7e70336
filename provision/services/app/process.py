"""The process of a release: the command that gunicorn runs with, and its environment."""

from __future__ import annotations

import re
from pathlib import Path

from provision.core import capacity
from provision.core.lab import ROOT, Machine
from provision.core.timeouts import TIMEOUTS
from provision.engine.context import Context
from provision.engine.resources import Tree
from provision.services.app import database
from provision.services.app.application import Application
from provision.services.app.interface import application
from provision.services.app.virtualenv import VirtualEnvironment

GUNICORN = "/usr/bin/gunicorn"
CONFIG = "gunicorn.conf.py"
HERE = Path(__file__).parent
HEALTH = ROOT / "provision" / "app" / "foobar" / "health.py"
CODE = "/usr/local/lib/foobar-lab/app"
"""The lab's part of gunicorn's configuration for an application of the user's own."""


def command(app: Application, release: Tree, environment: VirtualEnvironment | None) -> str:
    """The beginning of ExecStart=, without what gunicorn starts and without TLS."""
    program = f"{environment.path}/bin/python -m gunicorn" if environment else GUNICORN
    if app.is_guest_book:
        return f"{program} -c {CONFIG}"
    if app.event_loop:
        numbers = f"--workers {app.workers} --worker-connections {app.threads}"
        return f"{program} -c {CONFIG} {numbers}"
    numbers = f"--workers {app.workers} --threads {app.threads}"
    return f"{program} -c {CODE}/{CONFIG} {numbers}"


def configuration(app: Application) -> tuple[Tree, ...]:
    """The configuration that starts the health listener of an application with threads."""
    if app.is_guest_book or app.event_loop:
        return ()
    files = {CONFIG: HERE / "agent" / "gunicorn_own.py", "health.py": HEALTH}
    return (Tree(CODE, tuple((name, False, path.read_bytes()) for name, path in files.items())),)


def settings(context: Context, machine: Machine, reads: list[str]) -> str:
    """The content of the service's EnvironmentFile=.

    Args:
        reads: databases in the order in which the machine reads from them.
    """
    app = application(context)
    if app.is_guest_book:
        return context.render(
            "app/app.env.j2",
            machine,
            databases=[f"{m.name}={m.address}" for m in context.lab.with_role("mysql")],
            reads=reads,
            password=context.secrets.password("mysql-app"),
            capacity=capacity,
            timeouts=TIMEOUTS,
        )
    variables = {
        "LAB_SITE": context.lab.site,
        "LAB_HOST": machine.name,
        "LAB_RELEASE": context.state.release,
        "LAB_HEALTH": app.health,
        "LAB_READ_SECONDS": f"{TIMEOUTS.nginx_read / 1000:g}",
        "LAB_WRITE_SECONDS": f"{TIMEOUTS.nginx_write / 1000:g}",
        "LAB_STOP_SECONDS": f"{TIMEOUTS.app_stop // 1000}",
        **(database.variables(context) if app.database else {}),
        **app.environment,
    }
    lines = [f"{name}={quoted(value)}" for name, value in variables.items()]
    return context.render("app/own.env.j2", machine, lines=lines)


def quoted(value: str) -> str:
    """A value for an EnvironmentFile= (systemd.exec(5)): in double quotes, with escapes."""
    return '"' + re.sub(r'(["\\\\`$])', r"\\\1", value) + '"'
