"""`app.*`: deploy, roll back and list releases of the guest book, or of one's own application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provision.commands import tables
from provision.commands.base import Session, console, open_session, publish, task
from provision.commands.progress import Progress
from provision.commands.results import site as results
from provision.core.errors import UsageError
from provision.database.failover.control import adopt
from provision.operations import deploy as ops
from provision.services.app import releases as stored
from provision.services.app.application import (
    Application,
    own_application,
    parse_environment,
)
from provision.services.app.releases import StoredRelease


@task(
    result=results.Deployed,
    positional=["path"],
    iterable=["env"],
    help={
        "path": "a directory like provision/app (default: a known --version, or the bundled app)",
        "version": "name of the release (default: its VERSION file)",
        "wsgi": "your own application, such as app:app (default: the guest book)",
        "health": "its path that responds with status 200 (default: /)",
        "static": "its folder that Nginx serves as /static/ (default: none)",
        "env": "NAME=VALUE for its environment; may be repeated (default: none)",
        "env-file": "a file with one NAME=VALUE per line (default: none)",
        "workers": "its processes (default: those of its gunicorn.conf.py, otherwise 2)",
        "threads": "threads of each process (default: those of its gunicorn.conf.py, otherwise 4)",
        "database": "give it a MySQL schema, and DATABASE_URL",
    },
)
def deploy(
    c: Any,
    env: list[str],  # invoke: a list has no default
    path: str = "",
    version: str = "",
    wsgi: str = "",
    health: str = "",
    static: str = "",
    env_file: str = "",
    workers: int = 0,
    threads: int = 0,
    database: bool = False,
    lab: str = "",
) -> None:
    """Deploy a release, one server at a time."""
    session = open_session(lab)
    environment = parse_environment(tuple(env), env_file)
    with session.lock():
        context = session.context
        source = stored.source(context, path, version)
        options = {"--wsgi": wsgi, "--health": health, "--static": static}
        numbers = {"--workers": workers, "--threads": threads}
        given = [name for name, value in (*options.items(), *numbers.items()) if value]
        given += ["--env"] * bool(environment) + ["--database"] * database
        application: Application | None = None
        if given and not path:
            raise UsageError(f"{given[0]} needs a folder", "invoke app.deploy PATH --wsgi app:app")
        if wsgi:
            application = own_application(
                *(wsgi, health or "/", static, environment),
                database=database,
                workers=workers,
                threads=threads,
            )
        elif given:
            raise UsageError(
                f"{given[0]} is for an application of your own", "add --wsgi MODULE:NAME"
            )
        elif not path and version and source != stored.bundled():
            application = stored.application_of(context, version)
        release = stored.store(context, source, version, application)
        _print_notes(source, release)
        _deploy(session, release, migrate=True)


def _print_notes(source: Path, release: StoredRelease) -> None:
    for line in release.notes:
        print(line, flush=True)
    if release.left_out:
        print(f"left out of {release.version}:", flush=True)
        for line in release.left_out:
            print(f"  {line}", flush=True)


@task(result=results.Deployed, help={"version": "a release (default: the previous one)"})
def rollback(c: Any, version: str = "", lab: str = "") -> None:
    """Roll back to an earlier release; keep the schema."""
    session = open_session(lab)
    with session.lock():
        release = StoredRelease(stored.rollback_version(session.context, version))
        _deploy(session, release, migrate=False)


def _deploy(session: Session, release: StoredRelease, *, migrate: bool) -> None:
    version = release.version
    before = stored.current(session.context)
    with session.fleet() as fleet, Progress() as report:
        ops.deploy(adopt(session.context, fleet), fleet, version, report, migrate=migrate)
    publish(results.Deployed(release=version, before=before, left_out=list(release.left_out)))
    print(f"{version} runs on every server" + (f" (before: {before})" if before != version else ""))


RELEASES = tables.layout(
    "app.releases",
    tables.Column("VERSION"),
    tables.Column("STATE", 1),
    tables.Column("APPLICATION", 2),
    tables.Column("RUNS ON", prose=True),
)


@task(result=results.Releases)
def releases(c: Any, lab: str = "") -> None:
    """List releases and the servers that run them."""
    session = open_session(lab)
    with session.fleet() as fleet:
        releases = ops.list_releases(session.context, fleet)
    values = [
        results.ReleaseValues(
            release=r.version,
            current=r.current,
            machines=list(r.machines),
            application=r.application,
        )
        for r in releases
    ]
    if publish(results.Releases(releases=values)):
        return
    rows = [
        [
            r.version,
            "current" if r.current else "",
            r.application,
            ", ".join(r.machines) or "no server",
        ]
        for r in releases
    ]
    tables.show(console(), RELEASES, rows)
