"""The application server: a release of the guest book under gunicorn, and its database schema."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from provision.core.errors import LabError
from provision.core.lab import ROOT, Machine
from provision.core.package_set import PackageSet
from provision.engine.agent.protocol import HttpRequest, Readiness
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import Directory, File, Link, Service, Tree, User
from provision.engine.resources.files import tree_files
from provision.engine.role import Allow, Role, Tier
from provision.services.app.interface import PORT, SERVICE, SOCKET, listen_address
from provision.services.app.migrations import Migrations
from provision.services.tls import interface as tls

HOME = "/srv/foobar"
CURRENT = f"{HOME}/current"
LISTENER = "foobar.socket"
PACKAGES = PackageSet(("gunicorn", "python3-cryptography", "python3-flask", "python3-pymysql"))
"""PyMySQL uses cryptography for passwords over TLS."""

VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,40}")
SOURCE = ROOT / "provision" / "app"
"""The release that comes with the lab; ``app.deploy`` records others."""


def version_of(folder: Path) -> str:
    """The version in a release's VERSION file.

    Raises:
        LabError: when there is none, or it cannot be a folder's name.
    """
    try:
        version = (folder / "VERSION").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LabError(f"{folder} is not a release of the application: {error}") from None
    if not VERSION.fullmatch(version):
        raise LabError(f"{folder / 'VERSION'}: {version!r} is not a valid version")
    return version


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
def release_files(folder: Path) -> tuple[tuple[str, bool, bytes], ...]:
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


def _encrypted(context: Context, machine: Machine) -> bool:
    """Whether gunicorn serves TLS: only to web servers on other machines."""
    return tls.terminates_tls(context, machine) and listen_address(machine) != ""


def local_request(context: Context, machine: Machine, path: str) -> HttpRequest:
    """A request of the machine itself to its gunicorn."""
    if not listen_address(machine):
        return HttpRequest(path, socket=SOCKET)
    ca = tls.CA if _encrypted(context, machine) else ""
    return HttpRequest(path, address=str(machine.address), port=PORT, ca=ca)


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
    """Gunicorn's port for web servers on other machines; none where it listens on a socket."""
    if not listen_address(machine):
        return ()
    webs = tuple(str(m.address) for m in context.lab.with_role("nginx"))
    return (Allow(PORT, webs, "the application for the web servers"),)


def _release_path(context: Context) -> str:
    return f"{HOME}/releases/{version_of(release_folder(context))}"


def _files(context: Context) -> tuple[Resource[Any], ...]:
    """The unpacked release."""
    files = release_files(release_folder(context))
    return (Directory(HOME), Directory(f"{HOME}/releases"), Tree(_release_path(context), files))


def _current(context: Context) -> Link:
    return Link(CURRENT, f"releases/{version_of(release_folder(context))}")


def _schema(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The release's migrations, on the primary."""
    if machine.name != context.state.primary:
        return ()
    files = tuple(
        path.rpartition("/")[2]
        for path, _, _ in release_files(release_folder(context))
        if path.startswith("migrations/") and path.endswith(".sql")
    )
    return (Unit("schema", (Migrations("foobar", _release_path(context), files),)),)


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No application; a web server still has its static files, a primary its migrations."""
    stopped = (Service(LISTENER, running=False), Service(SERVICE, running=False))
    units = [Unit("app-gone", stopped)]
    if "nginx" in machine.roles:
        units.append(Unit("release", (*_files(context), _current(context))))
    elif machine.name == context.state.primary:
        units.append(Unit("release", _files(context)))
    return (*units, *_schema(context, machine))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """User, release, settings and service; the schema on the primary."""
    settings = context.render(
        "app/app.env.j2",
        machine,
        databases=[f"{m.name}={m.address}" for m in context.lab.with_role("mysql")],
        reads=read_order(context, machine),
        password=context.secrets.password("mysql-app"),
    )
    first, *_ = context.lab.with_role("app")
    encrypted = _encrypted(context, machine)
    service = context.render(
        "app/foobar.service.j2", machine, certificate=tls.BUNDLE if encrypted else ""
    )
    listen = listen_address(machine) or SOCKET
    socket = context.render("app/foobar.socket.j2", machine, listen=listen)
    return (
        Unit("release", (User("foobar", HOME), *_files(context))),
        *_schema(context, machine),
        Unit(
            "app",
            (
                _current(context),
                File("/etc/foobar/ca.pem", context.authority.pem()),
                File("/etc/foobar/app.env", settings, mode="0600", secret=True),
                *(tls.certificate_files(context, machine) if encrypted else ()),
                File(f"/etc/systemd/system/{SERVICE}", service),
                File(f"/etc/systemd/system/{LISTENER}", socket),
                Service(LISTENER, starts=True),
                Service(SERVICE),
            ),
            service=SERVICE,
            # Not a reload: on HUP gunicorn's new workers would run the new release, but its master
            # keeps the old one's settings and the modules it has imported (on_starting in
            # gunicorn.conf.py) and every worker inherits them; and app.env is read only at start.
            # Requests wait in the socket during the restart.
            activate="restart",
            readiness=Readiness(
                "the application's /version",
                deadline=30,
                http=local_request(context, machine, "/version"),
            ),
            # While the lab serves, one application server restarts after the other.
            needs=(f"{first.name}/app",) if context.rolling and machine != first else (),
            reads=(_release_path(context),),
            extra_fingerprint=Tree(
                _release_path(context), release_files(release_folder(context))
            ).digest,
        ),
    )


ROLE = Role(
    "app",
    50,
    units,
    absent,
    packages=lambda *_: PACKAGES,
    ports=ports,
    service=SERVICE,
    aliases=("app", "gunicorn"),
    label="gunicorn, Flask",
    tier=Tier(
        "application server",
        lambda lab: "HTTPS to gunicorn" if lab.topology.https else "HTTP to gunicorn",
    ),
    fault_units=(LISTENER, SERVICE),
)
