"""The application server: a release of the guest book under gunicorn, and its tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import ROOT, Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import Directory, File, Link, Service, Tree, User
from provision.engine.resources.files import tree_files
from provision.services.app.migrations import Migrations
from provision.services.tls import role as tls

HOME = "/srv/foobar"
CURRENT = f"{HOME}/current"
SOCKET = "/run/foobar/gunicorn.sock"
PORT = 8000
"""Where gunicorn listens when the web servers are other machines."""

SERVICE = "foobar.service"
LISTENER = "foobar.socket"
SOURCE = ROOT / "provision" / "app"
"""The release that comes with the lab; ``app.deploy`` records others."""


def packages(context: Context, machine: Machine) -> PackageSet:
    """Flask, gunicorn and a MySQL client library from Debian, and what TLS to MySQL needs."""
    return PackageSet(("gunicorn", "python3-cryptography", "python3-flask", "python3-pymysql"))


def version_of(folder: Path) -> str:
    """The version that a release says it is.

    Raises:
        LabError: when it does not say, or not so that it can name a folder.
    """
    try:
        version = (folder / "VERSION").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LabError(f"{folder} is no release of the application: {error}") from None
    if not version or not all(c.isalnum() or c in ".-_+" for c in version) or version[0] == ".":
        raise LabError(f"{folder / 'VERSION'}: {version!r} cannot name a release")
    return version


def kept(context: Context, version: str) -> Path:
    """Where the controller keeps its copy of a release that was deployed."""
    return context.lab.directory / "releases" / version


def release_folder(context: Context) -> Path:
    """The controller's copy of the release that should run."""
    version = context.state.release
    copy = kept(context, version)
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
        raise LabError(f"the release in {folder} is gone", "invoke app.deploy PATH deploys another")
    return files


def address(machine: Machine) -> str:
    """Where gunicorn listens for web servers of other machines; empty: on a local socket."""
    return "" if "nginx" in machine.roles else f"{machine.address}:{PORT}"


def encrypted(context: Context, machine: Machine) -> bool:
    """Whether gunicorn speaks TLS: it does where its web servers are other machines."""
    return tls.wanted(context, machine) and address(machine) != ""


def directly(context: Context, machine: Machine) -> dict[str, object]:
    """How the machine itself asks its gunicorn: arguments of the ``http`` probe."""
    if not address(machine):
        return {"socket": SOCKET}
    where: dict[str, object] = {"address": str(machine.address), "port": PORT}
    return where | ({"ca": tls.CA} if encrypted(context, machine) else {})


def nearest(context: Context, machine: Machine) -> list[str]:
    """The databases in the order in which the machine's application reads from them.

    Its own first; without one, application servers begin at different ones.
    """
    databases = [m.name for m in context.lab.with_role("mysql")]
    if machine.name in databases:
        return [machine.name, *(name for name in databases if name != machine.name)]
    place = context.lab.with_role("app").index(machine) % max(1, len(databases))
    return databases[place:] + databases[:place]


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """Gunicorn, for web servers of other machines; nothing where it listens on a local socket."""
    if not address(machine):
        return ()
    webs = tuple(str(m.address) for m in context.lab.with_role("nginx"))
    return (Allow(PORT, webs, "the application for the web servers"),)


def _files(context: Context) -> tuple[Resource, ...]:
    """The release in its folder."""
    folder = release_folder(context)
    release = f"{HOME}/releases/{version_of(folder)}"
    return (Directory(HOME), Directory(f"{HOME}/releases"), Tree(release, release_files(folder)))


def _schema(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The tables, on the machine that takes writes."""
    if machine.name != context.state.primary:
        return ()
    folder = release_folder(context)
    files = tuple(
        path.rpartition("/")[2]
        for path, _, _ in release_files(folder)
        if path.startswith("migrations/") and path.endswith(".sql")
    )
    release = f"{HOME}/releases/{version_of(folder)}"
    return (Unit("schema", (Migrations("foobar", release, files),)),)


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No application here; a web server has its files all the same, a primary its tables."""
    stopped = (Service(LISTENER, running=False), Service(SERVICE, running=False))
    found = [Unit("app-gone", stopped)]
    if "nginx" in machine.roles:
        current = f"releases/{version_of(release_folder(context))}"
        found.append(Unit("release", (*_files(context), Link(CURRENT, current))))
    elif machine.name == context.state.primary:
        found.append(Unit("release", _files(context)))
    return (*found, *_schema(context, machine))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """User, release, settings and service; the schema on the machine that takes writes."""
    folder = release_folder(context)
    release = f"{HOME}/releases/{version_of(folder)}"
    databases = context.lab.with_role("mysql")
    settings = context.render(
        "app/app.env.j2",
        machine,
        databases=[f"{m.name}={m.address}" for m in databases],
        reads=nearest(context, machine),
        password=context.secrets.password("mysql-app"),
    )
    first, *_ = context.lab.with_role("app")
    rolling = context.rolling and machine != first
    listen = address(machine)
    return (
        Unit("release", (User("foobar", HOME), *_files(context))),
        *_schema(context, machine),
        Unit(
            "app",
            (
                Link(CURRENT, f"releases/{version_of(folder)}"),
                File("/etc/foobar/ca.pem", context.authority.pem()),
                File("/etc/foobar/app.env", settings, mode="0600", secret=True),
                *(tls.files(context, machine) if encrypted(context, machine) else ()),
                File(
                    f"/etc/systemd/system/{SERVICE}",
                    context.render(
                        "app/foobar.service.j2",
                        machine,
                        certificate=tls.BUNDLE if encrypted(context, machine) else "",
                    ),
                ),
                File(
                    f"/etc/systemd/system/{LISTENER}",
                    context.render("app/foobar.socket.j2", machine, listen=listen or SOCKET),
                ),
                Service(LISTENER, starts=True),
                Service(SERVICE),
            ),
            service=SERVICE,
            # Not a reload: on HUP gunicorn's workers would follow the link to the new release, but
            # its master goes on with the old one's settings and those modules that it has imported
            # (gunicorn.conf.py's on_starting), and hands them down to every worker; and a changed
            # app.env is read at a start alone. Requests wait in the socket meanwhile.
            activate="restart",
            wait={
                "name": "the application's /version",
                "http": {"path": "/version"} | directly(context, machine),
                "statuses": [200],
                "deadline": 30,
            },
            # Once the lab serves, servers take up a change one after the other.
            needs=(f"{first.name}/app",) if rolling else (),
            also=Tree(release, release_files(folder)).digest,
        ),
    )
