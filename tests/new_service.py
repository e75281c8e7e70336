"""A new service in a copy of the checkout: one folder, one template folder, one topology keyword.

The service ``status`` publishes one static page with Python's own web server. Nothing else of the
checkout changes; unit and live tests plan it, draw it and boot it from the copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from provision.core.lab import ROOT

TOPOLOGY = "simple"
COPIED = ("provision", "configs", "scripts", "tasks.py", "pyproject.toml")

ROLE = '''\
"""The role ``status``: a static page that says which machine this is."""

from __future__ import annotations

from collections.abc import Iterator

from provision.core.lab import Lab, Machine
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Readiness
from provision.engine.check import ProbeCheck, Verdict
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import Directory, File, NoDirectory, NoService, Service
from provision.engine.role import Allow, Role, Tier

SERVICE = "lab-status.service"
UNIT_FILE = f"/etc/systemd/system/{SERVICE}"
FOLDER = "/srv/lab-status"
PORT = 8088


def request(machine: Machine) -> HttpRequest:
    """The page, requested by the machine itself."""
    return HttpRequest("/", str(machine.address), PORT)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The page and the server that publishes it."""
    page = context.render("status/index.html.j2", machine)
    service = context.render("status/lab-status.service.j2", machine, folder=FOLDER, port=PORT)
    return (
        Unit(
            "status",
            (
                Directory(FOLDER),
                File(f"{FOLDER}/index.html", page, passive=True),
                File(UNIT_FILE, service),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="restart",
            readiness=Readiness("the status page", 20, request(machine)),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Neither service nor page."""
    return (Unit("status-gone", (NoService(SERVICE), NoDirectory(FOLDER))),)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The page, for the lab's network."""
    return (Allow(PORT, (str(context.lab.network),), "the status page"),)


def checks(context: Context, machine: Machine) -> Iterator[ProbeCheck[HttpResponse]]:
    """The page names its machine."""

    def judge(response: HttpResponse) -> Verdict:
        named = machine.name in response.body
        got = f"{response.status}, {'with' if named else 'without'} the name"
        return Verdict(got == "200, with the name", "200, with the name", response.error or got)

    hint = f"invoke lab.logs {machine.name} --service lab-status"
    probe = http_probe(f"status page of {machine.name}", request(machine))
    yield ProbeCheck(f"status/{machine.name}", probe, judge, hint)


def connection(lab: Lab) -> str:
    """How it is reached."""
    return f"HTTP, port {PORT}"


ROLE = Role(
    "status",
    75,
    units,
    absent,
    ports=ports,
    service=SERVICE,
    label="status page",
    tier=Tier("status server", connection),
    fault_units=(SERVICE,),
    data=(FOLDER,),
    checks=checks,
)
'''

UNIT = """\
# {{ banner }}
[Unit]
Description=The status page
After=network.target

[Service]
DynamicUser=yes
ExecStart=/usr/bin/python3 -I -m http.server --bind {{ machine.address }} {{ port }}
WorkingDirectory={{ folder }}
Restart=always
{% include 'hardening/harden.j2' %}

[Install]
WantedBy=multi-user.target
"""

PAGE = "<!doctype html><title>{{ machine.name }}</title><p>{{ machine.name }} is up.\n"


def copy_checkout(target: Path) -> Path:
    """Copy the checkout, without labs and tests."""
    ignore = shutil.ignore_patterns("__pycache__", ".lab")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def add_status(checkout: Path) -> None:
    """Add the service to a copy of the checkout."""
    folder = checkout / "provision" / "services" / "status"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "role.py").write_text(ROLE, encoding="utf-8")
    templates = checkout / "configs" / "status"
    templates.mkdir()
    (templates / "lab-status.service.j2").write_text(UNIT, encoding="utf-8")
    (templates / "index.html.j2").write_text(PAGE, encoding="utf-8")
    topology = checkout / "configs" / "topologies" / f"{TOPOLOGY}.yml"
    text = topology.read_text(encoding="utf-8")
    changed = text.replace(
        "roles: [nginx, app, mysql, dns]", "roles: [nginx, app, mysql, dns, status]"
    )
    assert changed != text
    topology.write_text(changed, encoding="utf-8")
