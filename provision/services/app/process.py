"""The process of a release: the command that gunicorn runs with, and its environment."""

from __future__ import annotations

import re

from provision.core import capacity
from provision.core.lab import Machine
from provision.core.timeouts import TIMEOUTS
from provision.engine.context import Context
from provision.engine.resources import Tree
from provision.services.app import database
from provision.services.app.application import Application
from provision.services.app.interface import application
from provision.services.app.virtualenv import VirtualEnvironment

GUNICORN = "/usr/bin/gunicorn"
CONFIG = "gunicorn.conf.py"
DEFAULTS = (
    f"--worker-class gthread --workers {capacity.WORKERS} --threads {capacity.THREADS} --timeout 30"
    f" --graceful-timeout {TIMEOUTS.app_stop // 1000}"
    " --worker-tmp-dir /dev/shm --forwarded-allow-ips=*"
)
"""For an application without a gunicorn.conf.py, as in the guest book's."""


def command(app: Application, release: Tree, environment: VirtualEnvironment | None) -> str:
    """The beginning of ExecStart=, without what gunicorn starts and without TLS."""
    program = f"{environment.path}/bin/python -m gunicorn" if environment else GUNICORN
    if app.is_guest_book or any(path == CONFIG for path, _, _ in release.files):
        return f"{program} -c {CONFIG}"
    return f"{program} {DEFAULTS}"


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
        **(database.variables(context) if app.database else {}),
        **app.environment,
    }
    lines = [f"{name}={quoted(value)}" for name, value in variables.items()]
    return context.render("app/own.env.j2", machine, lines=lines)


def quoted(value: str) -> str:
    """A value for an EnvironmentFile= (systemd.exec(5)): in double quotes, with escapes."""
    return '"' + re.sub(r'(["\\\\`$])', r"\\\1", value) + '"'
