"""The application server: a release under gunicorn, and the guest book's database schema."""

from __future__ import annotations

import codecs
import re
from functools import cache
from pathlib import Path
from typing import Any

from provision.core.errors import LabError
from provision.core.lab import ROOT, Machine
from provision.core.package_set import PackageSet
from provision.core.timeouts import TIMEOUTS
from provision.engine.agent.filesystem import open_regular, shown
from provision.engine.agent.process import AgentError
from provision.engine.agent.protocol import HttpRequest, Readiness
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import Directory, File, Link, Service, Tree, User
from provision.engine.resources.files import TreeFile, TreeLink, tree_files, tree_links
from provision.engine.role import Allow, Role, Tier
from provision.services.app import database, process, wheels
from provision.services.app.interface import (
    HEALTH_PORT,
    HEALTH_SOCKET,
    PORT,
    SERVICE,
    SOCKET,
    application,
    listen_address,
    uses_database,
)
from provision.services.app.migrations import Migrations
from provision.services.app.virtualenv import REQUIREMENTS, VirtualEnvironment
from provision.services.tls import interface as tls

HOME = "/srv/foobar"
CURRENT = f"{HOME}/current"
RELEASES = f"{HOME}/releases"
ENVIRONMENTS = f"{HOME}/environments"
LISTENER = "foobar.socket"
HEALTH_LISTENER = "foobar-health.socket"
LISTENERS = (LISTENER, HEALTH_LISTENER)
"""A connection to either starts the service."""

PACKAGES = PackageSet(("gunicorn", "python3-cryptography", "python3-flask", "python3-pymysql"))
"""PyMySQL uses cryptography for passwords over TLS."""

VERSION_BYTES = 1024
"""Of a VERSION file; a longer one is something else."""

VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,40}")
SOURCE = ROOT / "provision" / "app"
"""The release that comes with the lab; ``app.deploy`` records others."""


def version_of(folder: Path) -> str:
    """The version in a release's VERSION file, which may be UTF-8 or UTF-16 with its mark.

    Raises:
        LabError: when there is none, or it cannot be a folder's name.
    """
    path = folder / "VERSION"
    try:
        with open_regular(str(path), follow=True) as file:
            data = file.read(VERSION_BYTES + 1)
    except (OSError, AgentError) as error:
        raise LabError(
            f"{shown(str(folder))} is not a release of the application: {shown(str(error))}",
            "VERSION is a file with one line, such as 1.2.0",
        ) from None
    version = _decoded(data).strip() if len(data) <= VERSION_BYTES else ""
    if not VERSION.fullmatch(version):
        text = shown(version) or shown(data[:40].decode("utf-8", "backslashreplace"))
        raise LabError(
            f"{shown(str(path))}: {text!r} is not a valid version",
            "write one line in UTF-8, such as 1.2.0 or 1.2.0-rc1",
        )
    return version


def _decoded(data: bytes) -> str:
    """The text of a file; empty when it is in another encoding."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        return ""


def stored_release(context: Context, version: str) -> Path:
    """The folder of the controller's copy of a deployed release."""
    return context.lab.directory / "releases" / version


def release_folder(context: Context) -> Path:
    """The controller's copy of the recorded release."""
    version = context.state.release
    copy = stored_release(context, version)
    if not version or (version == version_of(SOURCE) and not copy.is_dir()):
        return SOURCE
    return copy


@cache
def release_files(folder: Path) -> tuple[TreeFile, ...]:
    """A release's files: relative path, executable, content.

    Raises:
        LabError: when there are none.
    """
    files = tree_files(folder)
    if not files:
        raise LabError(
            f"the release in {folder} is missing", "invoke app.deploy PATH deploys another one"
        )
    return files


@cache
def release_links(folder: Path) -> tuple[TreeLink, ...]:
    """A release's symbolic links: relative path, target."""
    return tree_links(folder)


def _encrypted(context: Context, machine: Machine) -> bool:
    """Whether gunicorn serves TLS: only to web servers on other machines."""
    return tls.terminates_tls(context, machine) and listen_address(machine) != ""


def local_request(context: Context, machine: Machine, path: str) -> HttpRequest:
    """A request of the machine itself to its gunicorn."""
    host = HttpRequest("").host if application(context).is_guest_book else context.lab.site
    if not listen_address(machine):
        return HttpRequest(path, socket=SOCKET, host=host)
    ca = tls.CA if _encrypted(context, machine) else ""
    return HttpRequest(path, address=str(machine.address), port=PORT, ca=ca, host=host)


def read_order(context: Context, machine: Machine) -> list[str]:
    """The databases in the order in which the machine's application tries them for reads.

    Its own comes first. Application servers without one start at different databases.
    """
    databases = [m.name for m in context.lab.with_role("mysql")]
    if machine.name in databases:
        return [machine.name, *(name for name in databases if name != machine.name)]
    start = context.lab.with_role("app").index(machine) % max(1, len(databases))
    return databases[start:] + databases[:start]


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """Gunicorn's ports for web servers on other machines; none where it listens on a socket."""
    if not listen_address(machine):
        return ()
    webs = tuple(str(m.address) for m in context.lab.with_role("nginx"))
    return (
        Allow(PORT, webs, "the application for the web servers"),
        Allow(HEALTH_PORT, webs, "its health for the web servers"),
    )


def tree(context: Context) -> Tree:
    """The unpacked files of the recorded release on a machine."""
    folder = release_folder(context)
    path = f"{RELEASES}/{version_of(folder)}"
    return Tree(path, release_files(folder), links=release_links(folder))


def virtual_environment(context: Context) -> VirtualEnvironment | None:
    """The environment of the recorded release; None when it has no requirements.txt."""
    folder = release_folder(context)
    content = next((data for path, _, data in release_files(folder) if path == REQUIREMENTS), None)
    version = version_of(folder)
    files = wheels.wheels(context.lab.directory, version)
    if content is None or not files:
        return None
    return VirtualEnvironment(f"{ENVIRONMENTS}/{version}", tree(context).path, content, files)


def _files(context: Context) -> tuple[Resource[Any], ...]:
    """The unpacked release."""
    return (Directory(HOME), Directory(RELEASES), tree(context))


def _environment(context: Context) -> tuple[Resource[Any], ...]:
    environment = virtual_environment(context)
    return (Directory(ENVIRONMENTS), environment) if environment else ()


def _current(context: Context) -> Link:
    return Link(CURRENT, f"releases/{version_of(release_folder(context))}")


def _schema(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The guest book's migrations, on the primary."""
    if machine.name != context.state.primary or not application(context).is_guest_book:
        return ()
    files = tuple(
        path.rpartition("/")[2]
        for path, _, _ in release_files(release_folder(context))
        if path.startswith("migrations/") and path.endswith(".sql")
    )
    return (Unit("schema", (Migrations("foobar", tree(context).path, files),)),)


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No application; a web server still has its static files, a database its migrations.

    A replica has them too: it can become the primary at any moment.
    """
    stopped = (Service(unit, running=False) for unit in (*LISTENERS, SERVICE))
    units = [Unit("app-gone", tuple(stopped)), *_no_proxy(context)]
    if "nginx" in machine.roles:
        units.append(Unit("release", (*_files(context), _current(context))))
    elif "mysql" in machine.roles and application(context).is_guest_book:
        units.append(Unit("release", _files(context)))
    return (*units, *_schema(context, machine))


def proxies(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The database proxy of an application server, once an application of the user's needs it."""
    if not uses_database(context):
        return ()
    return (database.proxy(context, machine, read_order(context, machine)),)


def _no_proxy(context: Context) -> tuple[Unit, ...]:
    return (database.no_proxy(),) if uses_database(context) else ()


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """User, release, settings and service; the schema on the primary."""
    first, *_ = context.lab.with_role("app")
    encrypted = _encrypted(context, machine)
    environment = virtual_environment(context)
    app, release = application(context), tree(context)
    service = context.render(
        "app/foobar.service.j2",
        machine,
        application=app,
        command=process.command(app, release, environment),
        certificate=tls.BUNDLE if encrypted else "",
        timeouts=TIMEOUTS,
    )
    listen = listen_address(machine) or SOCKET
    socket = context.render("app/foobar.socket.j2", machine, listen=listen)
    ready_path = "/version" if app.is_guest_book else app.health
    checks = f"{machine.address}:{HEALTH_PORT}" if listen_address(machine) else HEALTH_SOCKET
    health = context.render("app/foobar-health.socket.j2", machine, listen=checks)
    return (
        Unit("release", (User("foobar", HOME), *_files(context), *_environment(context))),
        *_schema(context, machine),
        *proxies(context, machine),
        Unit(
            "app",
            (
                _current(context),
                *process.configuration(app),
                File(database.CA, context.authority.pem()),
                File(
                    "/etc/foobar/app.env",
                    process.settings(context, machine, read_order(context, machine)),
                    mode="0600",
                    secret=True,
                ),
                *(tls.certificate_files(context, machine) if encrypted else ()),
                File(f"/etc/systemd/system/{SERVICE}", service),
                File(f"/etc/systemd/system/{LISTENER}", socket),
                File(f"/etc/systemd/system/{HEALTH_LISTENER}", health),
                *(Service(listener, starts=True) for listener in LISTENERS),
                Service(SERVICE),
            ),
            service=SERVICE,
            # Not a reload: on HUP gunicorn's new workers would run the new release, but its master
            # keeps the old one's settings and the modules it has imported (on_starting in
            # gunicorn.conf.py) and every worker inherits them; and app.env is read only at start.
            # Requests wait in the socket during the restart.
            activate="restart",
            readiness=Readiness(
                f"the application's {ready_path}",
                deadline=30,
                http=local_request(context, machine, ready_path),
            ),
            # While the lab serves, one application server restarts after the other.
            needs=(f"{first.name}/app",) if context.rolling and machine != first else (),
            reads=(release.path, *((environment.path,) if environment else ())),
            extra_fingerprint=release.digest + (environment.digest if environment else ""),
        ),
    )


ROLE = Role(
    "app",
    50,
    units,
    absent,
    packages=lambda *_: PACKAGES,
    ports=ports,
    memory=60,
    service=SERVICE,
    aliases=("app", "gunicorn"),
    label="gunicorn, Flask",
    tier=Tier(
        "application server",
        lambda lab: "HTTPS to gunicorn" if lab.topology.https else "HTTP to gunicorn",
    ),
    fault_units=(*LISTENERS, SERVICE),
)
